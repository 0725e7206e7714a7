"""Occupancy forecasting as OccWorld scores it: mIoU and IoU 1, 2 and 3 s after the present.

Zheng et al., "OccWorld", ECCV 2024, and the evaluator published with it (utils/metric_util.py, eval_metric_stp3.py): the six
future keyframes are half a second apart; each is predicted in its own ego frame; every voxel counts, seen or not; a class
that the truth of a moment never holds has IoU 1. The figure for 2 s is that of the keyframe AT 2 s (OccWorld issue 20),
not a mean over the keyframes up to it, which is how some planners read "@2s".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avjepa.probes.metrics.semantic_occupancy import OccupancyConfusion, OccupancyScores

STEP_S = 0.5
STEPS = 6
SECONDS = (1, 2, 3)
CONVENTION = "occworld"


@dataclass(frozen=True)
class OccupancyForecastScores:
    """Scores over everything added, as fractions.

    Attributes:
        steps: the scores of each of the six moments.
        miou: {1, 2, 3 s: mean over the 17 classes}.
        geometric_iou: {1, 2, 3 s: IoU of occupied, whatever the class}.
        mean_miou, mean_geometric_iou: over the three seconds.
    """

    steps: tuple[OccupancyScores, ...]
    miou: dict[int, float]
    geometric_iou: dict[int, float]
    mean_miou: float
    mean_geometric_iou: float


class OccupancyForecastScore:
    """Counts the voxels of a whole split, one confusion matrix a moment."""

    def __init__(self) -> None:
        self.confusions = tuple(OccupancyConfusion() for _ in range(STEPS))

    def add(self, predicted, truth) -> None:
        """Count one clip: two sequences of six volumes of classes 0..17 of one shape, each in its moment's own ego frame.

        Raises:
            ValueError: not six volumes, or they do not fit each other.
        """
        if len(predicted) != STEPS or len(truth) != STEPS:
            raise ValueError(f"want {STEPS} future volumes of each, got {len(predicted)} and {len(truth)}")
        for step, (predicted_now, true_now) in enumerate(zip(predicted, truth, strict=True)):
            self.add_step(step, predicted_now, true_now)

    def add_step(self, step: int, predicted, truth) -> None:
        """Count one moment, 0 for the one half a second ahead; volumes as in ``add``."""
        no_mask = np.zeros(truth.shape, dtype=np.uint8)
        self.confusions[step].add(predicted, truth, no_mask, no_mask)

    def scores(self) -> OccupancyForecastScores:
        """Scores over everything added.

        Raises:
            ValueError: a moment without a volume: of no voxel, every class would be absent and its IoU 1.
        """
        if not all(confusion.frames for confusion in self.confusions):
            raise ValueError(f"want volumes of all {STEPS} moments, got {[c.frames for c in self.confusions]}")
        steps = tuple(confusion.scores(CONVENTION) for confusion in self.confusions)
        at = {second: steps[round(second / STEP_S) - 1] for second in SECONDS}
        miou = {second: score.miou for second, score in at.items()}
        geometric_iou = {second: score.geometric_iou for second, score in at.items()}
        return OccupancyForecastScores(
            steps=steps,
            miou=miou,
            geometric_iou=geometric_iou,
            mean_miou=float(np.mean(list(miou.values()))),
            mean_geometric_iou=float(np.mean(list(geometric_iou.values()))),
        )
