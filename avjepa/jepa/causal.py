"""Causal next-embedding prediction: from the frames up to each moment, the embedding of the next one.

NEPA predicts the next patch embedding from those before it, against its own embeddings with a stopped gradient. Here the sequence
is time: every frame of the context stands in the present ego frame, so that the next one is the same place a moment later.
Letters: see conventions.py.
"""

from __future__ import annotations

import torch

from avjepa.bev.cell_states import cell_states
from avjepa.conventions import UNOBSERVED
from avjepa.jepa.extras import Extra, Step
from avjepa.jepa.world_model import BEVWorldModel, normalise_each


class CausalPrediction(Extra):
    """Mean error over the context frames but the first, each predicted from those before it.

    Args:
        weight: of the term.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def forward(self, model: BEVWorldModel, step: Step) -> torch.Tensor:
        """The term; 0 for a context of one frame."""
        z, observed, clips = step.z_frames, step.observed, step.clips
        batch, frames = z.shape[:2]
        if frames < 2:
            return z.new_zeros(())
        prefixes, seen_by = (
            torch.cat([prefix(x, k) for k in range(1, frames)]) for x in (z, observed)
        )  # ((T - 1) * B, T, ...)
        time_s = clips.time_s[:, clips.num_context - frames : clips.num_context]
        dt_s = time_s.diff(dim=1).T.flatten()  # ((T - 1) * B,)
        here = torch.eye(4, device=z.device).expand(len(dt_s), 4, 4)
        raw, _ = model.predictor(model.temporal(prefixes, seen_by), here, dt_s)

        predicted = normalise_each(raw.unflatten(0, (frames - 1, batch)).transpose(0, 1))  # (B, T - 1, C, Y, X)
        target = normalise_each(z[:, 1:].detach())
        seen = cell_states(clips.context_in_now(frames), model.encoder.grid).unflatten(0, (batch, frames))[:, 1:]
        valid = (seen != UNOBSERVED) & ~step.predictions.mask.hidden[:, None]
        return step.loss(predicted, target, seen, valid)


def prefix(frames: torch.Tensor, length: int) -> torch.Tensor:
    """The first ``length`` of T frames (B, T, ...) as T frames, the oldest standing in for those that would be before it."""
    oldest = frames[:, :1].expand(-1, frames.shape[1] - length, *frames.shape[2:])
    return torch.cat([oldest, frames[:, :length]], 1)
