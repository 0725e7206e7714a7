"""One training step of the BEV JEPA. Read this file to understand the method.

    1  states    occupied / free / unobserved cells of every frame, from LiDAR rays
    2  mask      hide blocks of cells from the whole context, and drop sensors
    3  targets   the teacher embeds the full present and future frames, each in its own ego frame
    4  state     the encoder embeds the past and present frames in the present ego frame; a residual joins them over time
    5  predict   warp the state to each target frame by the ego-motion and add a learned residual
    6  losses    only where the target was observed, and inside the overlap of both maps

Letters: see conventions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from avjepa.bev.cell_states import cell_states
from avjepa.bev.encoder import BEVEncoder
from avjepa.conventions import OCCUPIED, UNOBSERVED
from avjepa.geometry.ego_motion import warp_bev
from avjepa.geometry.rigid import invert
from avjepa.jepa.losses import (
    CellLoss,
    LossTerms,
    LossWeights,
    cell_error,
    occupancy_loss,
    stratified_mean,
    variance_covariance,
)
from avjepa.jepa.masks import DrawnMask, GroupMask, SensorDrop
from avjepa.jepa.motion_evidence import changed_cells
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.jepa.sigreg import SIGReg
from avjepa.jepa.target_encoder import EMATarget, SharedTarget, normalised
from avjepa.jepa.target_regions import scenes_of
from avjepa.sensors.sample import ClipBatch


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


class BEVJEPA(nn.Module):
    """Temporal JEPA over BEV embeddings.

    Args:
        encoder: sensors to BEV embedding, trained.
        target: where targets come from: an EMA teacher, or the encoder itself.
        temporal: joins the context frames into one state.
        predictor: state to masked and future embeddings.
        mask: what is hidden from the context.
        sensor_drop: which sensors the context loses, or None.
        weights: weights of the loss terms.
        cell_loss: distance between predicted and target embedding of a cell.
        occupied_weight: share of the loss on occupied cells; the rest is on free cells.
        sigreg: settings of SIGReg; None where its weight is 0.
        changed_weight: how much a future cell counts whose occupancy is another than the ego-motion explains; 1: as any other.
            What stands still is predicted by the warp alone, so that without it a JEPA is paid to forget what moves.
    """

    def __init__(
        self,
        encoder: BEVEncoder,
        target: EMATarget | SharedTarget,
        temporal: TemporalContext,
        predictor: WarpPredictor,
        mask: GroupMask,
        sensor_drop: SensorDrop | None,
        weights: LossWeights,
        cell_loss: CellLoss = "smooth_l1",
        occupied_weight: float = 0.75,
        sigreg: SIGReg | None = None,
        changed_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if (sigreg is None) != (weights.sigreg_times_n == 0):
            raise ValueError(f"sigreg is {sigreg}, but weights.sigreg_times_n is {weights.sigreg_times_n}")
        if predictor.grid != encoder.grid:
            raise ValueError(f"predictor is on {predictor.grid}, but the encoder gives {encoder.grid}")
        self.encoder = encoder
        self.target = target
        self.target.attach(encoder)
        self.temporal = temporal
        self.predictor = predictor
        self.occupancy = nn.Conv2d(encoder.channels, 1, 1)
        self.mask = mask
        self.sensor_drop = sensor_drop
        self.weights = weights
        self.cell_loss = cell_loss
        self.occupied_weight = occupied_weight
        self.sigreg = sigreg
        self.changed_weight = changed_weight

    def forward(self, clips: ClipBatch) -> tuple[LossTerms, Predictions]:
        """Loss terms of a batch of clips, and the predictions they were computed from."""
        mask = self.draw_mask(clips)
        hidden = mask.hidden
        state, z = self.encode_context(clips, hidden, self.sensor_drop)
        states, target = self.encode_targets(clips)
        raw, overlap = self.predict(state, clips)

        predicted = normalise_each(raw)
        valid = overlap & (states != UNOBSERVED)
        valid[:, 0] &= hidden
        rolled_out, rolled_valid = self.roll_out(raw, overlap, clips)
        rolled_valid = rolled_valid & (states[:, 2:] != UNOBSERVED)

        changed = changed_cells(states, clips, self.encoder.grid)
        cell_weight = torch.where(changed, self.changed_weight, 1.0)  # (B, F, Y, X)
        z_things = z.movedim(1, -1)[self._visible_things(states, hidden)]
        variance, covariance = variance_covariance(z_things)
        terms = LossTerms(
            masked=self._prediction_loss(predicted[:, :1], target[:, :1], states[:, :1], valid[:, :1]),
            future=self._prediction_loss(predicted[:, 1:], target[:, 1:], states[:, 1:], valid[:, 1:], cell_weight),
            rollout=self._prediction_loss(
                normalise_each(rolled_out), target[:, 2:], states[:, 2:], rolled_valid, cell_weight[:, 1:]
            ),
            variance=variance,
            covariance=covariance,
            sigreg_times_n=self.sigreg.times_n(z_things, clips.seeds) if self.sigreg else z_things.new_zeros(()),
            occupancy=occupancy_loss(
                self.occupancy(predicted.flatten(0, 1))[:, 0],
                states.flatten(0, 1),
                valid.flatten(0, 1),
                self.occupied_weight,
            ),
        )
        return terms, Predictions(mask, states, predicted, target, valid, z, state)

    def draw_mask(self, clips: ClipBatch) -> DrawnMask:
        """What is hidden in every context frame, in the present ego frame."""
        return self.mask.draw(scenes_of(clips, self.encoder.grid), clips.seeds)

    def encode_context(
        self, clips: ClipBatch, hidden: torch.Tensor | None = None, sensor_drop: SensorDrop | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """State of the scene now and embedding of the present frame, both (B, C, Y, X), from past and present frames.

        With neither a mask nor sensor drop this is the representation that probes read.
        """
        frames = clips.context_in_now()
        if sensor_drop is not None:
            frames = sensor_drop.apply(frames, clips.seeds)
        if hidden is not None:
            hidden = hidden.repeat_interleave(clips.num_context, 0)  # (B * T, Y, X)
        z = self.encoder(frames, hidden).unflatten(0, (clips.shape[0], clips.num_context))
        return self.temporal(z), z[:, -1]

    def encode_targets(self, clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Cell states (B, K, Y, X) and normalised teacher embeddings (B, K, C, Y, X) of the full present and future frames."""
        frames = clips.targets()
        batch = clips.shape[0]
        states = cell_states(frames, self.encoder.grid).unflatten(0, (batch, -1))
        return states, normalised(self.target(self.encoder, frames)).unflatten(0, (batch, -1))

    def predict(self, state: torch.Tensor, clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw predictions (B, K, C, Y, X) of the present and every future frame, and the overlaps (B, K, Y, X)."""
        frame_T_now = clips.frame_T_now()  # (B, K, 4, 4)
        batch, horizons = frame_T_now.shape[:2]
        dt_s = clips.time_s[:, clips.num_context - 1 :]
        raw, overlap = self.predictor(state.repeat_interleave(horizons, 0), frame_T_now.flatten(0, 1), dt_s.flatten())
        return raw.unflatten(0, (batch, horizons)), overlap[:, 0].unflatten(0, (batch, horizons))

    def roll_out(self, raw: torch.Tensor, overlap: torch.Tensor, clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Second step of a two-step rollout: each future frame but the first, predicted from the prediction before it.

        The gradient stops between the steps (truncated back-propagation), so the second step learns to continue from
        predictions without bending the first.

        Returns:
            (B, K - 2, C, Y, X) and the cells (B, K - 2, Y, X) that lie in the overlap of both steps.
        """
        frame_T_now = clips.frame_T_now()
        dt_s = clips.time_s[:, clips.num_context - 1 :]
        next_T_frame = frame_T_now[:, 2:] @ invert(frame_T_now[:, 1:-1])
        steps = next_T_frame.shape[1]
        if not steps:
            return raw[:, :0], overlap[:, :0]
        flat = next_T_frame.flatten(0, 1)
        rolled, step_overlap = self.predictor(
            raw[:, 1:-1].detach().flatten(0, 1), flat, dt_s[:, 2:].sub(dt_s[:, 1:-1]).flatten()
        )
        came_along, _ = warp_bev(overlap[:, 1:-1].flatten(0, 1)[:, None].to(raw.dtype), flat, self.encoder.grid)
        inside = (step_overlap & (came_along > 0.999))[:, 0]
        return rolled.unflatten(0, (-1, steps)), inside.unflatten(0, (-1, steps))

    def update_target(self, progress: float) -> None:
        """Move the teacher after an optimiser step; ``progress`` in [0, 1] of training."""
        self.target.update(self.encoder, progress)

    def _prediction_loss(self, predicted, target, states, valid, cell_weight=None) -> torch.Tensor:
        """Stratified error of (B, K, C, Y, X) against targets; 0 for no horizon."""
        error = cell_error(predicted.flatten(0, 1), target.flatten(0, 1), self.cell_loss)
        weight = None if cell_weight is None else cell_weight.flatten(0, 1)
        return stratified_mean(error, states.flatten(0, 1), valid.flatten(0, 1), self.occupied_weight, weight)

    @staticmethod
    def _visible_things(states: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Cells (B, Y, X) the regulariser reads: occupied and seen, else free space alone could satisfy it."""
        things = (states[:, 0] == OCCUPIED) & ~hidden
        return things if bool(things.any()) else ~hidden


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
