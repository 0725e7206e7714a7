import logging
import shutil
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from avjepa.errors import DataError
from avjepa.geometry.rigid import invert, transform_from_quaternion, transform_from_se2, transform_points
from avjepa.probes import boxes as boxes_module
from avjepa.probes.boxes import box_of_points, load_boxes, points_in_boxes
from avjepa.sensors.nuscenes_files import read_lidar
from avjepa.sensors.nuscenes_index import load_index
from tests.probes.labelled_drive import centre_m, read_table, write_labelled_drive, write_table, yaw
from tests.toy_drive import VERSION, ego_pose, token


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_labelled_drive(tmp_path_factory.mktemp("drive"))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_boxes_of_a_keyframe(drive):
    tables = load_boxes(drive)
    boxes = tables.at(token("sample", 0, 1))
    assert len(boxes) == 2
    order = np.argsort(boxes.num_lidar_pts)
    assert boxes.num_lidar_pts[order].tolist() == [1, 11]
    assert boxes.category[order].tolist() == ["vehicle.car", "human.pedestrian.adult"]
    assert boxes.attribute[order].tolist() == ["vehicle.moving", "pedestrian.standing"]  # the first of two
    assert boxes.instance[order].tolist() == [token("thing", 0), token("thing", 1)]
    assert boxes.size_lwh_m[order].tolist() == [[4.0, 2.0, 1.5], [0.8, 0.6, 1.8]]
    pedestrian = boxes.global_T_box[order[1]]
    np.testing.assert_allclose(pedestrian, transform_from_quaternion(yaw(1).elements, centre_m(1, 1)), atol=1e-12)
    np.testing.assert_allclose(boxes.ego_T_box, invert(ego_pose(1)) @ boxes.global_T_box, atol=1e-9)
    assert len(tables.at(token("sample", 0, 0))) == 3
    assert "" in tables.at(token("sample", 0, 0)).attribute
    empty = tables.at(token("sample", 0, 3))
    assert len(empty) == 0
    assert empty.ego_T_box.shape == empty.global_T_box.shape == (0, 4, 4)


def test_velocity_is_over_ground_along_the_ego_axes(drive):
    """3 m/s in x and 1 m/s in y of the global frame; unknown for a thing that is seen once."""
    tables = load_boxes(drive)
    for k in range(3):
        boxes = tables.at(token("sample", 0, k))
        expected = ego_pose(k)[:3, :3].T @ [3.0, 1.0, 0.0]
        for velocity, instance in zip(boxes.velocity_mps, boxes.instance, strict=True):
            if instance == token("thing", 2):
                assert np.isnan(velocity).all()
            else:
                np.testing.assert_allclose(velocity, expected, atol=1e-6)


def test_a_long_gap_gives_no_velocity(drive, tmp_path):
    root = shutil.copytree(drive, tmp_path / "drive")
    samples = read_table(root, "sample")
    samples[1]["timestamp"] += 2_000_000
    samples[2]["timestamp"] += 2_000_000
    write_table(root, "sample", samples)
    tables, nusc = load_boxes(root), NuScenes(VERSION, str(root), verbose=False)
    unknown = [np.isnan(tables.at(token("sample", 0, k)).velocity_mps).all(1).sum() for k in range(3)]
    assert unknown == [3, 0, 0]  # 2.5 s from the first to the second, 3 s over both, 0.5 s from the second to the third
    assert np.isnan(nusc.box_velocity(token("annotation", 0, 0))).all()
    np.testing.assert_allclose(nusc.box_velocity(token("annotation", 0, 1)), [1.0, 1 / 3, 0])


def test_the_cache_is_used_and_follows_the_tables(drive, tmp_path, cache_folder, monkeypatch):
    root = shutil.copytree(drive, tmp_path / "drive")
    first = load_boxes(root)
    monkeypatch.setattr(boxes_module, "_build", lambda *_, **__: pytest.fail("read the tables in spite of the cache"))
    second = load_boxes(root)
    for field in fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    assert len(list(cache_folder.glob("boxes-*.npz"))) == 1
    monkeypatch.undo()
    monkeypatch.setenv("AVJEPA_CACHE", str(cache_folder))
    write_table(root, "sample_annotation", [])
    write_table(root, "instance", [])
    assert len(load_boxes(root).at(token("sample", 0, 0))) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("translation", [float("nan"), 0, 0]), ("rotation", [2.0, 0, 0, 0]), ("size", [1, 0, 1]), ("size", [1, -2, 1])],
)
def test_damaged_boxes_are_left_out_and_counted(drive, tmp_path, caplog, key, value):
    root = shutil.copytree(drive, tmp_path / "drive")
    rows = read_table(root, "sample_annotation")
    next(row for row in rows if row["token"] == token("annotation", 0, 1))[key] = value
    write_table(root, "sample_annotation", rows)
    with caplog.at_level(logging.WARNING):
        boxes = load_boxes(root).at(token("sample", 0, 1))
    assert boxes.instance.tolist() == [token("thing", 1)]
    assert "1 damaged boxes are left out" in caplog.text


