import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely.geometry import box

from avjepa.errors import ConfigError, DataError
from avjepa.mapping.baselines.drivable_difference import drivable_changes, drivable_elements
from avjepa.mapping.baselines.ground_raster import CELL_M, LOW, RAISED, GroundRaster, road_height
from avjepa.mapping.baselines.sights import seen_part, sight_of, utc
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.geojson_maps import write_geojson_map
from avjepa.mapping.outputs.frame_predictions import read_frame_predictions
from avjepa.mapping.outputs.local_json import read_local_json
from avjepa.mapping.vector_map import ElementMap, MapElement
from tests.mapping.evaluation.scenes import START_US, STEP_US, at, square, straight
from tests.toy_drive import write_toy_drive
from tools import map_change_baselines as tool

PATH = straight(np.arange(0, 41, 5))
ROAD = box(-16, -4, 56, 4)


def raster_of(height_of, times=2, returns=5):
    """A raster around the path with so many returns in the middle of every cell; ``height_of(x, y)`` in metres, nan for none."""
    raster = GroundRaster.around(PATH.xy_m)
    x_m, y_m = np.moveaxis(raster.centres_m, -1, 0).reshape(2, -1)
    height_m = height_of(x_m, y_m)
    known = np.isfinite(height_m)
    xyz_m = np.column_stack([x_m, y_m, height_m])[known]
    for turn in range(times):
        for _ in range(returns):
            raster.add(xyz_m, height_m[known], START_US + turn * STEP_US)
    return raster


def street(x_m, y_m):
    """A road 8 m wide between kerbs."""
    return np.where(np.abs(y_m) < 4, 0.0, 0.15)


def elements(shape=ROAD):
    """A map with one drivable area."""
    return [MapElement("road", "drivable_area", shape)]


# -------------------------------------------------------------------------------------------------------------- sights
def test_who_saw_a_place():
    second = straight(np.arange(0, 41, 5), "second", hours=2)
    found = sight_of(square(30), [PATH, second])  # within 20 m from x = 9: keyframes 2 (10 m) to 8 (40 m)
    assert (found.n_traversals, found.n_frames) == (2, 14)
    assert (found.first_seen, found.last_seen) == (at(2), at(8, hours=2))
    assert [seen.distance_m for seen in found.evidence] == [0.0, 0.0, 4.0]
    assert found.evidence[0].frame == "drive-6"
    assert sight_of(square(200), [PATH]) is None


def test_times_of_the_tables_are_exact():
    assert utc(1_538_984_233_547_259).isoformat() == "2018-10-08T07:37:13.547259+00:00"


def test_the_part_in_a_region_keeps_its_dimension():
    comb = shapely.Polygon([(0, 0), (4, 0), (4, 2), (3, 1), (2, 2), (1, 1), (0, 2)])
    assert seen_part(comb, box(-1, -1, 5, 0)) is None  # an edge alone
    assert seen_part(comb, box(-1, -1, 5, 1)).area == pytest.approx(4.0)
    assert seen_part(shapely.LineString([(0, 0), (9, 0)]), box(4, -1, 5, 1)).length == pytest.approx(1.0)
    assert seen_part(shapely.LineString([(0, 0), (9, 0)]), box(20, -1, 25, 1)) is None


# -------------------------------------------------------------------------------------------------------------- ground
def test_cells_by_floor_and_kinds_by_height():
    raster = GroundRaster(np.array([-0.8, 0.0]), np.zeros((3, 2, 4), dtype=int))
    xyz = np.array([[-0.81, 0.1, 0], [-0.79, 0.1, 0], [-0.01, 0.5, 0.15], [0.0, 0.5, 1.0], [0.81, 0.1, 0]])
    raster.add(xyz, xyz[:, 2], START_US)
    assert raster.counts.sum() == 3  # the first and the last lie outside
    assert raster.counts[LOW, 0, 0] == raster.counts[RAISED, 1, 1] == raster.counts[2, 1, 2] == 1
    assert raster.centres_m[1, 2] == pytest.approx([0.2, 0.6])


def test_a_cell_is_known_from_its_fifth_return_and_ground_by_four_fifths():
    raster = GroundRaster(np.zeros(2), np.zeros((3, 1, 1), dtype=int))
    point = np.array([[0.1, 0.1, 0.0]])
    for number, height_m in enumerate((0.0, 0.0, 0.0, 0.5)):
        raster.add(point, np.array([height_m]), START_US + number)
    assert raster.known_us[0, 0] == 0
    assert raster.share(LOW)[0, 0] == 0.0
    raster.add(point, np.array([0.03]), START_US + 4)
    raster.add(point, np.array([0.5]), START_US + 5)
    assert raster.known_us[0, 0] == START_US + 4
    assert raster.share(LOW)[0, 0] == pytest.approx(4 / 6)
    assert not raster.is_ground(LOW)[0, 0]


def test_heights_are_above_the_road_that_is_driven():
    ego_T_lidar = np.eye(4)
    ego_T_lidar[:3, 3] = 1.0, 0.0, 1.8
    track, beside = [[x, y, -1.75] for x in (2.0, 5.0, 8.0) for y in (-0.5, 0.5)], [[3.0, 6.0, -1.6], [3.0, 0.0, -0.5]]
    # The road lies 5 cm above the plane of the wheels (a tyre, a calibration); the last return is a car ahead.
    height_m = road_height(np.array(track + beside), ego_T_lidar)
    assert height_m == pytest.approx([0.0] * 6 + [0.15, 1.25])


# ---------------------------------------------------------------------------------------------------------- difference
def test_a_street_as_mapped_has_no_change():
    assert drivable_changes(elements(), raster_of(street), [PATH]) == []


