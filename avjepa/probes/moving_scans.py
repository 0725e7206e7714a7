"""The returns of a keyframe with their moving labels, and what methods that clean whole drives say of them.

The labels are those of moving_labels.py; which returns there are, is scans.py's rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from avjepa.errors import DataError
from avjepa.geometry.rigid import invert, transform_points
from avjepa.probes.boxes import box_of_points, boxes_of
from avjepa.probes.dufomap_baseline import DufomapSettings, dufomap_dynamic
from avjepa.probes.metrics.moving_objects import IGNORED, MOVING
from avjepa.probes.moving_labels import MotionFiles, box_moving_labels, moving_boxes
from avjepa.probes.scans import DriveScan, DriveScans, read_drive
from avjepa.probes.visibility import VisibilityCheck, votes_against
from avjepa.sensors.nuscenes_index import load_index

MovingLabels = Literal["boxes", "motion files"]
WholeDriveMethod = VisibilityCheck | DufomapSettings

motion_files_of = cache(MotionFiles)
index_of = cache(load_index)


@dataclass(frozen=True)
class MovingScan:
    """The P returns of a keyframe's own sweep within reach; P = 0 when it has no readable sweep.

    Attributes:
        root, version: of the data.
        scene, keyframe: numbers in the root's index.
        xyz_ego: (P, 3) float32 in the keyframe's ego frame.
        xyz_map: (P, 3) float32 in a frame that all keyframes of the scene share.
        labels: (P,) int8: STATIC, MOVING or IGNORED.
        thing: (P,) int64, the box that holds the return; -1 for none.
        category: (n,) str of the boxes.
    """

    root: Path
    version: str | None
    scene: int
    keyframe: int
    xyz_ego: np.ndarray
    xyz_map: np.ndarray
    labels: np.ndarray
    thing: np.ndarray
    category: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def moves(self) -> np.ndarray:
        """(P,) bool."""
        return self.labels == MOVING

    @property
    def counted(self) -> np.ndarray:
        """(P,) bool: the truth is known."""
        return self.labels != IGNORED


def read_moving_scan(root: Path, version: str | None, keyframe: int, labels: MovingLabels) -> MovingScan:
    """The labelled returns of a keyframe.

    Args:
        root, version: data root, and name of its tables' folder; None for the only one.
        keyframe: number in the root's index.
        labels: from the "boxes" and their attributes (nuScenes), or from the "motion files" (mini city).

    Raises:
        DataError: the tables are damaged, the scene has no readable sweep, or motion labels are missing or damaged.
    """
    index = index_of(root, version)
    scene = int(index.scene[keyframe])
    drive = drive_scans(root, version, scene, sweeps=False)
    boxes = boxes_of(root, version).at(index.token[keyframe])
    turn = next((turn for turn in drive.turns if turn.keyframe == keyframe), None)
    xyz_map = np.zeros((0, 3), dtype=np.float32) if turn is None else turn.scan.xyz_map
    ego_T_map = invert(index.global_T_ego[keyframe]) @ drive.global_T_map
    xyz_ego = transform_points(ego_T_map, xyz_map.astype(np.float64))
    if turn is None or labels == "boxes":
        moving = box_moving_labels(xyz_ego, boxes, moving_boxes(boxes))
    else:
        moving = _motion_labels(root, version, turn)
    return MovingScan(
        root=root,
        version=version,
        scene=scene,
        keyframe=keyframe,
        xyz_ego=xyz_ego.astype(np.float32),
        xyz_map=xyz_map,
        labels=moving,
        thing=box_of_points(xyz_ego, boxes.ego_T_box, boxes.size_lwh_m),
        category=boxes.category,
    )


def whole_drive_answer(scan: MovingScan, method: WholeDriveMethod) -> np.ndarray:
    """What a method that sees the whole drive, sweeps and later scans too, calls moving in a keyframe: (P,) bool.

    A drive is worked on once, and its answers are kept for its other keyframes.

    Raises:
        ConfigError: the method's package is not installed.
    """
    if not len(scan):
        return np.zeros(0, dtype=bool)
    if isinstance(method, DufomapSettings):
        return _dufomap_of_drive(scan.root, scan.version, scan.scene, method)[scan.keyframe]
    votes = _votes_of_drive(scan.root, scan.version, scan.scene, replace(method, least_scans=1))
    return votes[scan.keyframe] >= method.least_scans


@lru_cache(maxsize=4)
def drive_scans(root: Path, version: str | None, scene: int, sweeps: bool) -> DriveScans:
    """The turns of a scene, read once for all its keyframes."""
    return read_drive(root, index_of(root, version), scene, sweeps)


@lru_cache(maxsize=64)
def _votes_of_drive(root: Path, version: str | None, scene: int, check: VisibilityCheck) -> dict[int, np.ndarray]:
    """By keyframe: how many scans see through each return (P,); the same for any number of scans that must agree."""
    turns = drive_scans(root, version, scene, sweeps=True).turns
    keyframes = [turn for turn in turns if turn.keyframe >= 0]
    xyz_map = np.concatenate([turn.scan.xyz_map for turn in keyframes])
    votes = votes_against(xyz_map, [turn.scan for turn in turns], check)
    ends = np.cumsum([len(turn.scan.xyz_map) for turn in keyframes])
    return dict(zip([turn.keyframe for turn in keyframes], np.split(votes, ends[:-1]), strict=True))


@lru_cache(maxsize=64)
def _dufomap_of_drive(root: Path, version: str | None, scene: int, settings: DufomapSettings) -> dict[int, np.ndarray]:
    """By keyframe: which returns are dynamic (P,)."""
    turns = drive_scans(root, version, scene, sweeps=True).turns
    dynamic = dufomap_dynamic([turn.scan for turn in turns], settings)
    return {turn.keyframe: answer for turn, answer in zip(turns, dynamic, strict=True) if turn.keyframe >= 0}


def _motion_labels(root: Path, version: str | None, turn: DriveScan) -> np.ndarray:
    labels = motion_files_of(root, version).read(turn.lidar_file, turn.num_file_points)
    if labels is None:
        raise DataError(
            f"{root / turn.lidar_file}: has no motion labels; generate the city again, or take labels='boxes'"
        )
    return labels[turn.file_row]
