"""The whole path from sensors to one BEV embedding per frame. Read this file to understand the encoder.

    LiDAR points -> voxels -> sparse 3-D convolutions -+
                                                       +-> fuse -> cell tokens -> neck -> z (M, C, Y, X)
    images -> backbone -> depth x features -> splat ---+

Letters: see conventions.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from avjepa.bev.camera_features import CameraFeatures
from avjepa.bev.cell_states import cell_states
from avjepa.bev.fuse import FuseSensors, conv_norm_act
from avjepa.bev.lidar_sparse import SparseEncoder
from avjepa.bev.lidar_voxels import voxelise_mean
from avjepa.bev.lift_splat import LiftSplat
from avjepa.geometry.grid import BEVGrid
from avjepa.sensors.sample import FrameBatch


class BEVMaps(NamedTuple):
    """What the encoder makes of M frames, stage after stage; all but ``states`` (M, channels, Y, X).

    Attributes:
        lidar: the LiDAR branch.
        fused: both sensors, with cell tokens.
        middle: half-way through the neck.
        z: the embedding.
        states: (M, Y, X) cell states of what the encoder saw.
    """

    lidar: torch.Tensor
    fused: torch.Tensor
    middle: torch.Tensor
    z: torch.Tensor
    states: torch.Tensor


class BEVEncoder(nn.Module):
    """Encodes frames of LiDAR and camera data into BEV embeddings.

    Args:
        voxel_grid: grid of the LiDAR voxels; the BEV grid is this one coarsened by the LiDAR branch's stride.
        lidar: sparse LiDAR branch.
        camera: image features, or None for a LiDAR-only model.
        lift: lift-splat onto the BEV grid, or None for a LiDAR-only model.
        channels: C of the embedding.
    """

    def __init__(
        self,
        voxel_grid: BEVGrid,
        lidar: SparseEncoder,
        camera: CameraFeatures | None,
        lift: LiftSplat | None,
        channels: int,
    ) -> None:
        super().__init__()
        if (camera is None) != (lift is None):
            raise ValueError("camera and lift belong together: give both or neither")
        self.voxel_grid = voxel_grid
        self.grid = voxel_grid.coarsened(lidar.stride)
        if lift is not None and lift.grid != self.grid:
            raise ValueError(f"lift is on {lift.grid}, but the LiDAR branch gives {self.grid}")
        self.channels = channels
        self.lidar = lidar
        self.camera = camera
        self.lift = lift
        self.fuse = FuseSensors(lidar.out_channels, lift.out_channels if lift else 0, channels)
        self.tokens = CellTokens(channels)
        self.neck = Neck(channels)

    def forward(self, frames: FrameBatch, hidden: torch.Tensor | None = None) -> BEVMaps:
        """Maps of M frames, their embeddings z among them.

        Args:
            frames: sensors of the frames, each in the ego frame that its map shall have.
            hidden: (M, Y, X) bool, cells in which nothing may be seen: their points are taken away before voxelising,
                their camera features before fusion, and their place is marked by the mask token.
        """
        if hidden is not None:
            frames = self._without_hidden_points(frames, hidden)
        lidar_bev = self.encode_lidar(frames)
        camera_bev = self.encode_cameras(frames, like=lidar_bev)
        if hidden is not None:
            camera_bev = camera_bev.masked_fill(hidden[:, None], 0)
        fused = self.fuse(lidar_bev, camera_bev, frames.lidar_present, frames.camera_present.any(1))
        states = cell_states(frames, self.grid)
        fused = self.tokens(fused, states, hidden)
        return BEVMaps(lidar_bev, fused, *self.neck(fused), states)

    def encode_lidar(self, frames: FrameBatch) -> torch.Tensor:
        """LiDAR branch (M, C_lidar, Y, X); a frame without returns gives the response to empty space."""
        voxels = voxelise_mean(frames.points, frames.point_frame, self.voxel_grid, frames.num_frames)
        lidar_bev = self.lidar(voxels)
        return lidar_bev if len(voxels.features) else lidar_bev + zero_of(self.lidar)

    def encode_cameras(self, frames: FrameBatch, like: torch.Tensor) -> torch.Tensor:
        """Camera branch (M, C_camera, Y, X), on the device and in the dtype of ``like``."""
        if self.camera is None:
            return like.new_zeros(like.shape[0], 0, *like.shape[-2:])
        if not bool(frames.camera_present.any()):
            nothing = like.new_zeros(like.shape[0], self.lift.out_channels, *like.shape[-2:])
            return nothing + zero_of(self.camera) + zero_of(self.lift)
        features = self.camera(frames.images, frames.camera_present)  # (M, N, C_image, h, w)
        image_size_px = tuple(frames.images.shape[-2:])
        return self.lift(features, image_size_px, frames.pix_T_cam, frames.bev_T_cam, frames.camera_present).to(
            like.dtype
        )

    def _without_hidden_points(self, frames: FrameBatch, hidden: torch.Tensor) -> FrameBatch:
        """Frames without the points that fall into hidden cells."""
        # The cell is that of the BEV grid whatever the height: a point above the grid must not betray its column either.
        xyz = frames.points[:, :3].clone()
        xyz[:, 2] = self.grid.z_range_m[0]
        bev_index, inside = self.grid.bev_index(xyz)
        return frames.keep_points(~(hidden.flatten(1)[frames.point_frame, bev_index] & inside))


class Neck(nn.Sequential):
    """What three convolutions add to the BEV map: the neighbourhood joins a cell's own content and does not replace it."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            conv_norm_act(channels, channels),
            conv_norm_act(channels, channels, dilation=2),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the first convolution, and what all of them make of (M, C, Y, X)."""
        middle = self[0](fused)
        return middle, fused + self[2](self[1](middle))


class CellTokens(nn.Module):
    """Learned tokens: added where a cell is free or unobserved, in place of the features where it is hidden."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.state = nn.Parameter(0.02 * torch.randn(3, channels))  # rows: UNOBSERVED, FREE, OCCUPIED
        self.masked = nn.Parameter(0.02 * torch.randn(channels))

    def forward(self, fused: torch.Tensor, states: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """Mark (M, C, Y, X) by the states (M, Y, X) and, if given, the hidden cells (M, Y, X)."""
        marked = fused + self.state.to(fused.dtype)[states.long()].movedim(-1, 1)
        if hidden is None:
            return marked
        return torch.where(hidden[:, None], self.masked.to(fused.dtype)[:, None, None], marked)


def zero_of(module: nn.Module) -> torch.Tensor:
    """Zero, with a gradient of zero for every parameter of a branch that had nothing to do.

    Ranks must agree on which parameters have a gradient, and sensor drop differs between them (FSDP fails otherwise).
    """
    return 0 * sum(parameter.sum() for parameter in module.parameters())
