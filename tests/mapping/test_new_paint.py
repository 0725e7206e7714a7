"""Crosswalks that the prior lacks."""

import numpy as np
import pytest
import shapely
from shapely.geometry import box

from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.new_paint import MappedGround, new_crosswalks, strong_returns
from tests.mapping.painted_ground import ROAD_REFLECTS, PaintedGround

ROAD = box(0, 2, 50, 14)
CROSSWALK = box(10, 3, 13.5, 13)
NOTHING = shapely.GeometryCollection()


def road():
    return PaintedGround((0, 0, 50, 16))


def found(folder, ground, known=NOTHING, area=ROAD, lines=NOTHING, parking=NOTHING):
    mosaic = Mosaic([ground.write(folder / "a")])
    return [
        one
        for tile in mosaic.tiles()
        for one in new_crosswalks(mosaic, tile, MappedGround(area, lines, known, parking))
    ]


@pytest.mark.parametrize("x_m", [10.0, 24.0])
def test_a_new_crosswalk(tmp_path, x_m):
    """Also one on the border of two tiles (x = 25.6 m) is found once, and whole."""
    area = box(x_m, 3, x_m + 3.5, 13)
    ground = road()
    ground.zebra(area)
    (new,) = found(tmp_path, ground)
    assert new.area.intersection(area).area / new.area.union(area).area > 0.7
    assert new.reading.cover == pytest.approx(0.5 / 0.45, rel=0.25)
    assert new.reading.reflects > 1.5


def test_who_walks_over_it_does_not_hide_it(tmp_path):
    """People were on every cell once, and its ground was seen at other times; barriers that stay hide theirs."""
    ground = road()
    ground.zebra(CROSSWALK)
    ground.keyframes[ground.within(CROSSWALK)] = 1
    (new,) = found(tmp_path / "walked", ground)
    assert new.area.intersection(CROSSWALK).area / new.area.union(CROSSWALK).area > 0.7
    barred = road()
    barred.zebra(CROSSWALK)
    barred.stand(CROSSWALK)
    assert found(tmp_path / "barred", barred) == []


def test_half_of_a_crosswalk(tmp_path):
    """Between a kerb and the line in the middle of a narrow road it is deeper than wide."""
    ground = road()
    half = box(10, 3, 13.8, 6.2)
    ground.zebra(half)
    (new,) = found(tmp_path, ground)
    assert new.area.intersection(half).area / new.area.union(half).area > 0.6


def test_a_crosswalk_over_known_lines_and_parking_strips_is_whole(tmp_path):
    """The map's line is not looked at; what lies on both sides of it goes on under it."""
    ground = road()
    ground.zebra(CROSSWALK)
    lines = box(0, 7.8, 50, 9.2)
    parking = shapely.union_all([box(0, 3, 50, 4.5), box(0, 11.5, 50, 13)])
    (new,) = found(tmp_path, ground, lines=lines, parking=parking)
    assert new.area.intersection(CROSSWALK).area / new.area.union(CROSSWALK).area > 0.7


@pytest.mark.parametrize("parking", [shapely.Polygon(), box(100, 2, 110, 10)])
def test_a_road_without_parking_strips(tmp_path, parking):
    ground = road()
    ground.zebra(CROSSWALK)
    assert len(found(tmp_path, ground, parking=parking)) == 1


def test_bays_of_a_car_park_are_no_crosswalk(tmp_path):
    ground = road()
    ground.zebra(CROSSWALK)
    assert found(tmp_path, ground, parking=box(0, 2, 50, 10)) == []


def test_a_known_line_alone_is_no_crosswalk(tmp_path):
    """Nor does one join places on one side of it."""
    ground = road()
    ground.paint(box(0, 8.3, 50, 8.7))
    assert found(tmp_path, ground, lines=box(0, 7.8, 50, 9.2)) == []


@pytest.mark.parametrize(("seen_m", "count"), [(6.0, 1), (4.0, 0)])
def test_a_crosswalk_of_which_cameras_saw_half(tmp_path, seen_m, count):
    """Of 10 m; LiDAR met all of it."""
    ground = road()
    ground.zebra(CROSSWALK)
    ground.weight[ground.within(box(0, 3 + seen_m, 50, 16))] = 0
    assert len(found(tmp_path, ground)) == count


def test_a_bright_pavement_has_no_stripes(tmp_path):
    """Of a bay that was built over: it reflects twice as much as the road, and is brighter."""
    ground = road()
    ground.paint(box(10, 3, 22, 6), (0.25, 0.0), 2 * ROAD_REFLECTS)
    assert found(tmp_path, ground) == []


@pytest.mark.parametrize(("contrast", "count"), [(0.15, 0), (0.3, 1)])
def test_a_bay_of_other_asphalt_is_no_crosswalk(tmp_path, contrast, count):
    """It reflects more than the road, with faint stripes as of tyres: hardly a cell of it is bright. Worn paint is."""
    ground = road()
    ground.zebra(CROSSWALK, contrast=contrast)
    assert len(found(tmp_path, ground)) == count


def test_known_paint_is_not_new(tmp_path):
    ground = road()
    ground.zebra(CROSSWALK)
    assert found(tmp_path, ground, known=CROSSWALK.buffer(0.7)) == []


def test_beside_the_road_is_not_on_it(tmp_path):
    ground = road()
    ground.zebra(CROSSWALK)
    assert found(tmp_path, ground, area=box(20, 2, 50, 14)) == []


def test_sun_is_no_paint(tmp_path):
    """Bright stripes between the shadows of trees reflect no more light of the LiDAR than the road."""
    ground = road()
    for bottom in np.arange(3, 13, 1.0):
        ground.paint(box(10, bottom, 13.5, bottom + 0.5), reflects=ROAD_REFLECTS)
    assert found(tmp_path, ground) == []


def test_a_plate_is_no_crosswalk(tmp_path):
    """What reflects and looks like the road around it; what is painted all over; a single line across the road."""
    plate = road()
    plate.intensity[plate.within(CROSSWALK)] *= 3
    assert found(tmp_path / "plate", plate) == []
    full = road()
    full.paint(CROSSWALK)
    assert found(tmp_path / "full", full) == []
    line = road()
    line.paint(box(10, 3, 10.4, 13))
    assert found(tmp_path / "line", line) == []


def test_strong_is_beside_the_median():
    """Intensity in whatever unit: a place of twice the road's is strong, and all of an even road is not."""
    wanted = np.ones((60, 60), bool)
    ground = np.stack([np.full((60, 60), 2.0), np.full((60, 60), 2 * 37.0), np.zeros((60, 60))]).astype(np.float32)
    assert not strong_returns(ground, wanted).any()
    ground[1, 20:40, 20:40] *= 2
    strong = strong_returns(ground, wanted)
    assert strong[27:33, 27:33].all()
    assert not strong[:10].any()
    assert not strong_returns(ground, np.zeros_like(wanted)).any()
