"""The BEV JEPA as an mmengine model: moves a batch to the device, runs the step, and names the terms of the loss."""

from __future__ import annotations

from typing import Literal

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel

from avjepa.engine.registry import build
from avjepa.jepa.monitors import Monitors, measure
from avjepa.jepa.world_model import Predictions, Terms
from avjepa.sensors.sample import ClipBatch


class ClipsToDevice(BaseDataPreprocessor):
    """Moves a ClipBatch to the model's device."""

    def forward(self, data: ClipBatch, training: bool = False) -> dict[str, ClipBatch]:
        """Keyword arguments of the model's forward."""
        return {"clips": data.to(self.device)}


class JEPATrainingModel(BaseModel):
    """mmengine's view of :class:`avjepa.jepa.model.BEVWorldModel`.

    Args:
        jepa: config of the BEVWorldModel, see configs/bev_jepa_nuscenes.py.
    """

    def __init__(self, jepa: dict) -> None:
        super().__init__(data_preprocessor=ClipsToDevice())
        self.jepa = build(jepa)
        self.last_predictions: Predictions | None = None  # of the last training batch, for pictures; not state

    def forward(self, clips: ClipBatch, mode: Literal["loss", "monitor"] = "loss") -> dict[str, Terms] | Monitors:
        """Loss terms of one batch, or its monitors (through here, since a sharded model works through its forward only)."""
        if mode == "monitor":
            return measure(self.jepa, clips)
        terms, predictions = self.jepa(clips)
        self.last_predictions = predictions
        return {"terms": terms}

    def parse_losses(self, losses: dict[str, Terms]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Total loss, and every term by name for the log."""
        terms = losses["terms"]
        total = terms.total()
        return total, {"loss": total.detach(), **{f"loss_{k}": v.detach() for k, v in terms.named().items()}}
