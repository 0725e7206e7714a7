"""Whether events of confidence 0.8 are right eight times in ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Events whose confidence lies in [lower, upper); the last bin holds 1 too.

    Attributes:
        lower, upper: of the bin.
        count: events in it.
        confidence: their mean confidence; nan of none.
        share_right: share of them that are right; nan of none.
    """

    lower: float
    upper: float
    count: int
    confidence: float
    share_right: float


@dataclass(frozen=True)
class Calibration:
    """Of n events.

    Attributes:
        bins: ten of equal width.
        ece: expected calibration error, the mean of |share_right - confidence| over bins, weighted by their count (Guo et al.,
            ICML 2017, equation 3); nan of no events. With few events a bin holds one or two, and the error is large of itself:
            look at ``count``.
        brier: mean of (confidence - right) ** 2 (Brier, 1950, the form for two outcomes); nan of no events.
        count: events.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: float
    brier: float
    count: int


def calibration_of(confidence: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Reliability of confidences in [0, 1] against what turned out.

    Raises:
        ValueError: a confidence out of range, or lists of different lengths.
    """
    said, was = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if said.shape != was.shape or not ((said >= 0) & (said <= 1)).all():
        raise ValueError(f"want as many answers as confidences in [0, 1], got {said.shape} and {was.shape}")
    # Not floor(10 * said): 10 * 0.3 is 3, but 10 * 0.7 - 7 may not be 0. Bins begin at the same numbers that are printed.
    edges = np.arange(BINS) / BINS
    number = np.searchsorted(edges, said, side="right") - 1
    bins = tuple(_bin(bin_, said[number == bin_], was[number == bin_]) for bin_ in range(BINS))
    if not len(said):
        return Calibration(bins, math.nan, math.nan, 0)
    gaps = [bin_.count * abs(bin_.share_right - bin_.confidence) for bin_ in bins if bin_.count]
    return Calibration(bins, sum(gaps) / len(said), float(np.mean((said - was) ** 2)), len(said))


def _bin(number: int, said: np.ndarray, was: np.ndarray) -> ReliabilityBin:
    lower, upper = number / BINS, (number + 1) / BINS
    if not len(said):
        return ReliabilityBin(lower, upper, 0, math.nan, math.nan)
    return ReliabilityBin(lower, upper, len(said), float(said.mean()), float(was.mean()))
