"""The sensor rig: mounting, intrinsics and timing of the nuScenes cars (Caesar et al., "nuScenes", 2020, figure 4 and table 2)."""

from __future__ import annotations

import numpy as np

from avjepa.city.records import Calibration
from avjepa.conventions import CAMERAS, LIDAR
from avjepa.geometry.camera import pinhole_matrix

TURN_US = 100_000  # of the LiDAR
KEYFRAME_TURNS = 5  # keyframes at 2 Hz
BEAMS = 32
COLUMNS = 1084  # firings of each beam in a turn, as in nuScenes
ELEVATION_DEG = (-30.67, 10.67)  # of the lowest beam (ring 0) and the highest of an HDL-32E
FIRST_AZIMUTH_RAD = np.pi / 2  # in the ego frame: a turn starts on the left and runs clockwise
LIDAR_XYZ_M = (0.94, 0.0, 1.84)
FULL_SIZE_PX = (900, 1600)
EGO_SIZE_WLH_M = (1.73, 4.08, 1.56)  # a Renault Zoe
EGO_BODY_WLH_M = (
    1.60,
    4.08,
    1.42,
)  # what of it the LiDAR sees; fitted to the share of each ring that nuScenes's car blocks
EGO_CENTRE_M = 1.30  # of its box, before the rear axle

# x, y, z in metres, yaw and pitch in degrees (up positive), focal length and principal point in pixels of the full image.
_CAMERAS = {
    "CAM_FRONT": (1.70, 0.01, 1.51, 0.3, -0.2, 1260.0, (816.0, 480.0)),
    "CAM_FRONT_RIGHT": (1.56, -0.49, 1.50, -56.6, -0.3, 1260.0, (812.0, 475.0)),
    "CAM_BACK_RIGHT": (1.03, -0.48, 1.56, -111.2, -0.4, 1256.0, (815.0, 485.0)),
    "CAM_BACK": (0.04, 0.0, 1.57, 179.7, 0.7, 805.0, (838.0, 480.0)),
    "CAM_BACK_LEFT": (1.04, 0.48, 1.58, 108.6, -0.1, 1256.0, (806.0, 482.0)),
    "CAM_FRONT_LEFT": (1.54, 0.50, 1.51, 55.2, 0.3, 1266.0, (827.0, 468.0)),
}


def make_rig(image_size_px: tuple[int, int], rng: np.random.Generator) -> tuple[Calibration, ...]:
    """LiDAR and six cameras; mounts differ a little from car to car.

    Args:
        image_size_px: (height, width) of the images; intrinsics are scaled to it.
        rng: one car's mounting errors, 0.3 degrees and a centimetre.
    """
    rig = [Calibration(LIDAR, _pose(LIDAR_XYZ_M, -90.0, 0.0, rng), None, (0, 0))]
    scale_y, scale_x = (new / full for new, full in zip(image_size_px, FULL_SIZE_PX, strict=True))
    for channel in CAMERAS:
        x, y, z, yaw, pitch, focal, (cx, cy) = _CAMERAS[channel]
        # Pixel centres are whole numbers, so that the image's corner, at -0.5, stays where it is.
        principal = (cx + 0.5) * scale_x - 0.5, (cy + 0.5) * scale_y - 0.5
        intrinsic = pinhole_matrix(focal * scale_x, focal * scale_y, *principal)
        ego_T_axes = _pose((x, y, z), yaw, pitch, rng)
        rig.append(Calibration(channel, ego_T_axes @ _AXES_T_CAM, intrinsic, image_size_px))
    return tuple(rig)


def column_azimuths_rad() -> np.ndarray:
    """(COLUMNS,) direction of each column in the ego frame, clockwise."""
    return FIRST_AZIMUTH_RAD - 2 * np.pi * np.arange(COLUMNS) / COLUMNS


def camera_delay_us(ego_T_cam: np.ndarray) -> int:
    """How long before the end of a turn the LiDAR beam crosses the middle of a camera's view, when its shutter opens."""
    yaw = np.arctan2(ego_T_cam[1, 2], ego_T_cam[0, 2])
    share = ((FIRST_AZIMUTH_RAD - yaw) % (2 * np.pi)) / (2 * np.pi)
    return round(TURN_US * (1 - share))


# A camera whose axes were those of its mount (x ahead) looks along x: cam x is right (-y), cam y is down (-z).
_AXES_T_CAM = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def _pose(xyz_m, yaw_deg: float, pitch_deg: float, rng: np.random.Generator) -> np.ndarray:
    """``ego_T_mount`` from yaw, pitch and small errors."""
    yaw, pitch, roll = np.radians([yaw_deg, -pitch_deg, 0.0]) + np.radians(rng.normal(0, 0.15, 3))
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    rotation_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    rotation_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    rotation_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pose = np.eye(4)
    pose[:3, :3] = rotation_z @ rotation_y @ rotation_x
    pose[:3, 3] = np.array(xyz_m) + rng.normal(0, 0.01, 3)
    return pose
