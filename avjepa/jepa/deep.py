"""Deep self-supervision: the predictor also answers for the encoder's earlier stages, and for what the context can see.

V-JEPA 2.1: four levels of the teacher, each normalised by itself (here the LiDAR branch, the fused map and the middle of the neck,
beside the embedding that losses.py counts), and a loss on visible cells that falls with the square root of their distance to the
nearest hidden one and is ramped up in the middle of training. Letters: see conventions.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avjepa.conventions import UNOBSERVED
from avjepa.jepa.extras import Extra, Step
from avjepa.jepa.losses import cell_error, stratified_mean
from avjepa.jepa.target_encoder import normalised
from avjepa.jepa.world_model import BEVWorldModel, normalise_each

LEVELS = ("lidar", "fused", "middle")  # fields of BEVMaps


class DeepSupervision(Extra):
    """Mean error over the earlier levels + ``visible_weight`` x mean error of visible cells over all four.

    Args:
        channels: of the embedding.
        lidar_channels: of the LiDAR branch.
        weight: of the term.
        visible_weight: of the visible cells at the end of the ramp.
        ramp: progress of training at which the visible cells start to count, and at which they count in full.
        reach_cells: distances beyond it count as this one.
    """

    def __init__(
        self,
        channels: int,
        lidar_channels: int,
        weight: float = 1.0,
        visible_weight: float = 0.5,
        ramp: tuple[float, float] = (0.5, 0.75),
        reach_cells: int = 16,
    ) -> None:
        super().__init__(weight)
        if not 0 <= ramp[0] < ramp[1] <= 1:
            raise ValueError(f"ramp must rise inside [0, 1], got {ramp}")
        sizes = (lidar_channels, channels, channels)
        self.heads = nn.ModuleDict({level: nn.Conv2d(channels, c, 1) for level, c in zip(LEVELS, sizes, strict=True)})
        self.visible_weight = visible_weight
        self.ramp = ramp
        self.reach_cells = reach_cells
        self.register_buffer("progress", torch.zeros(()))  # in the checkpoint: a resumed run goes on up the ramp

    def forward(self, model: BEVWorldModel, step: Step) -> torch.Tensor:
        """The term."""
        batch = len(step.raw)
        states, valid = step.predictions.states, step.predictions.valid
        hidden = step.predictions.mask.hidden
        seen = (states[:, 0] != UNOBSERVED) & ~hidden
        nearness = distance_to(hidden, self.reach_cells).rsqrt()

        deeper = 0.0
        visible = self._visible(step, step.predictions.predicted, step.predictions.target, seen, nearness)
        for level, head in self.heads.items():
            target = normalised(getattr(step.targets, level)).unflatten(0, (batch, -1))
            predicted = normalise_each(head(step.raw.flatten(0, 1)).unflatten(0, (batch, -1)))
            deeper = deeper + step.loss(predicted, target, states, valid)
            visible = visible + self._visible(step, predicted, target, seen, nearness)
        return deeper / len(LEVELS) + self.visible_share() * visible / (len(LEVELS) + 1)

    def advance(self, progress: float) -> None:
        """Go on up the ramp."""
        self.progress.fill_(progress)

    def visible_share(self) -> torch.Tensor:
        """Weight of the visible cells now, a scalar."""
        start, end = self.ramp
        return self.visible_weight * ((self.progress - start) / (end - start)).clamp(0, 1)

    @staticmethod
    def _visible(step: Step, predicted: torch.Tensor, target: torch.Tensor, seen, nearness) -> torch.Tensor:
        """Mean error (scalar) of the cells ``seen`` (B, Y, X) of the present, each times its nearness (B, Y, X)."""
        error = cell_error(predicted[:, 0], target[:, 0], step.cell_loss) * nearness
        return stratified_mean(error, step.predictions.states[:, 0], seen, step.occupied_weight)


def distance_to(cells: torch.Tensor, reach: int) -> torch.Tensor:
    """Distance (B, Y, X), in cells and along the longer axis, to the nearest of ``cells`` (B, Y, X) bool; at least 1, at most
    ``reach``.
    """
    distance = torch.full(cells.shape, float(reach), device=cells.device)
    grown = cells[:, None].float()
    for steps in range(1, reach):
        grown = F.max_pool2d(grown, 3, stride=1, padding=1)
        distance = torch.where(grown[:, 0].bool(), distance.clamp(max=steps), distance)
    return distance
