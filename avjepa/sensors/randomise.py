"""Randomised sensors: clips as other LiDARs and cameras would have taken them, so that a model does not learn the one it was
shown. Domain randomisation (Tobin et al. 2017) for what a generated city and a real one differ in. Poses and calibrations are
untouched.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

import torch

from avjepa.sensors.sample import Clip, Frame

FAR_M = 50.0
GREY = torch.tensor([0.299, 0.587, 0.114])  # luminance of red, green, blue (ITU-R BT.601)


@dataclass(frozen=True)
class SensorRandomisation:
    """Ranges that one value a clip is drawn from, evenly.

    Attributes:
        lidar_keep: share of the returns that are kept.
        lidar_lost_far: share of those that are lost at 50 m; nearer ones in proportion to their distance.
        lidar_scatter_m: standard deviation of noise along the ray.
        intensity_power: the intensity, in [0, 1], is raised to it.
        brightness, contrast, saturation: factors on the image; 1 leaves it as it is.

    Raises:
        ValueError: a range does not ascend, or starts below zero.
    """

    lidar_keep: tuple[float, float] = (0.6, 1.0)
    lidar_lost_far: tuple[float, float] = (0.0, 0.4)
    lidar_scatter_m: tuple[float, float] = (0.0, 0.03)
    intensity_power: tuple[float, float] = (0.5, 2.0)
    brightness: tuple[float, float] = (0.6, 1.4)
    contrast: tuple[float, float] = (0.6, 1.4)
    saturation: tuple[float, float] = (0.4, 1.6)

    def __post_init__(self) -> None:
        if not all(0 <= low <= high for low, high in astuple(self)):
            raise ValueError(f"ranges must ascend from at least zero, got {self}")
        if self.lidar_keep[1] > 1 or self.lidar_lost_far[1] > 1:
            raise ValueError(f"shares must be at most one, got {self.lidar_keep} and {self.lidar_lost_far}")


def randomise(clip: Clip, settings: SensorRandomisation, generator: torch.Generator) -> Clip:
    """A copy of ``clip`` from other sensors; the same generator state gives the same copy."""
    ranges = torch.tensor(astuple(settings))  # (7, 2)
    drawn = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * torch.rand(len(ranges), generator=generator)
    keep, lost_far, scatter_m, power, *look = drawn.tolist()
    frames = (
        change_look(change_lidar(frame, keep, lost_far, scatter_m, power, generator), *look) for frame in clip.frames
    )
    return replace(clip, frames=tuple(frames))


def change_lidar(
    frame: Frame, keep: float, lost_far: float, scatter_m: float, power: float, generator: torch.Generator
) -> Frame:
    """The frame with fewer and noisier returns; arguments as the attributes of :class:`SensorRandomisation`."""
    ray = frame.points_ego[:, :3] - frame.lidar_origin_ego
    range_m = ray.norm(dim=1, keepdim=True).clamp(min=1e-3)
    chance = keep * (1 - lost_far * (range_m[:, 0] / FAR_M).clamp(max=1))
    kept = torch.rand(len(ray), generator=generator) < chance
    noise_m = scatter_m * torch.randn(len(ray), 1, generator=generator)
    points = frame.points_ego.clone()
    points[:, :3] += noise_m * ray / range_m
    points[:, 3] = points[:, 3].clamp(min=0) ** power
    return replace(frame, points_ego=points[kept])


def change_look(frame: Frame, brightness: float, contrast: float, saturation: float) -> Frame:
    """The frame with other pictures, (N, 3, H, W) uint8: factors on the brightness, on the distance of each pixel from the mean
    grey of its picture, and on the distance of each colour from its own grey.
    """
    if not len(frame.images):
        return frame
    images = frame.images.float()
    grey = (images * GREY[:, None, None]).sum(1, keepdim=True)
    images = grey + saturation * (images - grey)
    mean = grey.mean((2, 3), keepdim=True)
    images = brightness * (mean + contrast * (images - mean))
    return replace(frame, images=images.round().clamp(0, 255).to(torch.uint8))
