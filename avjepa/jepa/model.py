"""One training step of the BEV JEPA. Read this file to understand the method.

    1  mask      hide blocks of cells from the whole context, and drop sensors
    2  state     the encoder embeds the past and present frames in the present ego frame; what each cell showed last is kept
    3  targets   the teacher embeds the full present and future frames, each in its own ego frame
    4  predict   warp the state to each target frame by the ego-motion and add a learned residual
    5  losses    only where the target was observed (LiDAR rays tell), and inside the overlap of both maps; what is predicted must
                 also say which voxels were occupied there

Steps 2 and 4 are what probes use of it, see world_model.py. Letters: see conventions.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from avjepa.bev.encoder import BEVEncoder, BEVMaps
from avjepa.conventions import OCCUPIED, UNOBSERVED
from avjepa.geometry.ego_motion import warp_bev
from avjepa.geometry.rigid import invert
from avjepa.jepa.extras import Extra, Step
from avjepa.jepa.losses import CellLoss, LossTerms, LossWeights, variance_covariance
from avjepa.jepa.masks import DrawnMask, GroupMask, SensorDrop
from avjepa.jepa.motion_evidence import changed_cells
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.jepa.sigreg import SIGReg
from avjepa.jepa.target_encoder import EMATarget, SharedTarget, normalised
from avjepa.jepa.target_regions import scenes_of
from avjepa.jepa.voxel_decoder import VoxelDecoder
from avjepa.jepa.world_model import BEVWorldModel, Predictions, normalise_each
from avjepa.sensors.sample import ClipBatch


class BEVJEPA(BEVWorldModel):
    """Temporal JEPA over BEV embeddings.

    Args:
        encoder: sensors to BEV embedding, trained.
        target: where targets come from: an EMA teacher, or the encoder itself.
        temporal: joins the context frames into one state.
        predictor: state to masked and future embeddings.
        decoder: what is predicted to voxels, which ground it.
        mask: what is hidden from the context.
        sensor_drop: which sensors the context loses, or None.
        weights: weights of the loss terms.
        cell_loss: distance between predicted and target embedding of a cell.
        occupied_weight: share of the loss on occupied cells; the rest is on free cells.
        sigreg: settings of SIGReg; None where its weight is 0.
        changed_weight: how much a future cell counts whose occupancy is another than the ego-motion explains; 1: as any other.
            What stands still is predicted by the warp alone, so that without it a JEPA is paid to forget what moves.
        extras: further terms by name.
        ego_motion: False moves nothing by the ego-motion, to show what it is good for.
    """

    def __init__(
        self,
        encoder: BEVEncoder,
        target: EMATarget | SharedTarget,
        temporal: TemporalContext,
        predictor: WarpPredictor,
        decoder: VoxelDecoder,
        mask: GroupMask,
        sensor_drop: SensorDrop | None,
        weights: LossWeights,
        cell_loss: CellLoss = "smooth_l1",
        occupied_weight: float = 0.75,
        sigreg: SIGReg | None = None,
        changed_weight: float = 1.0,
        extras: Mapping[str, Extra] | None = None,
        ego_motion: bool = True,
    ) -> None:
        super().__init__(encoder, temporal, predictor, ego_motion)
        if (sigreg is None) != (weights.sigreg_times_n == 0):
            raise ValueError(f"sigreg is {sigreg}, but weights.sigreg_times_n is {weights.sigreg_times_n}")
        self.target = target
        self.target.attach(encoder)
        self.decoder = decoder
        self.mask = mask
        self.sensor_drop = sensor_drop
        self.weights = weights
        self.cell_loss = cell_loss
        self.occupied_weight = occupied_weight
        self.sigreg = sigreg
        self.changed_weight = changed_weight
        self.extras = nn.ModuleDict(extras or {})

    def forward(self, clips: ClipBatch) -> tuple[LossTerms, Predictions]:
        """Loss terms of a batch of clips, and the predictions they were computed from."""
        clips = self.known(clips)
        mask = self.draw_mask(clips)
        hidden = mask.hidden
        z_frames, observed = self.encode_frames(clips, hidden, self.sensor_drop)
        z, state = z_frames[:, -1], self.temporal(z_frames, observed)
        states, target, target_maps = self.embed_targets(clips)
        raw, overlap = self.predict(state, clips)

        predicted = normalise_each(raw)
        valid = overlap & (states != UNOBSERVED)
        valid[:, 0] &= hidden
        rolled_out, rolled_valid = self.roll_out(raw, overlap, clips)
        rolled_valid = rolled_valid & (states[:, 2:] != UNOBSERVED)
        changed = changed_cells(states, clips, self.encoder.grid)
        cell_weight = torch.where(changed, self.changed_weight, 1.0)  # (B, F, Y, X)

        predictions = Predictions(mask, states, predicted, target, valid, z, state)
        step = Step(
            clips,
            z_frames,
            observed,
            target_maps,
            raw,
            overlap,
            predictions,
            cell_weight,
            self.cell_loss,
            self.occupied_weight,
        )
        z_things = z.movedim(1, -1)[self._visible_things(states, hidden)]
        variance, covariance = variance_covariance(z_things)
        terms = LossTerms(
            masked=step.loss(predicted[:, :1], target[:, :1], states[:, :1], valid[:, :1]),
            future=step.loss(predicted[:, 1:], target[:, 1:], states[:, 1:], valid[:, 1:], cell_weight),
            rollout=step.loss(
                normalise_each(rolled_out), target[:, 2:], states[:, 2:], rolled_valid, cell_weight[:, 1:]
            ),
            variance=variance,
            covariance=covariance,
            sigreg_times_n=self.sigreg.times_n(z_things, clips.seeds) if self.sigreg else z_things.new_zeros(()),
            occupancy=sum(self.decoder.rebuild(raw, overlap, hidden, clips)),
            weights=self.weights,
            extras={name: extra.weight * extra(self, step) for name, extra in self.extras.items()},
        )
        return terms, predictions

    def draw_mask(self, clips: ClipBatch) -> DrawnMask:
        """What is hidden in every context frame, in the present ego frame."""
        return self.mask.draw(scenes_of(clips, self.encoder.grid, self.temporal.num_context), clips.seeds)

    def encode_targets(self, clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Cell states (B, K, Y, X) and normalised teacher embeddings (B, K, C, Y, X) of the full present and future frames."""
        return self.embed_targets(clips)[:2]

    def embed_targets(self, clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor, BEVMaps]:
        """As :meth:`encode_targets`, and the teacher's maps (M = B * K) that they come from."""
        maps = self.target(self.encoder, clips.targets())
        shape = (clips.shape[0], -1)
        return maps.states.unflatten(0, shape), normalised(maps.z).unflatten(0, shape), maps

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
        for extra in self.extras.values():
            extra.advance(progress)

    def monitors(self, raw: torch.Tensor, error: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
        """Those of every extra."""
        return {
            name: value for extra in self.extras.values() for name, value in extra.monitors(raw, error, valid).items()
        }

    @staticmethod
    def _visible_things(states: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Cells (B, Y, X) the regulariser reads: occupied and seen, else free space alone could satisfy it."""
        things = (states[:, 0] == OCCUPIED) & ~hidden
        return things if bool(things.any()) else ~hidden
