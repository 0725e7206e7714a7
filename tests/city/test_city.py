"""A whole generated city: its parts agree with each other and with nuscenes-devkit, and its bytes depend on its settings alone."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion
from shapely.geometry import Point, shape

from avjepa.city.map_files import register_town
from avjepa.city.materials import CATEGORIES, label_of
from avjepa.city.occupancy import FREE, LOWER_M, OCC3D_OF_LABEL, SHAPE, VOXEL_M
from avjepa.city.roads import build_town
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.nuscenes_index import build_index, split_scenes
from tools.make_city import main

REPOSITORY = Path(__file__).resolve().parents[2]
VERSION = "v1.0-city"
GROUND = {label_of(name) for name in CATEGORIES if name.startswith("flat.")}
EGO, NOISE = label_of("vehicle.ego"), 0
TURN_S = 0.1


def make(out: Path, seed: int, workers: int = 1, scenes: int = 3) -> Path:
    main(
        [
            *("--out", str(out), "--scenes", str(scenes), "--seconds", "1", "--seed", str(seed)),
            *("--image-size", "96x54", "--workers", str(workers), "--changed-share", "0.5"),
        ]
    )
    return out


@pytest.fixture(scope="module", params=[0, 5])
def city(request, tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("city") / "data", request.param)


@pytest.fixture(scope="module")
def nusc(city) -> NuScenes:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return NuScenes(VERSION, str(city), verbose=False)


def keyframes(nusc):
    """Per keyframe: sample, LiDAR record, points in the global frame (P, 3), labels, motion."""
    for sample in nusc.sample:
        record = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        cloud = LidarPointCloud.from_file(str(Path(nusc.dataroot) / record["filename"]))
        returned = np.linalg.norm(cloud.points[:3], axis=0) > 1e-3
        for table, token in (("calibrated_sensor", "calibrated_sensor_token"), ("ego_pose", "ego_pose_token")):
            pose = nusc.get(table, record[token])
            cloud.rotate(Quaternion(pose["rotation"]).rotation_matrix)
            cloud.translate(np.array(pose["translation"]))
        labels = np.fromfile(Path(nusc.dataroot) / nusc.get("lidarseg", record["token"])["filename"], np.uint8)
        motion = np.fromfile(Path(nusc.dataroot) / "motion" / VERSION / f"{record['token']}_motion.bin", np.uint8)
        assert len(labels) == len(motion) == cloud.points.shape[1]
        yield sample, record, cloud.points[:3].T, labels, motion, returned


def test_number_of_points_in_every_box_equals_the_devkits_recount(nusc):
    counted = 0
    for sample, _, xyz, _, _, _ in keyframes(nusc):
        for token in sample["anns"]:
            box, row = nusc.get_box(token), nusc.get("sample_annotation", token)
            inside = points_in_box(box, xyz.T).sum()
            assert abs(inside - row["num_lidar_pts"]) <= max(1, 0.01 * inside), row  # poses are rounded by quaternions
            counted += inside
    assert counted > 500


def test_points_of_things_lie_in_boxes_of_their_category(nusc):
    """Things move while the LiDAR turns, so a box is widened by how far it went."""
    total = outside = 0
    for sample, _, xyz, labels, _, _ in keyframes(nusc):
        things = [
            label for label in np.unique(labels) if label not in GROUND and CATEGORIES[label].split(".")[0] != "static"
        ]
        near = np.linalg.norm(xyz[:, :2] - xyz[:, :2].mean(0), axis=1) < 60
        for label in set(things) - {EGO, NOISE}:
            points = xyz[near & (labels == label)]
            held = np.zeros(len(points), dtype=bool)
            for token in sample["anns"]:
                box, row = nusc.get_box(token), nusc.get("sample_annotation", token)
                if row["category_name"] == CATEGORIES[label]:
                    speed = np.nan_to_num(np.linalg.norm(nusc.box_velocity(token)), nan=10.0)
                    box.wlh = box.wlh + 2 * (0.1 + TURN_S * speed)
                    held |= points_in_box(box, points.T)
            total, outside = total + len(points), outside + (~held).sum()
    assert total > 500
    assert outside <= 0.01 * total


def test_points_inside_a_standing_box_are_labelled_as_its_category_or_ground(nusc):
    total = wrong = 0
    for sample, _, xyz, labels, motion, returned in keyframes(nusc):
        for token in sample["anns"]:
            row = nusc.get("sample_annotation", token)
            attribute = [nusc.get("attribute", t)["name"] for t in row["attribute_tokens"]]
            if attribute == ["vehicle.parked"]:
                inside = points_in_box(nusc.get_box(token), xyz.T) & returned
                allowed = GROUND | {label_of(row["category_name"])}
                wrong += (~np.isin(labels[inside], list(allowed))).sum()
                total += inside.sum()
                assert not motion[inside & (labels == label_of(row["category_name"]))].any()
    assert total > 300
    assert wrong <= 0.02 * total


def test_moving_points_belong_to_things_that_move(nusc):
    moving = 0
    for sample, _, xyz, labels, motion, _ in keyframes(nusc):
        fast = np.zeros(len(xyz), dtype=bool)
        for token in sample["anns"]:
            speed = np.linalg.norm(nusc.box_velocity(token))
            if np.isnan(speed) or speed > 0.2:
                box = nusc.get_box(token)
                box.wlh = box.wlh + 2 * (0.1 + TURN_S * np.nan_to_num(speed, nan=10.0))
                fast |= points_in_box(box, xyz.T)
        assert fast[motion == 1].sum() >= 0.99 * motion.sum()
        assert not motion[np.isin(labels, list(GROUND | {EGO, NOISE, label_of("static.manmade")}))].any()
        moving += motion.sum()
    assert moving > 20


def test_occupancy_agrees_with_the_lidar(nusc, city):
    """Almost every return ends in an occupied voxel or beside one; the voxel it ends in is observed."""
    near_share, seen_share, same = [], [], []
    for sample, record, xyz, labels, _, returned in keyframes(nusc):
        pose = nusc.get("ego_pose", record["ego_pose_token"])
        ego = (xyz - pose["translation"]) @ Quaternion(pose["rotation"]).rotation_matrix
        scene = nusc.get("scene", sample["scene_token"])["name"]
        with np.load(city / "gts" / scene / sample["token"] / "labels.npz") as arrays:
            semantics, lidar, camera = (arrays[name] for name in ("semantics", "mask_lidar", "mask_camera"))
        assert semantics.shape == lidar.shape == camera.shape == SHAPE
        index = np.floor((ego - LOWER_M) / VOXEL_M).astype(int)
        standing = returned & (labels != EGO) & ((index >= 1) & (index < np.array(SHAPE) - 1)).all(1)
        i, j, k = index[standing].T
        occupied = semantics != FREE
        neighbourhood = np.zeros_like(occupied)
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                for dk in (-1, 0, 1):
                    neighbourhood |= np.roll(occupied, (di, dj, dk), (0, 1, 2))
        near_share.append(neighbourhood[i, j, k].mean())
        seen_share.append(lidar[i, j, k].mean())
        is_flat = np.isin(labels[standing], list(GROUND))
        same.append((semantics[i, j, k] == OCC3D_OF_LABEL[labels[standing]])[~is_flat & occupied[i, j, k]].mean())
        assert 0.05 < camera.mean() < 0.9
        assert (occupied & ~lidar.astype(bool) & ~camera.astype(bool)).sum() > 1000  # the truth knows what nothing sees
    assert min(near_share) > 0.98
    assert min(seen_share) > 0.999
    assert np.mean(same) > 0.9


def test_velocities_are_those_of_the_boxes_and_nothing_overlaps(nusc):
    """Two things may not be in the same place; box_velocity is finite inside a track."""
    for sample in nusc.sample:
        boxes = [nusc.get_box(token) for token in sample["anns"]]
        vehicles = [box for box in boxes if box.name.startswith("vehicle")]
        for first, box in enumerate(vehicles):
            for other in vehicles[first + 1 :]:
                if np.linalg.norm(box.center - other.center) < 6:
                    corner = other.copy()
                    corner.wlh = corner.wlh * 0.7
                    assert not points_in_box(box, corner.corners()).any(), (box.name, other.name)


def test_the_ego_stays_on_the_road_and_its_poses_are_smooth(nusc):
    for scene in nusc.scene:
        town = build_town(nusc.get("log", scene["log_token"])["location"], json.loads(city_settings(nusc))["seed"])
        records = [r for r in nusc.sample_data if r["channel"] == "LIDAR_TOP" and scene["name"] in r["filename"]]
        xy = np.array([nusc.get("ego_pose", r["ego_pose_token"])["translation"][:2] for r in records])
        assert all(town.drivable.buffer(0.1).contains(Point(point)) for point in xy)
        steps = np.linalg.norm(np.diff(xy, axis=0), axis=1) / TURN_S
        assert steps.max() < 15
        assert np.abs(np.diff(steps)).max() < 1.0  # 10 m/s2


def city_settings(nusc) -> str:
    return (Path(nusc.dataroot) / "city.json").read_text()


def test_our_own_reader_finds_clips_sweeps_and_splits(city):
    index = build_index(city, VERSION)
    assert index.usable().all()
    assert (index.camera_file != "").all()
    assert split_scenes(index, ("train",))[0] == [0]
    assert split_scenes(index, ("val_near", "val_far"))[0] == [1, 2]
    clips = NuScenesClips(
        str(city), ("train",), context_offsets=(-1, 0), future_offsets=(1,), image_size=(32, 64), num_sweeps=3
    )
    clip = clips[0]
    assert len(clips) == 1
    assert max(frame.points_ego[:, 4].max() for frame in clip.frames[1:]) > 0.15  # sweeps of the last fifth of a second


def test_maps_changes_and_can_bus_load(city, nusc):
    for path in sorted((city / "maps" / "expansion").glob("*.json")):
        register_town(path.stem)
        town = NuScenesMap(str(city), path.stem)
        assert len(town.lane) > 20
        assert len(town.ped_crossing) > 5
        truth = json.loads((city / "maps" / "changes" / f"{path.stem}.geojson").read_text())
        assert all(shape(feature["geometry"]).is_valid for feature in truth["features"])
        assert (city / "maps" / "prior" / path.name).is_file()
    messages = NuScenesCanBus(str(city)).get_messages(nusc.scene[0]["name"], "pose")
    assert len(messages) == 51


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes_whatever_the_workers_and_after_a_kill(tmp_path):
    reference = digest(make(tmp_path / "one", seed=3, workers=1, scenes=2))
    assert digest(make(tmp_path / "two", seed=3, workers=2, scenes=2)) == reference
    assert digest(make(tmp_path / "other", seed=4, workers=1, scenes=2)) != reference
    command = [sys.executable, "tools/make_city.py", "--out", str(tmp_path / "cut"), "--scenes", "2", "--seconds", "1"]
    command += ["--seed", "3", "--image-size", "96x54", "--workers", "1", "--changed-share", "0.5"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    fragments = tmp_path / "cut.partial" / ".drives"
    deadline = time.monotonic() + 120
    while not list(fragments.glob("scene-*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut").exists()
    assert list(fragments.glob("scene-*.json"))
    assert not (tmp_path / "cut.partial" / VERSION).exists()  # nothing there that loads
    assert digest(make(tmp_path / "cut", seed=3, workers=1, scenes=2)) == reference
