"""Moving LiDAR sweeps into the keyframe's ego frame.

The move is ``ego_T_sweep_ego @ ego_T_lidar``, made of true inverses. mmdet3d 1.4 stores [R^T | -R^T t] of this transform
and its loader applies R and R^T t, which is off by |(R^T - I) t|: 0.44 m at 5 degrees and 5 m, 1.31 m at 15 degrees
(mmdet3d PR #3007).
"""

from __future__ import annotations

import numpy as np

from avjepa.geometry.rigid import transform_points

# The recording car (Renault Zoe: 4.08 x 1.79 m, rear axle 0.66 m from its rear) with what is mounted on it, in its ego
# frame. The top clears the LiDAR at 1.84 m: 16 % of all returns of nuScenes lie within 0.5 m of it, in its own housing.
EGO_BODY_X_M = (-1.0, 3.8)
EGO_BODY_Y_M = (-1.1, 1.1)
EGO_BODY_TOP_M = 2.0


def move_sweep(
    points_lidar: np.ndarray, ego_T_lidar: np.ndarray, ego_T_sweep_ego: np.ndarray, age_s: float
) -> np.ndarray:
    """Points of a sweep in the keyframe's ego frame (P', 5) float32, columns as in conventions.POINT_COLUMNS.

    Returns from the car itself are left out, where the car was at the time of the sweep.

    Args:
        points_lidar: (P, 4), xyz_lidar in metres and intensity.
        ego_T_lidar: (4, 4) calibration.
        ego_T_sweep_ego: (4, 4), from the ego frame at the sweep's time to that of the keyframe; identity for its own sweep.
        age_s: how much older than the keyframe the sweep is.
    """
    xyz_sweep_ego = transform_points(ego_T_lidar, points_lidar[:, :3].astype(np.float64))
    outside = ~on_ego_body(xyz_sweep_ego)
    xyz_ego = transform_points(ego_T_sweep_ego, xyz_sweep_ego[outside])
    columns = [xyz_ego, points_lidar[outside, 3:4], np.full((len(xyz_ego), 1), age_s)]
    return np.concatenate(columns, 1).astype(np.float32)


def on_ego_body(xyz_ego: np.ndarray) -> np.ndarray:
    """Boolean (P,): the point (P, 3) lies on the recording car."""
    x_m, y_m, z_m = xyz_ego.T
    inside_x = (x_m > EGO_BODY_X_M[0]) & (x_m < EGO_BODY_X_M[1])
    inside_y = (y_m > EGO_BODY_Y_M[0]) & (y_m < EGO_BODY_Y_M[1])
    return inside_x & inside_y & (z_m < EGO_BODY_TOP_M)
