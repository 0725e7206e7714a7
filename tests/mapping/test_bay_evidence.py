"""Bays of hand-made outlines along y = 8, judged against where the pavement begins."""

import numpy as np
import pytest
from shapely.geometry import LineString, Polygon, box

from avjepa.mapping.bay_evidence import bay_shapes, judge_bays
from avjepa.mapping.candidates import kerb_candidates
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.vector_map import MapElement
from tests.mapping.painted_ground import PaintedGround, prior_of

FAR_M = 15.0
BEGIN_M, END_M = 16.0, 28.0
OUT, IN = 3.0, -3.0  # the map has a bay, or a piece of pavement


def outline(depth_m, taper_m=1.5, end_m=END_M):
    """From x = 44 to 2, the road to its left, south of it."""
    y_m = 8 + depth_m
    detour = [(end_m, 8), (end_m - taper_m, y_m), (BEGIN_M + taper_m, y_m), (BEGIN_M, 8)]
    return LineString([(44, 8), *detour, (2, 8)])


def pavement(edge=None, height_m=0.15):
    """North of y = 8, or of an outline."""
    ground = PaintedGround((0, 0, 46, FAR_M))
    line = LineString([(0, 8), (46, 8)]) if edge is None else edge
    xs = sorted(line.coords)
    y_m = np.interp(ground.x_m, *np.array(xs).T)
    ground.height_m[ground.y_m > y_m] += height_m
    return ground


def judged(folder, ground, edge):
    return list(judge_bays(Mosaic([ground.write(folder / "a")]), edge))


@pytest.mark.parametrize(("depth_m", "is_new"), [(OUT, False), (IN, True)])
def test_a_bay_that_the_kerb_does_not_follow(tmp_path, depth_m, is_new):
    """The kerb runs straight on: of the map a bay is gone, or one is new where the map has pavement."""
    (bay,) = judged(tmp_path, pavement(), outline(depth_m))
    assert bay.is_new == is_new
    assert bay.depth_m == pytest.approx(3, abs=0.1)
    assert bay.length_m == pytest.approx(END_M - BEGIN_M, abs=0.1)
    assert bay.area.area == pytest.approx(3 * (END_M - BEGIN_M - 1.5), rel=0.02)


@pytest.mark.parametrize("depth_m", [OUT, IN])
def test_a_bay_that_the_kerb_follows_is_there(tmp_path, depth_m):
    assert judged(tmp_path, pavement(outline(depth_m)), outline(depth_m)) == []


def test_without_a_kerb_nothing_is_said(tmp_path):
    """Flat ground; and a kerb along half of the chord, hidden elsewhere by parked cars."""
    assert judged(tmp_path / "flat", pavement(height_m=0.0), outline(OUT)) == []
    ground = pavement()
    ground.stand(box(BEGIN_M, 6.2, BEGIN_M + 6, 8.2))
    ground.hide(box(BEGIN_M, 8.2, BEGIN_M + 6, FAR_M))
    assert judged(tmp_path / "cars", ground, outline(OUT)) == []


def test_nothing_known_behind_the_kerb(tmp_path):
    """It may be the sill of whatever hides the bay."""
    ground = pavement()
    ground.hide(box(0, 8.6, 46, FAR_M))
    assert judged(tmp_path, ground, outline(OUT)) == []


def test_a_hatched_area_is_no_pavement(tmp_path):
    """Paint along the map's edge of the road: the kerb was behind it all the time."""
    ground = pavement()
    ground.line(outline(IN))
    assert judged(tmp_path, ground, outline(IN)) == []


@pytest.mark.parametrize(
    ("line", "count"),
    [
        (outline(2.2), 1),
        (outline(3.5), 1),
        (outline(1.2), 0),  # a jagged mask, a kerb's radius
        (outline(5.0), 0),  # a side street
        (outline(3.0, taper_m=5.0, end_m=36.0), 0),  # a kerb that moved
        (outline(3.0, taper_m=5.0, end_m=40.0), 0),
        (outline(2.5, end_m=BEGIN_M + 5), 0),  # too short for a car
        (outline(2.5, end_m=BEGIN_M + 27), 0),
        (
            LineString([(44, 8), (28, 8), (27.3, 6), (26.5, 11), (17.5, 11), (16, 8), (2, 8)]),
            0,
        ),  # behind a nose of pavement
        (LineString([(44, 8), (28, 8), (31, 11), (13, 11), (16, 8), (2, 8)]), 0),  # a yard, wider than its mouth
        (LineString([(44, 8), (24, 8), (23, 11), (2, 11)]), 0),  # a road that becomes wider
        (
            LineString([(30, 0), (28, 8), (26.5, 11), (17.5, 11), (16, 8), (14, 0)]),
            0,
        ),  # a court, without an edge beside it
    ],
)
def test_what_a_bay_looks_like(line, count):
    assert len(bay_shapes(line)) == count


def test_bays_on_a_bend(tmp_path):
    """The road's edge turns by 24 degrees in 20 m; two bays, each told once."""
    s_m = np.arange(0.0, 60.5, 0.5)
    left_m = np.interp(s_m, [10, 11.5, 20.5, 22, 32, 33.5, 42.5, 44], [0, -2.5, -2.5, 0, 0, 2.5, 2.5, 0])
    angle = s_m / 48
    r_m = 48 - left_m
    line = LineString(np.stack([r_m * np.cos(angle), r_m * np.sin(angle)], -1)).simplify(0.3)
    shapes = sorted(bay_shapes(line), key=lambda shape: shape.from_m)
    assert [np.sign(shape.left_m) for shape in shapes] == [-1, 1]


def told(folder, edge):
    """Kinds and elements of what is said of an outline whose kerb runs straight on."""
    prior = prior_of(MapElement("road", "drivable_area", Polygon([*edge.coords, (2, 2), (44, 2)])))
    found = kerb_candidates(Mosaic([pavement().write(folder)]), prior, [edge])
    return [(one.kind, one.element_id, one.old is None, one.new is None) for one in found]


def test_a_bay_is_told_once(tmp_path):
    """Not as a kerb that moved, too. What moved is still told as that, in either direction."""
    assert told(tmp_path / "gone", outline(OUT)) == [("deletion", "road", False, True)]
    assert told(tmp_path / "new", outline(IN)) == [("insertion", None, True, False)]
    assert told(tmp_path / "moved in", outline(2.5, 5.0, 40.0)) == [("geometry", "road", False, True)]
    assert told(tmp_path / "moved out", outline(-2.5, 5.0, 40.0)) == [("geometry", "road", True, False)]
