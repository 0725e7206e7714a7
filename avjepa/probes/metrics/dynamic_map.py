"""How well a map is cleaned of what moves: SA, DA, AA and HA of DynamicMap_Benchmark (Zhang et al., ITSC 2023, section IV).

The truth is a point cloud, static or dynamic for each point; a method gives a cleaned map. A point of the truth counts as
removed when no point of the cleaned map is within 0.05 m of it. Points are counted, never voxels: rates over voxels
(ERASOR's PR and RR) say more of the same map and cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.spatial import cKDTree

REMOVED_M = 0.05  # half a voxel of the methods that work at 0.1 m (the benchmark's export script)


@dataclass(frozen=True)
class DynamicMapScore:
    """Counts of points; the rates are in percent.

    Attributes:
        static_kept: TS, static points that are not removed.
        num_static: all static points of the truth.
        dynamic_removed: TD, dynamic points that are removed.
        num_dynamic: all dynamic points of the truth.
    """

    static_kept: int
    num_static: int
    dynamic_removed: int
    num_dynamic: int

    def __add__(self, other: DynamicMapScore) -> DynamicMapScore:
        return DynamicMapScore(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def sa(self) -> float:
        """Static accuracy; nan when nothing is static."""
        return 100 * self.static_kept / self.num_static if self.num_static else float("nan")

    @property
    def da(self) -> float:
        """Dynamic accuracy; nan when nothing is dynamic."""
        return 100 * self.dynamic_removed / self.num_dynamic if self.num_dynamic else float("nan")

    @property
    def aa(self) -> float:
        """Geometric mean of SA and DA."""
        return float(np.sqrt(self.sa * self.da))

    @property
    def ha(self) -> float:
        """Harmonic mean of SA and DA; 0 when either is."""
        total = self.sa + self.da
        return 2 * self.sa * self.da / total if total else total


def score_cleaned_map(
    truth_xyz: np.ndarray, truth_is_dynamic: np.ndarray, cleaned_xyz: np.ndarray, removed_m: float = REMOVED_M
) -> DynamicMapScore:
    """Score a cleaned map, both clouds in one frame.

    Args:
        truth_xyz: (P, 3).
        truth_is_dynamic: (P,) bool.
        cleaned_xyz: (Q, 3); Q = 0 removes everything.
        removed_m: distance to the nearest point of the cleaned map above which a point is removed.

    Raises:
        ValueError: shapes do not match, the truth is empty, or a coordinate is not finite.
    """
    return score_labels(truth_is_dynamic, removed_points(truth_xyz, cleaned_xyz, removed_m))


def score_labels(truth_is_dynamic: np.ndarray, predicted_is_dynamic: np.ndarray) -> DynamicMapScore:
    """Score labels of the truth's own points, which a method that works on points gives without writing a map.

    Args:
        truth_is_dynamic, predicted_is_dynamic: (P,) bool, of the same points in the same order.

    Raises:
        ValueError: they are not of the same points, there is no point, or they are not bool.
    """
    for name, labels in (("truth", truth_is_dynamic), ("prediction", predicted_is_dynamic)):
        if labels.ndim != 1 or labels.dtype != bool:
            raise ValueError(f"{name}: want (P,) bool, got {labels.shape} {labels.dtype}")
    if len(truth_is_dynamic) != len(predicted_is_dynamic) or not len(truth_is_dynamic):
        raise ValueError(
            f"{len(predicted_is_dynamic)} predictions for {len(truth_is_dynamic)} points of the truth: "
            "the counts must match, and there must be some"
        )
    return DynamicMapScore(
        static_kept=int((~truth_is_dynamic & ~predicted_is_dynamic).sum()),
        num_static=int((~truth_is_dynamic).sum()),
        dynamic_removed=int((truth_is_dynamic & predicted_is_dynamic).sum()),
        num_dynamic=int(truth_is_dynamic.sum()),
    )


def best_ha_threshold(score: np.ndarray, truth_is_dynamic: np.ndarray, slack: float = 0.0) -> float:
    """The lowest threshold with the best HA, or nearly so, when points with ``score > threshold`` are called dynamic.

    Choose it on training data, never on the data that is reported.

    Args:
        score: (P,), any scale.
        truth_is_dynamic: (P,) bool.
        slack: how far below the best HA may be, in percent points.

    Returns:
        One of the scores, or less than all of them; 0.5 when either kind of point is missing.
    """
    falling = np.argsort(-score, kind="stable")
    dynamic = truth_is_dynamic[falling].cumsum()
    if not len(score) or dynamic[-1] in (0, len(score)):
        return 0.5
    called = np.arange(1, len(score) + 1)  # dynamic, if the threshold is just below this score
    sa = 1 - (called - dynamic) / (len(score) - dynamic[-1])
    da = dynamic / dynamic[-1]
    ha = 200 * sa * da / np.maximum(sa + da, 1e-12)
    next_score = np.append(score[falling][1:], score.min() - 1)
    ha[next_score == score[falling]] = -1  # equal scores go together
    return float(next_score[np.flatnonzero(ha >= ha.max() - slack)[-1]])


def removed_points(truth_xyz: np.ndarray, cleaned_xyz: np.ndarray, removed_m: float = REMOVED_M) -> np.ndarray:
    """(P,) bool: no point of ``cleaned_xyz`` (Q, 3) lies within ``removed_m`` of the point of ``truth_xyz`` (P, 3).

    Raises:
        ValueError: a cloud is not (n, 3), a coordinate is not finite, or the distance is not positive.
    """
    if not removed_m > 0:
        raise ValueError(f"the distance must be positive, got {removed_m}")
    for name, xyz in (("truth", truth_xyz), ("cleaned map", cleaned_xyz)):
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise ValueError(f"{name}: want (n, 3), got {xyz.shape}")
        if not np.isfinite(xyz).all():
            raise ValueError(f"{name}: {(~np.isfinite(xyz).all(1)).sum()} points are not finite")
    if not len(cleaned_xyz):
        return np.ones(len(truth_xyz), dtype=bool)
    tree = cKDTree(cleaned_xyz, balanced_tree=False, compact_nodes=False)
    # The bound spares the search of points that are far from everything; they get a distance of inf.
    distance_m, _ = tree.query(truth_xyz, distance_upper_bound=2 * removed_m)
    return distance_m > removed_m
