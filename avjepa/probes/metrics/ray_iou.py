"""RayIoU: do rays from the scene's LiDAR positions meet the right class at the right depth? Occ3D grid, 18 classes.

Liu et al., "Fully sparse 3D occupancy prediction" (SparseOcc), 2024, section 4, and its ray_metrics.py: the depth is where the
ray LEAVES the first occupied voxel; rays whose truth is free are dropped, so what is predicted there costs nothing; no masks.
A class absent from the truth counts with IoU 0 if it was predicted on a kept ray, else it is left out of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from avjepa.geometry.occ3d import CLASS_NAMES, FREE, OCC3D_GRID, SHAPE_XYZ, UNKNOWN, as_classes
from avjepa.geometry.rigid import invert, transform_points
from avjepa.geometry.voxel_traversal import first_hits

THRESHOLDS_M = (1.0, 2.0, 4.0)
MAX_ORIGINS = 8
MAX_OFFSET_M = 39.0  # origins further than this ahead, behind or aside are left out


@dataclass(frozen=True)
class RayIoUScores:
    """RayIoU as fractions.

    Attributes:
        rayiou: mean over classes and thresholds.
        rayiou_at: mean over classes, of each threshold in metres.
        iou: of each class, for each threshold; nan for a class neither true nor predicted.
        absent: classes that no kept ray meets in the truth.
        frames: that were added.
        rays: that were kept.
    """

    rayiou: float
    rayiou_at: dict[float, float]
    iou: dict[str, tuple[float, ...]]
    absent: tuple[str, ...]
    frames: int
    rays: int


def ray_directions() -> torch.Tensor:
    """(14040, 3) float32 unit directions in the ego frame: 39 pitches from -45 to about 12 degrees by 360 azimuths."""
    pitches = [math.atan(k) - math.pi / 2 for k in range(1, 11)]
    while pitches[-1] < 0.21:
        pitches.append(2 * pitches[-1] - pitches[-2])
    pitch, azimuth = np.meshgrid(pitches, np.deg2rad(np.arange(360)), indexing="ij")
    xyz = np.stack([np.cos(pitch) * np.cos(azimuth), np.cos(pitch) * np.sin(azimuth), np.sin(pitch)], -1)
    return torch.from_numpy(xyz.reshape(-1, 3).astype(np.float32))


def ray_origins(global_T_lidars: np.ndarray, ego_T_lidar: np.ndarray, index: int) -> np.ndarray:
    """Origins (T, 3) float64 of keyframe ``index``, in its ego frame, metres: LiDAR positions of its scene nearby, T <= 8.

    Args:
        global_T_lidars: (S, 4, 4) of every keyframe of the scene, in order.
        ego_T_lidar: (4, 4) of this keyframe.
        index: of the keyframe.
    """
    lidar_T_lidars = invert(global_T_lidars[index]) @ global_T_lidars
    # Through float32, as the reference: 2 um decide which voxel some ray meets.
    positions = lidar_T_lidars[:, :3, 3].astype(np.float32)
    positions[index] = 0
    origins = transform_points(ego_T_lidar, positions.astype(np.float64))
    origins = origins[(np.abs(origins[:, :2]) < MAX_OFFSET_M).all(1)]
    if len(origins) > MAX_ORIGINS:
        origins = origins[np.round(np.linspace(0, len(origins) - 1, MAX_ORIGINS)).astype(np.int64)]
    return origins


class RayIoU:
    """Counts rays of a whole split, frame by frame.

    Args:
        device: where rays are cast.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.directions = ray_directions().to(device)
        self.true = np.zeros(FREE, dtype=np.int64)
        self.predicted = np.zeros(FREE, dtype=np.int64)
        self.matched = np.zeros((len(THRESHOLDS_M), FREE), dtype=np.int64)
        self.frames = 0

    def add(self, predicted, truth, origins: np.ndarray) -> None:
        """Count one frame.

        Args:
            predicted: (200, 200, 16) integers 0..17, [x, y, z] as Occ3D has them, array or tensor.
            truth: likewise, or UNKNOWN: rays that meet a voxel without truth before anything else are left out.
            origins: (T, 3) in the ego frame of the frame, metres; see :func:`ray_origins`.

        Raises:
            ValueError: a shape or value does not fit.
        """
        device = self.directions.device
        classes = [as_classes(predicted, "prediction"), as_classes(truth, "truth")]
        if any(tuple(volume.shape) != SHAPE_XYZ for volume in classes) or int(classes[0].max()) > FREE:
            raise ValueError(
                f"want classes 0..{FREE} in {SHAPE_XYZ}, got {[tuple(volume.shape) for volume in classes]}"
            )
        volumes = torch.stack([volume.to(device) for volume in classes])
        origins = torch.as_tensor(origins, dtype=torch.float64, device=device)
        label, depth_m = cast_semantic_rays(volumes, origins, self.directions)

        kept = (label[1] != FREE) & (label[1] != UNKNOWN)
        (label_predicted, label_true), error_m = label[:, kept], (depth_m[0] - depth_m[1]).abs()[kept]
        self.true += _count(label_true)
        self.predicted += _count(label_predicted)
        same = label_predicted == label_true
        for number, threshold_m in enumerate(THRESHOLDS_M):
            self.matched[number] += _count(label_true[same & (error_m < threshold_m)])
        self.frames += 1

    def __add__(self, other: RayIoU) -> RayIoU:
        """The counts of both, as if one had seen all frames."""
        total = RayIoU(self.directions.device)
        total.true, total.predicted = self.true + other.true, self.predicted + other.predicted
        total.matched, total.frames = self.matched + other.matched, self.frames + other.frames
        return total

    def scores(self) -> RayIoUScores:
        """Scores over everything added."""
        with np.errstate(invalid="ignore"):
            iou = self.matched / (self.true + self.predicted - self.matched)  # (thresholds, classes)
        counted = ~np.isnan(iou[0])
        means = iou[:, counted].mean(1) if counted.any() else np.full(len(THRESHOLDS_M), np.nan)
        return RayIoUScores(
            rayiou=float(means.mean()),
            rayiou_at=dict(zip(THRESHOLDS_M, means.tolist(), strict=True)),
            iou={name: tuple(iou[:, c].tolist()) for c, name in enumerate(CLASS_NAMES[:FREE])},
            absent=tuple(CLASS_NAMES[c] for c in range(FREE) if self.true[c] == 0),
            frames=self.frames,
            rays=int(self.true.sum()),
        )


