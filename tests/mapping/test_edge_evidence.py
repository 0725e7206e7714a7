"""Kerbs on a hand-made road whose drivable area ends at y = 8, judged against where the pavement begins."""

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, box

from avjepa.mapping.edge_evidence import HALF_WIDTH_M, EdgeRun, judge_edge, outlines
from avjepa.mapping.mosaic import Mosaic
from tests.mapping.painted_ground import PaintedGround

OUTLINE = LineString([(42, 8), (2, 8)])  # the road to its left, south of it
FAR_M = 14.0


def road(*pieces, height_m=0.15):
    """A pavement north of pieces (from_m, to_m, y_m) of kerb."""
    ground = PaintedGround((0, 2, 44, FAR_M))
    for from_m, to_m, y_m in pieces:
        ground.lift(box(from_m, y_m, to_m, FAR_M), height_m)
    return ground


def judged(folder, ground):
    return judge_edge(Mosaic([ground.write(folder / "a")]).strip(OUTLINE, HALF_WIDTH_M))


@pytest.mark.parametrize("y_m", [8.0, 7.7, 8.3])
def test_a_kerb_at_the_outline(tmp_path, y_m):
    assert judged(tmp_path, road((0, 44, y_m))) == []


@pytest.mark.parametrize(("y_m", "outwards"), [(6.5, False), (9.5, True)])
def test_a_kerb_that_moved(tmp_path, y_m, outwards):
    """1.5 m into the road, or out of it, over 20 m; what the road lost or won lies between."""
    (run,) = judged(tmp_path, road((0, 12, 8), (12, 32, y_m), (32, 44, 8)))
    assert run.outwards == outwards
    assert np.median(run.left_m) == pytest.approx(8 - y_m, abs=0.15)
    assert run.length_m == pytest.approx(20, abs=3)
    assert run.step_m == pytest.approx(0.15, abs=0.03)
    strip = run.strip(OUTLINE)
    won = box(12, min(8, y_m), 32, max(8, y_m))
    assert strip.is_valid
    assert strip.intersection(won).area / strip.union(won).area > 0.75


def test_no_step_and_a_wall_say_nothing(tmp_path):
    """An edge without a kerb; a step too low or too high for one."""
    assert judged(tmp_path / "flat", road()) == []
    assert judged(tmp_path / "low", road((0, 44, 6.5), height_m=0.04)) == []
    assert judged(tmp_path / "wall", road((0, 44, 6.5), height_m=0.6)) == []


def test_a_short_piece_is_not_believed(tmp_path):
    assert judged(tmp_path, road((0, 20, 8), (20, 23, 6.5), (23, 44, 8))) == []


def test_a_parked_car_is_bridged(tmp_path):
    """4.5 m of the moved kerb are hidden behind it: still one run, and none of the car's wheels is a kerb."""
    ground = road((0, 10, 8), (10, 34, 9.5), (34, 44, 8))
    ground.stand(box(20, 6.8, 24.5, 8.6))
    ground.hide(box(20, 8.6, 24.5, FAR_M))
    (run,) = judged(tmp_path, ground)
    assert run.outwards
    assert run.length_m == pytest.approx(24, abs=3)
    assert np.isfinite(run.left_m).all()
    assert run.left_m == pytest.approx(np.full(len(run.left_m), -1.5), abs=0.4)


def test_gaps_between_parked_cars_are_not_believed(tmp_path):
    """As the car of the test above, but three of them: of the 24 m half are seen. Cars' own sides stand in rows like kerbs."""
    ground = road((0, 10, 8), (10, 34, 9.5), (34, 44, 8))
    for from_m in (13, 20, 27):
        ground.stand(box(from_m, 6.8, from_m + 4.5, 8.6))
        ground.hide(box(from_m, 8.6, from_m + 4.5, FAR_M))
    assert judged(tmp_path, ground) == []


