"""Barriers across a lane, and what is none."""

import numpy as np
import pytest
from shapely.geometry import LineString, box

from avjepa.mapping.closure_evidence import judge_closure, lane_line
from avjepa.mapping.mosaic import Mosaic
from tests.mapping.painted_ground import PaintedGround

LANE = LineString([(2, 6), (46, 6)])


def judged(folder, *things, keyframes=5):
    ground = PaintedGround((0, 3, 48, 9))
    for thing in things:
        ground.stand(thing, keyframes)
    return judge_closure(Mosaic([ground.write(folder / "a")]), LANE)


def barrier(x_m, from_m=4.5, to_m=7.5):
    return box(x_m, from_m, x_m + 0.5, to_m)


def car(x_m):
    return box(x_m, 5.1, x_m + 4.5, 6.9)


def test_two_barriers_close_a_lane(tmp_path):
    closure = judged(tmp_path, barrier(12), barrier(30))
    assert LANE.coords[0][0] + closure.from_m == pytest.approx(12, abs=0.4)
    assert LANE.coords[0][0] + closure.to_m == pytest.approx(30.5, abs=0.4)
    assert (closure.drives, closure.keyframes) == (1, 5)


def test_the_longest_stretch_of_three(tmp_path):
    closure = judged(tmp_path, barrier(10), barrier(20), barrier(34))
    assert closure.to_m - closure.from_m == pytest.approx(24.5, abs=0.6)


@pytest.mark.parametrize(
    "things",
    [
        (),
        (barrier(12),),
        (barrier(12), barrier(16)),  # one row of barriers
        (car(10), car(28)),  # they wait
        (car(10), barrier(30)),
        (barrier(12, to_m=5.2), barrier(30, to_m=5.2)),  # cones at the lane's edge
        (barrier(12), barrier(30), box(13, 4.5, 29, 7.5)),  # a truck between, or a wall
    ],
)
def test_what_closes_nothing(tmp_path, things):
    assert judged(tmp_path, *things) is None


def test_what_was_there_for_a_moment(tmp_path):
    """Two cars that crossed, in two keyframes each."""
    assert judged(tmp_path, barrier(12), barrier(30), keyframes=2) is None


def test_cones_between_barriers_are_a_closure(tmp_path):
    assert judged(tmp_path, barrier(12), barrier(30), box(20, 5.8, 20.4, 6.2)) is not None


def test_lanes_that_are_too_short_are_not_judged():
    assert lane_line(None) is None
    assert lane_line(LineString([(0, 0), (9, 0)])) is None
    assert lane_line(LANE) is LANE


def beams(x_m, from_m=4.7, to_m=7.3):
    """Returns of one scan of a barrier, a LiDAR's beams apart."""
    return [box(x_m, y_m, x_m + 0.3, y_m + 0.1) for y_m in np.arange(from_m, to_m, 0.4)]


def glimpsed(folder, *cones_x_m):
    """A barrier that is seen well, another that is seen once, and cones between them."""
    ground = PaintedGround((0, 3, 48, 9))
    ground.stand(barrier(12), 5)
    for scan in beams(30):
        ground.stand(scan, 1)
    for x_m in cones_x_m:
        ground.stand(box(x_m, 7.2, x_m + 0.2, 7.4), 2)
    return judge_closure(Mosaic([ground.write(folder / "a")]), LANE)


def test_a_row_of_cones_leads_to_a_barrier_that_was_seen_once(tmp_path):
    closure = glimpsed(tmp_path / "cones", 18, 24)
    assert LANE.coords[0][0] + closure.to_m == pytest.approx(30.2, abs=0.4)
    assert closure.keyframes == 1
    assert glimpsed(tmp_path / "one", 18) is None
    assert glimpsed(tmp_path / "none") is None


def test_a_barrier_whose_cells_were_met_at_different_times(tmp_path):
    """Each scan meets other cells of it: no cell of its middle was met thrice, and yet it is one barrier."""
    ground = PaintedGround((0, 3, 48, 9))
    for x_m in (12, 30):
        ground.stand(box(x_m, 4.5, x_m + 0.3, 5.5), 4)
        ground.stand(box(x_m, 5.5, x_m + 0.3, 6.5), 1)
        ground.stand(box(x_m, 6.5, x_m + 0.3, 7.5), 4)
    closure = judge_closure(Mosaic([ground.write(tmp_path / "a")]), LANE)
    assert closure.to_m - closure.from_m == pytest.approx(18.3, abs=0.6)


@pytest.mark.parametrize("x_m", [18.0, 18.1, 18.2, 18.3, 18.4, 18.5])
def test_a_cone_of_one_cell_is_met_wherever_it_stands(tmp_path, x_m):
    """LiDAR meets a cone 15 m away in one cell of the ground: rows of the strip lie further apart."""
    ground = PaintedGround((0, 3, 48, 9))
    ground.stand(barrier(12), 5)
    ground.stand(barrier(30), 1)
    for cone_m in (x_m, x_m + 6):
        ground.stand(box(cone_m, 7.2, cone_m + 0.1, 7.3), 2)
    assert judge_closure(Mosaic([ground.write(tmp_path / "a")]), LANE) is not None


def from_afar(folder, *, well_seen=True, keyframes=2, cones=True):
    """A barrier ahead, another behind it that the car never came near to, and cones between them, one seen from either distance."""
    ground = PaintedGround((0, 3, 48, 9))
    if well_seen:
        ground.stand(barrier(12), 5)
    else:
        ground.glimpse(barrier(12), 9)
    ground.glimpse(barrier(30), keyframes)
    if cones:
        ground.stand(box(18.2, 7.2, 18.3, 7.3), 1)
        ground.glimpse(box(18.2, 7.2, 18.3, 7.3), 1)
        ground.glimpse(box(24.2, 7.2, 24.3, 7.3), 2)
    return judge_closure(Mosaic([ground.write(folder / "a")]), LANE)


def test_a_barrier_beyond_the_cameras_reach(tmp_path):
    closure = from_afar(tmp_path)
    assert LANE.coords[0][0] + closure.from_m == pytest.approx(12, abs=0.4)
    assert LANE.coords[0][0] + closure.to_m == pytest.approx(30.5, abs=0.4)
    assert closure.keyframes == 0


@pytest.mark.parametrize(
    "seen",
    [
        {"well_seen": False},  # cars that wait, seen from behind
        {"keyframes": 1},  # a car that drove there
        {"cones": False},
    ],
)
def test_what_is_met_from_afar_alone_closes_nothing(tmp_path, seen):
    assert from_afar(tmp_path, **seen) is None
