"""What every forecasting table starts from: copies of the present, moved or not, and the car that keeps its velocity.

Poses are ``now_T_frame`` (S, 4, 4) float64 of a clip's T context frames, the last of them the present, and its F future
ones. Each baseline forecasts what is in the ego frame of a future moment; how it knows that frame is a PoseSource, and a
record states which.

    persistence        the present, unchanged in the car's frame: the whole world rides along
    warp-persistence   the present, moved by the ego-motion: a still world
    ray casting        everything the context saw, moved by the ego-motion, as voxels that the future LiDAR's rays meet
    ray tracing        the same as points: each ray gets the range of the point nearest in angle (4D-Occ's own baseline)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.occ3d import xyz_from_zyx, zyx_from_xyz
from avjepa.geometry.rigid import invert, se2_from_transform, transform_from_se2, transform_points
from avjepa.probes.metrics.point_forecast import range_on_true_rays
from avjepa.probes.ray_depth import ray_depths

PoseSource = Literal["true", "constant velocity"]


# --------------------------------------------------------------------------------------------------------------- poses
def future_T_frames(now_T_frame: np.ndarray, time_s: np.ndarray, num_context: int, source: PoseSource) -> np.ndarray:
    """From each context frame to each future one (F, T, 4, 4), by a pose source.

    Args:
        now_T_frame: (S, 4, 4) true poses; those of the future are read only if the source is "true".
        time_s: (S,) after the present frame.
        num_context: T.
        source: "true", or "constant velocity" from the last two context frames.

    Raises:
        ValueError: shapes do not agree, the source is unknown, or there is no past frame to tell a velocity.
    """
    if now_T_frame.shape != (len(time_s), 4, 4) or not 1 <= num_context < len(time_s):
        raise ValueError(f"want poses (S, 4, 4) and 1 <= T < S = {len(time_s)}, got {now_T_frame.shape}, {num_context}")
    context = now_T_frame[:num_context]
    if source == "true":
        now_T_future = now_T_frame[num_context:]
    elif source == "constant velocity":
        now_T_future = extrapolate(context, time_s[:num_context], time_s[num_context:])
    else:
        raise ValueError(f"unknown pose source {source!r}; want 'true' or 'constant velocity'")
    return invert(now_T_future)[:, None] @ context


def extrapolate(now_T_context: np.ndarray, context_s: np.ndarray, future_s: np.ndarray) -> np.ndarray:
    """Poses ``now_T_future`` (F, 4, 4) of a car that keeps its planar velocity, seen from itself, and its yaw rate.

    Both are those of the last step of the context: the path is the circle (or line) through its last two poses.

    Args:
        now_T_context: (T, 4, 4) with T >= 2; the last is the identity.
        context_s: (T,) after the present.
        future_s: (F,) after the present.
    """
    if len(now_T_context) < 2 or not context_s[-1] > context_s[-2]:
        raise ValueError(f"a velocity needs two context frames in time order, got {len(now_T_context)} at {context_s}")
    velocity = _twist(invert(now_T_context[-2]) @ now_T_context[-1]) / (context_s[-1] - context_s[-2])
    return np.stack([_motion(velocity * (time_s - context_s[-1])) for time_s in future_s])


def _twist(src_T_dst: np.ndarray) -> np.ndarray:
    """(x_m, y_m, yaw_rad) whose steady motion (exponential map of SE(2)) is the planar part of ``src_T_dst``."""
    dx_m, dy_m, yaw_rad = se2_from_transform(src_T_dst)
    return np.array([*np.linalg.solve(_arc(yaw_rad), [dx_m, dy_m]), yaw_rad])


def _motion(twist: np.ndarray) -> np.ndarray:
    """The planar motion (4, 4) of a twist (x_m, y_m, yaw_rad)."""
    return transform_from_se2(*_arc(twist[2]) @ twist[:2], twist[2])


def _arc(yaw_rad: float) -> np.ndarray:
    """(2, 2): displacement of unit velocity while turning by ``yaw_rad``; the identity for none."""
    along = np.sinc(yaw_rad / np.pi)  # sin(yaw) / yaw
    aside = np.sin(yaw_rad / 2) * np.sinc(yaw_rad / (2 * np.pi))  # (1 - cos(yaw)) / yaw
    return np.array([[along, -aside], [aside, along]])


# -------------------------------------------------------------------------------------------------------- point clouds
def warped_cloud(points_now: np.ndarray, future_T_now: np.ndarray) -> np.ndarray:
    """Warp-persistence: the present cloud (P, 3) in the future ego frame. Persistence is ``points_now`` itself."""
    return transform_points(future_T_now, np.asarray(points_now, dtype=np.float64))


def ray_cast_cloud(
    clouds: Sequence[np.ndarray],
    future_T_frames: np.ndarray,
    grid: BEVGrid,
    origin: np.ndarray,
    directions: np.ndarray,
) -> np.ndarray:
    """Ray casting: what a LiDAR at a future moment sees of the voxels that hold a point of any context cloud.

    Args:
        clouds: T clouds (P, 3), each in its own ego frame.
        future_T_frames: (T, 4, 4) to the future ego frame.
        grid: voxels, in the future ego frame. Small ones let rays through between the points of a surface: of those of
            0.2 m a third of nuScenes's rays hits nothing.
        origin: (3,) of the future LiDAR in its ego frame.
        directions: (R, 3) unit directions of its rays.

    Returns:
        Points (R, 3) in the future ego frame. A ray that hits nothing ends where it leaves the grid; nan if it misses it.
    """
    index_zyx, inside = grid.cell_index(torch.from_numpy(_accumulated_cloud(clouds, future_T_frames)))
    occupied = torch.zeros(grid.shape_zyx, dtype=torch.bool)
    occupied[index_zyx[inside].unbind(-1)] = True
    origin, directions = np.asarray(origin, dtype=np.float64), np.asarray(directions, dtype=np.float64)
    depths = ray_depths(occupied, grid, torch.from_numpy(origin), torch.from_numpy(directions))
    return origin + directions * depths.depth_m.numpy()[:, None]


def ray_traced_cloud(
    clouds: Sequence[np.ndarray], future_T_frames: np.ndarray, origin: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    """Ray tracing as in 4D-Occ (raytracing_baseline.py): no point hides another, and every ray meets one.

    Arguments and answer as in ``ray_cast_cloud``.

    Raises:
        ValueError: no context cloud has a point off the LiDAR.
    """
    origin, directions = np.asarray(origin, dtype=np.float64), np.asarray(directions, dtype=np.float64)
    range_m, _ = range_on_true_rays(_accumulated_cloud(clouds, future_T_frames), origin + directions, origin)
    return origin + directions * range_m[:, None]


def _accumulated_cloud(clouds: Sequence[np.ndarray], future_T_frames: np.ndarray) -> np.ndarray:
    """All context clouds as one (P, 3), in the future ego frame."""
    return np.concatenate([warped_cloud(cloud, pose) for cloud, pose in zip(clouds, future_T_frames, strict=True)])


# ----------------------------------------------------------------------------------------------------------- occupancy
def warped_occupancy(volume: np.ndarray, future_T_src: np.ndarray, grid: BEVGrid, free: int) -> np.ndarray:
    """Warp-persistence of a volume [x, y, z] of classes: each voxel of the future takes the class at its centre.

    Persistence is ``volume`` itself. What comes from outside the volume is ``free``.

    Raises:
        ValueError: the volume is not of the grid's shape.
    """
    if volume.shape != grid.shape_zyx[::-1]:
        raise ValueError(f"want a volume [x, y, z] of {grid.shape_zyx[::-1]} voxels, got {volume.shape}")
    centres = grid.voxel_centres().flatten(0, 2)  # (Z * Y * X, 3)
    index_zyx, inside = grid.cell_index(transform_points(torch.from_numpy(invert(future_T_src)), centres))
    z, y, x = index_zyx.numpy().T
    future = np.where(inside.numpy(), zyx_from_xyz(volume)[z, y, x], np.uint8(free))
    return np.ascontiguousarray(xyz_from_zyx(future.reshape(grid.shape_zyx)))
