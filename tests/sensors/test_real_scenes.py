"""The two real scenes: golden calibrations, the devkit's own chain of transforms, and what a reader must survive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avjepa.geometry.camera import in_image, project
from avjepa.geometry.rigid import invert, transform_points
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.nuscenes_index import load_index

pytestmark = pytest.mark.real_data

# Read once from the tables by hand, first keyframe of each scene.
GOLDEN = {
    "scene-0523": {
        "lidar_position_m": [0.985793, 0.0, 1.84019],
        "front_px": [1252.8131021185304, 826.588114781398, 469.9846626224581],  # focal length, cx, cy
    },
    "scene-0916": {
        "lidar_position_m": [0.943713, 0.0, 1.84023],
        "front_px": [1266.417203046554, 816.2670197447984, 491.50706579294757],
    },
}
# Pixels and depths of LiDAR points (by number in the file) in CAM_FRONT, computed with nuscenes-devkit's own functions.
DEVKIT_PIXELS = {
    "scene-0523": {5235: (5.052, 660.38, 11.762), 5242: (7.574, 398.062, 10.277), 5267: (15.687, 659.759, 11.759)},
    "scene-0916": {5430: (0.614, 523.765, 17.908), 5431: (1.827, 487.616, 17.861), 5432: (2.745, 451.53, 17.831)},
}
FRONT = 1


def scene(index, name: str) -> int:
    return int(np.flatnonzero(index.scene_name == name)[0])


@pytest.fixture(scope="module")
def index(nuscenes_root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_index(nuscenes_root)


def first_keyframe(index, name: str) -> int:
    numbers = np.flatnonzero(index.scene == scene(index, name)) if name in index.scene_name else []
    if not len(numbers):
        pytest.skip(f"this nuScenes root does not hold {name}")
    return int(numbers[0])


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_calibrations(index, name):
    n = first_keyframe(index, name)
    np.testing.assert_allclose(index.ego_T_lidar[n, :3, 3], GOLDEN[name]["lidar_position_m"], atol=1e-9)
    focal_px, cx_px, cy_px = GOLDEN[name]["front_px"]
    np.testing.assert_allclose(index.pix_T_cam[n, FRONT], [[focal_px, 0, cx_px], [0, focal_px, cy_px], [0, 0, 1]], atol=1e-9)
    assert index.camera_size_px[n, FRONT].tolist() == [900, 1600]


@pytest.mark.parametrize("name", DEVKIT_PIXELS)
def test_lidar_points_land_on_the_devkits_pixels(index, nuscenes_root, name):
    """LiDAR to ego to camera in one matrix, against sensor, ego, global, ego, camera step by step."""
    n = first_keyframe(index, name)
    xyz_lidar = np.fromfile(nuscenes_root / str(index.lidar_file[n]), np.float32).reshape(-1, 5)[:, :3].astype(np.float64)
    cam_T_lidar = invert(index.ego_T_cam[n, FRONT]) @ index.ego_T_lidar[n]
    uv_px, depth_m = project(index.pix_T_cam[n, FRONT], transform_points(cam_T_lidar, xyz_lidar))
    for number, expected in DEVKIT_PIXELS[name].items():
        np.testing.assert_allclose([*uv_px[number], depth_m[number]], expected, atol=0.05)  # the devkit works in float32
    assert in_image(uv_px, depth_m, 900, 1600).mean() > 0.05


def test_every_clip_of_both_scenes_can_be_read(nuscenes_root):
    """One pass over all clips at a small size: no bad file, poses that move, times that grow."""
    dataset = NuScenesClips(
        nuscenes_root, ("scene-0523", "mini_val"), (-2, -1, 0), (1, 2), (32, 88), cache_frames=100, max_bad_share=0.0
    )
    assert len(dataset) >= 60
    for i in range(0, len(dataset), 6):
        batch = collate_clips([dataset[i]])
        assert (batch.time_s.diff() > 0.3).all()
        assert (batch.time_s.diff() < 0.75).all()
        assert torch.isfinite(batch.points).all()
        assert batch.camera_present.all()
        assert batch.lidar_present.all()
        assert (batch.points[:, 3] <= 1).all()
        step_m = batch.now_T_frame[0, :, :3, 3].diff(dim=0).norm(dim=1)
        assert (step_m < 12).all()
    assert set(dataset.bad_files.counts) <= {"scenes that this root does not hold"}


def test_listed_but_missing_sweeps_are_counted(nuscenes_root):
    if (nuscenes_root / "sweeps").exists():
        pytest.skip("this nuScenes root has its sweeps")
    dataset = NuScenesClips(nuscenes_root, ("mini_val",), (0,), (1,), (32, 88), num_sweeps=3, cameras=())
    assert sum(dataset.bad_files.counts.values()) > 50
    assert set(dataset[4].now.points_ego[:, 4].tolist()) == {0.0}


def test_a_still_world_stays_still(nuscenes_root):
    """Ego-motion on real data: the past, moved into the present, fits it far better than left where it was."""
    dataset = NuScenesClips(nuscenes_root, ("scene-0523",), (-2, -1, 0), (1,), (32, 88), cameras=())
    positions = [dataset[i].frames[0].global_T_ego[:3, 3] for i in range(len(dataset))]
    fastest = int(np.argmax(np.linalg.norm(np.diff(positions, axis=0), axis=1)))
    batch = collate_clips([dataset[fastest]])

    def misfit_m(frames) -> float:
        past, now = (frames.points[frames.point_frame == i] for i in (0, 2))
        things = [cloud[(cloud[:, 2] > 0.5) & (cloud[:, 2] < 3) & (cloud[:, :2].norm(dim=1) < 30), :3] for cloud in (past, now)]
        return float(torch.cdist(things[0][::5], things[1]).min(1).values.median())

    moved = batch.context_in_now()
    left = replace(batch, now_T_frame=torch.eye(4).expand_as(batch.now_T_frame)).context_in_now()
    assert misfit_m(moved) < 0.25
    assert misfit_m(moved) < 0.6 * misfit_m(left)
