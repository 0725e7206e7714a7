"""SIGReg: embeddings that follow an isotropic Gaussian, without a teacher (LeJEPA, Balestriero and LeCun 2025).

Every direction of an isotropic Gaussian is a standard normal. Random directions are drawn, and the Epps-Pulley statistic compares
the characteristic function of the projected cells with that of the normal. Letters: see conventions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from avjepa.jepa.distributed import sum_over_ranks
from avjepa.jepa.masks import clip_generator


@dataclass(frozen=True)
class SIGReg:
    """Settings of the statistic.

    Attributes:
        directions: drawn anew in every step.
        knots: places of the characteristic function, evenly on [0, largest_t].
        largest_t: beyond it the normal's characteristic function is as good as zero.
        max_cells: cells of a rank that are looked at, drawn from the whole batch: never one frame alone, whose cells
            could only be told apart by their place (a joint statistic over one frame makes the encoder a hash of places).
    """

    directions: int = 256
    knots: int = 17
    largest_t: float = 3.0
    max_cells: int = 512

    def times_n(self, z_cells: torch.Tensor, seeds: tuple[int, ...]) -> torch.Tensor:
        """The statistic, mean over directions, TIMES the number of cells n of all ranks.

        That is the scale of the reference code of LeJEPA and LeWorldModel; EB-JEPA leaves the factor n out, and a weight for one
        means nothing for the other. Always float32. For normal cells its expectation does not depend on n.

        Args:
            z_cells: (P, C) embeddings of cells of the batch.
            seeds: of the clips of the batch; the directions are drawn from those of all ranks, so that ranks agree.
        """
        with torch.autocast(z_cells.device.type, enabled=False):
            z = self._drawn(z_cells.float(), seeds)
            count = sum_over_ranks(z.new_tensor(float(len(z))))
            projected = z @ self._unit_directions(z, seeds)  # (n, K)
            t = torch.linspace(0, self.largest_t, self.knots, device=z.device)
            angle = projected[..., None] * t  # (n, K, J)
            cosine, sine = (sum_over_ranks(part.sum(0)) / count.clamp(min=1) for part in (angle.cos(), angle.sin()))
            normal = torch.exp(-t.square() / 2)
            difference = (cosine - normal).square() + sine.square()  # (K, J)
            # The integral runs over both signs of t, under the weight of the normal; it is even in t.
            integral = 2 * torch.trapezoid(difference * normal, t, dim=1)
            return count * integral.mean()

    def _drawn(self, z_cells: torch.Tensor, seeds: tuple[int, ...]) -> torch.Tensor:
        """At most ``max_cells`` of the cells."""
        if len(z_cells) <= self.max_cells:
            return z_cells
        order = torch.randperm(len(z_cells), generator=clip_generator(sum(seeds), "sigreg cells"))
        return z_cells[order[: self.max_cells].to(z_cells.device)]

    def _unit_directions(self, z: torch.Tensor, seeds: tuple[int, ...]) -> torch.Tensor:
        """(C, K), columns of length one, the same on all ranks."""
        seed = int(sum_over_ranks(torch.tensor(sum(seeds) % 2**40, device=z.device)))
        drawn = torch.randn(z.shape[1], self.directions, generator=clip_generator(seed, "sigreg directions"))
        return (drawn / drawn.norm(dim=0)).to(z)
