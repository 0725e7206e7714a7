"""How slowly each direction of the embedding changes at one place: Slow Feature Analysis (Wiskott and Sejnowski 2002, sec. 3).

Of all directions with unit variance that are not correlated with each other, SFA finds those with the smallest mean squared
change from one moment to the next, their delta value ("delta"). For samples one step apart, delta = 2 (1 - autocorrelation):
0 never changes, 2 is noise, 4 changes sign at every step. Letters: see conventions.py; R directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Directions with less than this share of the largest variance are rounding errors; whitening would blow them up.
LEAST_VARIANCE_SHARE = 1e-6


@dataclass(frozen=True)
class SlowFeatures:
    """Directions of an embedding, slowest first. Float64.

    Attributes:
        deltas: (R,), ascending; R is the number of directions that have any variance.
        directions: (C, R); ``(z - mean) @ directions`` has unit variance, is uncorrelated, and has these deltas.
    """

    deltas: torch.Tensor
    directions: torch.Tensor

    def deltas_of(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Mean squared change (R,) of each direction over other pairs (P, C), against the variance of all."""
        return ((after - before).double() @ self.directions).square().mean(0)


def slow_features(before: torch.Tensor, after: torch.Tensor) -> SlowFeatures:
    """Slow Feature Analysis of pairs of embeddings, of one place each and one step apart.

    Args:
        before: (P, C).
        after: (P, C), of the same places one step later.

    Raises:
        ValueError: the shapes differ, or there are fewer than two pairs. With no more pairs than dimensions some
            combination of them does not change by chance, and its delta of 0 means nothing.
    """
    if before.ndim != 2 or before.shape != after.shape or len(before) < 2:
        raise ValueError(f"want two or more pairs (P, C) twice, got {tuple(before.shape)} and {tuple(after.shape)}")
    samples = torch.cat([before, after]).double()
    variance, axes = torch.linalg.eigh(torch.cov(samples.T, correction=0).reshape(before.shape[1], -1))
    kept = variance > LEAST_VARIANCE_SHARE * variance.amax().clamp(min=torch.finfo(torch.float64).tiny)
    whitening = axes[:, kept] / variance[kept].sqrt()  # (C, R)
    change = (after - before).double() @ whitening  # (P, R)
    deltas, rotation = torch.linalg.eigh(change.T @ change / len(change))
    return SlowFeatures(deltas.clamp(min=0), whitening @ rotation)
