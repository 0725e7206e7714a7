"""Writes a small synthetic drive in nuScenes format, for tests: a road plane, boxes, a moving and turning car, six cameras.

Not a substitute for real data (the real scenes are tested too); it exists so that every failure can be staged.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
from pyquaternion import Quaternion

from avjepa.conventions import CAMERAS, LIDAR
from avjepa.geometry.rigid import invert, transform_from_se2, transform_points

VERSION = "v1.0-mini"
CITIES = ("singapore-onenorth", "boston-seaport")
SCENES = ("scene-0061", "scene-0103")  # the first is in the devkit's mini_train, the second in mini_val
CAMERA_YAW_DEG = dict(zip(CAMERAS, (55, 0, -55, 110, 180, -110), strict=True))
LIDAR_POSITION_M = (0.94, 0.0, 1.84)
RED = (210, 30, 30)
# Boxes standing on the road in the map frame: centre x, y, edge lengths x, y, height; the first one is red.
BOXES = (
    (12.0, 6.0, 2.0, 2.0, 2.0),
    (25.0, -7.0, 4.0, 2.0, 1.6),
    (5.0, -9.0, 1.0, 6.0, 2.5),
    (-10.0, 8.0, 5.0, 2.0, 1.8),
)


def write_toy_drive(
    root: Path, *, scenes: int = 2, keyframes: int = 10, image_size: tuple[int, int] = (160, 90), seed: int = 0
) -> Path:
    """Write the drive below ``root`` and return it. ``image_size`` is (width, height) in pixels."""
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    _write_rig(tables, image_size)
    for number in range(scenes):
        _write_scene(root, tables, number, keyframes, image_size, rng)
    (root / VERSION).mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
    (root / "maps").mkdir(exist_ok=True)
    cv2.imwrite(str(root / "maps" / "toy.png"), np.full((64, 64), 255, np.uint8))
    return root


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
)


def token(*parts) -> str:
    """A nuScenes-like token."""
    return hashlib.md5("/".join(map(str, parts)).encode()).hexdigest()


def ego_pose(step: float) -> np.ndarray:
    """``global_T_ego`` at keyframe number ``step``: 2 m and 3 degrees a keyframe, away from the map origin."""
    return transform_from_se2(300 + 2.0 * step, 900 + 0.05 * step**2, np.deg2rad(3.0 * step))


def map_boxes() -> np.ndarray:
    """Boxes (n, 5) in the global frame."""
    return np.array(BOXES) + np.array([300, 900, 0, 0, 0])


def camera_calibration(channel: str, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """``pix_T_cam`` (3, 3) and ``ego_T_cam`` (4, 4)."""
    width, height = image_size
    focal = 0.79 * width  # nuScenes: 1266 px at 1600 px
    pix_T_cam = np.array([[focal, 0, width / 2 - 0.5], [0, focal, 0.54 * height], [0, 0, 1]])
    body_T_cam = np.eye(4)
    body_T_cam[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    ego_T_body = transform_from_se2(1.0, 0.0, np.deg2rad(CAMERA_YAW_DEG[channel]))
    ego_T_body[2, 3] = 1.5
    return pix_T_cam, ego_T_body @ body_T_cam


def _write_rig(tables: dict, image_size: tuple[int, int]) -> None:
    for name in ("vehicle.car", "human.pedestrian.adult"):
        tables["category"].append(
            {"token": token(name), "name": name, "description": "", "index": len(tables["category"])}
        )
    tables["attribute"].append({"token": token("moving"), "name": "vehicle.moving", "description": ""})
    tables["visibility"].append({"token": "4", "level": "v80-100", "description": ""})
    for channel in (*CAMERAS, LIDAR):
        modality = "lidar" if channel == LIDAR else "camera"
        tables["sensor"].append({"token": token("sensor", channel), "channel": channel, "modality": modality})
        if channel == LIDAR:
            ego_T_sensor, intrinsic = transform_from_se2(*LIDAR_POSITION_M[:2], np.deg2rad(-90)), []
            ego_T_sensor[2, 3] = LIDAR_POSITION_M[2]
        else:
            pix_T_cam, ego_T_sensor = camera_calibration(channel, image_size)
            intrinsic = pix_T_cam.tolist()
        tables["calibrated_sensor"].append(
            {
                "token": token("calibrated", channel),
                "sensor_token": token("sensor", channel),
                **_pose_fields(ego_T_sensor),
                "camera_intrinsic": intrinsic,
            }
        )


def _write_scene(root: Path, tables: dict, number: int, keyframes: int, image_size: tuple[int, int], rng) -> None:
    name, log = SCENES[number], token("log", number)
    tables["log"].append(
        {
            "token": log,
            "logfile": f"toy-{number}",
            "vehicle": "toy",
            "date_captured": "2026-01-01",
            "location": CITIES[number],
        }
    )
    tables["map"].append(
        {"token": token("map", number), "category": "semantic_prior", "filename": "maps/toy.png", "log_tokens": [log]}
    )
    samples = [token("sample", number, k) for k in range(keyframes)]
    tables["scene"].append(
        {"token": token("scene", number), "log_token": log, "nbr_samples": keyframes, "first_sample_token": samples[0],
         "last_sample_token": samples[-1], "name": name, "description": "toy"}
    )  # fmt: skip
    for k in range(keyframes):
        tables["sample"].append(
            {"token": samples[k], "timestamp": _time_us(number, k), "scene_token": token("scene", number),
             "prev": samples[k - 1] if k else "", "next": samples[k + 1] if k + 1 < keyframes else ""}
        )  # fmt: skip
        tables["sample_annotation"].append(_annotation(number, k, samples))
    first_box = token("instance", number)
    tables["instance"].append(
        {"token": first_box, "category_token": token("vehicle.car"), "nbr_annotations": keyframes,
         "first_annotation_token": token("annotation", number, 0),
         "last_annotation_token": token("annotation", number, keyframes - 1)}
    )  # fmt: skip
    for channel in CAMERAS:
        _write_chain(root, tables, number, channel, [float(k) for k in range(keyframes)], samples, image_size, rng)
    # Sweeps between keyframes: four a keyframe, as nuScenes has ten.
    _write_chain(root, tables, number, LIDAR, [k / 4 for k in range(4 * keyframes - 3)], samples, image_size, rng)


def _write_chain(
    root: Path, tables: dict, number: int, channel: str, steps: list[float], samples: list[str], image_size, rng
) -> None:
    """One sensor's sample_data of a scene, linked by prev and next, with its files."""
    tokens = [token("data", number, channel, step) for step in steps]
    camera_delay = 0.0 if channel == LIDAR else 0.02  # in keyframes: a camera is exposed 10 ms after the LiDAR time
    for i, step in enumerate(steps):
        is_key = step == int(step)
        pose, time_us = ego_pose(step + camera_delay), _time_us(number, step + camera_delay)
        tables["ego_pose"].append({"token": tokens[i], "timestamp": time_us, **_pose_fields(pose)})
        suffix = "pcd.bin" if channel == LIDAR else "jpg"
        filename = f"{'samples' if is_key else 'sweeps'}/{channel}/toy-{number}__{channel}__{time_us}.{suffix}"
        path = root / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        if channel == LIDAR:
            _scan(pose, rng).tofile(path)
        else:
            cv2.imwrite(str(path), _photo(channel, pose, image_size)[..., ::-1])
        tables["sample_data"].append(
            {"token": tokens[i], "sample_token": samples[round(step)], "ego_pose_token": tokens[i],
             "calibrated_sensor_token": token("calibrated", channel), "timestamp": time_us, "fileformat": suffix.split(".")[0],
             "is_key_frame": is_key, "height": 0 if channel == LIDAR else image_size[1],
             "width": 0 if channel == LIDAR else image_size[0],
             "filename": filename, "prev": tokens[i - 1] if i else "", "next": tokens[i + 1] if i + 1 < len(steps) else ""}
        )  # fmt: skip


