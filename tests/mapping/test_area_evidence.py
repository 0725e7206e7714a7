"""Crosswalks and stop lines: fresh, worn, gone, unseen, moved."""

import numpy as np
import pytest
import shapely
from shapely.affinity import translate
from shapely.geometry import box

from avjepa.mapping.area_evidence import moved_stop_line, read_area, searched_share
from avjepa.mapping.candidates import painted_area_candidates
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.sharpness import Views
from avjepa.mapping.survey import SurveyedDrive
from avjepa.mapping.vector_map import MapElement
from tests.mapping.painted_ground import CITY, PAINT_REFLECTS, ROAD_REFLECTS, PaintedGround, index_of, straight_frames

CROSSWALK = box(10, 3, 13, 11)
STOP_LINE = box(10, 4, 10.5, 8)  # across a road along x
NOTHING = shapely.GeometryCollection()


def road(seed=0):
    return PaintedGround((0, 0, 24, 14), seed)


def mosaic_of(folder, *drives):
    return Mosaic([ground.write(folder / str(i)) for i, ground in enumerate(drives)])


def test_fresh_paint(tmp_path):
    """A zebra of half stripes, half gaps covers .5 of its area, fresh ones at least .45; twice as much light comes back."""
    ground = road()
    ground.zebra(CROSSWALK)
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert reading.seen_share == 1
    assert reading.cover == pytest.approx(0.5 / 0.45, abs=0.05)
    assert reading.reflects == pytest.approx((PAINT_REFLECTS + ROAD_REFLECTS) / 2 / ROAD_REFLECTS, rel=0.05)
    assert reading.drives == 1
    assert not reading.says_gone
    assert not reading.says_worn


def test_worn_paint(tmp_path):
    """A third of the stripes is left."""
    ground = road()
    ground.zebra(box(10, 3, 11, 11))
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert reading.cover == pytest.approx(0.5 / 0.45 / 3, abs=0.05)
    assert reading.says_worn
    assert not reading.says_gone


def test_no_paint(tmp_path):
    reading = read_area(mosaic_of(tmp_path, road(0), road(1)), CROSSWALK, "ped_crossing")
    assert reading.cover < 0.02
    assert reading.reflects == pytest.approx(1, abs=0.05)
    assert reading.says_gone
    assert reading.drives == 2


def test_cameras_alone_do_not_say_gone(tmp_path):
    """Paint in deep shadow still reflects."""
    ground = road()
    ground.intensity[ground.within(CROSSWALK)] *= 2
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert reading.cover < 0.02
    assert not reading.says_gone


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_unseen_or_seen_from_afar_alone(tmp_path, weight):
    """One view from 16 m weighs .2: too little to say anything, where LiDAR met nothing."""
    ground = road()
    ground.weight *= weight
    ground.returns[:] = 0
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert reading.seen_share == 0
    assert np.isnan(reading.cover)
    assert not reading.says_gone
    assert not reading.says_worn
    assert reading.drives == 0


@pytest.mark.parametrize(("weight", "seen_share"), [(0.0, 0), (0.2, 1)])
def test_a_glimpse_is_enough_where_lidar_sees_that_there_is_no_paint(tmp_path, weight, seen_share):
    """No stripes can be seen from there. LiDAR alone, of a place that no camera saw, does not do."""
    ground = road()
    ground.weight *= weight
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert reading.seen_share == seen_share
    assert np.isnan(reading.stands_out)
    assert reading.says_gone == reading.can_tell == bool(weight)


def test_a_glimpse_of_what_reflects_cannot_tell(tmp_path):
    ground = road()
    ground.zebra(CROSSWALK)
    ground.weight *= 0.2
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert not reading.can_tell
    assert not reading.says_gone


def test_half_of_it_hidden(tmp_path):
    ground = road()
    ground.zebra(CROSSWALK)
    ground.hide(box(10, 3, 13, 7))
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert reading.seen_share == pytest.approx(0.5, abs=0.02)
    assert reading.cover == pytest.approx(0.5 / 0.45, abs=0.06)


def test_rain_leaves_little_contrast(tmp_path):
    """Paint of a quarter of the usual contrast is painted nowhere by the bar of dry days, and stands out all the same."""
    ground = road()
    ground.zebra(CROSSWALK, contrast=0.15)
    reading = read_area(mosaic_of(tmp_path / "zebra", ground), CROSSWALK, "ped_crossing")
    assert reading.cover < 0.15
    assert reading.stands_out > 1
    assert not reading.says_gone
    ground = road()
    ground.paint(STOP_LINE, (0.15, 0.0), ROAD_REFLECTS)
    ground.returns[:] = 0
    bar = read_area(mosaic_of(tmp_path / "bar", ground), STOP_LINE, "stop_line")
    assert bar.stands_out > 1
    assert np.isnan(bar.reflects)
    assert not bar.says_gone


