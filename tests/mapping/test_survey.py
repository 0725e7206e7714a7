"""Surveys of the toy drive, whole and damaged."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import shapely

from avjepa.errors import BadFileError, DataError
from avjepa.mapping.ground_view import FAR_M, REACH_M, Camera, view_ground
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.survey import (
    DRIVE_FILE,
    FAR_LAYERS,
    GRID,
    LAYERS,
    add_far,
    add_view,
    parts_of,
    read_returns,
    read_survey,
    survey_drive,
)
from avjepa.mapping.tiles import TileSums, read_window
from avjepa.sensors.nuscenes_index import load_index
from tests.mapping.painted_ground import PaintedGround
from tests.toy_drive import SCENES, ego_pose, map_boxes, write_toy_drive

KEYFRAMES = 2
AROUND = (280, 880, 325, 920)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_toy_drive(tmp_path_factory.mktemp("toy"), scenes=1, keyframes=KEYFRAMES)


@pytest.fixture(scope="module")
def index(root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_index(root)


@pytest.fixture(scope="module")
def surveyed(root, index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("surveys") / "whole"
    return folder, survey_drive(root, index, SCENES[0], folder)


def test_the_drive(surveyed, index):
    folder, drive = surveyed
    assert (drive.scene, drive.city, drive.left_out) == (SCENES[0], "singapore-onenorth", ())
    assert [frame.token for frame in drive.frames] == list(index.token)
    assert drive.xy_m == pytest.approx(np.array([ego_pose(k)[:2, 3] for k in range(KEYFRAMES)]))
    assert [frame.yaw_rad for frame in drive.frames] == pytest.approx(np.deg2rad([0, 3]))
    assert {frame.cameras for frame in drive.frames} == {6}
    assert read_survey(folder) == drive


def test_the_ground_of_the_toy_world(surveyed):
    """An even grey road at z = 0, and the red box where it stands, met in every keyframe."""
    sums, corner = Mosaic([surveyed[0]]).window(AROUND)
    weight = sums["paint"][0]
    contrast = sums["paint"][1][weight > 1] / weight[weight > 1]
    assert (weight > 1).sum() > 5000
    assert np.median(np.abs(contrast)) < 0.02
    returns, _, heights = sums["ground"]
    height_m = np.abs(heights[returns > 0] / returns[returns > 0])
    assert np.percentile(height_m, 95) < 0.05
    assert height_m.max() < 0.4  # the feet of the boxes
    assert returns.sum() > 1000
    x, y, width, depth, _ = map_boxes()[0]
    rows, columns = np.nonzero(sums["stands"][0])
    xy_m = corner + (np.column_stack([columns, rows]) + 0.5) * GRID.cell_m
    on_box = (np.abs(xy_m - [x, y]) < [width / 2 + 0.2, depth / 2 + 0.2]).all(1)
    assert on_box.sum() > 5
    assert sums["stands"][1].max() <= KEYFRAMES
    assert (sums["stands"][1] <= sums["stands"][0]).all()
    inside = int((y - corner[1]) / GRID.cell_m), int((x - corner[0]) / GRID.cell_m)
    assert weight[inside] == 0  # the ground under the box is hidden


def test_a_keyframe_counts_a_cell_once(tmp_path):
    """What stands: three returns of one cell in one keyframe are three returns and one keyframe."""
    points = np.array([[5.05, 5.05, z_m, 0.5] for z_m in (0.5, 1.0, 1.5)] + [[x, 5.5, 0.0, 0.1] for x in range(-5, 15)])
    view = view_ground(points, [], np.eye(4))
    with TileSums(tmp_path / "sums", GRID, LAYERS) as sums:
        add_view(sums, view)
        add_view(sums, view)
    window, _ = read_window([tmp_path / "sums"], (5.0, 5.0, 5.1, 5.1))
    assert window["stands"].ravel().tolist() == [6, 2]


def test_a_keyframe_counts_a_cell_once_from_afar(tmp_path):
    """Of what stands 25 m away LiDAR alone tells, in sums of their own."""
    far = [[25.05, 0.05, z_m, 0.5] for z_m in (0.5, 0.8)]
    view = view_ground(np.array(far + [[x, 0.0, 0.0, 0.1] for x in range(-5, 30)]), [], np.eye(4))
    with TileSums(tmp_path / "sums", GRID, LAYERS) as sums, TileSums(tmp_path / "far", GRID, FAR_LAYERS) as far_sums:
        for _ in range(2):
            add_view(sums, view)
            add_far(far_sums, view)
    window, _ = read_window([tmp_path / "far"], (25.0, 0.0, 25.1, 0.1))
    assert window["far"].ravel().tolist() == [2]
    assert not any(layer.any() for layer in read_window([tmp_path / "sums"], (25.0, 0.0, 25.1, 0.1))[0].values())


def test_surveys_hold_what_stands_further_away(surveyed, tmp_path):
    """A box of the toy world that lies beyond the cameras' reach of a keyframe. Surveys without are made again."""
    folder, drive = surveyed
    mosaic = Mosaic([folder])
    xy_m, near, far = mosaic.standing(shapely.box(*np.concatenate([drive.xy_m.min(0) - 40, drive.xy_m.max(0) + 40])))
    distance_m = np.linalg.norm(xy_m[:, None] - drive.xy_m, axis=-1)
    assert (far > 0).sum() > 5
    assert distance_m[far > 0].max(1).min() > REACH_M - 0.1
    assert distance_m[far > 0].min(1).max() < FAR_M + 0.1
    assert distance_m[near > 0].min(1).max() < REACH_M + 0.1
    part = shutil.copytree(folder, tmp_path / "old") / "part_000000" / "far"
    shutil.rmtree(part)
    with pytest.raises(BadFileError, match="far: missing; survey the drive again"):
        Mosaic([tmp_path / "old"])


