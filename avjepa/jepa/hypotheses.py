"""Forks in the future: several predictions of it, of which only the best counts.

Where a car may turn or go straight, one prediction is the mean of both and right about neither. Each hypothesis has a code that
joins the motion in the predictor; region by region the one nearest to what happened is trained, and the others a little, so that
none is forgotten (relaxed winner-takes-all, Rupprecht et al. 2017, eq. 5). Letters: see conventions.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avjepa.conventions import FREE, OCCUPIED
from avjepa.jepa.distributed import sum_over_ranks
from avjepa.jepa.extras import Extra, Step
from avjepa.jepa.losses import cell_error
from avjepa.jepa.world_model import BEVWorldModel, normalise_each
from avjepa.sensors.sample import ClipBatch


class FutureHypotheses(Extra):
    """Error of the best of several predicted futures, beside the one prediction that losses.py counts.

    Args:
        count: hypotheses, at least two.
        hidden_channels: of the predictor.
        weight: of the term.
        others: share of the loss that the hypotheses which lost have, in [0, 1).
        region_cells: edge of the regions that choose their hypothesis; different agents fork on their own.
    """

    def __init__(
        self, count: int, hidden_channels: int, weight: float = 1.0, others: float = 0.05, region_cells: int = 8
    ) -> None:
        super().__init__(weight)
        if count < 2 or not 0 <= others < 1:
            raise ValueError(f"want at least 2 hypotheses and others in [0, 1), got {count} and {others}")
        self.codes = nn.Parameter(0.5 * torch.randn(count, hidden_channels))
        self.others = others
        self.region_cells = region_cells

    def forward(self, model: BEVWorldModel, step: Step) -> torch.Tensor:
        """The term; 0 without a future frame."""
        target = step.predictions.target[:, 1:]
        if not target.shape[1]:
            return target.new_zeros(())
        predicted = self.predict(model, step.predictions.state, step.clips)  # (B, N, F, C, Y, X)
        error = torch.stack(
            [
                cell_error(one.flatten(0, 1), target.flatten(0, 1), step.cell_loss)
                for one in map(normalise_each, predicted.unbind(1))
            ]
        )  # (N, B * F, Y, X)

        states, valid = step.predictions.states[:, 1:].flatten(0, 1), step.predictions.valid[:, 1:].flatten(0, 1)
        weight = valid * step.cell_weight.flatten(0, 1)
        occupied, free = (weight * (states == state) for state in (OCCUPIED, FREE))
        counts = sum_over_ranks(torch.stack([occupied.sum(), free.sum()]))
        share = torch.tensor([step.occupied_weight, 1 - step.occupied_weight], device=error.device) * (counts > 0)
        scale = share / share.sum().clamp(min=1e-6) / counts.clamp(min=1)
        cell_weight = scale[0] * occupied + scale[1] * free  # sums to 1 over all cells of all ranks

        regional = self._sum_over_regions(error * cell_weight)  # (N, B * F, regions)
        best = F.one_hot(regional.argmin(0), len(error)).movedim(-1, 0)
        loss_share = torch.where(best.bool(), 1 - self.others, self.others / (len(error) - 1))
        return sum_over_ranks((loss_share * regional).sum())

    def predict(self, model: BEVWorldModel, state: torch.Tensor, clips: ClipBatch) -> torch.Tensor:
        """Every hypothesis of the future frames, (B, N, F, C, Y, X), not normalised, from the state (B, C, Y, X)."""
        batch, count = len(state), len(self.codes)
        frame_T_now = clips.frame_T_now()[:, 1:].repeat_interleave(count, 0)  # (B * N, F, 4, 4)
        dt_s = clips.time_s[:, clips.num_context :].repeat_interleave(count, 0)
        horizons = dt_s.shape[1]
        code = self.codes.repeat(batch, 1).repeat_interleave(horizons, 0)
        states = state.repeat_interleave(count * horizons, 0)
        raw, _ = model.predictor(states, frame_T_now.flatten(0, 1), dt_s.flatten(), code)
        return raw.unflatten(0, (batch, count, horizons))

    def _sum_over_regions(self, cells: torch.Tensor) -> torch.Tensor:
        """Sums (..., regions) of (..., Y, X) over squares; those at the border may be smaller."""
        edge = self.region_cells
        pooled = F.avg_pool2d(cells, edge, ceil_mode=True, divisor_override=1)
        return pooled.flatten(-2)