def test_a_blotchy_road_with_dividers_has_no_crosswalk(tmp_path):
    """A third of the area is as bright as paint, on the crosswalk's place and before it; LiDAR sees road alone."""
    ground = road()
    blotches = np.random.default_rng(1).random(ground.contrast.shape) < 0.3
    ground.contrast[blotches] += 0.4
    for y_m in (5.0, 9.0):
        ground.line(shapely.LineString([(0, y_m), (24, y_m)]))
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert reading.cover > 0.25 / 0.45
    assert reading.reflects == pytest.approx(1, abs=0.1)
    assert reading.says_gone


def test_what_pixels_blur_is_not_gone(tmp_path):
    """Small images, from 17 m: a pixel covers the stop line and the road beside it. From 8 m one shows it."""
    for x_m, telling in ((-9.0, False), (1.0, True)):
        ground = road()
        ground.returns[:] = 0
        frames = straight_frames(x_m, x_m + 1, 6.0)
        folder = ground.write(tmp_path / f"{x_m}", frames)
        drive = SurveyedDrive("scene-0061", CITY, frames, ())
        mosaic = Mosaic([folder], views=Views([drive], index_of(frames)))
        reading = read_area(mosaic, STOP_LINE, "stop_line")
        assert reading.telling == reading.says_gone == telling


@pytest.mark.parametrize("distance_m", [3.0, -4.0, 1.6])
def test_a_stop_line_that_moved(tmp_path, distance_m):
    ground = road()
    x0, y0, x1, y1 = STOP_LINE.bounds
    ground.paint(box(x0 + distance_m, y0, x1 + distance_m, y1))
    found, painted = moved_stop_line(mosaic_of(tmp_path, ground), STOP_LINE, NOTHING)
    moved_m = np.array(found.centroid.coords[0]) - STOP_LINE.centroid.coords[0]
    assert moved_m == pytest.approx([distance_m, 0], abs=0.3)
    assert painted > 0.9


def test_a_stop_line_that_moved_and_that_only_lidar_sees(tmp_path):
    ground = road()
    ground.paint(box(13, 4, 13.5, 8), (0.0, 0.0))
    found, _ = moved_stop_line(mosaic_of(tmp_path, ground), STOP_LINE, NOTHING)
    assert found.centroid.x == pytest.approx(13.25, abs=0.3)


def test_no_other_stop_line(tmp_path):
    """Neither on plain road, nor a zebra that the map has, nor one that it lacks, nor a bright place."""
    assert moved_stop_line(mosaic_of(tmp_path / "plain", road()), STOP_LINE, NOTHING) is None
    ground = road()
    ground.zebra(box(12, 2, 15, 12))
    mosaic = mosaic_of(tmp_path / "zebra", ground)
    assert moved_stop_line(mosaic, STOP_LINE, box(12, 2, 15, 12)) is None
    assert moved_stop_line(mosaic, STOP_LINE, NOTHING) is None
    sunny = road()
    sunny.paint(box(11.5, 0, 17, 14), (0.5, 0.0))
    assert moved_stop_line(mosaic_of(tmp_path / "sun", sunny), STOP_LINE, NOTHING) is None


def told(folder, ground):
    """Log-odds of what is said of the stop line, by kind, without LiDAR."""
    ground.returns[:] = 0
    element = MapElement("stop", "stop_line", STOP_LINE)
    candidates = painted_area_candidates(mosaic_of(folder, ground), element, NOTHING)
    return {one.kind: one.log_odds for one in candidates}


def test_a_stop_line_that_was_hardly_seen_has_moved_where_another_is_clear(tmp_path):
    """Most of it from 10 m at the best. Without another nothing is told, nor where it is painted."""
    moved = translate(STOP_LINE, 3.5)
    for name, shapes, kinds in (("moved", [moved], ["geometry"]), ("gone", [], []), ("both", [moved, STOP_LINE], [])):
        ground = road()
        for shape in shapes:
            ground.paint(shape)
        ground.weight[ground.within(box(9.5, 0, 11, 6.4))] = 0.4
        assert list(told(tmp_path / name, ground)) == kinds


def test_a_stop_line_may_have_moved_to_where_nobody_saw(tmp_path):
    """The less of its road was seen, the less sure it is gone."""
    seen = told(tmp_path / "seen", road())["deletion"]
    half = road()
    half.weight[half.within(box(12, 0, 24, 14))] = 0
    assert told(tmp_path / "half", half)["deletion"] == pytest.approx(seen - 2 * (5.5 / 14), abs=0.15)
    assert searched_share(mosaic_of(tmp_path / "share", half), STOP_LINE) == pytest.approx(1 - 5.5 / 14, abs=0.06)
