"""Augmentation of clips that keeps cameras, LiDAR, poses, and so all targets, consistent.

One change of the ego frame per clip (turn about z, mirror x or y) moves points, cameras and poses together; one change per camera
and clip (resize, crop, mirror, turn of the image) changes pixels and ``pix_T_cam`` together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from avjepa.geometry.camera import flip_pixels, resize_pixels, rotate_pixels, shift_pixels
from avjepa.geometry.rigid import invert, transform_from_se2, transform_points
from avjepa.sensors.randomise import SensorRandomisation, randomise
from avjepa.sensors.sample import Clip, Frame


@dataclass(frozen=True)
class Augmentation:
    """Ranges that are drawn from, evenly.

    Attributes:
        yaw_range_rad: turn of the ego frame about z.
        flip_x, flip_y: probability of mirroring x (front and back), y (left and right).
        image_resize: factor on the image size, about the image centre.
        image_crop_px: largest shift of the image, both ways in both axes.
        image_flip: probability of mirroring an image.
        image_rotate_rad: largest turn of an image, both ways.
        sensors: how the sensors themselves are randomised, or None.

    Raises:
        ValueError: a probability is not in [0, 1], a range does not ascend, or an image would shrink to nothing.
    """

    yaw_range_rad: tuple[float, float] = (-math.pi / 8, math.pi / 8)
    flip_x: float = 0.5
    flip_y: float = 0.5
    image_resize: tuple[float, float] = (0.95, 1.1)
    image_crop_px: int = 8
    image_flip: float = 0.5
    image_rotate_rad: float = 0.09
    sensors: SensorRandomisation | None = None

    def __post_init__(self) -> None:
        chances = (self.flip_x, self.flip_y, self.image_flip)
        if not all(0 <= chance <= 1 for chance in chances):
            raise ValueError(f"probabilities of mirroring must be in [0, 1], got {chances}")
        if self.yaw_range_rad[0] > self.yaw_range_rad[1] or not 0 < self.image_resize[0] <= self.image_resize[1]:
            raise ValueError(f"ranges must ascend, sizes be positive: got {self.yaw_range_rad}, {self.image_resize}")


def augment(clip: Clip, augmentation: Augmentation, generator: torch.Generator) -> Clip:
    """An augmented copy of ``clip``; the same generator state gives the same copy."""
    aug_T_ego = draw_ego_change(augmentation, generator)
    height, width = clip.now.images.shape[-2:]
    aug_T_pix = [draw_image_change(augmentation, generator, height, width) for _ in range(len(clip.now.images))]
    frames = tuple(change_images(change_ego(frame, aug_T_ego), aug_T_pix) for frame in clip.frames)
    changed = replace(clip, frames=frames)
    return changed if augmentation.sensors is None else randomise(changed, augmentation.sensors, generator)


def change_ego(frame: Frame, aug_T_ego: np.ndarray) -> Frame:
    """The frame in another ego frame: ``aug_T_ego`` (4, 4) is orthogonal, and mirrored when its determinant is -1."""
    aug_T_ego_f32 = torch.from_numpy(aug_T_ego).float()
    xyz = transform_points(aug_T_ego_f32, frame.points_ego[:, :3])
    return replace(
        frame,
        global_T_ego=frame.global_T_ego @ invert(aug_T_ego),
        points_ego=torch.cat([xyz, frame.points_ego[:, 3:]], 1),
        lidar_origin_ego=transform_points(aug_T_ego_f32, frame.lidar_origin_ego[None])[0],
        ego_T_cam=aug_T_ego @ frame.ego_T_cam,
    )


def change_images(frame: Frame, aug_T_pix: list[np.ndarray]) -> Frame:
    """The frame with every camera's pixels moved by its ``aug_T_pix`` (3, 3); uncovered pixels are black."""
    if not aug_T_pix:
        return frame
    height, width = frame.images.shape[-2:]
    images = [
        cv2.warpAffine(image.movedim(0, -1).numpy(), matrix[:2], (width, height), flags=cv2.INTER_LINEAR)
        for image, matrix in zip(frame.images, aug_T_pix, strict=True)
    ]
    return replace(
        frame,
        images=torch.from_numpy(np.stack(images)).movedim(-1, 1).contiguous(),
        pix_T_cam=np.stack(aug_T_pix) @ frame.pix_T_cam,
    )


def draw_ego_change(augmentation: Augmentation, generator: torch.Generator) -> np.ndarray:
    """``aug_T_ego`` (4, 4)."""
    yaw, mirror_x, mirror_y = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    low, high = augmentation.yaw_range_rad
    mirror = np.diag(
        [-1.0 if mirror_x < augmentation.flip_x else 1.0, -1.0 if mirror_y < augmentation.flip_y else 1.0, 1.0, 1.0]
    )
    return mirror @ transform_from_se2(0.0, 0.0, low + (high - low) * yaw)


def draw_image_change(
    augmentation: Augmentation, generator: torch.Generator, height_px: int, width_px: int
) -> np.ndarray:
    """``aug_T_pix`` (3, 3) of one camera."""
    resize, shift_u, shift_v, mirror, turn = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    low, high = augmentation.image_resize
    scale = low + (high - low) * resize
    centre = shift_pixels(-(scale - 1) * width_px / 2, -(scale - 1) * height_px / 2)
    shift = shift_pixels((2 * shift_u - 1) * augmentation.image_crop_px, (2 * shift_v - 1) * augmentation.image_crop_px)
    turned = rotate_pixels((2 * turn - 1) * augmentation.image_rotate_rad, height_px, width_px)
    mirrored = flip_pixels(width_px) if mirror < augmentation.image_flip else np.eye(3)
    return turned @ mirrored @ shift @ centre @ resize_pixels(scale, scale)
