"""The ground around one keyframe as its cameras and its LiDAR see it, cell by cell of the map frame.

    1  ground    a smooth surface under the LiDAR returns
    2  hidden    what stands on it hides the ground behind, seen from each camera
    3  look up   every visible ground cell in the images
    4  contrast  brightness and yellowness beside the ground around, so that exposure and shadow matter less
    5  returns   LiDAR returns of the ground (intensity, height) and of what stands on it

Paint is what is brighter, or yellower, than the ground around it: no model is asked. Distances in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avjepa.geometry.camera import in_image, project
from avjepa.geometry.rigid import invert, transform_points
from avjepa.mapping.ground_surface import GroundSurface, ground_surface

CELL_M = 0.1  # a lane line is .1 to .2 m wide
REACH_M = 18.0  # beyond it a pixel covers more than a line's width
FAR_M = 30.0  # where rings of a LiDAR of 32 beams are 0.7 m apart: what stands as high as a barrier is met by one
STANDS_M = (0.3, 2.6)  # heights above the ground of what stands on it
ON_GROUND_M = 0.2
SHADOW_RAD = np.deg2rad(0.5)
SHADOW_MARGIN_M = 0.3
AROUND_M = 3.0  # width of the surroundings that a cell is compared with
SHARP_M = 8.0  # from this distance on, a view counts less
OWN_CAR = 0.12  # share of an image, at its lower edge, in which cameras see the car that carries them


@dataclass(frozen=True)
class Camera:
    """One camera of a keyframe: (H, W, 3) uint8 RGB, pix_T_cam (3, 3), ego_T_cam (4, 4)."""

    image: np.ndarray
    pix_T_cam: np.ndarray
    ego_T_cam: np.ndarray


@dataclass(frozen=True)
class GroundView:
    """What one keyframe adds to the map.

    Attributes:
        cell_xy_m: (n, 2) centres of the ground cells that a camera sees, map frame; a cell may be seen by two.
        weight: (n,) how much each view counts.
        contrast: (n,) brightness beside the ground around: 0 as it is, 1 twice as bright.
        yellow: (n,) yellowness beside the ground around, in units of its brightness.
        return_xy_m: (r, 2) LiDAR returns within the cameras' reach, map frame.
        on_ground: (r,) bool.
        stands: (r,) bool, from something that stands on the ground.
        height_m: (r,) above the road's level in the ego frame (z).
        intensity: (r,) in [0, 1].
        far_xy_m: (f, 2) LiDAR returns from what stands on the ground beyond the cameras' reach, map frame.
    """

    cell_xy_m: np.ndarray
    weight: np.ndarray
    contrast: np.ndarray
    yellow: np.ndarray
    return_xy_m: np.ndarray
    on_ground: np.ndarray
    stands: np.ndarray
    height_m: np.ndarray
    intensity: np.ndarray
    far_xy_m: np.ndarray


def view_ground(points_ego: np.ndarray, cameras: list[Camera], map_T_ego: np.ndarray) -> GroundView:
    """The ground around a keyframe.

    Args:
        points_ego: (P, 4+) returns, xyz in the ego frame and intensity; none of the car itself.
        cameras: those whose images could be read; may be none.
        map_T_ego: (4, 4).
    """
    ground = ground_surface(points_ego[:, :3])
    above_m = points_ego[:, 2] - ground.at(points_ego[:, :2])
    stands = (above_m > STANDS_M[0]) & (above_m < STANDS_M[1])
    xy_map, xyz_ego, shape = ground_cells(ground, map_T_ego)
    views = [look_up(camera, xyz_ego, points_ego[stands, :3], shape) for camera in cameras]
    distance_m = np.hypot(*points_ego[:, :2].T)
    near, far = distance_m < REACH_M, (distance_m >= REACH_M) & (distance_m < FAR_M)
    xyz_map = transform_points(map_T_ego, points_ego[:, :3].astype(np.float64))
    seen = [np.flatnonzero(view.weight.ravel() > 0) for view in views]

    def joined(name: str) -> np.ndarray:
        parts = [getattr(view, name).ravel()[cells] for view, cells in zip(views, seen, strict=True)]
        return np.concatenate([*parts, np.zeros(0, np.float32)])

    return GroundView(
        cell_xy_m=np.concatenate([*(xy_map[cells] for cells in seen), np.zeros((0, 2))]),
        weight=joined("weight"),
        contrast=joined("contrast"),
        yellow=joined("yellow"),
        return_xy_m=xyz_map[near, :2],
        on_ground=np.abs(above_m[near]) < ON_GROUND_M,
        stands=stands[near],
        height_m=points_ego[near, 2].astype(np.float64),
        intensity=points_ego[near, 3].astype(np.float64),
        far_xy_m=xyz_map[far & stands, :2],
    )


def ground_cells(ground: GroundSurface, map_T_ego: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Centres of the map's cells around the car: (n, 2) in the map frame, (n, 3) on the ground in the ego frame, and the shape
    (Y, X) of their square.
    """
    first = np.floor((map_T_ego[:2, 3] - REACH_M) / CELL_M).astype(np.int64)
    side = round(2 * REACH_M / CELL_M)
    x, y = ((first[axis] + np.arange(side) + 0.5) * CELL_M for axis in (0, 1))
    xy_map = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    level = np.column_stack([xy_map, np.full(len(xy_map), map_T_ego[2, 3])])
    xyz_ego = transform_points(invert(map_T_ego), level)
    xyz_ego[:, 2] = ground.at(xyz_ego[:, :2])
    return xy_map, xyz_ego, (side, side)


