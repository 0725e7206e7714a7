"""Grounding in voxels: what is predicted must also say what stands in every column, height by height.

Embeddings alone may forget whatever is hard to predict (Sobal et al. 2022); what LiDAR rays tell of hidden and future voxels cannot
be forgotten. The targets of Occupancy-MAE (Min et al. 2022): the JEPA has them beside its own, that rival has nothing else.
Letters: see conventions.py.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from avjepa.bev.fuse import conv_norm_act
from avjepa.bev.voxel_states import voxel_states
from avjepa.conventions import UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.jepa.losses import occupancy_loss
from avjepa.jepa.world_model import normalise_each
from avjepa.sensors.sample import ClipBatch


class VoxelDecoder(nn.Module):
    """A small head that reads every cell of an embedding and says which voxels above it are occupied.

    Args:
        grid: of the embedding.
        channels: of the embedding.
        voxel_m: height of the voxels; their other edges are those of a BEV cell.
        occupied_weight: share of the loss on occupied voxels; the rest is on empty ones.

    Raises:
        ValueError: the height of the grid is not a whole number of voxels.
    """

    def __init__(self, grid: BEVGrid, channels: int, voxel_m: float = 0.5, occupied_weight: float = 0.75) -> None:
        super().__init__()
        self.voxels = replace(grid, cell_z_m=voxel_m)
        self.layers = nn.Sequential(conv_norm_act(channels, channels), nn.Conv2d(channels, self.voxels.shape_zyx[0], 1))
        self.occupied_weight = occupied_weight

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, Z, Y, X) of occupied voxels from predictions (B, K, C, Y, X), which are read as probes read them:
        normalised.
        """
        return self.layers(normalise_each(raw).flatten(0, 1)).unflatten(0, raw.shape[:2])

    def targets(self, clips: ClipBatch) -> torch.Tensor:
        """Voxel states (B, K, Z, Y, X), uint8, of the full present and future frames, each in its own ego frame."""
        return voxel_states(clips.targets(), self.voxels).unflatten(0, (clips.shape[0], -1))

    def rebuild(
        self, raw: torch.Tensor, overlap: torch.Tensor, hidden: torch.Tensor, clips: ClipBatch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (scalars) of the hidden columns of the present, and of all columns of the future frames.

        Args:
            raw: (B, K, C, Y, X) predictions of the present and the future frames, not normalised.
            overlap: (B, K, Y, X) bool, cells of each frame that the present map covers.
            hidden: (B, Y, X) bool, cells that the context did not see.
            clips: the batch.
        """
        logits, states = self(raw), self.targets(clips)
        counted = overlap.clone()
        counted[:, 0] &= hidden
        present, future = slice(0, 1), slice(1, None)
        return tuple(self.loss(logits[:, k], states[:, k], counted[:, k]) for k in (present, future))

    def loss(self, logits: torch.Tensor, states: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Stratified cross-entropy (scalar) of voxels (B, K, Z, Y, X) that a ray tells of, in the columns ``counted``
        (B, K, Y, X); 0 without any.
        """
        valid = counted[:, :, None] & (states != UNOBSERVED)
        return occupancy_loss(*(x.flatten(0, 2) for x in (logits, states, valid)), self.occupied_weight)
