"""IoU of BEV map segmentation as BEVFusion computes it (Liu et al., ICRA 2023, section IV-B; its public ``evaluate_map``).

True positives, false positives and false negatives are summed over the data set, per class and per threshold
0.35, 0.40, ..., 0.65; a cell is predicted when its score is at or above the threshold; IoU = TP / (TP + FP + FN + 1e-7).
Letters: C classes, Y X cells; else see conventions.py.

Two modes, each a value per class and their mean over classes (mIoU):
    "iou@0.50"  the IoU at threshold one half: what to compare runs by.
    "iou@max"   per class the best IoU over the thresholds: what BEVFusion's tables hold. Optimistic, since each class's
                threshold is chosen on the very cells that are scored.

A class without any true cell has IoU 0 in both modes, predicted or not, and BEVFusion's mIoU counts that 0. Since it says
more about the data than about the model, ``occurs`` tells such classes and ``mean_over_occurring`` leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

MAP_CLASSES = ("drivable_area", "ped_crossing", "walkway", "stop_line", "carpark_area", "divider")
THRESHOLDS = (0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65)
EPSILON = 1e-7

Mode = Literal["iou@0.50", "iou@max"]


@dataclass(frozen=True)
class MapScores:
    """Result of an evaluation.

    Attributes:
        classes: C names.
        iou: (C, 7) float64, by class and threshold.
        occurs: (C,) bool, the class has a true cell among those counted.
    """

    classes: tuple[str, ...]
    iou: torch.Tensor
    occurs: torch.Tensor

    def per_class(self, mode: Mode) -> dict[str, float]:
        """IoU of every class; 0 for one that never occurs."""
        return dict(zip(self.classes, self._values(mode).tolist(), strict=True))

    def mean(self, mode: Mode) -> float:
        """BEVFusion's mIoU: the mean over all classes, those that never occur counted as 0."""
        return float(self._values(mode).mean())

    def mean_over_occurring(self, mode: Mode) -> float:
        """The mean over the classes that occur; nan when none does."""
        return float(self._values(mode)[self.occurs].mean())

    def _values(self, mode: Mode) -> torch.Tensor:
        if mode == "iou@0.50":
            return self.iou[:, THRESHOLDS.index(0.50)]
        if mode == "iou@max":
            return self.iou.max(1).values
        raise ValueError(f"unknown mode {mode!r}; want iou@0.50 or iou@max")


class MapIoU:
    """Takes frames one by one and holds counts only.

    Args:
        classes: names of the C channels; fewer than MAP_CLASSES where the data set has truth for fewer.
    """

    def __init__(self, classes: Sequence[str] = MAP_CLASSES) -> None:
        self.classes = tuple(classes)
        # Cells by class, truth, and number of thresholds that their score reaches. Integers: sums in float32, as the
        # reference keeps them, lose single cells beyond 2^24.
        self._cells = torch.zeros(len(self.classes), 2, len(THRESHOLDS) + 1, dtype=torch.int64)

    def add(self, score: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor | None = None) -> None:
        """Count one frame.

        Args:
            score: (C, Y, X), probabilities in [0, 1].
            truth: (C, Y, X), bool.
            counted: (Y, X), bool, cells to score, None for all. Completion counts unobserved or masked cells only.

        Raises:
            ValueError: a wrong shape or type, or a score that is no probability (a logit, nan).
        """
        self._check(score, truth, counted)
        chosen = torch.ones_like(truth[0]) if counted is None else counted
        score = score.detach()[:, chosen].float()  # (C, cells)
        # A comparison in float32, as in the reference; right=True counts a threshold that is equal to the score.
        reached = torch.bucketize(score, torch.tensor(THRESHOLDS, device=score.device), right=True)
        size = self._cells.shape
        first = torch.arange(size[0], device=score.device)[:, None] * size[1]
        bins = ((first + truth[:, chosen]) * size[2] + reached).flatten()
        self._cells += torch.bincount(bins, minlength=self._cells.numel()).view(size).cpu()

    def scores(self) -> MapScores:
        """IoU over all frames so far.

        Raises:
            ValueError: no cell has been counted.
        """
        if not self._cells.any():
            raise ValueError("map IoU of no cell: no frame was added, or no cell of any frame was counted")
        # at_least[class, truth, k]: cells that reach more than k thresholds, hence are predicted at the k-th.
        at_least = self._cells.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        positives = self._cells[:, 1].sum(-1)
        tp, fp = at_least[:, 1], at_least[:, 0]
        fn = positives[:, None] - tp
        return MapScores(self.classes, tp / ((tp + fp + fn).double() + EPSILON), positives > 0)

    def _check(self, score: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor | None) -> None:
        want = (len(self.classes), *truth.shape[1:])
        if truth.ndim != 3 or tuple(score.shape) != want or tuple(truth.shape) != want:
            raise ValueError(
                f"want score and truth ({len(self.classes)}, Y, X), got {tuple(score.shape)}, {tuple(truth.shape)}"
            )
        if counted is not None and counted.shape != truth.shape[1:]:
            raise ValueError(f"want counted {tuple(truth.shape[1:])}, got {tuple(counted.shape)}")
        if truth.dtype != torch.bool or (counted is not None and counted.dtype != torch.bool):
            raise ValueError("truth and counted must be bool")
        if not bool(((score >= 0) & (score <= 1)).all()):
            raise ValueError("scores must be probabilities in [0, 1]; apply a sigmoid to logits, and mend nan")
