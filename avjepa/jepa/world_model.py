"""What every pretraining method trains and every probe reads: sensors over time to a state, and the state at another moment.

A method is a world model with a training step of its own: the JEPA (model.py), or one of baselines/. Letters: see conventions.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from avjepa.bev.encoder import BEVEncoder
from avjepa.conventions import UNOBSERVED
from avjepa.geometry.ego_motion import warp_bev
from avjepa.jepa.losses import CellLoss
from avjepa.jepa.masks import DrawnMask, SensorDrop
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.jepa.target_encoder import normalised
from avjepa.sensors.sample import ClipBatch


class Terms(Protocol):
    """The loss of one training step, term by term."""

    def total(self) -> torch.Tensor:
        """The objective, a scalar."""
        ...

    def named(self) -> dict[str, torch.Tensor]:
        """Every term by name, scalars, for the log."""
        ...


@dataclass(frozen=True)
class Predictions:
    """Predictions beside their targets; horizon 0 is the present, the others the future frames, each in its own ego frame.

    Attributes:
        mask: cells of the present frame that the context did not see, and why.
        states: (B, K, Y, X) cell states at the time of the target.
        predicted: (B, K, C, Y, X), normalised.
        target: (B, K, C, Y, X), normalised; target[:, 0] is the unmasked present.
        valid: (B, K, Y, X) bool, cells that the loss may count: observed, inside the overlap, and hidden if present.
        z: (B, C, Y, X), the context embedding of the present, not normalised.
        state: (B, C, Y, X), z joined over time, not normalised.
    """

    mask: DrawnMask
    states: torch.Tensor
    predicted: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor
    z: torch.Tensor
    state: torch.Tensor


class BEVWorldModel(nn.Module, ABC):
    """Encoder, temporal context and predictor.

    Args:
        encoder: sensors to BEV embedding.
        temporal: joins the context frames into one state.
        predictor: state to the embedding of another moment.
        ego_motion: move frames and predictions by the ego-motion; False only to show what it is good for.

    Attributes:
        cell_loss: distance between two embeddings of a cell, which monitors measure errors by.
    """

    cell_loss: CellLoss = "smooth_l1"

    def __init__(
        self, encoder: BEVEncoder, temporal: TemporalContext, predictor: WarpPredictor, ego_motion: bool = True
    ) -> None:
        super().__init__()
        if predictor.grid != encoder.grid:
            raise ValueError(f"predictor is on {predictor.grid}, but the encoder gives {encoder.grid}")
        self.encoder = encoder
        self.temporal = temporal
        self.predictor = predictor
        self.ego_motion = ego_motion

    @abstractmethod
    def forward(self, clips: ClipBatch) -> tuple[Terms, Predictions | None]:
        """Loss terms of a batch of clips, and what they were computed from, if a picture can be made of it."""

    def encode_context(
        self, clips: ClipBatch, hidden: torch.Tensor | None = None, sensor_drop: SensorDrop | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """State of the scene now and embedding of the present frame, both (B, C, Y, X), from past and present frames.

        With neither a mask nor sensor drop this is the representation that probes read.
        """
        z, observed = self.encode_frames(clips, hidden, sensor_drop)
        return self.temporal(z, observed), z[:, -1]

    def encode_frames(
        self, clips: ClipBatch, hidden: torch.Tensor | None = None, sensor_drop: SensorDrop | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (B, T, C, Y, X) of the newest T past and present frames, all in the present ego frame, and the cells
        (B, T, Y, X), bool, that each of them observed.

        Args:
            clips: with at least as many past and present frames as the model reads.
            hidden: (B, Y, X) bool, cells of the present ego frame that are hidden in every frame.
            sensor_drop: which sensors are lost.
        """
        frames = self.known(clips).context_in_now(self.temporal.num_context)
        if sensor_drop is not None:
            frames = sensor_drop.apply(frames, clips.seeds)
        if hidden is not None:
            hidden = hidden.repeat_interleave(self.temporal.num_context, 0)  # (B * T, Y, X)
        maps = self.encoder(frames, hidden)
        observed = maps.states != UNOBSERVED
        if hidden is not None:
            observed &= ~hidden  # rays cross hidden cells
        shape = (clips.shape[0], -1)
        return maps.z.unflatten(0, shape), observed.unflatten(0, shape)

    def encode_targets(self, clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Cell states (B, K, Y, X) and normalised embeddings (B, K, C, Y, X) of the full present and future frames, each in its
        own ego frame.
        """
        maps = self.encoder(clips.targets())
        shape = (clips.shape[0], -1)
        return maps.states.unflatten(0, shape), normalised(maps.z).unflatten(0, shape)

    def predict(self, state: torch.Tensor, clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw predictions (B, K, C, Y, X) of the present and every future frame, and the overlaps (B, K, Y, X)."""
        dt_s = clips.time_s[:, clips.num_context - 1 :]
        return self.predict_under(state, self.known(clips).frame_T_now(), dt_s)

    def predict_under(
        self, state: torch.Tensor, frame_T_now: torch.Tensor, dt_s: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict where the car would be, and when, on K poses of a candidate trajectory for each of B scenes.

        Each pose is predicted from the present on its own, in one step, so that K need not be the number of trained horizons and
        the poses need no order. The scene is encoded once for any number of trajectories.

        Args:
            state: (B, C, Y, X), the scene now, in the present ego frame: the first result of :meth:`encode_context`.
            frame_T_now: (B, K, 4, 4), from the present ego frame to the ego frame of each pose; a pose of the car in the present
                ego frame is ``now_T_frame``, so give its inverse. ``clips.frame_T_now()`` is the trajectory that was driven.
            dt_s: (B, K), seconds from now to each pose.

        Returns:
            Raw embeddings (B, K, C, Y, X), each in the ego frame of its pose (``normalise_each`` makes them comparable with
            targets), and the cells (B, K, Y, X), bool, that the present map covers.

        Raises:
            ValueError: shapes that do not fit each other.
        """
        batch, poses = frame_T_now.shape[:2]
        if state.ndim != 4 or frame_T_now.shape != (len(state), poses, 4, 4) or dt_s.shape != (len(state), poses):
            shapes = [tuple(x.shape) for x in (state, frame_T_now, dt_s)]
            raise ValueError(
                f"want (B, C, Y, X), (B, K, 4, 4) and (B, K), got {shapes[0]}, {shapes[1]} and {shapes[2]}"
            )
        raw, overlap = self.predictor(state.repeat_interleave(poses, 0), frame_T_now.flatten(0, 1), dt_s.flatten())
        return raw.unflatten(0, (batch, poses)), overlap[:, 0].unflatten(0, (batch, poses))

    def known(self, clips: ClipBatch) -> ClipBatch:
        """The clips as this model may know them."""
        return clips if self.ego_motion else clips.without_ego_motion()

    def update_target(self, progress: float) -> None:
        """What follows an optimiser step; ``progress`` in [0, 1] of training."""

    def monitors(self, raw: torch.Tensor, error: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
        """What this method alone can watch on a held-out batch, by name; arguments as in :meth:`extras.Extra.monitors`."""
        return {}


def normalise_each(z: torch.Tensor) -> torch.Tensor:
    """LayerNorm over channels of (B, K, C, Y, X)."""
    return normalised(z.flatten(0, 1)).unflatten(0, z.shape[:2])


def persistence(z_now: torch.Tensor, clips: ClipBatch, predictor: WarpPredictor) -> tuple[torch.Tensor, torch.Tensor]:
    """Baseline of every prediction: the present target embedding (B, C, Y, X), warped to each frame by the ego-motion.

    Returns:
        Normalised embeddings (B, K, C, Y, X) and the overlaps (B, K, Y, X).
    """
    frame_T_now = clips.frame_T_now()
    horizons = frame_T_now.shape[1]
    warped, overlap = warp_bev(z_now.repeat_interleave(horizons, 0), frame_T_now.flatten(0, 1), predictor.grid)
    shape = (len(z_now), horizons)
    return normalised(warped).unflatten(0, shape), overlap[:, 0].unflatten(0, shape)
