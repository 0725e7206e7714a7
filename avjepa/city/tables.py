"""The nuScenes v1.0 tables of generated drives, with lidarseg.json and splits.json. Tokens are hashes of names and times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from pyquaternion import Quaternion

from avjepa.city.materials import CATEGORIES
from avjepa.city.records import Drive, Reading
from avjepa.conventions import LIDAR

ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)
SPLITS = ("train", "val_near", "val_far")
TABLES = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
    "lidarseg",
)
_VISIBILITY_PERCENT = (0, 40, 60, 80, 100)  # tokens "1" to "4": 0 to 40 % and so on

Tables = dict[str, list[dict]]


def sample_token(drive_name: str, timestamp_us: int) -> str:
    """Token of a keyframe, 32 hexadecimal digits; ``timestamp_us`` is that of the keyframe."""
    return _token("sample", drive_name, timestamp_us)


def sample_data_token(drive_name: str, channel: str, timestamp_us: int) -> str:
    """Token of a sensor file, 32 hexadecimal digits; the same names its ego pose and its lidarseg labels."""
    return _token("sample_data", drive_name, channel, timestamp_us)


def map_token(town: str) -> str:
    """Token of a town's map; its mask is ``maps/<token>.png``."""
    return _token("map", town)


def lidarseg_file(version: str, token: str) -> str:
    """Name, relative to the data root, of the point labels of a LiDAR keyframe with sample_data token ``token``."""
    return f"lidarseg/{version}/{token}_lidarseg.bin"


def rotation_wxyz(dst_T_src: np.ndarray) -> list[float]:
    """Unit quaternion (w, x, y, z) of a (4, 4) transform.

    Raises:
        ValueError: its upper left 3 x 3 is no rotation.
    """
    return [float(value) for value in Quaternion(matrix=np.asarray(dst_T_src)[:3, :3], atol=1e-6)]


def write_tables(root: Path, drives: Sequence[Drive], version: str = "v1.0-city") -> None:
    """Write ``root/version/*.json``: the thirteen tables of nuScenes v1.0, lidarseg.json and splits.json.

    The devkit further wants, before it loads them, one label file for each LiDAR keyframe (``lidarseg_file``) and one
    mask for each town (``map_token``). The same drives give the same bytes.

    Args:
        root: data root; folders are made.
        drives: scenes, in the order of scene.json.
        version: name of the tables' folder.

    Raises:
        ValueError: there is no drive, two share a name, a drive has no keyframe, its readings of a channel are not in
            time order, a split, category or attribute is unknown, a thing changes its category, a pose is no rotation or
            a number is not finite.
    """
    names = [drive.name for drive in drives]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"want drives with different names, got {', '.join(names) or 'none'}")
    tables: Tables = {name: [] for name in TABLES}
    _add_enumerations(tables)
    _add_sensors(tables, drives)
    _add_logs_and_maps(tables, drives)
    for drive in drives:
        _add_scene(tables, drive)
        _add_readings(tables, drive, version)
        _add_annotations(tables, drive)
    folder = root / version
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        write_json(folder / f"{name}.json", rows)
    (folder / "splits.json").write_text(json.dumps(_splits(drives), indent=1) + "\n")


def write_json(path: Path, rows: Iterable[dict]) -> None:
    """Write a list of records, one a line.

    Raises:
        ValueError: a number is not finite.
    """
    lines = (json.dumps(row, allow_nan=False) for row in rows)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def _splits(drives: Sequence[Drive]) -> dict[str, list[str]]:
    """Scene names by split, as the devkit's ``get_scenes_of_custom_split`` reads them; val is both of its kinds."""
    unknown = sorted({drive.split for drive in drives} - set(SPLITS))
    if unknown:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {', '.join(unknown)}")
    train, near, far = ([drive.name for drive in drives if drive.split == split] for split in SPLITS)
    return {"train": train, "val": near + far, "val_near": near, "val_far": far}