def test_sums_are_weighted(tmp_path):
    """Paint holds weight, and weight times contrast and yellowness, cell by cell."""
    image = np.full((90, 160, 3), 90, np.uint8)
    pix_T_cam = np.array([[126.0, 0, 79.5], [0, 126, 48], [0, 0, 1]])
    ego_T_cam = np.eye(4)
    ego_T_cam[:3] = [[0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, 1.5]]
    image[60:64, 70:90] = (200, 180, 60)
    view = view_ground(np.zeros((0, 4)), [Camera(image, pix_T_cam, ego_T_cam)], np.eye(4))
    with TileSums(tmp_path / "sums", GRID, LAYERS) as sums:
        add_view(sums, view)
    paint = read_window([tmp_path / "sums"], (-20, -20, 20, 20))[0]["paint"]
    w, c, y = (array.astype(np.float64) for array in (view.weight, view.contrast, view.yellow))
    for channel, value in enumerate((w, w * c, w * y)):
        assert paint[channel].sum(dtype=np.float64) == pytest.approx(value.sum(), rel=1e-4)
    assert c.max() > 0.5


def test_sums_do_not_depend_on_the_open_tiles(root, index, surveyed, tmp_path, monkeypatch):
    monkeypatch.setattr("avjepa.mapping.survey.TileSums", partial(TileSums, open_tiles=1))
    survey_drive(root, index, SCENES[0], tmp_path / "one")
    (one, _), (many, _) = (Mosaic([folder]).window(AROUND) for folder in (tmp_path / "one", surveyed[0]))
    for name in LAYERS:
        np.testing.assert_array_equal(one[name], many[name])


