"""tools/build_static_map.py on the toy drive and on a few real frames: files, frames, bad input, and bounded memory."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from avjepa.cli import run_tool
from avjepa.errors import ConfigError, DataError
from avjepa.geometry.rigid import transform_from_se2, transform_points
from avjepa.mapping.drive_turns import Drive
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.moving_filters import NoFilter, RayFilter, RaySettings
from avjepa.mapping.static_map import StaticMapSettings, align_drives, build_static_map
from avjepa.probes.dynamic_export import MOVING_CODE, NOT_JUDGED, STATIC_CODE
from avjepa.probes.pcd_files import read_pcd, read_scans, read_truth
from avjepa.probes.scans import REACH_M
from avjepa.sensors.nuscenes_index import load_index
from tests import toy_drive
from tests.toy_drive import SCENES, map_boxes, write_toy_drive
from tools import build_static_map as tool

KEYFRAMES = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_toy_drive(tmp_path_factory.mktemp("toy"), keyframes=KEYFRAMES, image_size=(16, 9))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "index"))


def quiet(items, what, total):
    return items


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "map"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(out.parent / "index"))
        tool.main(["--data", str(root), "--scenes", SCENES[0], "--out", str(out)])
    return out


def test_every_file_is_there_and_they_agree(made):
    record = json.loads((made / "static_map.json").read_text())
    (drive,) = record["drives"]
    assert drive["turns"] == KEYFRAMES
    assert drive["unreadable"] == {}
    truth_xyz, is_moving = read_truth(made)
    scans, listed = read_scans(made), json.loads((made / "scans.json").read_text())["scans"]
    assert sum(len(scan.xyz_map) for scan in scans) == len(truth_xyz) == drive["returns"]
    assert is_moving.sum() == drive["moving"]
    assert len(listed) == len(scans) == len(list((made / "labels").glob("*.label")))
    assert len({scan["keyframe"] for scan in listed}) == KEYFRAMES
    assert read_pcd(made / "clean.pcd").xyz_world.shape[0] == record["points"]
    assert (made / "static_map.png").read_bytes()[:4] == b"\x89PNG"
    assert not (made / "work").exists()
    assert {path.name for path in made.iterdir()} == {
        *("clean.pcd", "gt_cloud.pcd", "pcd", "labels", "layers", "scans.json", "static_map.json", "static_map.png")
    }


def test_labels_are_those_of_the_scans(made):
    for number in range(KEYFRAMES):
        codes = np.fromfile(made / "labels" / f"{number:06d}.label", dtype="<u4")
        moving = read_pcd(made / "pcd" / f"{number:06d}.pcd").intensity == 1
        assert set(codes) <= {MOVING_CODE, STATIC_CODE, NOT_JUDGED}
        np.testing.assert_array_equal(codes[codes != NOT_JUDGED] == MOVING_CODE, moving)


def test_the_map_shows_the_world(made, root):
    """Ground at z = 0 and clear; the boxes occupied, where they stand in the map frame; nothing of it called moving."""
    contract = json.loads((made / "layers" / "layers.json").read_text())
    layers = {name: np.load(made / "layers" / f"{name}.npy") for name in contract["layers"]}
    x0_m, y0_m = contract["lower_corner_m"]

    def at(name, x_m, y_m):
        return layers[name][int((y_m - y0_m) // contract["cell_m"]), int((x_m - x0_m) // contract["cell_m"])]

    assert np.nanmax(np.abs(layers["height_m"])) < 0.4
    assert abs(np.nanmedian(layers["height_m"])) < 0.01
    x, y, width, depth, _ = map_boxes()[0]
    faces = [(x - width / 2 + 0.05, y), (x, y - depth / 2 + 0.05)]  # towards the car
    assert max(at("occupancy_log_odds", *place) for place in faces) > 0
    assert at("occupancy_log_odds", 306.0, 902.0) < 0
    bare = layers["ground_probability"][layers["occupancy_log_odds"] < 0]
    told = bare[np.isfinite(bare)]  # where a return tells
    assert len(told) > 1000
    assert (told > 0.5).mean() > 0.98
    assert layers["observations"].max() == KEYFRAMES
    assert layers["traversals"].max() == 1
    record = json.loads((made / "static_map.json").read_text())
    assert record["drives"][0]["moving"] < 0.02 * record["drives"][0]["returns"]
    cloud = read_pcd(made / "clean.pcd")
    map_T_pcd = np.array(json.loads((made / "scans.json").read_text())["global_T_map"])
    xyz_map = transform_points(map_T_pcd, cloud.xyz_world.astype(np.float64))
    near_box = (np.abs(xyz_map[:, :2] - [x, y]) < [width / 2 + 0.1, depth / 2 + 0.1]).all(1) & (xyz_map[:, 2] > 0.3)
    assert near_box.sum() > 20
    voxels = np.floor(xyz_map / 0.1 + 1e-4).astype(int)
    assert len(np.unique(voxels, axis=0)) > 0.97 * len(voxels)  # one point a voxel, but for rounding at faces


def test_a_truncated_file_is_counted_and_left_out(tmp_path, capsys):
    root = write_toy_drive(tmp_path / "toy", scenes=1, keyframes=3, image_size=(16, 9))
    broken = sorted((root / "samples" / "LIDAR_TOP").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:-7])
    tool.main(["--data", str(root), "--scenes", SCENES[0], "--out", str(tmp_path / "map"), "--dynamic-filter", "none"])
    (drive,) = json.loads((tmp_path / "map" / "static_map.json").read_text())["drives"]
    assert drive["turns"] == 2
    assert list(drive["unreadable"]) == [str(broken.relative_to(root))]
    assert "2 turns (1 left out" in capsys.readouterr().out
    for path in (root / "samples" / "LIDAR_TOP").iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match="no LiDAR file can be read"):
        tool.main(["--data", str(root), "--scenes", SCENES[0], "--out", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / ".other.partial").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scenes", "scene-9999"], "scene-9999"),
        (["--scenes", *SCENES], "a map is of one city"),
        (["--scenes", SCENES[0], "--cell-m", "0"], "--cell-m"),
    ],
)
def test_mistakes_are_one_line(root, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: tool.main(["--data", str(root), "--out", str(tmp_path / "map"), *options]))
    assert left.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "map").exists()


def test_a_full_folder_is_left_alone(root, made):
    with pytest.raises(ConfigError, match="holds something already"):
        tool.main(["--data", str(root), "--scenes", SCENES[0], "--out", str(made)])


# Long walls and house ends, beside the boxes of the toy drive, which are too few to lay one drive on another.
WALLS = (
    *((15.0, y, 90.0, 1.0, 3.0) for y in (-16.0, 14.0)),
    *((x, y, 1.0, 6.0, 3.0) for x in (-18.0, 0.0, 20.0, 40.0) for y in (-12.0, 10.0)),
)
OFF_M = np.array([0.28, -0.28])  # 0.4 m


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_drive, "BOXES", (*toy_drive.BOXES, *WALLS))
        folder = tmp_path_factory.mktemp("street")
        return write_toy_drive(folder, scenes=1, keyframes=6, image_size=(16, 9))


def two_drives(root):
    """One drive twice, the second with poses that are 0.4 m off."""
    index = load_index(root)
    drives = [Drive(root, index, 0, np.array([300.0, 900, 0]), sweeps=False) for _ in range(2)]
    off = transform_from_se2(*OFF_M, 0)
    drives[1].turns = [replace(turn, global_T_ego=off @ turn.global_T_ego) for turn in drives[1].turns]
    return drives


def test_a_drive_is_laid_on_the_one_before(street, tmp_path):
    """Whose poses are off by 0.4 m: corrected, its walls lie on those of the first."""
    drives, frame = two_drives(street), frame_of_city("singapore-onenorth")
    found = build_static_map(tmp_path, drives, lambda folder: NoFilter(), frame, StaticMapSettings(), quiet)
    first, second = (drive["alignment"] for drive in found["drives"])
    assert not first["applied"]
    assert second["applied"]
    np.testing.assert_allclose(drives[1].map_T_recorded[:2, 3] + OFF_M, 0, atol=0.05)
    assert np.load(tmp_path / "layers" / "traversals.npy").max() == 2
    xyz = read_pcd(tmp_path / "clean.pcd").xyz_world + np.array([300.0, 900, 0])
    face_y_m = 900 + 13.5  # of the northern wall, towards the road
    on_face = (abs(xyz[:, 1] - face_y_m) < 0.45) & (xyz[:, 2] > 0.5) & (abs(xyz[:, 0] - 320) < 19)
    assert on_face.sum() > 60
    assert abs(xyz[on_face, 1] - face_y_m).max() < 0.12


def test_a_drive_that_saw_nothing_is_named(street, tmp_path):
    """Its files are sound and hold no return within reach."""
    root = shutil.copytree(street, tmp_path / "toy")
    for path in (root / "samples" / "LIDAR_TOP").iterdir():
        path.write_bytes(np.array([[70, 0, 0, 9, 0]], np.float32).tobytes())
    with pytest.raises(DataError, match=f"{SCENES[0]}: its 6 LiDAR turns saw nothing within reach"):
        tool.main(["--data", str(root), "--scenes", SCENES[0], "--out", str(tmp_path / "map")])
    assert not (tmp_path / "map").exists()


@pytest.mark.parametrize("cell_m", [0.2, 0.4, 3.0, 5.0])
def test_every_return_lies_in_the_grid_around_the_car(street, cell_m):
    """Wherever in its cell the car is, a return 50 m from the LiDAR in any direction does."""
    drive = Drive(street, load_index(street), 0, np.array([300.0, 900, 0]), sweeps=False)
    turn = next(drive.read())
    angle = np.deg2rad(np.arange(360))
    for place_m in np.linspace(0, 0.999 * cell_m, 4):
        ego_m = np.array([1200.0 * cell_m + place_m, -700.0 * cell_m + place_m, 0])
        lidar_m = ego_m + np.array([1.0, -1.0, 1.8])
        xyz = lidar_m + REACH_M * np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
        _, grid, zero_m = replace(turn, ego_m=ego_m).around(cell_m)
        assert grid.bev_index(torch.from_numpy(xyz - zero_m))[1].all()


def test_memory_does_not_grow_with_the_turns(root, tmp_path):
    """The same street seen by four times as many turns: the same peak."""
    index, peaks = load_index(root), {}
    for name, repeats in (("once", 1), ("four times", 4)):
        drive = Drive(root, index, 0, np.array([300.0, 900, 0]), sweeps=False)
        drive.turns = drive.turns * repeats
        (tmp_path / name).mkdir()
        tracemalloc.start()
        found = build_static_map(
            tmp_path / name,
            [drive],
            lambda folder: RayFilter(folder, RaySettings(voxel_m=0.4)),
            frame_of_city("singapore-onenorth"),
            StaticMapSettings(cell_m=0.4),
            quiet,
        )
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found["drives"][0]["turns"] == KEYFRAMES * repeats
    assert peaks["four times"] < 1.1 * peaks["once"]


@pytest.mark.real_data
def test_a_few_real_frames(nuscenes_root, tmp_path):
    index = load_index(nuscenes_root)
    scene = list(index.scene_name).index("scene-0916")
    drive = Drive(nuscenes_root, index, scene, np.array([600.0, 1700, 0]), sweeps=False)
    drive.turns = drive.turns[:3]
    found = build_static_map(
        tmp_path, [drive], lambda folder: NoFilter(), frame_of_city("singapore-queenstown"), StaticMapSettings(), quiet
    )
    assert found["drives"][0]["returns"] > 50_000
    assert 1000 < found["points"] < found["drives"][0]["returns"]
    height_m = np.load(tmp_path / "layers" / "height_m.npy")
    near = drive.turns[1].global_T_ego[:2, 3]
    row, column = ((near - found["lower_corner_m"]) // found["cell_m"]).astype(int)[::-1]
    around = height_m[row - 40 : row + 40, column - 40 : column + 40]
    assert abs(np.nanmedian(around)) < 0.3  # the road below the car, whose z is 0 in nuScenes
    assert align_drives([drive], tmp_path / "unused", quiet)[0].reason == "the first drive"
