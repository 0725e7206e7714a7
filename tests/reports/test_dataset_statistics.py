import json
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from avjepa.cli import run_tool
from avjepa.conventions import CAMERAS
from avjepa.geometry.rigid import transform_from_se2
from avjepa.reports.dataset_statistics import (
    GRID,
    DatasetReader,
    bin_names,
    box_numbers,
    histogram_quantiles,
    mean_of,
    measure_images,
    measure_lidar,
    read_returns,
    ring_count,
    table_rows,
)
from tests.toy_drive import VERSION, write_toy_drive
from tools import compare_datasets

pytestmark = pytest.mark.usefixtures("module_index_cache")


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_toy_drive(tmp_path_factory.mktemp("drive") / "city", keyframes=3)


# ---------------------------------------------------------------------------------------------------------- by hand
def lidar_by_hand():
    """Five returns of a LiDAR 2.5 m above the ego origin, one of them on the car and one without an echo."""
    ego_T_lidar = transform_from_se2(0.0, 0.0, 0.0)
    ego_T_lidar[2, 3] = 2.5
    returns = np.array(
        [
            [3.0, 0.0, -2.5, 10 / 255, 0],  # on the bonnet: left out
            [0.1, 0.0, 0.0, 0.0, 31],  # the LiDAR's housing, above the car's box: kept, but near
            [4.0, 3.0, 0.0, 20 / 255, 1],  # 5 m: the second bin
            [0.0, 12.0, 0.0, 30 / 255, 1],  # 12 m
            [60.0, 0.0, 60.0, 1.0, 2],  # 84.9 m, 45 degrees up
        ],
        dtype=np.float32,
    )
    return measure_lidar(returns, ego_T_lidar)


def test_lidar_counts_by_hand():
    counts = lidar_by_hand()
    assert (counts.stored, counts.near, counts.kept) == (5, 1, 4)
    assert counts.by_range.tolist() == [1, 1, 1, 0, 0, 1]
    assert counts.by_ring[[0, 1, 2, 31]].tolist() == [0, 2, 1, 1]
    assert counts.elevation_deg[2] == pytest.approx(45.0)
    assert np.flatnonzero(counts.by_intensity).tolist() == [0, 20, 30, 255]
    assert ring_count(counts) == 32


def test_means_over_turns():
    one = lidar_by_hand()
    none = measure_lidar(np.zeros((0, 5), dtype=np.float32), np.eye(4))
    mean = mean_of([one, none])
    assert mean.kept == 2
    assert mean.by_range.tolist() == [0.5, 0.5, 0.5, 0, 0, 0.5]
    assert ring_count(none) == 0


def test_a_ring_that_is_no_number_does_not_stop_the_count():
    returns = np.array([[9, 0, 0, 0, np.nan], [9, 0, 0, 0, -3], [9, 0, 0, 0, 1e9]], dtype=np.float32)
    counts = measure_lidar(returns, np.eye(4))
    assert counts.kept == counts.by_ring.sum() == 3


def test_rings_stay_with_their_points_when_one_is_not_finite(tmp_path):
    raw = np.array([[1, 0, 0, 255, 7], [np.nan, 0, 0, 0, 8], [2, 0, 0, 51, 9]], dtype=np.float32)
    raw.tofile(tmp_path / "a.pcd.bin")
    np.testing.assert_allclose(read_returns(tmp_path / "a.pcd.bin"), [[1, 0, 0, 1, 7], [2, 0, 0, 0.2, 9]], rtol=1e-6)


def test_quantiles_of_a_histogram():
    counts = np.array([1, 0, 2, 1])  # 0, 2, 2, 3
    assert histogram_quantiles(counts, (0.25, 0.5, 0.75, 0.76, 1.0)).tolist() == [0, 2, 2, 3, 3]
    assert np.isnan(histogram_quantiles(np.zeros(4), (0.5,))).all()


def test_bin_names():
    assert bin_names((0.0, 5.0, 10.0, np.inf)) == ["0-5", "5-10", "10+"]


