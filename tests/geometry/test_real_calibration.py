"""Numbers of two real drives, as their tables hold them, and one LiDAR point followed by nuscenes-devkit."""

from collections.abc import Iterator

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import view_points
from pyquaternion import Quaternion

from avjepa.conventions import CAMERAS
from avjepa.geometry.camera import project
from avjepa.geometry.rigid import invert, transform_points
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.nuscenes_index import NuScenesIndex, load_index

pytestmark = pytest.mark.real_data

FRONT = CAMERAS.index("CAM_FRONT")

# Of each scene: keyframes, city, first LiDAR time, LIDAR_TOP translation (m), CAM_FRONT (fx, cx, cy) (px) and translation (m).
GOLDEN = {
    "scene-0523": (
        40,
        "boston-seaport",
        1535639716699138,
        (0.985793, 0.0, 1.84019),
        (1252.8131021185304, 826.588114781398, 469.9846626224581),
        (1.72200568478, 0.00475453292289, 1.49491291905),
    ),
    "scene-0916": (
        41,
        "singapore-queenstown",
        1538984233547259,
        (0.943713, 0.0, 1.84023),
        (1266.417203046554, 816.2670197447984, 491.50706579294757),
        (1.70079118954, 0.0159456324149, 1.51095763913),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def index(nuscenes_root) -> NuScenesIndex:
    return load_index(nuscenes_root, "v1.0-mini")


@pytest.fixture(scope="module")
def devkit(nuscenes_root) -> NuScenes:
    return NuScenes("v1.0-mini", str(nuscenes_root), verbose=False)


def keyframes_of(index: NuScenesIndex, scene: str) -> np.ndarray:
    if scene not in index.scene_name:
        pytest.skip(f"this nuScenes root does not hold {scene}")
    return np.flatnonzero(index.scene == index.scene_name.tolist().index(scene))


@pytest.mark.parametrize("scene", GOLDEN)
def test_golden_calibration(index, scene):
    count, city, time_us, lidar_m, (f_px, cx_px, cy_px), camera_m = GOLDEN[scene]
    frames = keyframes_of(index, scene)
    first = frames[0]
    assert len(frames) == count
    assert index.scene_city[index.scene[first]] == city
    assert index.timestamp_us[first] == time_us
    np.testing.assert_allclose(index.ego_T_lidar[first, :3, 3], lidar_m, atol=1e-12)
    np.testing.assert_allclose(
        index.pix_T_cam[first, FRONT], [[f_px, 0, cx_px], [0, f_px, cy_px], [0, 0, 1]], atol=1e-9
    )
    assert index.camera_size_px[first, FRONT].tolist() == [900, 1600]
    # The index moves a camera to LiDAR time: up to half a turn of the LiDAR (25 ms) at some m/s.
    moved_m = index.ego_T_cam[first, FRONT, :3, 3] - camera_m
    assert np.linalg.norm(moved_m) < 0.8
    assert abs(moved_m[2]) < 0.05
    # LiDAR x is to the right of the car (its y forward), the camera's z forward.
    np.testing.assert_allclose(index.ego_T_lidar[first, :3, 1], [1, 0, 0], atol=0.05)
    np.testing.assert_allclose(index.ego_T_cam[first, FRONT, :3, 2], [1, 0, 0], atol=0.05)


@pytest.mark.parametrize("scene", GOLDEN)
@pytest.mark.parametrize("channel", ["CAM_FRONT", "CAM_BACK_LEFT"])
def test_lidar_points_reach_the_pixels_that_the_devkit_says(index, devkit, nuscenes_root, scene, channel):
    """Through ego, global, the other ego and the camera by the devkit's own functions, with nothing of ours."""
    frame, camera = keyframes_of(index, scene)[10], CAMERAS.index(channel)
    sample = devkit.get("sample", index.token[frame])
    lidar = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
    image = devkit.get("sample_data", sample["data"][channel])
    cloud = LidarPointCloud.from_file(str(nuscenes_root / lidar["filename"]))
    xyz_lidar = cloud.points[:3].T.astype(np.float64)
    for record in ("calibrated_sensor", "ego_pose"):
        pose = devkit.get(record, lidar[f"{record}_token"])
        cloud.rotate(Quaternion(pose["rotation"]).rotation_matrix)
        cloud.translate(np.array(pose["translation"]))
    for record in ("ego_pose", "calibrated_sensor"):
        pose = devkit.get(record, image[f"{record}_token"])
        cloud.translate(-np.array(pose["translation"]))
        cloud.rotate(Quaternion(pose["rotation"]).rotation_matrix.T)
    intrinsic = np.array(devkit.get("calibrated_sensor", image["calibrated_sensor_token"])["camera_intrinsic"])
    ahead = cloud.points[2] > 1
    theirs_px = view_points(cloud.points[:3, ahead], intrinsic, normalize=True)[:2].T

    cam_T_lidar = invert(index.ego_T_cam[frame, camera]) @ index.ego_T_lidar[frame]
    ours_px, depth_m = project(index.pix_T_cam[frame, camera], transform_points(cam_T_lidar, xyz_lidar[ahead]))
    # The devkit's cloud is float32, also in map coordinates of kilometres: 0.1 mm there.
    inside = (np.abs(theirs_px - (800, 450)) < (800, 450)).all(1) & (depth_m > 3)
    assert inside.sum() > 1000
    np.testing.assert_allclose(depth_m[inside], cloud.points[2, ahead][inside], atol=2e-3)
    np.testing.assert_allclose(ours_px[inside], theirs_px[inside], atol=0.3)


@pytest.mark.parametrize("scene", GOLDEN)
def test_no_return_of_the_car_or_of_the_lidar_itself_is_left(index, nuscenes_root, scene):
    """A good part of the returns in a file lie within half a metre of the LiDAR, in its own housing."""
    frame = NuScenesClips(nuscenes_root, (scene,), (0,), (), (64, 176), cameras=(), version="v1.0-mini")[5].now
    raw = np.fromfile(nuscenes_root / str(index.lidar_file[keyframes_of(index, scene)[5]]), np.float32).reshape(-1, 5)
    in_housing = np.linalg.norm(raw[:, :3], axis=1) < 0.5
    assert in_housing.mean() > 0.05
    distance_m = (frame.points_ego[:, :3] - frame.lidar_origin_ego).norm(dim=1)
    assert distance_m.min() > 1.0
    assert 0.7 < len(frame.points_ego) / len(raw) < 0.9


def test_missing_sweeps_of_an_extract_are_counted_once(nuscenes_root, index):
    """Tables list sweeps whether or not their files were copied."""
    dataset = NuScenesClips(
        nuscenes_root, ("scene-0916",), (0,), (), (64, 176), num_sweeps=3, cameras=(), version="v1.0-mini"
    )
    listed = keyframes_of(index, "scene-0916")
    older = [name for name in index.sweep_file[listed, :2].ravel() if name]
    missing = [name for name in older if not (nuscenes_root / name).exists()]
    assert len(older) == 2 * (len(listed) - 1)
    assert dataset.bad_files.counts["older LiDAR sweeps listed but missing"] == len(missing)
    ages_s = set(dataset[3].now.points_ego[:, 4].unique().tolist())
    assert len(ages_s) == (1 if missing else 3)
