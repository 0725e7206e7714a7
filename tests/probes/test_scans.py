import logging
import shutil

import numpy as np
import pytest

from avjepa.errors import DataError
from avjepa.geometry.rigid import invert, transform_points
from avjepa.probes.scans import Scan, read_drive
from avjepa.sensors.nuscenes_files import read_lidar
from avjepa.sensors.nuscenes_index import load_index
from tests.toy_drive import LIDAR_POSITION_M, ego_pose, map_boxes, write_toy_drive


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_toy_drive(tmp_path_factory.mktemp("drive"), scenes=2, keyframes=4, image_size=(16, 9))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "cache"))


def test_every_turn_once_in_time_order(drive):
    index = load_index(drive)
    scans = read_drive(drive, index, scene=1)
    assert [turn.keyframe for turn in scans.turns] == [4, -1, -1, -1, 5, -1, -1, -1, 6, -1, -1, -1, 7]
    files = [turn.lidar_file for turn in scans.turns]
    assert files == sorted(files, key=lambda name: name.split("__")[-1])
    assert len(set(files)) == 13
    assert all("toy-1" in file for file in files)
    assert [turn.keyframe for turn in read_drive(drive, index, scene=1, sweeps=False).turns] == [4, 5, 6, 7]
    assert scans.num_unreadable == 0


def test_poses_and_points_are_in_the_map_frame(drive):
    """The map frame is the first ego frame; each turn is at its own pose there, and the still world stands still."""
    index = load_index(drive)
    scans = read_drive(drive, index, scene=0)
    np.testing.assert_allclose(scans.global_T_map, ego_pose(0), atol=1e-9)
    for number in (0, 5, 12):  # steps of a quarter keyframe
        map_T_ego = invert(ego_pose(0)) @ ego_pose(number / 4)
        expected = transform_points(map_T_ego, np.array([LIDAR_POSITION_M]))[0]
        np.testing.assert_allclose(scans.turns[number].scan.map_T_lidar[:3, 3], expected, atol=1e-6)
    x, y, dx, _, height = map_boxes()[0]
    for turn in scans.turns:
        xyz_global = transform_points(scans.global_T_map, turn.scan.xyz_map.astype(np.float64))
        assert abs(np.quantile(xyz_global[:, 2], 0.2)) < 0.05  # the road
        raised = xyz_global[(xyz_global[:, 2] > 0.3) & (np.abs(xyz_global[:, :2] - [x, y]).max(1) < 3)]
        assert len(raised) > 5
        assert np.abs(raised[:, 0] - x).max() < dx / 2 + 0.1
        assert raised[:, 2].max() < height + 0.1


def test_rows_lead_back_to_the_file(drive):
    index = load_index(drive)
    turn = read_drive(drive, index, scene=0, reach_m=20).turns[3]
    points, _ = read_lidar(drive / turn.lidar_file)
    assert turn.num_file_points == len(points) > len(turn.file_row)
    np.testing.assert_allclose(turn.scan.xyz_lidar, points[turn.file_row, :3], atol=1e-4)
    range_m = np.linalg.norm(points[:, :3], axis=1)
    assert (range_m[turn.file_row] < 20).all()
    assert len(turn.file_row) == (range_m < 20).sum()


def test_returns_from_the_car_itself_are_left_out(drive, tmp_path):
    root = shutil.copytree(drive, tmp_path / "drive")
    index = load_index(root)
    own = np.array([[0, 0, 0, 5, 0], [0, 0, 0.1, 5, 0], [30, 0, 0, 5, 0]], dtype=np.float32)  # no return, housing, far
    own.tofile(root / index.lidar_file[0])
    assert read_drive(root, index, scene=0).turns[0].file_row.tolist() == [2]


def test_missing_and_damaged_files_are_counted(drive, tmp_path, caplog):
    root = shutil.copytree(drive, tmp_path / "drive")
    shutil.rmtree(root / "sweeps")
    index = load_index(root)
    points = np.fromfile(root / index.lidar_file[1], dtype=np.float32)
    points[:5] = np.nan
    points.tofile(root / index.lidar_file[1])
    with caplog.at_level(logging.WARNING):
        scans = read_drive(root, index, scene=0)
    assert scans.num_unreadable == 10
    assert [turn.keyframe for turn in scans.turns] == [0, 2, 3]
    assert "10 LiDAR files of scene-0061 are left out" in caplog.text
    shutil.rmtree(root / "samples")
    with pytest.raises(DataError, match="no LiDAR file of scene scene-0061 can be read"):
        read_drive(root, index, scene=0)


def test_scans_are_checked():
    with pytest.raises(ValueError, match="not finite"):
        Scan(np.array([[np.nan, 0, 0]]), np.eye(4))
    with pytest.raises(ValueError, match=r"got \(1, 2\)"):
        Scan(np.zeros((1, 2)), np.eye(4))