def test_images_by_hand():
    images = torch.zeros(3, 3, 20, 20, dtype=torch.uint8)
    images[0, :, :, 10:] = 255  # half black, half saturated
    images[1] = 100
    numbers = measure_images(images, torch.tensor([True, True, False]))
    assert numbers.mean[:2].tolist() == [127.5, 100]
    assert numbers.std[:2].tolist() == [127.5, 0]
    assert (numbers.saturated[0], numbers.black[0]) == (0.5, 0.5)
    # The Laplacian is +255 and -255 on the two columns at the edge, of twenty.
    assert numbers.sharpness[0] == pytest.approx(255**2 / 10)
    assert (numbers.sharpness[1], numbers.contrast[1]) == (0, 0)
    assert numbers.contrast[0] > 20
    assert numbers.histogram[0, [0, 255]].tolist() == [0.5, 0.5]
    assert np.isnan(numbers.mean[2])
    assert np.isnan(numbers.histogram[2]).all()


def test_boxes_by_hand():
    rows = [
        ("vehicle.car", (2.0, 4.0, 1.5), 0.1, 5.0, 100),
        ("vehicle.car", (1.8, 4.4, 1.7), 10.1, 15.0, 0),
        ("vehicle.car", (1.9, 9.0, 1.6), np.nan, 10.0, 20),
        ("human.pedestrian.adult", (0.6, 0.6, 1.8), np.nan, 80.0, 0),
    ]
    boxes = box_numbers(rows, keyframes=2)
    assert list(boxes.by_class) == ["vehicle.car", "human.pedestrian.adult"]
    car = boxes.by_class["vehicle.car"]
    assert car.per_keyframe == 1.5
    np.testing.assert_allclose(car.size_wlh_m, [1.9, 4.4, 1.6])
    assert car.speed_mps[0] == pytest.approx(5.1)
    assert car.standing == 0.5
    assert np.isnan(boxes.by_class["human.pedestrian.adult"].speed_mps).all()
    assert boxes.by_distance.tolist() == [0.5, 1.0, 0, 0, 0.5]
    np.testing.assert_equal(boxes.points_by_distance, [100, 10, np.nan, np.nan, 0])
    assert boxes.without_points == 0.5


def test_the_grid_is_that_of_the_tiny_config():
    grid = Config.fromfile("configs/bev_jepa_nuscenes_tiny.py").bev_grid
    assert (GRID.x_range_m, GRID.y_range_m, GRID.z_range_m) == (grid.x_range_m, grid.y_range_m, grid.z_range_m)
    assert GRID.cell_m == grid.cell_m
    assert GRID.shape_yx == (64, 64)


# ---------------------------------------------------------------------------------------------------------- a drive
def numbers_of(root, most=None):
    reader = DatasetReader(root)
    chosen = reader.chosen(most)
    return reader.numbers(chosen, [reader.measure(clip) for clip in chosen])


def test_numbers_of_a_drive(drive):
    numbers = numbers_of(drive)
    assert numbers.keyframes == numbers.measured == 6
    assert numbers.image_size_px == (90, 160)
    assert ring_count(numbers.lidar) == 16
    assert numbers.lidar.by_ring.sum() == pytest.approx(numbers.lidar.kept)
    assert numbers.lidar.by_range.sum() == pytest.approx(numbers.lidar.kept)
    mean_deg = numbers.lidar.elevation_deg[:16] / numbers.lidar.by_ring[:16]
    np.testing.assert_allclose(mean_deg, np.linspace(-25, 3, 16), atol=0.1)
    assert numbers.cells.sum() == pytest.approx(1)
    assert numbers.boxes.by_class["vehicle.car"].per_keyframe == 1
    np.testing.assert_allclose(numbers.boxes.by_class["vehicle.car"].speed_mps, 0, atol=1e-6)
    assert numbers.boxes.points_by_distance[0] == 10


