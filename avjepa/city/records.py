"""What one generated drive consists of, before it becomes nuScenes tables. Poses are float64 4 x 4 ``dst_T_src``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """One sensor of the rig.

    Attributes:
        channel: "LIDAR_TOP" or one of conventions.CAMERAS.
        ego_T_sensor: (4, 4).
        pix_T_cam: (3, 3) of a camera, None for the LiDAR.
        size_px: (height, width) of a camera's image, (0, 0) for the LiDAR.
    """

    channel: str
    ego_T_sensor: np.ndarray
    pix_T_cam: np.ndarray | None
    size_px: tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """One sensor file: a nuScenes sample_data row with its ego pose.

    Attributes:
        channel: sensor.
        timestamp_us: capture time; of a LiDAR sweep, its end.
        global_T_ego: (4, 4) at that time.
        filename: relative to the data root, below ``samples/`` (keyframes) or ``sweeps/``.
        keyframe: number of the keyframe it belongs to. As in nuScenes, a sweep belongs to the next keyframe.
        is_keyframe: whether it is that keyframe's own reading.
    """

    channel: str
    timestamp_us: int
    global_T_ego: np.ndarray
    filename: str
    keyframe: int
    is_keyframe: bool


@dataclass(frozen=True)
class Box:
    """One annotated thing at one keyframe.

    Attributes:
        thing: its number within the drive, the same at every keyframe.
        category: nuScenes category name, such as "vehicle.car".
        attribute: nuScenes attribute name, such as "vehicle.moving"; "" where the category has none.
        global_T_box: (4, 4), centre of the box, x forward.
        size_wlh_m: width, length, height.
        velocity_mps: (vx, vy) in the global frame: the truth, the tables hold none.
        num_lidar_pts: points of the keyframe's LiDAR file inside the box.
        visible_share: share of the thing that the six cameras see, in [0, 1].
    """

    thing: int
    category: str
    attribute: str
    global_T_box: np.ndarray
    size_wlh_m: tuple[float, float, float]
    velocity_mps: tuple[float, float]
    num_lidar_pts: int
    visible_share: float


@dataclass(frozen=True)
class Keyframe:
    """One annotated moment.

    Attributes:
        timestamp_us: that of its LiDAR reading.
        boxes: annotations.
    """

    timestamp_us: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class EgoState:
    """The ego vehicle at one moment, for the CAN bus.

    Attributes:
        timestamp_us: time.
        global_T_ego: (4, 4).
        speed_mps: along its x axis.
        acceleration_mps2: (3,) in the ego frame.
        yaw_rate_radps: about z.
    """

    timestamp_us: int
    global_T_ego: np.ndarray
    speed_mps: float
    acceleration_mps2: tuple[float, float, float]
    yaw_rate_radps: float


@dataclass(frozen=True)
class Drive:
    """One scene.

    Attributes:
        name: "scene-2001" and so on.
        town: name of its map.
        place: name of the street it was driven in; drives of the same place share it.
        split: "train", "val_near" (places of the same town that no training drive visits) or "val_far" (another town).
        description: nuScenes scene description, comma separated.
        date: "2018-07-01", for the log.
        calibrations: the rig.
        keyframes, readings: in time order; readings of all channels together.
        ego_states: at 50 Hz.
    """

    name: str
    town: str
    place: str
    split: str
    description: str
    date: str
    calibrations: tuple[Calibration, ...]
    keyframes: tuple[Keyframe, ...]
    readings: tuple[Reading, ...]
    ego_states: tuple[EgoState, ...]
