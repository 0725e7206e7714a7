"""Semantic occupancy in the Occ3D grid: one confusion matrix over a split, read by each published convention.

A mean IoU is only comparable to one that counts the same voxels, averages the same classes, and gives the same IoU to a
class that the truth of the split does not contain. CONVENTIONS names what the released evaluators do. IoUs are fractions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from avjepa.errors import ConfigError
from avjepa.geometry.occ3d import CLASS_NAMES, FREE, UNKNOWN, as_classes

CLASSES = len(CLASS_NAMES)
OTHERS, OTHER_FLAT = CLASS_NAMES.index("others"), CLASS_NAMES.index("other_flat")
_COUNTS_SHAPE = (2, 2, 2, CLASSES, CLASSES)  # camera, lidar, SelfOcc's margin, truth, predicted
_SELFOCC_MARGIN, _SELFOCC_HEIGHT = 6, 12  # voxels


@dataclass(frozen=True)
class Convention:
    """How one evaluator reads the counts.

    Attributes:
        confusion: from counts (2, 2, 2, 18, 18) to the confusion matrix (18, 18) of truth and prediction.
        classes: those in the mean.
        absent_iou: IoU of a class without a true voxel in the split. None: 0 if it was predicted, else nan, which the mean
            leaves out.
    """

    confusion: Callable[[np.ndarray], np.ndarray]
    classes: tuple[int, ...] = tuple(range(FREE))
    absent_iou: float | None = None


@dataclass(frozen=True)
class OccupancyScores:
    """Scores of one convention.

    Attributes:
        convention: its name.
        miou: mean of ``iou``, nan left out.
        iou: of each class in the mean.
        geometric_iou: occupied (any class) against free.
        absent: classes of the mean without a true voxel: their IoU, and so the mean, is the convention's choice.
        frames: that were added.
        voxels: that count.
    """

    convention: str
    miou: float
    iou: dict[str, float]
    geometric_iou: float
    absent: tuple[str, ...]
    frames: int
    voxels: int


def _all(counts: np.ndarray) -> np.ndarray:
    return counts.sum((0, 1, 2))


def _camera(counts: np.ndarray) -> np.ndarray:
    return counts[1].sum((0, 1))


def _lidar_and_camera(counts: np.ndarray) -> np.ndarray:
    return counts[1, 1].sum(0)


def _occluded(counts: np.ndarray) -> np.ndarray:
    return counts[0, 0].sum(0)


def _visible(counts: np.ndarray) -> np.ndarray:
    return _all(counts) - _occluded(counts)


def _selfocc(counts: np.ndarray) -> np.ndarray:
    """Camera mask; predictions in the margin become free, the truth there stays; 'others' is free in both."""
    kept, margin = counts[1].sum(0)
    confusion = kept.copy()
    confusion[:, FREE] += margin.sum(1)
    for by_row in (confusion, confusion.T):
        by_row[FREE] += by_row[OTHERS]
        by_row[OTHERS] = 0
    return confusion


CONVENTIONS = {
    # CVPR 2023 challenge, Occ3D, BEVDet, FlashOcc: occ_metrics.py, use_image_mask=True.
    "occ3d": Convention(_camera),
    # The same without a mask.
    "occ3d_unmasked": Convention(_all),
    # SparseOcc, old_metrics.py: as occ3d, but a class absent from the truth is left out even if it is predicted.
    "sparseocc": Convention(_camera, absent_iou=np.nan),
    # OccNeRF, GaussianOcc: nusc_dataset.py takes the AND of both masks.
    "lidar_and_camera_mask": Convention(_lidar_and_camera),
    # OccNeRF's table: also without 'others' and 'other_flat', which have no prompt.
    "occnerf": Convention(_lidar_and_camera, classes=tuple(c for c in range(FREE) if c not in (OTHERS, OTHER_FLAT))),
    # SelfOcc, eval_iou.py --occ3d --sem --use-mask: 16 classes.
    "selfocc": Convention(_selfocc, classes=tuple(range(1, FREE)), absent_iou=1.0),
    # OccWorld, metric_util.py: no mask.
    "occworld": Convention(_all, absent_iou=1.0),
    # Ours: what some sensor observes at the keyframe, and what none does. Real Occ3D does not know the latter's truth.
    "visible": Convention(_visible, absent_iou=np.nan),
    "occluded": Convention(_occluded, absent_iou=np.nan),
}


class OccupancyConfusion:
    """Counts voxels of a whole split, frame by frame; one pass serves every convention.

    Args:
        counts: (2, 2, 2, 18, 18) int64, to go on from; none: zeros.
        frames: that these are of.
    """

    def __init__(self, counts: np.ndarray | None = None, frames: int = 0) -> None:
        self.counts = np.zeros(_COUNTS_SHAPE, dtype=np.int64) if counts is None else np.array(counts, dtype=np.int64)
        self.frames = frames
        if self.counts.shape != _COUNTS_SHAPE:
            raise ValueError(f"counts must be {_COUNTS_SHAPE}, got {self.counts.shape}")

    def add(self, predicted, truth, mask_camera, mask_lidar) -> None:
        """Count one frame, all four (X, Y, Z) as Occ3D has them, arrays or tensors on one device.

        Args:
            predicted: integers 0..17.
            truth: integers 0..17, or UNKNOWN.
            mask_camera: bool or 0 / 1, what the cameras observe.
            mask_lidar: bool or 0 / 1, what the LiDAR observes.

        Raises:
            ValueError: shapes differ, or a value is no class.
        """
        predicted, truth = as_classes(predicted, "prediction"), as_classes(truth, "truth")
        mask_camera, mask_lidar = (
            torch.as_tensor(mask, device=truth.device).bool() for mask in (mask_camera, mask_lidar)
        )
        shapes = {tuple(volume.shape) for volume in (predicted, truth, mask_camera, mask_lidar)}
        if len(shapes) > 1 or truth.ndim != 3:
            raise ValueError(f"want four volumes of one shape (X, Y, Z), got {sorted(shapes)}")
        # uint8 as long as it fits, in place: the counting itself is only a fifth of the time.
        stratum = mask_camera.to(torch.uint8).mul_(2).add_(mask_lidar).mul_(2)
        stratum += _selfocc_margin(tuple(truth.shape), truth.device)
        key = stratum.to(torch.int16).mul_(CLASSES).add_(truth).mul_(CLASSES).add_(predicted)
        if key.numel() and int(truth.max()) == UNKNOWN:
            known = truth != UNKNOWN
            key, predicted = key[known], predicted[known]
        if key.numel() and int(predicted.max()) == UNKNOWN:
            raise ValueError(f"a prediction must name a class 0..{FREE} where the truth is known, got {UNKNOWN}")
        counts = torch.bincount(key.flatten(), minlength=self.counts.size)
        self.counts += counts.reshape(_COUNTS_SHAPE).cpu().numpy()
        self.frames += 1

    def __add__(self, other: OccupancyConfusion) -> OccupancyConfusion:
        """The counts of both, as if one had seen all frames."""
        return OccupancyConfusion(self.counts + other.counts, self.frames + other.frames)

    def scores(self, convention: str = "occ3d") -> OccupancyScores:
        """Scores over everything added.

        Raises:
            ConfigError: no such convention.
        """
        if convention not in CONVENTIONS:
            raise ConfigError(f"no convention {convention!r} for semantic occupancy; one of {', '.join(CONVENTIONS)}")
        rule = CONVENTIONS[convention]
        confusion = rule.confusion(self.counts)
        true, predicted, both = confusion.sum(1), confusion.sum(0), confusion.diagonal()
        iou = _iou(both, true + predicted - both, true == 0, rule.absent_iou)[list(rule.classes)]

        occupied = confusion[:FREE, :FREE].sum()
        either = confusion.sum() - confusion[FREE, FREE]
        geometric_iou = _iou(occupied, either, true[:FREE].sum() == 0, rule.absent_iou)
        return OccupancyScores(
            convention=convention,
            miou=float(np.nanmean(iou)) if not np.isnan(iou).all() else float("nan"),
            iou={CLASS_NAMES[c]: float(value) for c, value in zip(rule.classes, iou, strict=True)},
            geometric_iou=float(geometric_iou),
            absent=tuple(CLASS_NAMES[c] for c in rule.classes if true[c] == 0),
            frames=self.frames,
            voxels=int(confusion.sum()),
        )


def _iou(both, either, absent, absent_iou: float | None) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        iou = np.divide(both, either)
    return iou if absent_iou is None else np.where(absent, absent_iou, iou)


@lru_cache(maxsize=4)
def _selfocc_margin(shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """(X, Y, Z) uint8: 1 where SelfOcc deletes what was predicted."""
    margin = torch.ones(shape, dtype=torch.uint8, device=device)
    margin[_SELFOCC_MARGIN:-_SELFOCC_MARGIN, _SELFOCC_MARGIN:-_SELFOCC_MARGIN, :_SELFOCC_HEIGHT] = 0
    return margin