def cast_semantic_rays(
    classes: torch.Tensor, origins: torch.Tensor, directions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What rays see in volumes of classes: class (V, T * R), FREE without a hit, and depth in metres (V, T * R), float32.

    Rays are rounded to float32 voxel units as in the reference, since that decides which voxel about one ray in a thousand
    meets. It also truncates an origin towards zero: the same, unless the origin is less than a voxel below the grid, where
    it sees layer 0 around it and we see the grid from below. Rays that never meet the grid are free; it reads voxel 0.

    Args:
        classes: (V, X, Y, Z) uint8 of the Occ3D grid.
        origins: (T, 3) float64 in the ego frame, metres.
        directions: (R, 3) float32 unit directions.
    """
    lower_m = origins.new_tensor([OCC3D_GRID.x_range_m[0], OCC3D_GRID.y_range_m[0], OCC3D_GRID.z_range_m[0]])
    cell_m = torch.tensor(OCC3D_GRID.cell_m, dtype=torch.float32, device=origins.device).double()
    start = ((origins - lower_m) / cell_m).float().double()
    end = ((origins[:, None] + directions - lower_m) / cell_m).float().double()
    ray = end - start[:, None]  # (T, R, 3)
    x, y, z = ray.unbind(-1)
    ray = (ray / (x * x + y * y + z * z).sqrt()[..., None]).flatten(0, 1)
    hits = first_hits(classes != FREE, start.repeat_interleave(len(directions), 0), ray)

    volume = torch.arange(len(classes), device=classes.device)[:, None]
    seen = classes[(volume, *hits.voxel.clamp(min=0).unbind(-1))]
    return torch.where(hits.hit, seen, FREE), hits.leave.float() * OCC3D_GRID.cell_m


def _count(labels: torch.Tensor) -> np.ndarray:
    """Rays of each class but free."""
    return torch.bincount(labels, minlength=FREE + 1)[:FREE].cpu().numpy()