def test_a_step_with_nothing_known_behind_it_is_not_believed(tmp_path):
    """It may be the sill of whatever hides the ground there."""
    ground = road((0, 44, 6.5))
    ground.hide(box(0, 7.1, 44, FAR_M))
    assert judged(tmp_path, ground) == []


def test_parked_cars_alone_say_nothing(tmp_path):
    ground = road((0, 44, 8))
    ground.stand(box(4, 6.0, 40, 7.8))
    assert judged(tmp_path, ground) == []


def test_a_painted_edge_line_is_an_edge(tmp_path):
    """A hatched area ends the road there, whatever the kerb does."""
    ground = road((0, 44, 9.5))
    assert len(judged(tmp_path / "bare", ground)) == 1
    ground.line(LineString([(0, 8), (44, 8)]))
    assert judged(tmp_path / "line", ground) == []


def test_a_painted_line_does_not_silence_a_kerb_before_it(tmp_path):
    """Whoever leaves the road meets the kerb first: the line is paint on a pavement."""
    ground = road((0, 12, 8), (12, 32, 6.5), (32, 44, 8))
    ground.line(LineString([(0, 8), (44, 8)]))
    (run,) = judged(tmp_path, ground)
    assert not run.outwards
    assert np.median(run.left_m) == pytest.approx(1.5, abs=0.15)


def test_a_hedge_is_no_kerb(tmp_path):
    """The ground steps up into the road's side of it and down again behind it; a pavement stays up."""
    assert len(judged(tmp_path / "pavement", road((0, 44, 6.5)))) == 1
    hedge = road()
    hedge.lift(box(0, 6.5, 44, 7.5), 0.2)
    assert judged(tmp_path / "hedge", hedge) == []


def test_behind_what_was_not_seen_nothing_is_known(tmp_path):
    """The ground before the kerb is hidden: there may be another kerb there."""
    ground = road((0, 44, 9.5))
    ground.hide(box(0, 4, 44, 8.4))
    assert judged(tmp_path, ground) == []


def seen_from_above(y_m, hidden_m=0.8):
    """A kerb whose foot LiDAR does not meet; even ground, so that the step is as high everywhere over it; an island in the road."""
    ground = road()
    ground.height_m = np.where((ground.y_m < 3.9) | (ground.y_m > y_m), 0.15, 0.0)
    ground.returns[ground.within(box(0, y_m - hidden_m, 44, y_m))] = 0
    return ground


@pytest.mark.parametrize(
    ("in_m", "hidden_m", "told"),
    [(0.0, 0.8, False), (0.4, 0.8, False), (1.5, 0.8, True), (-0.4, 0.8, False), (-1.7, 1.4, False), (-2.5, 0.8, True)],
)
def test_a_kerb_in_hidden_ground_may_lie_anywhere_in_it(tmp_path, in_m, hidden_m, told):
    """The step is as high all over it. Only pavement that was met in the road, or road beyond the outline, tells of a moved one."""
    runs = judged(tmp_path, seen_from_above(8 - in_m, hidden_m))
    assert bool(runs) == told
    assert all(run.outwards == (in_m < 0) for run in runs)


def car_park(tmp_path, starts_m, y_m):
    """Drives that look down over a kerb into a car park. Cars stand 0.7 m from it, from each of the starts, 2 m wide; LiDAR meets
    the foot of their noses, which are higher than the kerb. In the other drives their place is free.
    """
    folders = []
    for number, begins_m in enumerate(starts_m):
        ground = seen_from_above(y_m)
        for from_m in begins_m:
            ground.stand(box(from_m, 2, from_m + 2, y_m - 0.7))
            nose = ground.within(box(from_m, y_m - 0.8, from_m + 2, y_m - 0.7))
            ground.returns[nose], ground.height_m[nose] = 4, 0.22
        folders.append(ground.write(tmp_path / f"{y_m}-{number}"))
    return Mosaic(folders).strip(OUTLINE, HALF_WIDTH_M)


