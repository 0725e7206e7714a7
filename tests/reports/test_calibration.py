import dataclasses

import cv2
import numpy as np
import pytest
import torch

from avjepa.errors import ConfigError, DataError
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import transform_from_se2
from avjepa.reports.calibration import (
    augmentation_error_px,
    cameras_on_the_ground,
    colour_points,
    is_standing,
    lidar_in_cameras,
    share_in_images,
)
from avjepa.sensors.augment import Augmentation, augment
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from tests.toy_drive import RED, map_boxes, token, write_toy_drive
from tools import check_calibration

GRID = BEVGrid((-20.0, 20.0), (-20.0, 20.0), (-5.0, 3.0), 0.2, 8.0)


pytestmark = pytest.mark.usefixtures("module_index_cache")


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_toy_drive(tmp_path_factory.mktemp("drive"), keyframes=4, image_size=(320, 180))


@pytest.fixture(scope="module")
def clip(drive):
    return NuScenesClips(drive, ("scene-0061",), (0,), (), (180, 320))[1]


def on_red_box(frame) -> np.ndarray:
    """Which LiDAR points (P,) lie on the red box, by its known place."""
    xyz = np.c_[frame.points_ego[:, :3].double().numpy(), np.ones(len(frame.points_ego))] @ frame.global_T_ego.T
    x, y, dx, dy, height = map_boxes()[0]
    near = np.abs(xyz[:, :2] - (x, y)) < np.array([dx, dy]) / 2 + 0.1
    return near.all(1) & (xyz[:, 2] > 0.3) & (xyz[:, 2] < height - 0.2)


def test_points_take_the_colour_of_the_thing_they_lie_on(clip):
    colours, coloured = colour_points(clip.now)
    box = on_red_box(clip.now) & coloured
    assert box.sum() > 10
    red = np.abs(colours * 255 - RED).max(1) < 60
    assert red[box].mean() > 0.8
    assert red[coloured & ~on_red_box(clip.now)].mean() < 0.05


def test_a_wrong_pose_parts_points_and_colours(clip):
    """The check above can fail: with the cameras turned by 10 degrees the box is no longer red."""
    turned = transform_from_se2(0, 0, np.deg2rad(10)) @ clip.now.ego_T_cam
    colours, coloured = colour_points(dataclasses.replace(clip.now, ego_T_cam=turned))
    box = on_red_box(clip.now) & coloured
    red = np.abs(colours * 255 - RED).max(1) < 60
    assert box.sum() > 10
    assert red[box].mean() < 0.5


def test_points_in_images_by_hand(clip):
    front_left, front, *_ = lidar_in_cameras(clip.now)
    for uv_px, depth_m, number in (front_left, front):
        assert len(uv_px) == len(depth_m) == len(number) > 100
        assert (depth_m > 0.1).all()
        assert (np.abs(uv_px - (159.5, 89.5)) <= (160, 90)).all()
    assert (clip.now.points_ego[front[2], 0] > 0).all()  # the front camera sees nothing behind the car
    assert 0.5 < share_in_images(clip.now) < 1
    dark = dataclasses.replace(clip.now, camera_present=torch.zeros(6, dtype=torch.bool))
    assert share_in_images(dark) == 0


def test_augmented_cameras_agree_and_a_forgotten_turn_is_seen(clip):
    augmented = augment(clip, Augmentation(), torch.Generator().manual_seed(2)).now
    assert augmentation_error_px(clip.now, augmented) < 1e-6
    forgotten = dataclasses.replace(augmented, ego_T_cam=clip.now.ego_T_cam)
    assert augmentation_error_px(clip.now, forgotten) > 1


def test_the_ground_is_road_where_no_box_hides_it(clip):
    ground = cameras_on_the_ground(clip.now, GRID)
    seen = ground.any(-1)
    assert seen.mean() > 0.8
    grey = np.abs(ground * 255 - 95).max(-1) < 12
    assert grey[seen].mean() > 0.5
    rows, columns = GRID.shape_yx
    assert not seen[rows // 2, columns // 2]  # below the car


def test_standing_points_of_a_slope_with_mirrored_returns():
    rng = np.random.default_rng(0)
    road = np.c_[rng.uniform(-20, 20, (4000, 2)), np.zeros(4000)]
    road[:, 2] = 0.05 * road[:, 0]
    thing, mirrored = np.array([[6.0, 3, 0.3 + 1.0]]), np.array([[6.2, 3, 0.3 - 0.6]])
    assert is_standing(np.r_[road, thing, mirrored]).nonzero()[0].tolist() == [4000]
    assert is_standing(np.zeros((0, 3))).shape == (0,)


def test_tool_draws_the_keyframe_that_was_asked_for(drive, tmp_path, capsys):
    out = tmp_path / "out"
    check_calibration.main(
        ["--data", str(drive), "--scenes", "mini_train", "--keyframe", "2", "--sweeps", "3", "--out", str(out)]
    )
    printed = capsys.readouterr().out
    stem = f"scene-0061_{token('sample', 0, 2)[:8]}"
    assert sorted(picture.name for picture in out.iterdir()) == [f"{stem}_bev.png", f"{stem}_cameras.png"]
    for picture in out.iterdir():
        assert str(picture) in printed
        assert cv2.imread(str(picture)).std() > 20
    assert "scene-0061: " in printed
    assert "scene-0553" in printed  # of mini_train, and not in the toy drive


def test_tool_names_what_is_not_there(drive, tmp_path, capsys):
    with pytest.raises(ConfigError, match="--keyframe 4: scene-0061 has 4 readable keyframes"):
        check_calibration.main(["--data", str(drive), "--keyframe", "4", "--out", str(tmp_path)])
    with pytest.raises(DataError, match="none of the scenes scene-0001 is here"):
        check_calibration.main(["--data", str(drive), "--scenes", "scene-0001", "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())
