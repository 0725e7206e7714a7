"""Index of a nuScenes root: scenes, keyframes, poses, calibrations and file names, read through nuscenes-devkit.

Labels are not part of it: the devkit loads the annotation tables, this file reads none of them. Letters: see conventions.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import create_splits_scenes

from avjepa.conventions import CAMERAS, LIDAR
from avjepa.errors import DataError
from avjepa.geometry.camera import pinhole_matrix
from avjepa.geometry.rigid import invert, transform_from_quaternion
from avjepa.sensors.table_cache import find_tables, kept_arrays, open_tables

FORMAT = 3
MAX_SWEEPS = 10  # nuScenes's LiDAR turns 20 times a second: 10 sweeps reach back to the keyframe before
MAX_GAP_S = 0.75  # keyframes are half a second apart; a longer step means that some are missing
MAX_NORM_ERROR = 1e-3  # of a rotation's quaternion; further off, the record is damaged

log = logging.getLogger("avjepa")


@dataclass(frozen=True)
class NuScenesIndex:
    """Everything needed to read n keyframes of S scenes, as flat arrays; keyframes of a scene are consecutive, in time order.

    Poses are float64. A keyframe whose LiDAR pose or calibration is not one (not finite, or its quaternion not of unit
    length) has nan there and is never used. File names are relative to the root; empty where the tables name none, or
    none with a calibration.

    Attributes:
        scene_name, scene_city: (S,) str.
        scene_split: (S,) str, names of the root's own splits (splits.json) that hold the scene, with commas between.
        scene: (n,) scene of each keyframe.
        token: (n,) str.
        timestamp_us: (n,) LiDAR time.
        global_T_ego: (n, 4, 4) at LiDAR time.
        lidar_file: (n,) str.
        ego_T_lidar: (n, 4, 4).
        camera_file: (n, 6) str, in the order of conventions.CAMERAS.
        camera_size_px: (n, 6, 2) height and width.
        pix_T_cam: (n, 6, 3, 3).
        ego_T_cam: (n, 6, 4, 4), from the camera at its exposure to the ego frame at LiDAR time.
        sweep_file: (n, MAX_SWEEPS) str, older sweeps, newest first.
        sweep_age_s: (n, MAX_SWEEPS).
        sweep_ego_T_lidar: (n, MAX_SWEEPS, 4, 4), calibration of each sweep.
        ego_T_sweep_ego: (n, MAX_SWEEPS, 4, 4), from the ego frame at the sweep's time to that of the keyframe.
    """

    scene_name: np.ndarray
    scene_city: np.ndarray
    scene_split: np.ndarray
    scene: np.ndarray
    token: np.ndarray
    timestamp_us: np.ndarray
    global_T_ego: np.ndarray
    lidar_file: np.ndarray
    ego_T_lidar: np.ndarray
    camera_file: np.ndarray
    camera_size_px: np.ndarray
    pix_T_cam: np.ndarray
    ego_T_cam: np.ndarray
    sweep_file: np.ndarray
    sweep_age_s: np.ndarray
    sweep_ego_T_lidar: np.ndarray
    ego_T_sweep_ego: np.ndarray

    def usable(self) -> np.ndarray:
        """(n,) bool: the keyframe has a pose and a LiDAR calibration."""
        return np.isfinite(self.global_T_ego).all((1, 2)) & np.isfinite(self.ego_T_lidar).all((1, 2))

    def keyframes_of(self, scene: str) -> np.ndarray:
        """Numbers (k,) of the keyframes of a scene, in time order; none of a scene that is not there."""
        return np.flatnonzero(self.scene_name[self.scene] == scene)


def load_index(root: str | Path, version: str | None = None) -> NuScenesIndex:
    """Index of a nuScenes root, from the cache when the tables have not changed.

    Args:
        root: folder that holds ``samples/`` and the tables' folder.
        version: name of the tables' folder; None takes the only one there is.

    Raises:
        DataError: root or tables are missing, or a table names a file outside the root.
    """
    tables = find_tables(root, version)
    index = kept_arrays(NuScenesIndex, "index", FORMAT, tables, lambda path: build_index(path.parent, path.name))
    unusable = int((~index.usable()).sum())
    if unusable:
        names = ", ".join(index.token[~index.usable()][:3])
        log.warning("%s: %d keyframes have a damaged pose and are left out (%s)", root, unusable, names)
    return index


def build_index(root: Path, version: str) -> NuScenesIndex:
    """Read the tables through nuscenes-devkit.

    Raises:
        DataError: a table is missing or damaged, names a record that does not exist, or a file outside the root.
    """
    with open_tables(root / version) as nusc:
        return _index_of(nusc)


def _index_of(nusc: NuScenes) -> NuScenesIndex:
    rows = []
    for number, scene in enumerate(nusc.scene):
        token = scene["first_sample_token"]
        while token:
            sample = nusc.get("sample", token)
            rows.append(_keyframe_row(nusc, sample, number))
            token = sample["next"]
    if not rows:
        raise DataError(f"{nusc.table_root}: no keyframe in any scene")
    cities = [nusc.get("log", scene["log_token"])["location"] for scene in nusc.scene]
    arrays = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    names = [scene["name"] for scene in nusc.scene]
    splits = _own_splits(Path(nusc.table_root))
    own = [",".join(split for split in splits if name in splits[split]) for name in names]
    return NuScenesIndex(np.array(names), np.array(cities), np.array(own), **arrays)


def _own_splits(tables: Path) -> dict[str, list[str]]:
    """Splits that come with the data, in the devkit's form for custom ones: {split: [scene name]}."""
    path = tables / "splits.json"
    splits = json.loads(path.read_text()) if path.is_file() else {}
    is_sound = isinstance(splits, dict) and all(isinstance(names, list) for names in splits.values())
    if not is_sound:
        raise DataError(f"{path}: want {{split: [scene names]}}")
    return splits