@dataclass(frozen=True)
class CameraView:
    """What one camera sees of the square of cells, all (Y, X) float32; weight 0 where it sees nothing."""

    weight: np.ndarray
    contrast: np.ndarray
    yellow: np.ndarray


def look_up(camera: Camera, xyz_ego: np.ndarray, standing_ego: np.ndarray, shape: tuple[int, int]) -> CameraView:
    """One camera's view of ground cells (n, 3) of a square (Y, X), n = Y * X, behind what stands there (s, 3)."""
    centre = camera.ego_T_cam[:3, 3]
    distance_m = np.hypot(*(xyz_ego[:, :2] - centre[:2]).T)
    cam_T_ego = invert(camera.ego_T_cam)
    uv_px, depth_m = project(camera.pix_T_cam, transform_points(cam_T_ego, xyz_ego))
    height_px, width_px = camera.image.shape[:2]
    seen = in_image(uv_px, depth_m, round((1 - OWN_CAR) * height_px), width_px) & (distance_m < REACH_M)
    seen &= distance_m < shadow_m(standing_ego[:, :2] - centre[:2], xyz_ego[:, :2] - centre[:2]) - SHADOW_MARGIN_M
    u, v = (uv_px[:, axis].astype(np.float32).reshape(shape) for axis in (0, 1))
    colour = cv2.remap(camera.image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32) / 255
    seen = seen.reshape(shape)
    weight = np.where(seen, 1 / (1 + (distance_m.reshape(shape) / SHARP_M) ** 2), 0).astype(np.float32)
    bright = colour.mean(-1)
    around = ground_around(bright, seen)
    yellowness = colour[..., :2].mean(-1) - colour[..., 2]
    contrast = np.clip(bright / around - 1, -1, 3)
    yellow = np.clip((yellowness - ground_around_mean(yellowness, seen)) / around, -1, 2)
    return CameraView(weight, contrast, yellow)


def shadow_m(standing_xy: np.ndarray, cells_xy: np.ndarray) -> np.ndarray:
    """Distance (n,) at which the nearest standing thing (s, 2) hides the ground in the direction of each cell (n, 2), both seen
    from the camera; inf where none does.
    """
    sectors = round(2 * np.pi / SHADOW_RAD)
    nearest_m = np.full(sectors, np.inf)

    def sector(xy: np.ndarray) -> np.ndarray:
        return np.floor((np.arctan2(xy[:, 1], xy[:, 0]) + np.pi) / SHADOW_RAD).astype(np.int64) % sectors

    np.minimum.at(nearest_m, sector(standing_xy), np.hypot(*standing_xy.T))
    nearest_m = np.minimum.reduce([nearest_m, np.roll(nearest_m, 1), np.roll(nearest_m, -1)])  # rays have gaps between
    return nearest_m[sector(cells_xy)]


def ground_around(bright: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Brightness (Y, X) of the unpainted ground around each cell: the mean of what is not brighter than the mean."""
    mean = ground_around_mean(bright, seen)
    darker = bright <= 1.001 * mean  # also all of an even ground, whose mean is rounded
    return np.maximum(ground_around_mean(bright, seen & darker), 0.02)


def ground_around_mean(value: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean (Y, X) of the counted cells around each."""
    size = (round(AROUND_M / CELL_M),) * 2
    weight = cv2.blur(counted.astype(np.float32), size)
    total = cv2.blur(np.where(counted, value, 0).astype(np.float32), size)
    return total / np.maximum(weight, 1e-6)
