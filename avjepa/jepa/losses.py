"""The terms of the JEPA loss. All means are over the joined batch of all ranks. Letters: see conventions.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
import torch.nn.functional as F

from avjepa.conventions import FREE, OCCUPIED
from avjepa.jepa.distributed import sum_over_ranks

CellLoss = Literal["smooth_l1", "l1", "l2", "cosine"]


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term; a weight of 0 switches the term off, but it is still computed and logged."""

    masked: float = 1.0
    future: float = 1.0
    rollout: float = 0.5
    variance: float = 1.0
    covariance: float = 0.04
    sigreg_times_n: float = 0.0
    occupancy: float = 4.0


@dataclass(frozen=True)
class LossTerms:
    """Unweighted terms, each a scalar of the joined batch, and their weights.

    Attributes:
        masked: prediction error on hidden cells of the present.
        future: prediction error on future frames, predicted from the present state.
        rollout: prediction error on future frames, predicted from the prediction before.
        variance, covariance: regulariser on the context embedding.
        sigreg_times_n: the other regulariser, see sigreg.py; 0 where the model has none.
        occupancy: grounding, binary cross-entropy of occupied against empty voxels, see voxel_decoder.py.
        weights: of the terms.
        extras: further terms by name, each already times its weight; see extras.py.
    """

    masked: torch.Tensor
    future: torch.Tensor
    rollout: torch.Tensor
    variance: torch.Tensor
    covariance: torch.Tensor
    sigreg_times_n: torch.Tensor
    occupancy: torch.Tensor
    weights: LossWeights
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def total(self) -> torch.Tensor:
        """The objective: weighted sum of the terms whose weight is not zero."""
        weighted = [(getattr(self.weights, term.name), getattr(self, term.name)) for term in fields(self.weights)]
        return sum(weight * term for weight, term in weighted if weight) + sum(self.extras.values())

    def named(self) -> dict[str, torch.Tensor]:
        """Every term by name."""
        return {term.name: getattr(self, term.name) for term in fields(self.weights)} | dict(self.extras)


def cell_error(prediction: torch.Tensor, target: torch.Tensor, kind: CellLoss) -> torch.Tensor:
    """Error of every cell (M, Y, X): mean over channels of the difference of (M, C, Y, X), or 1 - cosine."""
    if kind == "smooth_l1":
        return F.smooth_l1_loss(prediction, target, reduction="none").mean(1)
    if kind == "l1":
        return (prediction - target).abs().mean(1)
    if kind == "l2":
        return (prediction - target).square().mean(1)
    if kind == "cosine":
        return 1 - F.cosine_similarity(prediction, target, dim=1)
    raise ValueError(f"unknown loss {kind!r}; want smooth_l1, l1, l2 or cosine")


def stratified_mean(
    error: torch.Tensor,
    states: torch.Tensor,
    valid: torch.Tensor,
    occupied_weight: float,
    cell_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """``occupied_weight`` x mean over occupied cells + the rest x mean over free cells, of valid cells only.

    Unobserved cells never count. A stratum without cells gives its weight to the other; no cell at all gives 0.

    Args:
        error: (M, Y, X).
        states: (M, Y, X) cell states at the time of the target.
        valid: (M, Y, X) bool.
        occupied_weight: weight of the occupied stratum, in [0, 1]; .75 after AD-L-JEPA.
        cell_weight: (M, Y, X) how much each cell counts within its stratum; None for all alike.
    """
    strata = torch.stack([valid & (states == OCCUPIED), valid & (states == FREE)]).to(error)  # (2, M, Y, X)
    if cell_weight is not None:
        strata = strata * cell_weight
    sums = sum_over_ranks((strata * error).flatten(1).sum(1))
    counts = sum_over_ranks(strata.flatten(1).sum(1))
    weights = error.new_tensor([occupied_weight, 1 - occupied_weight]) * (counts > 0)
    return (weights * sums / torch.where(counts > 0, counts, 1)).sum() / weights.sum().clamp(min=1e-6)


def prediction_loss(
    predicted: torch.Tensor,
    target: torch.Tensor,
    states: torch.Tensor,
    valid: torch.Tensor,
    kind: CellLoss,
    occupied_weight: float,
    cell_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Stratified error of predictions (B, K, C, Y, X) against targets, over the cells (B, K, Y, X) as in
    :func:`stratified_mean`; 0 for no horizon.
    """
    error = cell_error(predicted.flatten(0, 1), target.flatten(0, 1), kind)
    weight = None if cell_weight is None else cell_weight.flatten(0, 1)
    return stratified_mean(error, states.flatten(0, 1), valid.flatten(0, 1), occupied_weight, weight)


def variance_covariance(z_cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """VICReg's regularisers (Bardes et al. 2022, eq. 1-4) on embeddings of cells (P, C), statistics over all ranks.

    Returns:
        Mean over dimensions of relu(1 - std), and the sum of squared off-diagonal covariances divided by C. Always
        float32.
    """
    with torch.autocast(z_cells.device.type, enabled=False):
        z_cells = z_cells.float()
        count = sum_over_ranks(z_cells.new_tensor(float(len(z_cells))))
        centred = z_cells - sum_over_ranks(z_cells.sum(0)) / count.clamp(min=1)
        covariance = sum_over_ranks(centred.T @ centred) / (count - 1).clamp(min=1)
        std = (covariance.diagonal() + 1e-4).sqrt()
        off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
        return F.relu(1 - std).mean(), off_diagonal / z_cells.shape[1]


def occupancy_loss(
    logits: torch.Tensor, states: torch.Tensor, valid: torch.Tensor, occupied_weight: float
) -> torch.Tensor:
    """Binary cross-entropy of occupied against free on valid, observed cells, stratified as the JEPA loss: all (M, Y, X)."""
    error = F.binary_cross_entropy_with_logits(logits.float(), (states == OCCUPIED).float(), reduction="none")
    return stratified_mean(error, states, valid, occupied_weight)
