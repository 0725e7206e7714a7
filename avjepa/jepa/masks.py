"""What the context may not see: one group block mask per clip, and drop-out of sensors, LiDAR sectors and cameras.

Every draw comes from the clip's own seed, so a clip is masked alike on any rank, in any batch, before and after a resume.
Letters: see conventions.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.sensors.sample import FrameBatch


@dataclass(frozen=True)
class BlockMask:
    """Group block masks: square blocks of BEV cells, the same ones in every context frame of a clip.

    Blocks that hold an occupied cell in any context frame, other blocks that were observed, and blocks never observed are
    drawn separately, so that half the things and half the free space are hidden whatever their shares are. Design after
    AD-L-JEPA (half of non-empty and half of empty cells) and AD-LiST-JEPA (one mask for all frames, so that ego-motion
    does not leak), with the blocks of I-JEPA in place of single cells.

    Attributes:
        block_cells: smallest and largest edge of a block, in cells; drawn per clip.
        hidden_share: share of the blocks of each kind that is hidden.
    """

    block_cells: tuple[int, int] = (2, 4)
    hidden_share: float = 0.5

    def draw(self, context_states: torch.Tensor, seeds: tuple[int, ...]) -> torch.Tensor:
        """Hidden cells (B, Y, X), bool, for the cell states (B, T, Y, X) of the context frames."""
        union = context_states.amax(1)  # UNOBSERVED < FREE < OCCUPIED
        generators = [clip_generator(seed, "mask") for seed in seeds]
        return torch.stack([self._draw_clip(states, g) for states, g in zip(union, generators, strict=True)])

    def _draw_clip(self, union: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        rows, columns = union.shape
        low, high = self.block_cells
        edge = int(torch.randint(low, high + 1, (), generator=generator))
        # A random origin of the block lattice, so that block borders fall anywhere and the last row is hidden as often as any.
        offset_y, offset_x = torch.randint(0, edge, (2,), generator=generator).tolist()
        block_row = (torch.arange(rows) + offset_y) // edge
        block_column = (torch.arange(columns) + offset_x) // edge
        block = (block_row[:, None] * (int(block_column[-1]) + 1) + block_column).to(union.device)  # (Y, X)

        num_blocks = int(block.max()) + 1
        kind = torch.zeros(num_blocks, dtype=union.dtype, device=union.device)
        kind.scatter_reduce_(0, block.flatten(), union.flatten(), "amax")
        order = torch.rand(num_blocks, generator=generator).to(union.device)
        hidden_block = torch.zeros(num_blocks, dtype=torch.bool, device=union.device)
        for state in (UNOBSERVED, FREE, OCCUPIED):
            members = (kind == state).nonzero()[:, 0]
            count = math.ceil(self.hidden_share * len(members)) if len(members) > 1 else 0
            hidden_block[members[order[members].argsort()[:count]]] = True
        return hidden_block[block]


@dataclass(frozen=True)
class SensorDrop:
    """Drop-out of context sensors, drawn per clip, so that each sensor learns to stand in for the other.

    Attributes:
        whole_sensor: probability that all LiDAR or all cameras (an even choice, of those present) are dropped.
        camera: probability that one camera is dropped.
        sector: probability that the LiDAR loses a sector.
        sector_rad: width of that sector.
    """

    whole_sensor: float = 0.3
    camera: float = 0.1
    sector: float = 0.3
    sector_rad: float = math.pi / 4

    def apply(self, context: FrameBatch, seeds: tuple[int, ...]) -> FrameBatch:
        """The context frames (M = B * T, clip after clip) without what was drawn; never without both sensors."""
        clips = len(seeds)
        lidar = context.lidar_present.view(clips, -1).clone()  # (B, T)
        camera = context.camera_present.view(clips, lidar.shape[1], -1).clone()  # (B, T, N)
        sector_start = torch.full((clips,), torch.nan)
        for clip, seed in enumerate(seeds):
            generator = clip_generator(seed, "sensor drop")
            drop, which, drop_camera, camera_choice, drop_sector, start = torch.rand(6, generator=generator).tolist()
            both = bool(lidar[clip].any()) and bool(camera[clip].any())
            if both and drop < self.whole_sensor:
                (lidar if which < 0.5 else camera)[clip] = False
            if bool(lidar[clip].any()) and drop_sector < self.sector:
                sector_start[clip] = 2 * math.pi * start
            num_cameras = camera.shape[-1]
            if num_cameras > 1 and drop_camera < self.camera:
                camera[clip, :, int(camera_choice * num_cameras)] = False

        lidar, camera = lidar.flatten(), camera.flatten(0, 1)
        frame_sector = sector_start.to(context.points.device).repeat_interleave(len(lidar) // clips)
        direction = context.points[:, :2] - context.lidar_origin[context.point_frame, :2]
        angle = torch.atan2(direction[:, 1], direction[:, 0]) - frame_sector[context.point_frame]
        in_sector = angle.remainder(2 * math.pi) < self.sector_rad  # false where no sector was drawn (nan)
        kept = context.keep_points(lidar[context.point_frame] & ~in_sector)
        return replace(kept, lidar_present=lidar, camera_present=camera)


def clip_generator(seed: int, purpose: str) -> torch.Generator:
    """A generator for one purpose of one clip's draw; different purposes never share random numbers."""
    return torch.Generator().manual_seed((seed * 1_000_003 + sum(purpose.encode())) % 2**63)