def _keyframe_row(nusc: NuScenes, sample: dict, scene: int) -> dict:
    """One keyframe's entries; a damaged pose is nan, what is missing has an empty name."""
    data = sample["data"]
    reference = nusc.get("sample_data", data[LIDAR] if LIDAR in data else next(iter(data.values())))
    global_T_ego = _pose(nusc, reference)
    ego_T_global = invert(global_T_ego)
    row = {
        "scene": scene,
        "token": sample["token"],
        "timestamp_us": reference["timestamp"],
        "global_T_ego": global_T_ego,
        "lidar_file": _inside_root(reference["filename"]) if LIDAR in data else "",
        "ego_T_lidar": _calibration(nusc, reference) if LIDAR in data else np.eye(4),
        "camera_file": [""] * len(CAMERAS),
        "camera_size_px": np.zeros((len(CAMERAS), 2), dtype=np.int64),
        "pix_T_cam": np.tile(np.eye(3), (len(CAMERAS), 1, 1)),
        "ego_T_cam": np.tile(np.eye(4), (len(CAMERAS), 1, 1)),
        "sweep_file": [""] * MAX_SWEEPS,
        "sweep_age_s": np.zeros(MAX_SWEEPS),
        "sweep_ego_T_lidar": np.tile(np.eye(4), (MAX_SWEEPS, 1, 1)),
        "ego_T_sweep_ego": np.tile(np.eye(4), (MAX_SWEEPS, 1, 1)),
    }
    for i, channel in enumerate(CAMERAS):
        if channel not in data:
            continue
        record = nusc.get("sample_data", data[channel])
        calibration = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
        intrinsic = np.asarray(calibration["camera_intrinsic"], dtype=float)
        ego_T_cam = ego_T_global @ _pose(nusc, record) @ _transform_or_nan(calibration)
        is_calibrated = intrinsic.shape == (3, 3) and np.isfinite(intrinsic).all() and np.isfinite(ego_T_cam).all()
        if not is_calibrated or min(record["height"], record["width"]) < 1:
            continue
        row["camera_file"][i] = _inside_root(record["filename"])
        row["camera_size_px"][i] = record["height"], record["width"]
        row["pix_T_cam"][i] = pinhole_matrix(intrinsic[0, 0], intrinsic[1, 1], intrinsic[0, 2], intrinsic[1, 2])
        row["ego_T_cam"][i] = ego_T_cam
    if LIDAR in data:
        _add_sweeps(nusc, reference, ego_T_global, row)
    return row