def test_a_kerb_that_moved_in():
    wide = elements(ROAD.union(box(10, 4, 26, 6)))  # the prior has 16 x 2 m of road where the walkway is
    (found,) = drivable_changes(wide, raster_of(street), [PATH])
    assert (found.atomic_change, found.status, found.element_id) == ("geometry", "confirmed", "road")
    assert found.new_geometry is None
    assert box(10, 4, 26, 6).covers(found.old_geometry)
    assert found.old_geometry.area == pytest.approx(15.2 * 1.6, rel=0.15)  # without a cell along the outline
    assert (found.confidence, found.confirmed_seen, found.first_seen) == (1.0, at(0), at(0))


def test_a_kerb_that_moved_out_a_new_place_and_one_that_is_gone():
    def wider(x_m, y_m):
        bay = (x_m > 10) & (x_m < 26) & (y_m >= 4) & (y_m < 6)
        yard = (x_m > 0) & (x_m < 6) & (y_m > -12) & (y_m < -8)
        return np.where(bay | yard, 0.0, street(x_m, y_m))

    prior = [*elements(), MapElement("island", "drivable_area", box(30, 8, 36, 12))]
    found = {change.atomic_change: change for change in drivable_changes(prior, raster_of(wider), [PATH])}
    assert set(found) == {"geometry", "insertion", "deletion"}
    assert box(10, 4, 26, 6).covers(found["geometry"].new_geometry)
    assert (found["geometry"].element_id, found["geometry"].old_geometry) == ("road", None)
    assert found["insertion"].element_id is None
    assert box(-0.4, -12.4, 6.4, -7.6).covers(found["insertion"].new_geometry)
    assert found["deletion"].element_id == "island"
    # Its cells were known at the first two keyframes, which were too far off to count as sight of it: the first that does is said.
    assert found["deletion"].confirmed_seen == found["deletion"].first_seen > at(1)


def test_cars_and_the_unseen_say_nothing():
    wide = elements(ROAD.union(box(10, 4, 26, 6)))
    parked = raster_of(lambda x_m, y_m: np.where((y_m > 4) & (y_m < 6), 0.8, street(x_m, y_m)))
    unseen = raster_of(lambda x_m, y_m: np.where((y_m > 4) & (y_m < 6), np.nan, street(x_m, y_m)))
    assert drivable_changes(wide, parked, [PATH]) == []
    assert drivable_changes(wide, unseen, [PATH]) == []


def test_a_few_cells_are_a_candidate_and_fewer_nothing():
    def patch(cells):
        return lambda x_m, y_m: np.where(
            (x_m > 10) & (x_m < 10 + cells * CELL_M) & (y_m > 8) & (y_m < 8 + 2 * CELL_M), 0.0, street(x_m, y_m)
        )

    statuses = [
        [change.status for change in drivable_changes(elements(), raster_of(patch(n)), [PATH])] for n in (2, 5, 8)
    ]
    assert statuses == [[], ["candidate"], ["confirmed"]]  # 0.64, 1.6 and 2.56 m2


def test_a_map_without_drivable_area():
    lines = ElementMap.of(FRAMES["minicity-a"], [MapElement("edge", "road_edge", shapely.LineString([(0, 0), (9, 0)]))])
    with pytest.raises(DataError, match="no drivable_area"):
        drivable_elements(lines)


# ---------------------------------------------------------------------------------------------------------------- tool
@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A toy drive on a plane, and a prior whose road leaves out the plane to the left of the car."""
    root = write_toy_drive(tmp_path_factory.mktemp("toy"), image_size=(32, 18))
    road = MapElement("road", "drivable_area", box(280, 880, 340, 904))
    write_geojson_map(root / "prior.geojson", ElementMap.of(FRAMES["singapore-onenorth"], [road]))
    return root


def run(root: Path, method: str, out: Path, *more: str) -> tuple:
    """Runs the tool on the toy drive; the report and the frames."""
    where = ["--data", str(root), "--map", str(root / "prior.geojson"), "--scenes", "scene-0061", "--out", str(out)]
    tool.main([method, *where, *more])
    return read_local_json(out / "changes_local.json"), read_frame_predictions(out / "frames.json")


def test_ground_on_a_drive(root, tmp_path, capsys):
    report, frames = run(root, "ground", tmp_path)
    assert report.scenes == ("scene-0061",)
    (largest, *_) = sorted(report.changes, key=lambda change: -change.geometry.area)
    assert (largest.atomic_change, largest.status, largest.layer) == ("geometry", "confirmed", "drivable_area")
    assert largest.new_geometry.area > 50
    assert all(change.geometry.bounds[1] > 904 for change in report.changes)  # the mapped part is as mapped
    assert largest.confirmed_seen is not None
    assert len(frames) >= 3
    assert "confirmed; drives: 1" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["draw", "look"])
def test_controls_want_a_map_whose_errors_are_known(root, tmp_path, method):
    with pytest.raises(ConfigError, match="--fit-truth"):
        run(root, method, tmp_path)
    truth = tmp_path / "truth.geojson"
    frame = FRAMES["singapore-onenorth"].contract()
    truth.write_text(json.dumps({"type": "FeatureCollection", "frame": frame, "features": []}))
    fit = ["--fit-map", str(root / "prior.geojson"), "--fit-truth", str(truth), "--fit-scenes", "scene-0061"]
    report, frames = run(root, method, tmp_path / "out", *fit)
    assert report.changes == ()  # no edit to learn from: nothing is likely
    assert all(frame.pred_class == 1 for frame in frames)
    truth.write_text(truth.read_text().replace("singapore-onenorth", "elsewhere"))
    with pytest.raises(DataError, match="elsewhere"):
        run(root, method, tmp_path / "out", *fit)