def _scan(global_T_ego: np.ndarray, rng) -> np.ndarray:
    """Returns (P, 5) of a 16-beam LiDAR: rays against the road plane and the boxes, in the LiDAR frame."""
    ego_T_lidar = transform_from_se2(*LIDAR_POSITION_M[:2], np.deg2rad(-90))
    ego_T_lidar[2, 3] = LIDAR_POSITION_M[2]
    azimuth, elevation = np.meshgrid(np.deg2rad(np.arange(0, 360, 1.0)), np.deg2rad(np.linspace(-25, 3, 16)))
    ring = np.repeat(np.arange(16), azimuth.shape[1])
    directions = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    ).reshape(-1, 3)
    global_T_lidar = global_T_ego @ ego_T_lidar
    range_m, _ = _cast(global_T_lidar[:3, 3], directions @ global_T_lidar[:3, :3].T)
    hit = range_m < 60
    xyz = directions[hit] * (range_m[hit] + rng.normal(0, 0.01, hit.sum()))[:, None]
    return np.concatenate([xyz, rng.uniform(5, 60, (hit.sum(), 1)), ring[hit, None]], 1).astype(np.float32)


def _photo(channel: str, global_T_ego: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """RGB image (H, W, 3) by one ray per pixel."""
    width, height = image_size
    pix_T_cam, ego_T_cam = camera_calibration(channel, image_size)
    global_T_cam = global_T_ego @ ego_T_cam
    v, u = np.mgrid[:height, :width]
    rays_cam = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(pix_T_cam).T
    range_m, what = _cast(global_T_cam[:3, 3], rays_cam @ global_T_cam[:3, :3].T)
    palette = np.array([(120, 170, 220), (95, 95, 95), RED, *[(40, 120, 60)] * (len(BOXES) - 1)], dtype=np.uint8)
    return palette[np.where(np.isfinite(range_m), what + 1, 0)].reshape(height, width, 3)


def _cast(origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance in units of the direction (inf for the sky) and what was hit (0 the road, 1.. the boxes) of rays (n, 3)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], np.inf)
        what = np.zeros(len(directions), dtype=int)
        for i, (x, y, dx, dy, height) in enumerate(map_boxes(), start=1):
            low, high = np.array([x - dx / 2, y - dy / 2, 0]), np.array([x + dx / 2, y + dy / 2, height])
            near, far = np.sort([(low - origin) / directions, (high - origin) / directions], axis=0)
            enter, leave = np.nanmax(near, 1), np.nanmin(far, 1)
            hit = (enter > 0) & (enter < leave) & (enter < nearest)
            nearest[hit], what[hit] = enter[hit], i
    return nearest, what


