"""The LiDAR turns of a drive in one fixed frame: what methods that clean maps work on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avjepa.errors import BadFileError, DataError
from avjepa.geometry.rigid import invert, transform_points
from avjepa.sensors.nuscenes_files import read_lidar
from avjepa.sensors.nuscenes_index import NuScenesIndex
from avjepa.sensors.sweeps import on_ego_body

REACH_M = 50.0  # as in DynamicMap_Benchmark: what lies further from the sensor is not part of a map

log = logging.getLogger("avjepa")


@dataclass(frozen=True)
class Scan:
    """One LiDAR turn.

    Attributes:
        xyz_map: (P, 3) float32 in a fixed frame, the same for all scans of a map; near its origin, for precision.
        map_T_lidar: (4, 4) float64.

    Raises:
        ValueError: wrong shapes, or a value that is not finite.
    """

    xyz_map: np.ndarray
    map_T_lidar: np.ndarray

    def __post_init__(self) -> None:
        if self.xyz_map.ndim != 2 or self.xyz_map.shape[1] != 3 or self.map_T_lidar.shape != (4, 4):
            raise ValueError(f"want (P, 3) and (4, 4), got {self.xyz_map.shape}, {self.map_T_lidar.shape}")
        if not (np.isfinite(self.xyz_map).all() and np.isfinite(self.map_T_lidar).all()):
            raise ValueError("a scan holds a point or a pose that is not finite")

    @property
    def xyz_lidar(self) -> np.ndarray:
        """(P, 3) float32 in the LiDAR's own frame."""
        return transform_points(invert(self.map_T_lidar), self.xyz_map.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True)
class DriveScan:
    """A scan, and where it comes from.

    Attributes:
        scan: the returns within reach that are not on the recording car.
        lidar_file: name relative to the data root.
        keyframe: number of the keyframe in the index; -1 for a sweep between keyframes.
        file_row: (P,) which point of the file each point of the scan is, to look up labels.
        num_file_points: points of the file.
        intensity: (P,) float32 in [0, 1].
    """

    scan: Scan
    lidar_file: str
    keyframe: int
    file_row: np.ndarray
    num_file_points: int
    intensity: np.ndarray


@dataclass(frozen=True)
class Turn:
    """A LiDAR turn of a drive that is yet to be read; ``keyframe`` and ``lidar_file`` are those of :class:`DriveScan`."""

    time_s: float
    lidar_file: str
    keyframe: int
    global_T_ego: np.ndarray
    ego_T_lidar: np.ndarray


@dataclass(frozen=True)
class DriveScans:
    """The turns of one drive in time order.

    Attributes:
        turns: those that can be read.
        global_T_map: (4, 4); the map frame is the ego frame of the drive's first sound keyframe.
        num_unreadable: files that are missing or damaged.
    """

    turns: tuple[DriveScan, ...]
    global_T_map: np.ndarray
    num_unreadable: int


def read_drive(
    root: str | Path, index: NuScenesIndex, scene: int, sweeps: bool = True, reach_m: float = REACH_M
) -> DriveScans:
    """Keyframes of a scene, and the sweeps between them.

    Files that are missing or damaged are counted and left out.

    Args:
        root: data root.
        index: of that root.
        scene: number of the scene in the index.
        sweeps: whether to read sweeps as well.
        reach_m: points further from the LiDAR are left out.

    Raises:
        DataError: no file of the scene can be read.
    """
    root = Path(root).expanduser()
    turns = turns_of_scene(root, index, scene, sweeps)
    global_T_map = next(turn.global_T_ego for turn in turns if turn.keyframe >= 0)
    scans, unreadable = [], []
    for turn in turns:
        try:
            scans.append(read_turn(root, turn, invert(global_T_map), reach_m))
        except BadFileError as error:
            unreadable.append(error)
    if not scans:
        raise DataError(f"{root}: no LiDAR file of scene {index.scene_name[scene]} can be read; {unreadable[0]}")
    if unreadable:
        log.warning("%d LiDAR files of %s are left out; %s", len(unreadable), index.scene_name[scene], unreadable[0])
    return DriveScans(tuple(scans), global_T_map, len(unreadable))


def turns_of_scene(root: str | Path, index: NuScenesIndex, scene: int, sweeps: bool = True) -> list[Turn]:
    """The turns of a scene in time order, every file once; a keyframe that is also named as a sweep is a keyframe.

    Arguments as of :func:`read_drive`.

    Raises:
        DataError: the scene has no LiDAR keyframe with a pose.
    """
    keyframes = np.flatnonzero((index.scene == scene) & index.usable() & (index.lidar_file != ""))
    if not len(keyframes):
        raise DataError(f"{root}: scene {index.scene_name[scene]} has no LiDAR keyframe with a pose")
    turns: dict[str, Turn] = {}
    for n in keyframes:
        time_s, global_T_ego, file = index.timestamp_us[n] * 1e-6, index.global_T_ego[n], str(index.lidar_file[n])
        turns[file] = Turn(time_s, file, int(n), global_T_ego, index.ego_T_lidar[n])
        for i in np.flatnonzero(index.sweep_file[n] != "") if sweeps else ():
            file, sweep_s = str(index.sweep_file[n, i]), time_s - index.sweep_age_s[n, i]
            global_T_sweep_ego = global_T_ego @ index.ego_T_sweep_ego[n, i]
            turns.setdefault(file, Turn(sweep_s, file, -1, global_T_sweep_ego, index.sweep_ego_T_lidar[n, i]))
    return sorted(turns.values(), key=lambda turn: turn.time_s)


def read_turn(root: Path, turn: Turn, map_T_global: np.ndarray, reach_m: float = REACH_M) -> DriveScan:
    """Read one turn into a map frame; arguments as of :func:`read_drive`.

    Raises:
        BadFileError: its file is missing, damaged, or holds points that are not finite.
    """
    points, num_not_finite = read_lidar(root / turn.lidar_file)
    if num_not_finite:  # the rows would no longer be those of the labels
        raise BadFileError(f"{root / turn.lidar_file}: {num_not_finite} points are not finite; copy it again")
    xyz_lidar = points[:, :3].astype(np.float64)
    xyz_ego = transform_points(turn.ego_T_lidar, xyz_lidar)
    kept = np.flatnonzero((np.linalg.norm(xyz_lidar, axis=1) < reach_m) & ~on_ego_body(xyz_ego))
    map_T_ego = map_T_global @ turn.global_T_ego
    scan = Scan(transform_points(map_T_ego, xyz_ego[kept]).astype(np.float32), map_T_ego @ turn.ego_T_lidar)
    return DriveScan(scan, turn.lidar_file, turn.keyframe, kept, len(points), points[kept, 3])