def test_tables_that_do_not_fit_together(drive, tmp_path):
    root = shutil.copytree(drive, tmp_path / "drive")
    rows = read_table(root, "sample_annotation")
    rows[0]["size"] = [1.0, 2.0]
    write_table(root, "sample_annotation", rows)
    with pytest.raises(DataError, match=r"v1\.0-mini: cannot be read \(ValueError"):
        load_boxes(root)


def test_keyframes_that_are_none(drive, tmp_path):
    with pytest.raises(DataError, match="keyframe nowhere is not in these tables"):
        load_boxes(drive).at("nowhere")
    root = shutil.copytree(drive, tmp_path / "drive")
    poses = read_table(root, "ego_pose")
    next(pose for pose in poses if pose["token"] == token("data", 0, "LIDAR_TOP", 2.0))["rotation"] = [9, 0, 0, 0]
    write_table(root, "ego_pose", poses)
    with pytest.raises(DataError, match="has a damaged pose"):
        load_boxes(root).at(token("sample", 0, 2))


def random_boxes(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Turned in space and overlapping."""
    poses = [transform_from_quaternion(rng.normal(size=4), rng.uniform(-2, 2, 3)) for _ in range(n)]
    return np.array(poses).reshape(-1, 4, 4), rng.uniform(0.2, 3, (n, 3))


def test_points_by_hand_with_the_faces():
    """A car 4 m long and 2 m wide, turned by 90 degrees at (10, 5): it reaches 2 m in y and 1 m in x."""
    global_T_box = transform_from_se2(10.0, 5.0, np.pi / 2)[None]
    size = np.array([[4.0, 2.0, 1.5]])
    points = np.array([[10, 6.9, 0], [11.1, 5, 0], [10.9, 5, 0.7], [10, 5, 0.75], [10, 5, -0.76], [10, 7.1, 0]])
    point, box = points_in_boxes(points, global_T_box, size)
    assert point.tolist() == [0, 2, 3]
    assert box.tolist() == [0, 0, 0]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 60))
def test_points_agree_with_the_devkit(seed, num_boxes, num_points):
    rng = np.random.default_rng(seed)
    poses, sizes = random_boxes(rng, num_boxes)
    xyz = rng.uniform(-3, 3, (num_points, 3))
    expected = []
    for number, (pose, (length, width, height)) in enumerate(zip(poses, sizes, strict=True)):
        box = Box(pose[:3, 3], [width, length, height], Quaternion(matrix=pose[:3, :3], atol=1e-6))
        expected += [(point, number) for point in np.flatnonzero(points_in_box(box, xyz.T))] if num_points else []
    point, box = points_in_boxes(xyz, poses, sizes)
    assert list(zip(point, box, strict=True)) == expected
    # The smallest of the boxes around a point.
    holders = [[b for p, b in expected if p == number] for number in range(num_points)]
    smallest = [min(around, key=lambda b: sizes[b].prod()) if around else -1 for around in holders]
    assert box_of_points(xyz, poses, sizes).tolist() == smallest


def test_points_that_are_not_finite_are_in_no_box():
    xyz = np.array([[np.nan, 0, 0], [0, np.nan, 0], [0, 0, 0], [np.inf, 0, 0]])
    point, _ = points_in_boxes(xyz, np.eye(4)[None], np.ones((1, 3)))
    assert point.tolist() == [2]
    with pytest.raises(ValueError, match=r"want \(P, 3\)"):
        points_in_boxes(xyz[:, :2], np.eye(4)[None], np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"got .*\(2, 3\)"):
        points_in_boxes(xyz, np.eye(4)[None], np.ones((2, 3)))


@pytest.mark.real_data
def test_real_boxes_hold_the_points_that_the_tables_count(nuscenes_root):
    """Frames, sizes and the order of the axes: were one wrong, next to no count would agree. Velocities are the devkit's."""
    index, tables = load_index(nuscenes_root), load_boxes(nuscenes_root)
    nusc = NuScenes("v1.0-mini", str(nuscenes_root), verbose=False)
    agree, total = 0, 0
    for n in (10, 60):
        boxes = tables.at(index.token[n])
        points, _ = read_lidar(nuscenes_root / index.lidar_file[n])
        xyz_ego = transform_points(index.ego_T_lidar[n], points[:, :3].astype(np.float64))
        _, box = points_in_boxes(xyz_ego, boxes.ego_T_box, boxes.size_lwh_m)
        agree += (np.bincount(box, minlength=len(boxes)) == boxes.num_lidar_pts).sum()
        total += len(boxes)
        of_instance = {
            record["instance_token"]: record
            for record in map(lambda t: nusc.get("sample_annotation", t), nusc.get("sample", index.token[n])["anns"])
        }
        for instance, velocity, category in zip(boxes.instance, boxes.velocity_mps, boxes.category, strict=True):
            record = of_instance[instance]
            expected = index.global_T_ego[n, :3, :3].T @ nusc.box_velocity(record["token"])
            np.testing.assert_allclose(velocity, expected, atol=1e-4)
            assert category == record["category_name"]
    assert total > 100
    assert agree > 0.95 * total