def _annotation(number: int, k: int, samples: list[str]) -> dict:
    x, y, dx, dy, height = map_boxes()[0]
    keyframes = len(samples)
    return {
        "token": token("annotation", number, k),
        "sample_token": samples[k],
        "instance_token": token("instance", number),
        "visibility_token": "4",
        "attribute_tokens": [token("moving")],
        "translation": [x, y, height / 2],
        "size": [dy, dx, height],
        "rotation": [1.0, 0.0, 0.0, 0.0],
        "prev": token("annotation", number, k - 1) if k else "",
        "next": token("annotation", number, k + 1) if k + 1 < keyframes else "",
        "num_lidar_pts": 10,
        "num_radar_pts": 0,
    }


def _time_us(number: int, step: float) -> int:
    return 1_600_000_000_000_000 + number * 10**9 + int(step * 500_000)


def _pose_fields(dst_T_src: np.ndarray) -> dict:
    return {
        "translation": dst_T_src[:3, 3].tolist(),
        "rotation": Quaternion(matrix=dst_T_src[:3, :3]).elements.tolist(),
    }


def red_box_centre_in_ego(global_T_ego: np.ndarray) -> np.ndarray:
    """Centre (3,) of the red box in an ego frame."""
    x, y, _, _, height = map_boxes()[0]
    return transform_points(invert(global_T_ego), np.array([[x, y, height / 2]]))[0]
