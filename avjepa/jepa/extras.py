"""What an objective may have beside the terms of losses.py: each extra is one module, one term, one weight.

deep.py, causal.py, hypotheses.py, uncertainty.py. Letters: see conventions.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from avjepa.bev.encoder import BEVMaps
from avjepa.jepa.losses import CellLoss, prediction_loss
from avjepa.jepa.world_model import BEVWorldModel, Predictions
from avjepa.sensors.sample import ClipBatch


@dataclass(frozen=True)
class Step:
    """What a training step has at hand when its terms are computed.

    Attributes:
        clips: the batch.
        z_frames: (B, T, C, Y, X) context embeddings, all in the present ego frame, the last of them the present.
        observed: (B, T, Y, X) bool, cells that each context frame observed.
        targets: the teacher's maps of the M = B * K full present and future frames.
        raw: (B, K, C, Y, X) predictions, not normalised.
        overlap: (B, K, Y, X) bool, cells of each frame that the present map covers.
        predictions: the rest.
        cell_weight: (B, F, Y, X) how much each future cell counts.
        cell_loss: distance between two embeddings of a cell.
        occupied_weight: share of occupied cells in a loss.
    """

    clips: ClipBatch
    z_frames: torch.Tensor
    observed: torch.Tensor
    targets: BEVMaps
    raw: torch.Tensor
    overlap: torch.Tensor
    predictions: Predictions
    cell_weight: torch.Tensor
    cell_loss: CellLoss
    occupied_weight: float

    def loss(
        self,
        predicted: torch.Tensor,
        target: torch.Tensor,
        states: torch.Tensor,
        valid: torch.Tensor,
        cell_weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Stratified error as this objective measures it, see :func:`losses.prediction_loss`."""
        return prediction_loss(predicted, target, states, valid, self.cell_loss, self.occupied_weight, cell_weight)


class Extra(nn.Module, ABC):
    """One further term.

    Attributes:
        weight: of the term in the objective.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    @abstractmethod
    def forward(self, model: BEVWorldModel, step: Step) -> torch.Tensor:
        """The term, a scalar of the joined batch, not weighted."""

    def advance(self, progress: float) -> None:
        """Called after every optimiser step, with the progress in [0, 1] of training."""

    def monitors(self, raw: torch.Tensor, error: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
        """What to watch on a held-out batch, by name.

        Args:
            raw: (B, F, C, Y, X) predictions of the future frames, not normalised.
            error: (B, F, Y, X) of these predictions.
            valid: (B, F, Y, X) bool, cells whose error is known.
        """
        return {}
