import numpy as np
import pytest
import torch

from avjepa.geometry.rigid import invert, transform_from_quaternion, transform_from_se2, transform_points
from avjepa.sensors.sweeps import move_sweep, on_ego_body


def mmdet3d_move(xyz_sweep: np.ndarray, key_T_sweep: np.ndarray) -> np.ndarray:
    """What mmdet3d 1.4 does: its info file holds [R^T | -R^T t] of sweep-to-key, its loader returns p R - t' of that."""
    stored_rotation, stored_translation = key_T_sweep[:3, :3].T, -key_T_sweep[:3, :3].T @ key_T_sweep[:3, 3]
    return xyz_sweep @ stored_rotation - stored_translation


@pytest.mark.parametrize(("yaw_deg", "distance_m", "error_m"), [(5, 5, 0.436), (15, 5, 1.305), (0, 5, 0.0)])
def test_ours_is_exact_where_mmdet3d_is_off(yaw_deg, distance_m, error_m):
    key_T_sweep = transform_from_se2(distance_m, 0.0, np.deg2rad(yaw_deg))
    xyz_key = np.random.default_rng(0).uniform(10, 40, (50, 3))
    xyz_sweep = transform_points(invert(key_T_sweep), xyz_key)
    ours = move_sweep(np.c_[xyz_sweep, np.zeros(50)].astype(np.float64), np.eye(4), key_T_sweep, 0.05)
    np.testing.assert_allclose(ours[:, :3], xyz_key, atol=1e-5)
    theirs = np.linalg.norm(mmdet3d_move(xyz_sweep, key_T_sweep) - xyz_key, axis=1)
    np.testing.assert_allclose(theirs, error_m, atol=2e-3)
    rotation, translation = key_T_sweep[:3, :3], key_T_sweep[:3, 3]
    np.testing.assert_allclose(theirs, np.linalg.norm((rotation.T - np.eye(3)) @ translation), atol=1e-9)


def test_mmdet3d_itself_is_off(tmp_path):
    """The formula above is that of mmdet3d's own loader, run on an info of its own convention."""
    transforms = pytest.importorskip("mmdet3d.datasets.transforms", reason="mmdet3d is not installed (make venv-full)")
    key_T_sweep = transform_from_se2(5.0, 0.0, np.deg2rad(15))
    xyz_key = np.random.default_rng(1).uniform(10, 40, (20, 3))
    xyz_sweep = transform_points(invert(key_T_sweep), xyz_key)
    np.c_[xyz_sweep, np.zeros((20, 2))].astype(np.float32).tofile(tmp_path / "sweep.bin")
    lidar2sensor = np.eye(4)
    lidar2sensor[:3, :3] = key_T_sweep[:3, :3].T
    lidar2sensor[:3, 3] = -key_T_sweep[:3, :3].T @ key_T_sweep[:3, 3]
    from mmdet3d.structures import LiDARPoints

    results = {
        "points": LiDARPoints(torch.zeros(1, 5), points_dim=5),
        "timestamp": 0.0,
        "lidar_sweeps": [
            {
                "lidar_points": {"lidar_path": str(tmp_path / "sweep.bin"), "lidar2sensor": lidar2sensor.tolist()},
                "timestamp": 0.0,
            }
        ],
    }
    loader = transforms.LoadPointsFromMultiSweeps(sweeps_num=1, load_dim=5, use_dim=[0, 1, 2, 4], test_mode=True)
    loaded = loader(results)["points"].tensor[1:, :3].double().numpy()
    np.testing.assert_allclose(loaded, mmdet3d_move(xyz_sweep, key_T_sweep), atol=1e-4)
    assert np.linalg.norm(loaded - xyz_key, axis=1).min() > 1.3


def test_columns_calibration_and_age():
    ego_T_lidar = transform_from_quaternion([np.sqrt(0.5), 0, 0, -np.sqrt(0.5)], [0.94, 0, 1.84])
    moved = move_sweep(np.array([[0.0, 10, 0, 0.5]]), ego_T_lidar, transform_from_se2(-2, 0, 0), 0.15)
    np.testing.assert_allclose(moved, [[0.94 + 10 - 2, 0, 1.84, 0.5, 0.15]], atol=1e-5)
    assert moved.dtype == np.float32


def test_the_car_itself_is_removed_where_it_was():
    on_roof, in_lidar, beside, above = [1.5, 0, 1.5], [0.94, 0, 1.84], [1.5, 1.5, 0.5], [1.5, 0, 2.5]
    assert on_ego_body(np.array([on_roof, in_lidar, beside, above])).tolist() == [True, True, False, False]
    # The car drove 10 m on: its old place is not its new one.
    points = np.array([[*on_roof, 0], [11.5, 0, 0.5, 0]])
    moved = move_sweep(points, np.eye(4), transform_from_se2(-10, 0, 0), 0.5)
    np.testing.assert_allclose(moved[:, :3], [[1.5, 0, 0.5]], atol=1e-6)


def test_a_still_world_stays_still_on_the_toy_drive(toy_drive):
    """Older sweeps of the toy drive, moved, lie on the same boxes as the keyframe's own."""
    from avjepa.sensors.nuscenes_dataset import NuScenesClips
    from tests.toy_drive import map_boxes

    frame = NuScenesClips(toy_drive, ("mini_train",), (0,), (1,), (64, 176), num_sweeps=5)[6].now
    xyz_global = transform_points(frame.global_T_ego, frame.points_ego[:, :3].double().numpy())
    standing = xyz_global[:, 2] > 0.2
    assert sorted(set(frame.points_ego[:, 4].tolist())) == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
    old = standing & (frame.points_ego[:, 4].numpy() > 0.3)
    assert old.sum() > 20
    for xyz in xyz_global[old]:
        offset = np.abs(xyz[:2] - map_boxes()[:, :2]) - map_boxes()[:, 2:4] / 2
        assert offset.max(1).min() < 0.06
