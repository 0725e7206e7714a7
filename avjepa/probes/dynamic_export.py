"""A drive without what moves: labels of every keyframe's returns, and a cleaned map.

    folder/gt_cloud.pcd         every return; intensity 1 where it was called moving
    folder/pcd/NNNNNN.pcd       one keyframe, the same way: the format of DynamicMap_Benchmark (pcd_files.py)
    folder/labels/NNNNNN.label  one keyframe, a label for each point of its LiDAR file: 9 static, 251 moving, 0 not judged
    folder/cleaned.pcd          the returns that were called static
    folder/scans.json           which keyframe and LiDAR file each number is, and where the map lies

Points of the PCD files are in the ego frame of the drive's first keyframe.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from avjepa.errors import ConfigError
from avjepa.files import replacing, replacing_folder, write_json
from avjepa.geometry.rigid import invert, transform_points
from avjepa.probes.moving_scans import drive_scans
from avjepa.probes.pcd_files import PCDCloud, write_benchmark, write_pcd
from avjepa.probes.scans import DriveScan, DriveScans
from avjepa.probes.study import Row, Study
from avjepa.sensors.nuscenes_dataset import NuScenesClips

LABELS, CLEANED, SCANS = "labels", "cleaned.pcd", "scans.json"
NOT_JUDGED, STATIC_CODE, MOVING_CODE = 0, 9, 251  # SemanticKITTI: unlabeled, static and moving of its MOS benchmark


def moving_returns(study: Study, row: Row, keyframes: NuScenesClips, clips: Iterable[int]) -> dict[int, np.ndarray]:
    """What a trained row of a dynamic probe calls moving, (P,) bool by keyframe, of the returns that scans.py keeps; without
    keyframes that have no readable sweep, or that another clip had to stand in for because a file of their own is corrupt.

    Args:
        study: of a dynamic probe.
        row: a trained row of it.
        keyframes: a clip for every keyframe of one scene.
        clips: numbers of its clips; iterated once, so that a progress bar can wrap them.

    Raises:
        DataError: no LiDAR file of the scene can be read.
    """
    index, present = keyframes.index, keyframes.clips[:, -1]
    drive = drive_scans(keyframes.root, keyframes.version, int(index.scene[present[0]]), sweeps=False)
    turns = {turn.keyframe: turn for turn in drive.turns}
    moving = {}
    for clip in clips:
        n = int(present[clip])
        if n in turns and keyframes[clip].now.token == index.token[n]:
            ego_T_map = invert(index.global_T_ego[n]) @ drive.global_T_map
            xyz_ego = transform_points(ego_T_map, turns[n].scan.xyz_map.astype(np.float64)).astype(np.float32)
            (logits,) = study.logits(row, keyframes, clip)
            moving[n] = study.probe.scores(logits, xyz_ego) > row.threshold
    return moving


def write_filtered_drive(
    folder: Path, drive: DriveScans, moving: dict[int, np.ndarray], tokens: np.ndarray
) -> tuple[int, int]:
    """Write the folder above: all of it or nothing.

    Args:
        folder: must not be there, or be empty.
        drive: its keyframes.
        moving: by keyframe, which returns are called moving, (P,) bool.
        tokens: str, of all keyframes of the root.

    Returns:
        Number of returns, and of those that are called moving.

    Raises:
        ConfigError: the folder holds something.
    """
    check_empty(folder)
    turns = [turn for turn in drive.turns if turn.keyframe in moving]
    with replacing_folder(folder) as partial:
        answers = [(turn.scan, moving[turn.keyframe]) for turn in turns]
        num_returns = write_benchmark(partial, answers)
        for number, turn in enumerate(turns):
            write_labels(partial / LABELS / f"{number:06d}.label", turn, moving[turn.keyframe])
        static = np.concatenate([scan.xyz_map[~moves] for scan, moves in answers])
        write_pcd(partial / CLEANED, PCDCloud(static, None, np.eye(4)))
        scans = [{"keyframe": str(tokens[turn.keyframe]), "lidar_file": turn.lidar_file} for turn in turns]
        write_json(partial / SCANS, {"global_T_map": drive.global_T_map.tolist(), "scans": scans})
    return num_returns, num_returns - len(static)


def check_empty(folder: Path) -> None:
    """Nothing would be overwritten.

    Raises:
        ConfigError: the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: holds something already; remove it, or choose another folder")


def write_labels(path: Path, turn: DriveScan, moving: np.ndarray) -> None:
    """SemanticKITTI ``.label``: uint32 for each point of the LiDAR file, in its order."""
    codes = np.full(turn.num_file_points, NOT_JUDGED, dtype="<u4")
    codes[turn.file_row] = np.where(moving, MOVING_CODE, STATIC_CODE)
    with replacing(path) as temporary:
        codes.tofile(temporary)