def _add_enumerations(tables: Tables) -> None:
    for index, name in enumerate(CATEGORIES):
        tables["category"].append(
            {"token": _token("category", name), "name": name, "description": _words(name), "index": index}
        )
    for name in ATTRIBUTES:
        tables["attribute"].append({"token": _token("attribute", name), "name": name, "description": _words(name)})
    for number, (lower, upper) in enumerate(pairwise(_VISIBILITY_PERCENT), 1):
        text = f"the six cameras together see {lower} to {upper} % of the object"
        tables["visibility"].append({"description": text, "token": str(number), "level": f"v{lower}-{upper}"})


def _add_sensors(tables: Tables, drives: Sequence[Drive]) -> None:
    channels = dict.fromkeys(calibration.channel for drive in drives for calibration in drive.calibrations)
    for channel in channels:
        modality = "lidar" if channel == LIDAR else "camera"
        tables["sensor"].append({"token": _token("sensor", channel), "channel": channel, "modality": modality})
    for drive in drives:
        for calibration in drive.calibrations:
            intrinsic = [] if calibration.pix_T_cam is None else np.asarray(calibration.pix_T_cam, dtype=float).tolist()
            tables["calibrated_sensor"].append(
                {
                    "token": _token("calibrated_sensor", drive.name, calibration.channel),
                    "sensor_token": _token("sensor", calibration.channel),
                    **_pose(calibration.ego_T_sensor),
                    "camera_intrinsic": intrinsic,
                }
            )


def _add_logs_and_maps(tables: Tables, drives: Sequence[Drive]) -> None:
    """One log for all drives in one place on one day, one map for each town."""
    logs = {_log_token(drive): drive for drive in drives}
    for token, drive in logs.items():
        tables["log"].append(
            {
                "token": token,
                "logfile": f"{drive.town}-{drive.place}-{drive.date}",
                "vehicle": "minicity",
                "date_captured": drive.date,
                "location": drive.town,
            }
        )
    for town in dict.fromkeys(drive.town for drive in drives):
        tables["map"].append(
            {
                "category": "semantic_prior",
                "token": map_token(town),
                "filename": f"maps/{map_token(town)}.png",
                "log_tokens": [token for token, drive in logs.items() if drive.town == town],
            }
        )


def _add_scene(tables: Tables, drive: Drive) -> None:
    if not drive.keyframes:
        raise ValueError(f"{drive.name} has no keyframe")
    samples = [sample_token(drive.name, keyframe.timestamp_us) for keyframe in drive.keyframes]
    tables["scene"].append(
        {
            "token": _token("scene", drive.name),
            "log_token": _log_token(drive),
            "nbr_samples": len(samples),
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": drive.name,
            "description": drive.description,
        }
    )
    for keyframe, token, (before, after) in zip(drive.keyframes, samples, _neighbours(samples), strict=True):
        tables["sample"].append(
            {
                "token": token,
                "timestamp": int(keyframe.timestamp_us),
                "prev": before,
                "next": after,
                "scene_token": _token("scene", drive.name),
            }
        )


