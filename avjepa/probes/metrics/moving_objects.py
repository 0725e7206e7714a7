"""Moving object segmentation: IoU of the moving class over a whole data set, and how many of the moving things are found.

Labels are int8: STATIC, MOVING or IGNORED. Predictions are bool, moving or not.

Sources: LiDAR-MOS (Chen et al., RA-L 2021, eq. 3) for the IoU; TOP (Miao et al., arXiv 2503.07167) for recall over
objects: the IoU counts points, so a bus nearby outweighs every pedestrian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

STATIC, MOVING, IGNORED = 0, 1, -1

SEMANTICKITTI_UNLABELED = (0, 1)  # unlabeled, outlier
SEMANTICKITTI_STATIC = (
    9,
    10,
    11,
    13,
    15,
    16,
    18,
    20,
    30,
    31,
    32,
    40,
    44,
    48,
    49,
    50,
    51,
    52,
    60,
    70,
    71,
    72,
    80,
    81,
    99,
)
SEMANTICKITTI_MOVING = tuple(range(251, 260))

FOUND_SHARE = 0.5  # of a thing's points; then it counts as found


def semantickitti_labels(raw: np.ndarray, rule: Literal["semantickitti", "motionseg3d"]) -> np.ndarray:
    """Moving labels (P,) from the entries of a SemanticKITTI ``.label`` file.

    Args:
        raw: (P,) integers; the lower 16 bits are the class, the upper ones the instance.
        rule: "semantickitti" ignores unlabeled and outlier points, as LiDAR-MOS, 4DMOS and the benchmark's server do;
            "motionseg3d" calls them static, as MotionSeg3D and what builds on it do (its issue 13). The two give
            different numbers. Classes that the data set does not define are ignored by both.
    """
    semantic = np.asarray(raw).astype(np.int64) & 0xFFFF
    unlabeled = {"semantickitti": IGNORED, "motionseg3d": STATIC}[rule]
    labels = np.full(semantic.shape, IGNORED, dtype=np.int8)
    labels[np.isin(semantic, SEMANTICKITTI_UNLABELED)] = unlabeled
    labels[np.isin(semantic, SEMANTICKITTI_STATIC)] = STATIC
    labels[np.isin(semantic, SEMANTICKITTI_MOVING)] = MOVING
    return labels


@dataclass(frozen=True)
class MovingConfusion:
    """Counts of points. Add those of all scans, then read the IoU: the mean of per-scan IoUs is another number.

    Attributes:
        true_moving: TD, moving and found.
        false_moving: FD, static but called moving.
        false_static: FS, moving but called static.
        true_static: TS.
    """

    true_moving: int = 0
    false_moving: int = 0
    false_static: int = 0
    true_static: int = 0

    @classmethod
    def of(cls, predicted_moving: np.ndarray, labels: np.ndarray) -> MovingConfusion:
        """Counts of one scan, ignored points left out.

        Args:
            predicted_moving: (P,) bool.
            labels: (P,).

        Raises:
            ValueError: the number of predictions is not that of the labels, or they are not bool.
        """
        _check(predicted_moving, labels)
        moving, static = labels == MOVING, labels == STATIC
        return cls(
            true_moving=int((predicted_moving & moving).sum()),
            false_moving=int((predicted_moving & static).sum()),
            false_static=int((~predicted_moving & moving).sum()),
            true_static=int((~predicted_moving & static).sum()),
        )

    def __add__(self, other: MovingConfusion) -> MovingConfusion:
        return MovingConfusion(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def iou(self) -> float:
        """TD / (TD + FD + FS) in [0, 1]; nan when nothing moves, as in MapMOS (LiDAR-MOS would say 0)."""
        return self._share(self.true_moving + self.false_moving + self.false_static)

    @property
    def recall(self) -> float:
        """TD / (TD + FS); nan when nothing moves."""
        return self._share(self.true_moving + self.false_static)

    @property
    def precision(self) -> float:
        """TD / (TD + FD); nan when nothing moves, or nothing is called moving."""
        return self._share(self.true_moving + self.false_moving)

    def _share(self, whole: int) -> float:
        anything_moves = self.true_moving + self.false_static > 0
        return self.true_moving / whole if anything_moves and whole else float("nan")


@dataclass(frozen=True)
class MovingObjects:
    """The K moving things of one or more scans that have a point; a thing counts once in every scan.

    Attributes:
        category: (K,) str.
        num_points: (K,) its moving points.
        num_found: (K,) those that were called moving.
    """

    category: np.ndarray
    num_points: np.ndarray
    num_found: np.ndarray

    @classmethod
    def of(
        cls, predicted_moving: np.ndarray, labels: np.ndarray, thing: np.ndarray, category: np.ndarray
    ) -> MovingObjects:
        """The moving things of one scan.

        Args:
            predicted_moving: (P,) bool.
            labels: (P,).
            thing: (P,) number of the thing that a point belongs to, negative for none (see boxes.box_of_points).
            category: (n,) str of the things.

        Raises:
            ValueError: shapes do not match.
        """
        _check(predicted_moving, labels)
        if thing.shape != labels.shape:
            raise ValueError(f"want a thing for each of {labels.shape} points, got {thing.shape}")
        moving = (labels == MOVING) & (thing >= 0)
        num_points = np.bincount(thing[moving], minlength=len(category))
        num_found = np.bincount(thing[moving & predicted_moving], minlength=len(category))
        seen = num_points > 0
        return cls(np.asarray(category)[seen], num_points[seen], num_found[seen])

    @classmethod
    def joined(cls, parts: Sequence[MovingObjects]) -> MovingObjects:
        """Things of several scans; of none when there are no scans."""
        if not parts:
            return cls(np.zeros(0, dtype=str), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def recall(self, found_share: float = FOUND_SHARE) -> float:
        """Share of the things of which at least ``found_share`` of the points are found; nan when there is no thing."""
        return float(self._found(found_share).mean()) if len(self.num_points) else float("nan")

    def recall_by_category(self, found_share: float = FOUND_SHARE) -> dict[str, float]:
        """The same for each category that occurs."""
        found = self._found(found_share)
        return {str(name): float(found[self.category == name].mean()) for name in np.unique(self.category)}

    def _found(self, share: float) -> np.ndarray:
        return self.num_found / self.num_points >= share


def _check(predicted_moving: np.ndarray, labels: np.ndarray) -> None:
    if predicted_moving.shape != labels.shape or labels.ndim != 1 or predicted_moving.dtype != bool:
        raise ValueError(
            f"want (P,) bool and (P,) labels, got {predicted_moving.dtype} {predicted_moving.shape}, {labels.shape}"
        )