def test_keyframes_are_spread_over_the_drive(drive):
    reader = DatasetReader(drive)
    assert reader.chosen(None) == list(range(6))
    assert reader.chosen(2) == [0, 5]
    assert reader.chosen(100) == list(range(6))


def test_missing_parts_are_left_out(tmp_path, drive):
    root = write_toy_drive(tmp_path / "bare", keyframes=2, scenes=1)
    for path in [*root.glob("*/LIDAR_TOP/*"), *root.glob("*/CAM_BACK/*")]:
        path.unlink()
    for table in ("sample_annotation", "instance"):
        (root / VERSION / f"{table}.json").write_text("[]")
    numbers = numbers_of(root)
    assert numbers.lidar is None
    assert numbers.cells is None
    assert numbers.boxes is None
    rows = table_rows(numbers)
    assert rows["LiDAR, per turn"] == rows["boxes"] == rows["boxes by class"] == {}
    assert np.isnan(rows["images"]["CAM_BACK, mean"])
    assert rows["images"]["luminance (0 to 255), mean"] > 0


# ---------------------------------------------------------------------------------------------------------- the tool
def test_the_tool_writes_table_record_and_pictures(tmp_path, drive, capsys):
    bare = write_toy_drive(tmp_path / "bare", keyframes=2, scenes=1)
    for table in ("sample_annotation", "instance"):
        (bare / VERSION / f"{table}.json").write_text("[]")
    compare_datasets.main([str(drive), str(bare), "--samples", "2", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "bare: no annotation in the measured keyframes" in printed
    assert re.search(r"keyframes measured .* 2 of 6 .* 2 of 2", printed)

    record = json.loads((tmp_path / "out" / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert record["results"]["columns"] == ["city", "bare", "ratio"]
    table = record["results"]["table"]
    assert table["LiDAR, per turn"]["rings with returns"] == [16, 16, 1]
    assert table["boxes"]["boxes per keyframe"] == [1, None, None]
    assert table["images"].keys() >= {f"{name}, mean" for name in CAMERAS}
    assert record["split"]["city"]["scenes"] == ["scene-0061", "scene-0103"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"comparison.json", "comparison.png", "samples.png"}
    for name in ("comparison.png", "samples.png"):
        assert min(cv2.imread(str(tmp_path / "out" / name)).shape[:2]) > 600


def test_a_root_against_itself_has_ratio_one(tmp_path, drive):
    compare_datasets.main([str(drive), str(drive), "--samples", "1", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "comparison.json").read_text())["results"]
    assert results["columns"] == ["city (1)", "city (2)", "ratio"]
    rows = [row for section in results["table"].values() for row in section.values()]
    assert len(rows) > 50
    assert all(row[2] == pytest.approx(1) for row in rows if row[0])


@pytest.mark.real_data
def test_real_scenes_against_the_toy(tmp_path, drive, nuscenes_root):
    compare_datasets.main([str(drive), str(nuscenes_root), "--samples", "2", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "comparison.json").read_text())["results"]["table"]["LiDAR, per turn"]
    assert rows["rings with returns"][1] == 32
    assert 34000 < rows["records in the file"][1] < 35500


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere", "nowhere"], "error: nowhere: no such folder"),
        (["DRIVE", "DRIVE", "--samples", "0"], "error: --samples 0: want at least 1"),
        (["DRIVE", "DRIVE", "--version", "v1.0-x", "v1.0-mini"], "no tables"),
        (["DRIVE", "DRIVE", "--out", "FILE"], "cannot be made"),
    ],
)
def test_mistakes_are_one_line(tmp_path, drive, capsys, arguments, complaint):
    (tmp_path / "file").write_text("")
    places = {"DRIVE": str(drive), "FILE": str(tmp_path / "file")}
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: compare_datasets.main([places.get(word, word) for word in arguments]))
    assert left.value.code == 2
    error = capsys.readouterr().err.strip()
    assert complaint in error
    assert len(error.splitlines()) == 1
