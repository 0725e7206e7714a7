"""Semantic occupancy probe: the class of every voxel around the car, in Occ3D's grid and ego frame, from a frozen embedding.

Truth is Occ3D's (``gts/`` under the data root), or comes from LiDAR rays and boxes where there is none. Metrics:
metrics/semantic_occupancy.py and metrics/ray_iou.py.
Letters: see conventions.py; volumes are (Z, Y, X) here and [x, y, z] in files and metrics.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.occ3d import CLASS_NAMES, FREE, OCC3D_GRID, UNKNOWN, xyz_from_zyx, zyx_from_xyz
from avjepa.geometry.resample import Window, central
from avjepa.geometry.rigid import invert, transform_points
from avjepa.probes.boxes import boxes_of
from avjepa.probes.colours import column_entropy_panel, from_above_panel, hits_and_misses
from avjepa.probes.frozen import PresentView
from avjepa.probes.lidar_occupancy import lidar_occupancy
from avjepa.probes.metrics.ray_iou import RayIoU, ray_origins
from avjepa.probes.metrics.semantic_occupancy import CONVENTIONS, OccupancyConfusion
from avjepa.probes.occ3d_files import Occ3DLabels, labels_path, read_labels
from avjepa.probes.task import NEAR_M, Items, Panels, Probe
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.sample import Clip

CLASSES = len(CLASS_NAMES)
NOT_COUNTED = -100
COLUMNS = {
    "miou_occ3d": "mIoU, camera mask",
    "miou_near": "mIoU, camera mask, within 25 m",
    "miou_occ3d_unmasked": "mIoU, no mask",
    "rayiou": "RayIoU",
    "iou_occ3d": "IoU, camera mask",
    "iou_visible": "IoU, visible",
    "iou_occluded": "IoU, occluded",
    "iou_near_occluded": "IoU, occluded, within 25 m",
}
TRUTHS = {
    "occ3d": "Occ3D's files",
    "lidar_and_boxes": "LiDAR rays of the clip's keyframes and boxes, so the classes are those of boxes and `others`",
}
LABEL_FILES = {"occ3d": ("gts/*/*/labels.npz",), "lidar_and_boxes": ("v1.0-*/*.json",)}
FLAT = [CLASS_NAMES.index(name) for name in ("driveable_surface", "other_flat", "sidewalk", "terrain")]


@dataclass(frozen=True)
class OccupancyTruth:
    """One keyframe.

    Attributes:
        labels: truth and masks, [x, y, z].
        classes: (Z, Y, X) uint8, the same truth; UNKNOWN where there is none.
        returns: (Z, Y, X) bool, voxels that hold a LiDAR return of the context.
        ray_origins: (T, 3) of RayIoU, in the ego frame.
    """

    labels: Occ3DLabels
    classes: torch.Tensor
    returns: torch.Tensor
    ray_origins: np.ndarray


@dataclass(frozen=True)
class OccupancyProbe(Probe[OccupancyTruth, torch.Tensor]):
    """An answer is the class of each voxel, (Z, Y, X) uint8.

    Attributes:
        labels: "occ3d" files, or "lidar_and_boxes" (lidar_occupancy.py), which says less.
        train_mask: which voxels the loss counts: those the cameras observe, or all. It changes mIoU by a factor of up to
            two (FlashOcc: 32.1 with, 15.4 without, scored without a mask), so a table must say it.
        with_rays: compute RayIoU, which takes most of the time.
    """

    labels: Literal["occ3d", "lidar_and_boxes"] = "occ3d"
    train_mask: Literal["camera", "none"] = "camera"
    with_rays: bool = True
    name = "occupancy"
    grid = OCC3D_GRID
    outputs = CLASSES * OCC3D_GRID.shape_zyx[0]
    view = PresentView()
    columns = COLUMNS

    def __post_init__(self) -> None:
        if self.labels not in LABEL_FILES:
            raise ValueError(f"unknown labels {self.labels!r}; want {', '.join(LABEL_FILES)}")

    @property
    def label_files(self) -> tuple[str, ...]:
        """Of Occ3D, or the tables of the boxes."""
        return LABEL_FILES[self.labels]

    @property
    def convention(self) -> str:
        """How the metrics are defined."""
        return (
            f"Occ3D grid; truth and masks: {TRUTHS[self.labels]}; mIoU over 17 classes of one confusion matrix over the "
            "split, nan classes left out; IoU of occupied against free; visible: observed by LiDAR or camera; RayIoU of "
            "SparseOcc, mean of 1, 2, 4 m, of rays that meet something before a voxel without truth; trained on "
            f"{'camera-observed voxels' if self.train_mask == 'camera' else 'all voxels'}; the record also holds the "
            "conventions of SparseOcc, OccNeRF, SelfOcc and OccWorld; beyond the model's grid a head's answer is one for all cells"
        )

    def truth(self, dataset: NuScenesClips, clip: int) -> list[OccupancyTruth]:
        """Truth of the present keyframe.

        Raises:
            DataError: there is no file of labels, or no table of boxes, or it is damaged.
        """
        frames = dataset[clip]
        if self.labels == "occ3d":
            labels = read_labels(labels_path(dataset.root, frames.now.scene, frames.now.token))
        else:
            labels = lidar_occupancy(frames, boxes_of(dataset.root, dataset.version))
        return [
            OccupancyTruth(
                labels=labels,
                classes=torch.from_numpy(np.ascontiguousarray(zyx_from_xyz(labels.semantics))),
                returns=returned_voxels(frames, OCC3D_GRID),
                ray_origins=self._ray_origins(dataset, frames.now.token),
            )
        ]

    def loss(self, logits: torch.Tensor, truths: list[OccupancyTruth], window: Window) -> torch.Tensor:
        """Cross-entropy; a class weighs as one over the square root of its voxels, so that rare ones are learned at all."""
        classes = torch.stack([truth.classes[:, window[0], window[1]] for truth in truths])  # (b, Z, h, w)
        counted = classes != UNKNOWN
        if self.train_mask == "camera":
            masks = [zyx_from_xyz(truth.labels.mask_camera)[:, window[0], window[1]] for truth in truths]
            counted &= torch.from_numpy(np.stack(masks))
        return class_loss(logits, classes, counted)

    def answer(self, logits: torch.Tensor, truth: OccupancyTruth) -> torch.Tensor:
        """The likeliest class."""
        return likeliest_class(logits)

    def untrained(self, train: Items, test: Items) -> Iterator[tuple[str, Callable[[], Iterator[torch.Tensor]]]]:
        """Free everywhere; the commonest class of each voxel; LiDAR returns with the commonest class at their height."""
        yield "all free", lambda: (torch.full(self.grid.shape_zyx, FREE, dtype=torch.uint8) for _ in range(len(test)))
        yield "commonest class of each voxel", lambda: self._commonest(train, len(test))
        yield "LiDAR returns, class by height", lambda: self._returns(train, test)

    def evaluate(self, pairs: Iterable[tuple[torch.Tensor, OccupancyTruth]], threshold: float) -> dict[str, float]:
        """Every convention's mIoU and IoU, and RayIoU."""
        confusion, near, rays = OccupancyConfusion(), OccupancyConfusion(), RayIoU()
        x_y = central(self.grid, NEAR_M)[::-1]
        for answer, truth in pairs:
            predicted, labels = xyz_from_zyx(answer), truth.labels
            volumes = (predicted, labels.semantics, labels.mask_camera, labels.mask_lidar)
            confusion.add(*volumes)
            near.add(*(volume[x_y] for volume in volumes))
            if self.with_rays:
                rays.add(predicted, labels.semantics, truth.ray_origins)
        metrics = {}
        for convention in CONVENTIONS:
            scores = confusion.scores(convention)
            metrics |= {f"miou_{convention}": scores.miou, f"iou_{convention}": scores.geometric_iou}
        metrics |= {"miou_near": near.scores("occ3d").miou}
        metrics |= {f"iou_near_{stratum}": near.scores(stratum).geometric_iou for stratum in ("visible", "occluded")}
        metrics |= {f"iou_of_{name}": value for name, value in confusion.scores("occ3d").iou.items()}
        metrics |= {"frames": confusion.frames}
        return metrics | {"rayiou": rays.scores().rayiou if self.with_rays else float("nan")}

    def truth_panels(self, truth: OccupancyTruth) -> Panels:
        """The highest occupied voxel of each column."""
        return Panels(from_above_panel(truth.classes))

    def panels(
        self, answer: torch.Tensor, truth: OccupancyTruth, threshold: float, logits: torch.Tensor | None
    ) -> Panels:
        """Seen from above; errors of what stands above the ground, in columns that a sensor observes; entropy."""
        seen = torch.from_numpy(zyx_from_xyz(truth.labels.mask_camera | truth.labels.mask_lidar))
        predicted, true = (stands(torch.where(seen, classes, FREE)) for classes in (answer, truth.classes))
        error = hits_and_misses(predicted, true, seen.any(0))
        uncertainty = None if logits is None else column_entropy_panel(logits.unflatten(0, (CLASSES, -1)))
        return Panels(from_above_panel(answer), error, uncertainty)

    def _ray_origins(self, dataset: NuScenesClips, token: str) -> np.ndarray:
        index = dataset.index
        n = int(np.flatnonzero(index.token == token)[0])
        scene = np.flatnonzero((index.scene == index.scene[n]) & index.usable())
        global_T_lidar = index.global_T_ego[scene] @ index.ego_T_lidar[scene]
        return ray_origins(global_T_lidar, index.ego_T_lidar[n], int(np.flatnonzero(scene == n)[0]))

    def _commonest(self, train: Items, items: int) -> Iterator[torch.Tensor]:
        votes = _votes(train, lambda truth: torch.ones_like(truth.returns))
        votes[FREE] += votes.sum(0) == 0  # nobody knows
        return itertools.repeat(votes.argmax(0).to(torch.uint8), items)

    def _returns(self, train: Items, test: Items) -> Iterator[torch.Tensor]:
        votes = _votes(train, lambda truth: truth.returns)[:FREE].sum((2, 3))  # (17, Z)
        by_height = votes.argmax(0).to(torch.uint8)[:, None, None]
        for truth in test.truths():
            yield torch.where(truth.returns, by_height, FREE).to(torch.uint8)