def test_damaged_files_are_counted_and_left_out(root, index, tmp_path):
    """A truncated LiDAR file costs its keyframe, a damaged image its camera."""
    broken = shutil.copytree(root, tmp_path / "toy")
    scan = broken / str(index.lidar_file[0])
    scan.write_bytes(scan.read_bytes()[:-7])
    photo = broken / str(index.camera_file[1, 2])
    photo.write_bytes(photo.read_bytes()[:200])
    drive = survey_drive(broken, index, SCENES[0], tmp_path / "survey")
    (frame,) = drive.frames
    assert (frame.token, frame.cameras) == (index.token[1], 5)
    assert len(drive.left_out) == 2
    assert scan.name in drive.left_out[0]
    assert photo.name in drive.left_out[1]


def test_keyframes_without_a_pose_or_a_file_are_left_out(root, index, tmp_path):
    poses = index.global_T_ego.copy()
    poses[0] = np.nan
    drive = survey_drive(root, replace(index, global_T_ego=poses), SCENES[0], tmp_path / "pose")
    assert [frame.token for frame in drive.frames] == [index.token[1]]
    assert drive.left_out == (f"{index.token[0]}: damaged pose or calibration",)
    with pytest.raises(BadFileError, match="name no LiDAR file"):
        read_returns(root, replace(index, lidar_file=np.full(KEYFRAMES, "")), 0)


def test_nothing_that_can_be_read(root, index, tmp_path):
    """One message that names the first fault; the folder is not whole."""
    poses = np.full_like(index.global_T_ego, np.nan)
    with pytest.raises(DataError, match=f"no keyframe that can be read .{index.token[0]}: damaged pose"):
        survey_drive(root, replace(index, global_T_ego=poses), SCENES[0], tmp_path / "survey")
    with pytest.raises(BadFileError, match="survey the drive again"):
        read_survey(tmp_path / "survey")
    no_frames = replace(index, scene=np.full(KEYFRAMES, 1), scene_name=np.array([SCENES[0], "other"]))
    with pytest.raises(DataError, match=r"no keyframe that can be read .its tables name none"):
        survey_drive(root, no_frames, SCENES[0], tmp_path / "empty")
    with pytest.raises(DataError, match="no scene scene-9999"):
        survey_drive(root, index, "scene-9999", tmp_path / "other")


@pytest.mark.parametrize("text", ["", "{}", '{"scene": "s", "city": "c", "frames": [{"token": "t"}], "left_out": []}'])
def test_a_damaged_survey(tmp_path, text):
    (tmp_path / DRIVE_FILE).write_text(text)
    with pytest.raises(BadFileError, match=r"drive\.json"):
        read_survey(tmp_path)


def test_parts_add_up_and_tell_what_was_known_when(root, index, surveyed, tmp_path, monkeypatch):
    monkeypatch.setattr("avjepa.mapping.survey.PART_KEYFRAMES", 1)
    survey_drive(root, index, SCENES[0], tmp_path / "parts")
    assert [path.name for path in parts_of(tmp_path / "parts")] == ["part_000000", "part_000001"]
    assert [path.name for path in parts_of(surveyed[0])] == ["part_000000"]
    whole, both = (Mosaic([folder]).window(AROUND)[0] for folder in (surveyed[0], tmp_path / "parts"))
    first, nothing = (Mosaic([tmp_path / "parts"], [count]).window(AROUND)[0] for count in (1, 0))
    for name in LAYERS:
        np.testing.assert_allclose(both[name], whole[name], rtol=1e-5, atol=1e-5)
        assert not nothing[name].any()
    assert 0 < first["ground"][0].sum() < whole["ground"][0].sum()


def test_parts_come_in_the_order_of_time(tmp_path):
    """Of a drive of more than a thousand parts, half an hour, too."""
    ground = PaintedGround((0, 0, 1, 1))
    for part in (1000, 2, 999, 10):
        ground.write(tmp_path, part=part)
    assert [int(path.name.removeprefix("part_")) for path in parts_of(tmp_path)] == [2, 10, 999, 1000]


def test_a_survey_without_parts_is_damaged(tmp_path):
    with pytest.raises(BadFileError, match="no part"):
        parts_of(tmp_path)