def _add_sweeps(nusc: NuScenes, keyframe: dict, ego_T_global: np.ndarray, row: dict) -> None:
    """Older LiDAR sweeps, newest first. The devkit's chain of ``prev`` stays inside the scene."""
    record = keyframe
    for i in range(MAX_SWEEPS):
        if not record["prev"]:
            return
        record = nusc.get("sample_data", record["prev"])
        ego_T_sweep_ego, calibration = ego_T_global @ _pose(nusc, record), _calibration(nusc, record)
        if np.isfinite(ego_T_sweep_ego).all() and np.isfinite(calibration).all():
            row["sweep_file"][i] = _inside_root(record["filename"])
            row["sweep_age_s"][i] = (keyframe["timestamp"] - record["timestamp"]) * 1e-6
            row["sweep_ego_T_lidar"][i] = calibration
            row["ego_T_sweep_ego"][i] = ego_T_sweep_ego


def split_scenes(index: NuScenesIndex, scenes: Sequence[str]) -> tuple[list[int], list[str]]:
    """Scenes by name, by the root's own split names, or else by the devkit's ("train", "mini_val", ...).

    Returns:
        Scene numbers, each once, in index order; and the names that this root does not hold (an extract or v1.0-mini
        holds a part of a split).

    Raises:
        DataError: no scene is left.
    """
    own: dict[str, list[str]] = {}
    for name, names_of_splits in zip(index.scene_name, index.scene_split, strict=True):
        for split in filter(None, names_of_splits.split(",")):
            own.setdefault(split, []).append(str(name))
    splits = {**create_splits_scenes(), **own}
    wanted = {name for item in scenes for name in splits.get(item, [item])}
    found = [number for number, name in enumerate(index.scene_name) if name in wanted]
    if not found:
        here = ", ".join(index.scene_name[:12]) + (", ..." if len(index.scene_name) > 12 else "")
        raise DataError(f"none of the scenes {', '.join(scenes)} is here; this root holds {here}")
    return found, sorted(wanted - set(index.scene_name))


def find_clips(
    index: NuScenesIndex, scene_numbers: Sequence[int], offsets: Sequence[int], readable: np.ndarray, stride: int = 1
) -> tuple[np.ndarray, int]:
    """Clips as rows of keyframe numbers (clips, S), and how many were left out. A clip never crosses scenes.

    Args:
        index: the index.
        scene_numbers: scenes to use.
        offsets: keyframes of a clip relative to its present one, ascending, such as (-2, -1, 0, 1, 2).
        readable: (n,) bool; clips that hold another keyframe are left out, and so are clips with a step in time longer
            than MAX_GAP_S between any two neighbouring keyframes they span.
        stride: keyframes from one clip's present to the next one's.
    """
    clips, left_out = [], 0
    for number in scene_numbers:
        frames = np.flatnonzero(index.scene == number)
        steps_s = np.diff(index.timestamp_us[frames]) * 1e-6
        for present in range(-min(offsets), len(frames) - max(offsets), stride):
            members = frames[[present + offset for offset in offsets]]
            span_s = steps_s[present + min(offsets) : present + max(offsets)]
            if readable[members].all() and (span_s > 0).all() and (span_s <= MAX_GAP_S).all():
                clips.append(members)
            else:
                left_out += 1
    return np.array(clips, dtype=np.int64).reshape(-1, len(offsets)), left_out


def _pose(nusc: NuScenes, record: dict) -> np.ndarray:
    """``global_T_ego`` of a sample_data record, nan when it is damaged."""
    return _transform_or_nan(nusc.get("ego_pose", record["ego_pose_token"]))


def _calibration(nusc: NuScenes, record: dict) -> np.ndarray:
    """``ego_T_sensor`` of a sample_data record, nan when it is damaged."""
    return _transform_or_nan(nusc.get("calibrated_sensor", record["calibrated_sensor_token"]))


def _transform_or_nan(record: dict) -> np.ndarray:
    try:
        dst_T_src = transform_from_quaternion(record["rotation"], record["translation"])
    except (ValueError, TypeError):
        return np.full((4, 4), np.nan)
    is_unit = abs(np.linalg.norm(record["rotation"]) - 1) < MAX_NORM_ERROR
    return dst_T_src if is_unit else np.full((4, 4), np.nan)


def _inside_root(filename: str) -> str:
    """The file name, if it stays below the root.

    Raises:
        DataError: it is absolute or climbs out.
    """
    path = PurePosixPath(filename)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"sample_data.json: file name '{filename}' leaves the data root; the tables cannot be trusted")
    return filename