def test_cars_that_left_have_no_kerb_under_their_noses(tmp_path):
    """Each place of the car park was free in one of the drives: what the other met there is no ground. A kerb that moved counts."""
    starts_m = (np.arange(4, 40, 6), np.arange(7, 40, 6))
    assert judge_edge(car_park(tmp_path, starts_m, 8.0)) == []
    runs = judge_edge(car_park(tmp_path, starts_m, 6.0))
    assert sum(run.length_m for run in runs) > 20
    assert not any(run.outwards for run in runs)


def test_outlines_have_the_road_to_their_left(tmp_path):
    """Within the tiles that were seen, which reach to x = 51.2."""
    mosaic = Mosaic([road().write(tmp_path / "a")])
    with_island = box(2, 4, 50, 8).difference(box(10, 5, 20, 6))
    lines = list(outlines(shapely.union_all([with_island, box(100, 0, 110, 10)]), mosaic))
    assert sorted(line.length for line in lines) == pytest.approx([22, 104])
    for line in lines:
        assert line.is_closed
        nearby = LineString(line.parallel_offset(0.2, "left").coords)
        assert with_island.contains(nearby.centroid) or nearby.centroid.within(box(10, 5, 20, 6))
    start = max(lines, key=lambda line: line.length).coords[0]
    assert start[0] > 44  # where nothing was seen


def test_a_kerb_that_shines_a_little_is_no_painted_line(tmp_path):
    """The old kerb's stones are left in the road, brighter by less than paint: the new kerb still speaks. Paint silences it."""
    findings = []
    for number, contrast in enumerate((0.1, 0.6)):
        ground = road((0, 12, 8), (12, 32, 9.5), (32, 44, 8))
        ground.paint(box(0, 7.9, 44, 8.1), (contrast, 0.0))
        findings.append(len(judged(tmp_path / str(number), ground)))
    assert findings == [1, 0]


def test_a_kerb_that_shines_does_not_hide_the_piece_that_moved(tmp_path):
    """Bright along its whole length, as paint is: ten metres of it lie elsewhere, and the map has no line there."""
    ground = road((0, 17, 8), (17, 27, 6.5), (27, 44, 8))
    for from_m, to_m in ((0, 17), (27, 44)):
        ground.paint(box(from_m, 8.0, to_m, 8.2), (0.3, 0.0))
    (run,) = judged(tmp_path, ground)
    assert not run.outwards
    assert run.length_m > 5
    assert np.median(run.left_m) == pytest.approx(1.5, abs=0.3)


def test_a_car_that_drove_by_leaves_the_kerb_known(tmp_path):
    """It stood once on every cell along the kerb, whose ground was seen at other times."""
    ground = road((0, 44, 6.5))
    ground.keyframes[ground.within(box(0, 5, 44, 8))] = 1
    assert judged(tmp_path, ground)


def test_outlines_end_where_nothing_was_seen(tmp_path):
    """A road of kilometres costs no more than its stretch near the drives."""
    mosaic = Mosaic([road().write(tmp_path / "a")])
    (south, north) = sorted(outlines(box(-5000, 4, 5000, 8), mosaic), key=lambda line: line.centroid.y)
    assert south.length == north.length < 200
    assert south.coords[0][0] < south.coords[-1][0]  # the road to its left
    assert north.coords[0][0] > north.coords[-1][0]


@pytest.mark.parametrize(
    ("length_m", "kerb_share", "certain"),
    [(5.5, 0.73, False), (6.5, 0.73, True), (4.75, 1.0, False), (9.0, 0.6, False)],
)
def test_a_kerb_is_seen_along_most_of_a_stretch_and_along_enough(length_m, kerb_share, certain):
    """Of a kerb that is seen along 4 m nothing is told."""
    left_m = np.full(round(length_m / 0.25), -1.0)
    assert EdgeRun(10.0, 10.0 + length_m, left_m, 0.15, 0.9, kerb_share, 0.9, 0.9, 2).is_certain == certain