def class_loss(logits: torch.Tensor, classes: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits (b, 18 * Z, h, w) against classes (b, Z, h, w) on the counted voxels; 0 if none counts."""
    if not bool(counted.any()):
        return 0 * logits.sum()
    voxels = torch.bincount(classes[counted], minlength=CLASSES)
    answers = logits.unflatten(1, (CLASSES, -1))  # (b, 18, Z, h, w)
    wanted = torch.where(counted, classes.long(), NOT_COUNTED)
    return F.cross_entropy(answers, wanted, voxels.clamp(min=1).to(logits).rsqrt(), ignore_index=NOT_COUNTED)


def likeliest_class(logits: torch.Tensor) -> torch.Tensor:
    """Classes (Z, Y, X) uint8 of logits (18 * Z, Y, X)."""
    best, *others = logits.unflatten(0, (CLASSES, -1))
    likeliest = torch.zeros(best.shape, dtype=torch.uint8, device=logits.device)
    for number, score in enumerate(others, 1):  # argmax over the first axis is slower
        is_better = score > best
        best, likeliest = torch.where(is_better, score, best), likeliest.masked_fill(is_better, number)
    return likeliest


def returned_voxels(clip: Clip, grid: BEVGrid) -> torch.Tensor:
    """Voxels (Z, Y, X), bool, that hold a LiDAR return of a context frame, moved into the present ego frame."""
    now_T_global = invert(clip.now.global_T_ego)
    occupied = torch.zeros(grid.shape_zyx, dtype=torch.bool)
    for frame in clip.frames[: clip.num_context]:
        now_T_frame = torch.from_numpy(now_T_global @ frame.global_T_ego).float()
        index_zyx, inside = grid.cell_index(transform_points(now_T_frame, frame.points_ego[:, :3]))
        occupied[index_zyx[inside].unbind(-1)] = True
    return occupied


def stands(classes: torch.Tensor) -> torch.Tensor:
    """Columns (Y, X), bool, of (Z, Y, X) that hold something that is not ground."""
    return ~torch.isin(classes, torch.tensor([*FLAT, FREE, UNKNOWN], dtype=classes.dtype)).all(0)


def _votes(train: Items, counted: Callable[[OccupancyTruth], torch.Tensor]) -> torch.Tensor:
    """(18, Z, Y, X) how often each class was the truth of each voxel that counts."""
    votes = torch.zeros(CLASSES, *OCC3D_GRID.shape_zyx, dtype=torch.int32)
    for truth in train.truths():
        known = counted(truth) & (truth.classes != UNKNOWN)
        votes.scatter_add_(0, torch.where(known, truth.classes, 0).long()[None], known[None].int())
    return votes
