"""One training step of Occupancy-MAE on this world model: what is hidden is rebuilt itself, not its embedding.

    1  mask      hide blocks of cells from the whole context, and drop sensors
    2  state     the encoder embeds the past and present frames in the present ego frame; what each cell showed last is kept
    3  predict   warp the state to the present and each future frame by the ego-motion and add a learned residual
    4  targets   the voxels of the full present and future frames, each in its own ego frame, as LiDAR rays tell them
    5  rebuild   a small head reads every predicted cell and says which voxels above it are occupied
    6  loss      binary cross-entropy on hidden columns of the present and all columns of the future, where a ray was

Steps 1 to 3 are those of model.py. After Min et al., "Occupancy-MAE: Self-supervised Pre-training Large-scale LiDAR Point Clouds
with Masked Occupancy Autoencoders", 2022, whose target is the binary occupancy of voxels. It is the stronger form of that rival:
    - cameras, past frames, future targets and sensor drop as the JEPA has them; the paper has one frame of LiDAR;
    - the JEPA's blocks are hidden, whole columns of them; the paper hides single voxels, more of them near the car than far away;
    - its decoder of three transposed convolutions is a head of two, so that the embedding itself must know the answer;
    - a voxel is empty where a ray went through it and unknown where none did; the paper calls both empty;
    - occupied voxels have a share of the loss, like occupied cells in the JEPA's; the paper's loss is a plain mean.
There is no teacher, so a step is cheaper by its pass. Letters: see conventions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from avjepa.bev.encoder import BEVEncoder
from avjepa.jepa.masks import GroupMask, SensorDrop
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.jepa.target_regions import scenes_of
from avjepa.jepa.voxel_decoder import VoxelDecoder
from avjepa.jepa.world_model import BEVWorldModel
from avjepa.sensors.sample import ClipBatch


@dataclass(frozen=True)
class ReconstructionTerms:
    """Both terms, each a scalar of the joined batch; their sum is the objective.

    Attributes:
        masked: of the hidden columns of the present.
        future: of the future frames.
    """

    masked: torch.Tensor
    future: torch.Tensor

    def total(self) -> torch.Tensor:
        """The objective."""
        return self.masked + self.future

    def named(self) -> dict[str, torch.Tensor]:
        """Both terms by name."""
        return {"masked": self.masked, "future": self.future}


class OccupancyMAE(BEVWorldModel):
    """Masked occupancy autoencoder over time.

    Nothing asks its predictions to resemble the encoder's embeddings, so the monitors' prediction / persistence ratios may be
    above 1 in a good run.

    Args:
        encoder: sensors to BEV embedding.
        temporal: joins the context frames into one state.
        predictor: state to masked and future embeddings.
        mask: what is hidden from the context.
        sensor_drop: which sensors the context loses, or None.
        decoder: from predictions to voxels.
    """

    def __init__(
        self,
        encoder: BEVEncoder,
        temporal: TemporalContext,
        predictor: WarpPredictor,
        mask: GroupMask,
        sensor_drop: SensorDrop | None,
        decoder: VoxelDecoder,
    ) -> None:
        super().__init__(encoder, temporal, predictor)
        self.decoder = decoder
        self.mask = mask
        self.sensor_drop = sensor_drop

    def forward(self, clips: ClipBatch) -> tuple[ReconstructionTerms, None]:
        """Loss terms of a batch of clips; there is no target embedding to make a picture of."""
        scenes = scenes_of(clips, self.encoder.grid, self.temporal.num_context)
        hidden = self.mask.draw(scenes, clips.seeds).hidden
        state, _ = self.encode_context(clips, hidden, self.sensor_drop)
        raw, overlap = self.predict(state, clips)
        return ReconstructionTerms(*self.decoder.rebuild(raw, overlap, hidden, clips)), None
