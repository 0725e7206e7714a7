"""Crosswalks and stop lines: fresh, worn, gone, unseen, moved."""

import numpy as np
import pytest
import shapely
from shapely.geometry import box

from avjepa.mapping.area_evidence import moved_stop_line, read_area
from avjepa.mapping.mosaic import Mosaic
from tests.mapping.painted_ground import PAINT_REFLECTS, ROAD_REFLECTS, PaintedGround

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
    """One view from 16 m weighs .2: too little to say anything."""
    ground = road()
    ground.weight *= weight
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert reading.seen_share == 0
    assert np.isnan(reading.cover)
    assert not reading.says_gone
    assert not reading.says_worn
    assert reading.drives == 0


def test_half_of_it_hidden(tmp_path):
    ground = road()
    ground.zebra(CROSSWALK)
    ground.hide(box(10, 3, 13, 7))
    reading = read_area(mosaic_of(tmp_path, ground), CROSSWALK, "ped_crossing")
    assert reading.seen_share == pytest.approx(0.5, abs=0.02)
    assert reading.cover == pytest.approx(0.5 / 0.45, abs=0.06)


@pytest.mark.parametrize("distance_m", [3.0, -4.0, 1.6])
def test_a_stop_line_that_moved(tmp_path, distance_m):
    ground = road()
    x0, y0, x1, y1 = STOP_LINE.bounds
    ground.paint(box(x0 + distance_m, y0, x1 + distance_m, y1))
    found, painted = moved_stop_line(mosaic_of(tmp_path, ground), STOP_LINE, NOTHING)
    moved_m = np.array(found.centroid.coords[0]) - STOP_LINE.centroid.coords[0]
    assert moved_m == pytest.approx([distance_m, 0], abs=0.3)
    assert painted > 0.9


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