def _add_readings(tables: Tables, drive: Drive, version: str) -> None:
    """sample_data, chained within each channel, with ego_pose and lidarseg."""
    chains: dict[str, list[Reading]] = {calibration.channel: [] for calibration in drive.calibrations}
    for reading in drive.readings:
        chains[reading.channel].append(reading)
    sizes_px = {calibration.channel: calibration.size_px for calibration in drive.calibrations}
    for channel, readings in chains.items():
        times_us = [int(reading.timestamp_us) for reading in readings]
        if any(np.diff(times_us) <= 0):
            raise ValueError(f"{drive.name}: the readings of {channel} are not in time order")
        tokens = [sample_data_token(drive.name, channel, time_us) for time_us in times_us]
        for reading, token, (before, after) in zip(readings, tokens, _neighbours(tokens), strict=True):
            tables["ego_pose"].append(
                {"token": token, "timestamp": int(reading.timestamp_us), **_pose(reading.global_T_ego)}
            )
            tables["sample_data"].append(
                {
                    "token": token,
                    "sample_token": sample_token(drive.name, drive.keyframes[reading.keyframe].timestamp_us),
                    "ego_pose_token": token,
                    "calibrated_sensor_token": _token("calibrated_sensor", drive.name, channel),
                    "timestamp": int(reading.timestamp_us),
                    "fileformat": "pcd" if channel == LIDAR else "jpg",
                    "is_key_frame": bool(reading.is_keyframe),
                    "height": int(sizes_px[channel][0]),
                    "width": int(sizes_px[channel][1]),
                    "filename": reading.filename,
                    "prev": before,
                    "next": after,
                }
            )
            if channel == LIDAR and reading.is_keyframe:
                labels = {"token": token, "sample_data_token": token, "filename": lidarseg_file(version, token)}
                tables["lidarseg"].append(labels)


def _add_annotations(tables: Tables, drive: Drive) -> None:
    """sample_annotation, chained over the keyframes where a thing is annotated, and one instance for each thing."""
    seen: dict[int, list] = {}
    for keyframe in drive.keyframes:
        for box in keyframe.boxes:
            seen.setdefault(box.thing, []).append((keyframe.timestamp_us, box))
    for thing, boxes in sorted(seen.items()):
        categories = {box.category for _, box in boxes}
        attributes = {box.attribute for _, box in boxes}
        if len(categories) > 1 or not categories <= set(CATEGORIES) or not attributes <= {"", *ATTRIBUTES}:
            raise ValueError(f"{drive.name}, thing {thing}: want one known category, got {categories}, {attributes}")
        instance = _token("instance", drive.name, thing)
        tokens = [_token("sample_annotation", drive.name, thing, time_us) for time_us, _ in boxes]
        tables["instance"].append(
            {
                "token": instance,
                "category_token": _token("category", *categories),
                "nbr_annotations": len(tokens),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        for (time_us, box), token, (before, after) in zip(boxes, tokens, _neighbours(tokens), strict=True):
            pose = _pose(box.global_T_box)
            tables["sample_annotation"].append(
                {
                    "token": token,
                    "sample_token": sample_token(drive.name, time_us),
                    "instance_token": instance,
                    "visibility_token": _visibility_token(box.visible_share),
                    "attribute_tokens": [_token("attribute", box.attribute)] if box.attribute else [],
                    "translation": pose["translation"],
                    "size": [float(edge_m) for edge_m in box.size_wlh_m],
                    "rotation": pose["rotation"],
                    "prev": before,
                    "next": after,
                    "num_lidar_pts": int(box.num_lidar_pts),
                    "num_radar_pts": 0,
                }
            )


def _pose(dst_T_src: np.ndarray) -> dict:
    return {"translation": [float(value) for value in dst_T_src[:3, 3]], "rotation": rotation_wxyz(dst_T_src)}


def _visibility_token(visible_share: float) -> str:
    """A share on a bound belongs to the higher level."""
    return str(1 + sum(100 * visible_share >= bound for bound in _VISIBILITY_PERCENT[1:-1]))


def _neighbours(tokens: list[str]) -> list[tuple[str, str]]:
    """Previous and next token of each; empty at the ends."""
    padded = ["", *tokens, ""]
    return list(zip(padded[:-2], padded[2:], strict=True))


def _log_token(drive: Drive) -> str:
    return _token("log", drive.town, drive.place, drive.date)


def _words(name: str) -> str:
    """Description of a category or attribute: the last part of its name in words."""
    return name.rsplit(".", 1)[-1].replace("_", " ")


def _token(*parts: str | int) -> str:
    return hashlib.md5("/".join(str(part) for part in parts).encode(), usedforsecurity=False).hexdigest()
