"""Which embedding a map lets one expect: p(z | map around the car, what was observed), cell by cell, the encoder frozen.

    shares of map classes (K), free / occupied (2), where the cell lies from the car (3)
    -> small conv net -> mean (C), log-variance (1)

Fitted by the Gaussian likelihood of observed cells (Kendall & Gal, NeurIPS 2017, equation 5, with one variance a cell) on drives
with the map that was true there; no label is read. Two maps are then held against each other by the likelihood that either gives
to what was seen. Letters: see conventions.py.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.resample import Window

HIDDEN_CHANNELS = 32
CONTEXT_CHANNELS = 5
REACH_CELLS = 4  # of the net: 1 + 2 + 1, by its kernels


class MapConditioned(nn.Module):
    """Mean and log-variance of the standardised embedding of every cell.

    Args:
        classes: K, of the map.
        mean, std: (C,) of the embedding over observed cells.
    """

    def __init__(self, classes: int, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])
        self.trunk = nn.Sequential(
            nn.Conv2d(classes + CONTEXT_CHANNELS, HIDDEN_CHANNELS, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(HIDDEN_CHANNELS, HIDDEN_CHANNELS, 3, padding=2, dilation=2),
            nn.GELU(),
            nn.Conv2d(HIDDEN_CHANNELS, HIDDEN_CHANNELS, 3, padding=1),
            nn.GELU(),
        )
        self.answer = nn.Conv2d(HIDDEN_CHANNELS, len(mean) + 1, 1)

    def forward(self, cover: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (B, C, Y, X) and log-variance (B, 1, Y, X) from shares (B, K, Y, X) and context (B, 5, Y, X)."""
        answer = self.answer(self.trunk(torch.cat([cover, context], 1)))
        return answer[:, :-1], answer[:, -1:].clamp(-6, 6)

    def log_likelihood(self, z: torch.Tensor, cover: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """(B, Y, X) of embeddings z (B, C, Y, X), not standardised; see :meth:`forward` for the others."""
        return gaussian_log_likelihood((z - self.mean) / self.std, *self(cover, context))

    def log_ratio(
        self,
        z: torch.Tensor,
        context: torch.Tensor,
        observed: torch.Tensor,
        cover: torch.Tensor,
        changed: torch.Tensor,
    ) -> float:
        """Log-likelihood ratio of a changed map against the map, summed over the observed cells that the change reaches.

        Only the crop that matters is computed; the sum is that over the whole grid.

        Args:
            z: (C, Y, X).
            context: (5, Y, X).
            observed: (Y, X) bool.
            cover, changed: (K, Y, X), shares of the map and of the changed map.
        """
        differs = (cover != changed).any(0)
        if not differs.any():
            return 0.0
        inner = around(differs, REACH_CELLS)
        outer = around(differs, 2 * REACH_CELLS)
        both = torch.stack([cover, changed])[:, :, outer[0], outer[1]]
        of_z, of_context = (x[None, :, outer[0], outer[1]].expand(2, -1, -1, -1) for x in (z, context))
        each = self.log_likelihood(of_z, both, of_context)  # (2, h, w)
        rows, columns = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
        ratio = (each[1] - each[0])[rows, columns]
        return float(ratio[observed[inner]].sum())


def gaussian_log_likelihood(z: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """(B, Y, X) of z (B, C, Y, X) under means (B, C, Y, X) and one log-variance a cell (B, 1, Y, X)."""
    squared = (z - mean).square().sum(1)
    channels = z.shape[1]
    return -0.5 * (squared * (-log_variance[:, 0]).exp() + channels * (log_variance[:, 0] + math.log(2 * math.pi)))


def context_of(states: torch.Tensor, grid: BEVGrid) -> torch.Tensor:
    """(B, 5, Y, X): free, occupied, and x, y and distance of the cell in units of the grid's reach, of states (B, Y, X)."""
    reach_m = max(abs(side) for sides in (grid.x_range_m, grid.y_range_m) for side in sides)
    xy = grid.cell_centres(states.device).movedim(-1, 0) / reach_m  # (2, Y, X)
    place = torch.cat([xy, xy.norm(dim=0, keepdim=True)])
    seen = torch.stack([states == FREE, states == OCCUPIED], 1).to(place)
    return torch.cat([seen, place.expand(len(states), -1, -1, -1)], 1)


def is_observed(states: torch.Tensor) -> torch.Tensor:
    """Cells that a sensor saw, bool."""
    return states != UNOBSERVED


def around(cells: torch.Tensor, margin: int) -> Window:
    """The smallest window that holds all true cells (Y, X), of which there is one, and a margin, within the grid."""
    slices = []
    for axis in (1, 0):
        hit = torch.nonzero(cells.any(axis)).flatten()
        slices.append(slice(max(0, int(hit[0]) - margin), min(cells.shape[1 - axis], int(hit[-1]) + margin + 1)))
    return slices[0], slices[1]
