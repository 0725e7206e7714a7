"""What the context may not see: one group mask per clip, and drop-out of sensors, LiDAR sectors and cameras.

Every draw comes from the clip's own seed, so a clip is masked alike on any rank, in any batch, before and after a resume.
Letters: see conventions.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch

from avjepa.conventions import FREE, OCCUPIED
from avjepa.jepa.target_regions import Blocks, FutureOnly, RegionSampler, Scene
from avjepa.sensors.sample import FrameBatch


@dataclass(frozen=True)
class Region:
    """One part of a mixture: a sampler, and how often it is drawn, in relation to the others."""

    sampler: RegionSampler
    weight: float = 1.0


@dataclass(frozen=True)
class DrawnMask:
    """What is hidden, in every context frame alike (AD-LiST-JEPA: one mask for all frames, so that ego-motion does not leak).

    Attributes:
        hidden: (B, Y, X) bool.
        kinds: name of the region of each clip; that of another one, with "blocks for " before it, where it had too little.
    """

    hidden: torch.Tensor
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class GroupMask:
    """One region a clip, of a kind that is drawn by weight.

    What a region is good for are observed cells with something in them. One with fewer than ``least_observed`` observed cells, or
    with fewer than ``least_occupied`` occupied ones, would teach to predict nothing: blocks take its place. FutureOnly, which
    hides nothing on purpose, stays.

    Attributes:
        regions: by name.
        blocks: what takes the place of a region with too little in it.
        least_observed, least_occupied: cells.
    """

    regions: dict[str, Region] = field(default_factory=lambda: {"blocks": Region(Blocks())})
    blocks: Blocks = field(default_factory=Blocks)
    least_observed: int = 24
    least_occupied: int = 4

    def __post_init__(self) -> None:
        if not self.regions or min(region.weight for region in self.regions.values()) <= 0:
            raise ValueError(f"want at least one region, each of a positive weight, got {self.regions}")

    def draw(self, scenes: list[Scene], seeds: tuple[int, ...]) -> DrawnMask:
        """A mask for every scene; each depends on its own scene and seed alone."""
        drawn = [
            self._draw_clip(scene, clip_generator(seed, "mask")) for scene, seed in zip(scenes, seeds, strict=True)
        ]
        return DrawnMask(torch.stack([hidden for hidden, _ in drawn]), tuple(kind for _, kind in drawn))

    def _draw_clip(self, scene: Scene, generator: torch.Generator) -> tuple[torch.Tensor, str]:
        name = self._draw_name(generator)
        sampler = self.regions[name].sampler
        hidden = sampler.draw(scene, generator)
        if isinstance(sampler, FutureOnly | Blocks) or self._is_enough(hidden, scene.union):
            return hidden, name
        return self.blocks.draw(scene, generator), f"blocks for {name}"

    def _draw_name(self, generator: torch.Generator) -> str:
        if len(self.regions) == 1:
            return next(iter(self.regions))
        weights = torch.tensor([region.weight for region in self.regions.values()])
        return list(self.regions)[int(torch.multinomial(weights, 1, generator=generator))]

    def _is_enough(self, hidden: torch.Tensor, union: torch.Tensor) -> bool:
        observed, occupied = (int((hidden & (union >= state)).sum()) for state in (FREE, OCCUPIED))
        return observed >= self.least_observed and occupied >= self.least_occupied


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
