"""The tables of a hand-made drive, through nuscenes-devkit and the project's own index."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.color_map import get_colormap
from nuscenes.utils.data_io import load_bin_file
from nuscenes.utils.splits import get_scenes_of_custom_split

from avjepa.city.tables import (
    ATTRIBUTES,
    CATEGORIES,
    TABLES,
    lidarseg_file,
    map_token,
    rotation_wxyz,
    sample_data_token,
    sample_token,
    write_tables,
)
from avjepa.conventions import CAMERAS, LIDAR
from avjepa.geometry.rigid import transform_from_se2
from avjepa.sensors.nuscenes_index import build_index
from tests.city.hand_made import CAR_VELOCITY_MPS, SPEED_MPS, START_US, TOWN, VERSION, make_drive, write_hand_made

DRIVES = (make_drive("scene-2001", "train"), make_drive("scene-2002", "val_near", place="north"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_hand_made(tmp_path_factory.mktemp("city"), list(DRIVES))


@pytest.fixture(scope="module")
def nusc(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return NuScenes(version=VERSION, dataroot=str(root), verbose=False)


def follow(nusc, table, first):
    """Records of a chain, each checked to point back at the one before."""
    records, token = [], first
    while token:
        record = nusc.get(table, token)
        assert record["prev"] == (records[-1]["token"] if records else "")
        records.append(record)
        token = record["next"]
    return records


def test_the_enumerations_are_those_of_nuscenes(nusc):
    assert len(CATEGORIES) == 32
    assert {name: CATEGORIES.index(name) for name in ("noise", "vehicle.car", "flat.driveable_surface")} == {
        "noise": 0,
        "vehicle.car": 17,
        "flat.driveable_surface": 24,
    }
    assert tuple(get_colormap()) == CATEGORIES  # the devkit lists its colours in the order of the labels
    assert nusc.lidarseg_idx2name_mapping == dict(enumerate(CATEGORIES))
    assert len(ATTRIBUTES) == len(nusc.attribute) == 8
    assert [(row["token"], row["level"]) for row in nusc.visibility] == [
        ("1", "v0-40"),
        ("2", "v40-60"),
        ("3", "v60-80"),
        ("4", "v80-100"),
    ]


@pytest.mark.real_data
@pytest.mark.parametrize("table", [name for name in TABLES if name != "lidarseg"])
def test_records_have_the_keys_of_real_ones(root, nuscenes_root, table):
    ours, real = (
        json.loads((folder / f"{table}.json").read_text()) for folder in (root / VERSION, nuscenes_root / "v1.0-mini")
    )
    assert ours[0].keys() == real[0].keys()
    assert {key: type(value) for key, value in ours[0].items()} == {key: type(value) for key, value in real[0].items()}


@pytest.mark.real_data
def test_attributes_and_category_numbers_are_the_real_ones(nuscenes_root):
    folder = nuscenes_root / "v1.0-mini"
    assert {row["name"] for row in json.loads((folder / "attribute.json").read_text())} == set(ATTRIBUTES)
    for row in json.loads((folder / "category.json").read_text()):
        assert CATEGORIES[row.get("index", CATEGORIES.index(row["name"]))] == row["name"]


@pytest.mark.parametrize("number", [0, 1])
def test_samples_are_one_chain_per_scene(nusc, number):
    scene = nusc.scene[number]
    samples = follow(nusc, "sample", scene["first_sample_token"])
    assert [sample["timestamp"] - START_US for sample in samples] == [0, 500_000, 1_000_000]
    assert samples[-1]["token"] == scene["last_sample_token"]
    assert scene["nbr_samples"] == 3
    assert {sample["scene_token"] for sample in samples} == {scene["token"]}
    assert samples[1]["token"] == sample_token(scene["name"], START_US + 500_000)


@pytest.mark.parametrize(("channel", "count"), [(LIDAR, 21), ("CAM_FRONT", 11), ("CAM_BACK_RIGHT", 11)])
def test_readings_of_a_channel_are_one_chain(nusc, channel, count):
    scene = nusc.scene[0]
    first = sample_data_token(scene["name"], channel, START_US)
    readings = follow(nusc, "sample_data", first)
    assert len(readings) == count
    assert {reading["channel"] for reading in readings} == {channel}
    # A sweep belongs to the keyframe after it.
    expected = [sample_token(scene["name"], START_US + 500_000 * math.ceil(2 * i / (count - 1))) for i in range(count)]
    assert [reading["sample_token"] for reading in readings] == expected
    assert [reading["is_key_frame"] for reading in readings].count(True) == 3
    assert nusc.get("sample", scene["first_sample_token"])["data"][channel] == first


def test_files_formats_and_sizes(nusc):
    sample = nusc.sample[0]
    assert set(sample["data"]) == {LIDAR, *CAMERAS}
    lidar, camera = (nusc.get("sample_data", sample["data"][channel]) for channel in (LIDAR, "CAM_FRONT"))
    assert (lidar["fileformat"], lidar["height"], lidar["width"]) == ("pcd", 0, 0)
    assert (camera["fileformat"], camera["height"], camera["width"]) == ("jpg", 450, 800)
    assert camera["filename"] == f"samples/CAM_FRONT/CAM_FRONT__{START_US}.jpg"


def test_ego_poses_and_calibrations(nusc):
    token = sample_data_token("scene-2002", LIDAR, START_US + 250_000)
    pose = nusc.get("ego_pose", nusc.get("sample_data", token)["ego_pose_token"])
    assert pose["token"] == token
    assert pose["timestamp"] == START_US + 250_000
    assert pose["translation"] == pytest.approx([20 + 8 * 0.25, 58.25, 0])
    assert pose["rotation"] == pytest.approx([math.cos(0.05), 0, 0, math.sin(0.05)])
    camera = nusc.get("sample_data", sample_data_token("scene-2001", "CAM_FRONT", START_US))
    calibration = nusc.get("calibrated_sensor", camera["calibrated_sensor_token"])
    assert calibration["translation"] == pytest.approx([1.5, 0.1, 1.5])
    assert calibration["rotation"] == pytest.approx([0.5, -0.5, 0.5, -0.5])
    assert calibration["camera_intrinsic"] == [[500, 0, 400], [0, 500, 225], [0, 0, 1]]
    assert len(nusc.sensor) == 7
    assert len(nusc.calibrated_sensor) == 14  # of each drive


@pytest.mark.parametrize(
    ("category", "keyframes"),
    [("vehicle.car", [0, 1, 2]), ("human.pedestrian.adult", [0, 2]), ("movable_object.trafficcone", [1])],
)
def test_a_thing_is_one_instance(nusc, category, keyframes):
    instances = [row for row in nusc.instance if nusc.get("category", row["category_token"])["name"] == category]
    assert len(instances) == 2  # one in each drive
    boxes = follow(nusc, "sample_annotation", instances[0]["first_annotation_token"])
    expected = [sample_token("scene-2001", START_US + 500_000 * number) for number in keyframes]
    assert [box["sample_token"] for box in boxes] == expected
    assert instances[0]["last_annotation_token"] == boxes[-1]["token"]
    assert instances[0]["nbr_annotations"] == len(keyframes)
    assert {box["instance_token"] for box in boxes} == {instances[0]["token"]}


def test_an_annotation(nusc):
    car = nusc.get("sample_annotation", nusc.sample[1]["anns"][0])
    assert car["category_name"] == "vehicle.car"
    assert car["translation"] == pytest.approx([40 + 3, 58 - 1, 0.8])
    assert car["size"] == [1.9, 4.5, 1.6]
    assert car["rotation"] == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])
    assert [nusc.get("attribute", token)["name"] for token in car["attribute_tokens"]] == ["vehicle.moving"]
    assert (car["num_lidar_pts"], car["num_radar_pts"], car["visibility_token"]) == (57, 0, "3")
    cone = nusc.get("sample_annotation", nusc.sample[1]["anns"][1])
    assert cone["attribute_tokens"] == []


@pytest.mark.parametrize(
    ("share", "token"), [(0, "1"), (0.399, "1"), (0.4, "2"), (0.6, "3"), (0.799, "3"), (0.8, "4"), (1, "4")]
)
def test_visibility_levels(tmp_path, share, token):
    drive = make_drive()
    boxes = (dataclasses.replace(drive.keyframes[0].boxes[0], visible_share=share),)
    keyframes = (dataclasses.replace(drive.keyframes[0], boxes=boxes), *drive.keyframes[1:])
    write_tables(tmp_path, [dataclasses.replace(drive, keyframes=keyframes)])
    annotations = json.loads((tmp_path / VERSION / "sample_annotation.json").read_text())
    first = sample_token(drive.name, START_US)
    assert [row["visibility_token"] for row in annotations if row["sample_token"] == first] == [token]


@pytest.mark.parametrize("keyframe", [0, 1, 2])
def test_the_devkit_finds_the_true_velocity(nusc, keyframe):
    for token in nusc.get("sample", sample_token("scene-2001", START_US + 500_000 * keyframe))["anns"]:
        record = nusc.get("sample_annotation", token)
        truth = {"vehicle.car": CAR_VELOCITY_MPS, "human.pedestrian.adult": (0, 0)}.get(record["category_name"])
        velocity = nusc.box_velocity(token)[:2]
        assert np.isnan(velocity).all() if truth is None else velocity == pytest.approx(truth, abs=1e-6)


def test_lidarseg_files(nusc, root):
    assert len(nusc.lidarseg) == 6
    for row in nusc.lidarseg:
        reading = nusc.get("sample_data", row["sample_data_token"])
        assert reading["channel"] == LIDAR
        assert reading["is_key_frame"]
        assert row["filename"] == lidarseg_file(VERSION, row["token"])
        assert [CATEGORIES[label] for label in load_bin_file(str(root / row["filename"]))] == [
            "vehicle.car",
            "flat.driveable_surface",
            "vehicle.ego",
        ]


def test_logs_and_maps(tmp_path):
    drives = [
        make_drive("scene-2001", place="west"),
        make_drive("scene-2002", place="west"),
        make_drive("scene-2003", place="north"),
        make_drive("scene-2004", "val_far", town="other-town"),
    ]
    nusc = NuScenes(version=VERSION, dataroot=str(write_hand_made(tmp_path, drives)), verbose=False)
    logs = [nusc.get("log", scene["log_token"]) for scene in nusc.scene]
    assert [log["location"] for log in logs] == [TOWN, TOWN, TOWN, "other-town"]
    assert logs[0] is logs[1]
    assert logs[1] is not logs[2]
    assert len(nusc.log) == 3
    assert {log["date_captured"] for log in logs} == {"2018-07-01"}
    assert [log["map_token"] for log in logs] == [map_token(TOWN)] * 3 + [map_token("other-town")]
    assert [row["category"] for row in nusc.map] == ["semantic_prior"] * 2
    assert nusc.map[0]["filename"] == f"maps/{map_token(TOWN)}.png"


def test_splits(tmp_path):
    names = {"scene-2001": "val_far", "scene-2002": "train", "scene-2003": "val_near", "scene-2004": "train"}
    drives = [make_drive(name, split) for name, split in names.items()]
    nusc = NuScenes(version=VERSION, dataroot=str(write_hand_made(tmp_path, drives)), verbose=False)
    assert {split: get_scenes_of_custom_split(split, nusc) for split in ("train", "val", "val_near", "val_far")} == {
        "train": ["scene-2002", "scene-2004"],
        "val": ["scene-2003", "scene-2001"],
        "val_near": ["scene-2003"],
        "val_far": ["scene-2001"],
    }


def test_the_index_reads_it(root):
    index = build_index(root, VERSION)
    assert index.scene_name.tolist() == ["scene-2001", "scene-2002"]
    assert index.scene_city.tolist() == [TOWN, TOWN]
    assert index.usable().all()
    assert index.timestamp_us.tolist() == [START_US, START_US + 500_000, START_US + 1_000_000] * 2
    assert (index.camera_file != "").all()
    assert (index.sweep_file[[0, 3]] == "").all()  # nothing before the first keyframe
    np.testing.assert_allclose(index.sweep_age_s[1], 0.05 * np.arange(1, 11))
    # The car drives at yaw 0.1: a sweep's ego frame lies behind and, as it slides, to the left.
    back_m = SPEED_MPS * 0.05 * np.array([math.cos(0.1), -math.sin(0.1)])
    np.testing.assert_allclose(index.ego_T_sweep_ego[1, 0, :2, 3], -back_m, atol=1e-9)
    np.testing.assert_allclose(index.ego_T_lidar[0, :3, 3], [0.94, 0, 1.84])


def test_same_drives_same_bytes(root, tmp_path):
    write_tables(tmp_path, [make_drive("scene-2001", "train"), make_drive("scene-2002", "val_near", place="north")])
    files = sorted(path.name for path in (tmp_path / VERSION).iterdir())
    assert files == sorted([*(f"{name}.json" for name in TABLES), "splits.json"])
    for name in files:
        assert (tmp_path / VERSION / name).read_bytes() == (root / VERSION / name).read_bytes()


def test_tokens_are_32_hexadecimal_digits_and_different():
    tokens = [
        sample_token("scene-2001", START_US),
        sample_token("scene-2002", START_US),
        sample_data_token("scene-2001", LIDAR, START_US),
        sample_data_token("scene-2001", "CAM_FRONT", START_US),
        map_token(TOWN),
    ]
    assert len(set(tokens)) == 5
    assert all(len(token) == 32 and set(token) <= set("0123456789abcdef") for token in tokens)


def test_rotation_of_a_quarter_turn():
    half = math.sqrt(0.5)
    assert rotation_wxyz(transform_from_se2(3, 4, math.pi / 2)) == pytest.approx([half, 0, 0, half])


def _with_box(drive, number=0, **changes):
    keyframe = drive.keyframes[number]
    boxes = (dataclasses.replace(keyframe.boxes[0], **changes), *keyframe.boxes[1:])
    keyframes = list(drive.keyframes)
    keyframes[number] = dataclasses.replace(keyframe, boxes=boxes)
    return dataclasses.replace(drive, keyframes=tuple(keyframes))


@pytest.mark.parametrize(
    ("drives", "message"),
    [
        ([], "different names"),
        ([make_drive(), make_drive()], "different names"),
        ([make_drive(split="test")], "split must be"),
        ([dataclasses.replace(make_drive(), keyframes=())], "no keyframe"),
        ([dataclasses.replace(make_drive(), readings=make_drive().readings[::-1])], "time order"),
        ([_with_box(make_drive(), category="vehicle.tank")], "known category"),
        ([_with_box(make_drive(), attribute="vehicle.flying")], "known category"),
        ([_with_box(make_drive(), category="vehicle.truck")], "known category"),
        ([_with_box(make_drive(), global_T_box=np.diag([2.0, 1, 1, 1]))], "orthogonal"),
        ([_with_box(make_drive(), size_wlh_m=(1.0, math.nan, 1.0))], "JSON compliant"),
    ],
)
def test_wrong_drives_are_refused(tmp_path, drives, message):
    with pytest.raises(ValueError, match=message):
        write_tables(tmp_path, drives)
