"""Painted lines on a hand-made road, judged against a prior that is right, and against priors that are not."""

import numpy as np
import pytest
from shapely.geometry import LineString, box

from avjepa.mapping.detect import element_candidates
from avjepa.mapping.line_evidence import LineRun, judge_line
from avjepa.mapping.line_reading import HALF_WIDTH_M, ridge
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.sharpness import Views
from avjepa.mapping.survey import read_survey
from avjepa.mapping.vector_map import MapElement
from tests.mapping.painted_ground import (
    PAINT_REFLECTS,
    ROAD_REFLECTS,
    WHITE,
    YELLOW,
    PaintedGround,
    index_of,
    prior_of,
    straight_frames,
)

Y_M = 6.0
LINE = LineString([(2, Y_M), (46, Y_M)])


def road(seed=0):
    return PaintedGround((0, 2, 48, 10), seed)


def divider(colour="white", dashed=False):
    return MapElement("divider-1", "lane_divider", LINE, colour=colour, dashed=dashed)


def judged(folder, *drives, element=None, line=LINE):
    folders = [ground.write(folder / str(i)) for i, ground in enumerate(drives)]
    return judge_line(element or divider(), Mosaic(folders).strip(line, HALF_WIDTH_M))


def painted(*pieces, colour=WHITE, dashed=False, seed=0):
    """A road with a line of pieces (from_m, to_m, left_m)."""
    ground = road(seed)
    for from_m, to_m, left_m in pieces:
        ground.line(LineString([(from_m, Y_M + left_m), (to_m, Y_M + left_m)]), colour, dashed)
    return ground


@pytest.mark.parametrize(("name", "colour"), [("white", WHITE), ("yellow", YELLOW)])
@pytest.mark.parametrize("dashed", [False, True])
@pytest.mark.parametrize("left_m", [0.0, 0.25])
def test_a_line_that_is_right_says_nothing(tmp_path, name, colour, dashed, left_m):
    """A quarter of a metre is how well maps are measured."""
    assert judged(tmp_path, painted((0, 48, left_m), colour=colour, dashed=dashed), element=divider(name, dashed)) == []


@pytest.mark.parametrize("left_m", [0.6, -0.6, 1.2])
def test_a_stretch_that_moved(tmp_path, left_m):
    """16 m of 44, from 16 to 32: one finding, where the paint is."""
    (run,) = judged(tmp_path, painted((0, 16, 0), (16, 32, left_m), (32, 48, 0)))
    assert run.finding == "moved"
    assert run.left_m == pytest.approx(left_m, abs=0.1)
    middle_m = LINE.coords[0][0] + (run.from_m + run.to_m) / 2
    assert middle_m == pytest.approx(24, abs=2)
    assert 6 <= run.length_m <= 20
    assert run.drives == 1
    assert run.strength > 1


def test_a_dashed_line_that_moved(tmp_path):
    pieces = painted((0, 48, 0.8), dashed=True)
    (run,) = judged(tmp_path, pieces, element=divider(dashed=True))
    assert (run.finding, run.left_m) == ("moved", pytest.approx(0.8, abs=0.1))


def test_paint_of_another_colour(tmp_path):
    (run,) = judged(tmp_path, painted((0, 48, 0), colour=YELLOW))
    assert (run.finding, run.colour, run.left_m) == ("colour", "yellow", 0)
    (run,) = judged(tmp_path / "other", painted((0, 48, 0)), element=divider("yellow"))
    assert (run.finding, run.colour) == ("colour", "white")
    assert run.length_m > 40
    assert judged(tmp_path / "unsaid", painted((0, 48, 0)), element=divider("")) == []


def test_solid_where_the_map_has_dashes(tmp_path):
    (run,) = judged(tmp_path, painted((0, 48, 0)), element=divider(dashed=True))
    assert (run.finding, run.dashed) == ("dashing", False)
    (run,) = judged(tmp_path / "other", painted((0, 48, 0), dashed=True))
    assert (run.finding, run.dashed) == ("dashing", True)
    assert run.length_m > 30
    assert judged(tmp_path / "unsaid", painted((0, 48, 0)), element=divider(dashed=None)) == []


def test_a_line_that_is_gone(tmp_path):
    (run,) = judged(tmp_path, road())
    assert run.finding == "gone"
    assert run.length_m > 40
    assert run.seen_share == 1
    assert run.strength > 0.5


def test_one_gap_of_a_dashed_line_is_not_gone(tmp_path):
    """A line from which one dash is worn off, or hidden, stays."""
    ground = road()
    for start_m in (2, 11, 29, 38):
        ground.line(LineString([(start_m, Y_M), (start_m + 3, Y_M)]))
    assert [run.finding for run in judged(tmp_path, ground, element=divider(dashed=True))] == []


def test_what_was_not_seen_says_nothing(tmp_path):
    ground = road()
    ground.hide(box(0, 0, 48, 12))
    assert judged(tmp_path, ground) == []
    half = road()
    half.hide(box(20, 0, 48, 12))
    runs = judged(tmp_path / "half", half)
    assert [run.finding for run in runs] == ["gone"]
    assert runs[0].to_m < 20


def test_the_edge_of_a_shadow_is_no_line(tmp_path):
    """A step beside a line that is gone does not stand in for it, nor is it a line that moved."""
    ground = road()
    ground.paint(box(0, Y_M + 0.7, 48, 12), (0.5, 0.0))
    assert [run.finding for run in judged(tmp_path, ground)] == ["gone"]
    steps = np.zeros((1, 45))
    steps[:, 25:] = 1
    assert ridge(steps).max() <= 0
    line = np.zeros((1, 45))
    line[:, 22:24] = 1
    assert ridge(line).argmax() in (22, 23)
    assert ridge(line).max() == pytest.approx(2 / 3)  # of three cells in a line's width


def test_two_drives_see_one_change(tmp_path):
    (run,) = judged(tmp_path, road(0), road(1))
    assert (run.finding, run.drives) == ("gone", 2)


def test_runs_join():
    first = LineRun("gone", 0, 30, 0.0, "", None, 1.0, 1.0, 1)
    later = LineRun("gone", 36, 46, 0.0, "", None, 2.0, 0.6, 2)
    joined = first.joined(later)
    assert (joined.from_m, joined.to_m, joined.drives) == (0, 46, 2)
    assert joined.strength == pytest.approx(1.25)  # 30 m of 1 and 10 m of 2
    assert joined.seen_share == pytest.approx(0.9)


@pytest.mark.parametrize(("away_m", "findings"), [(3.0, ["gone"]), (15.0, [])])
def test_what_cameras_could_not_have_seen_is_not_gone(tmp_path, away_m, findings):
    """Images of 160 pixels: a line 15 m beside the car is blurred into the road, painted or not."""
    frames = straight_frames(-20, 68, Y_M - away_m)
    folder = road().write(tmp_path / "a", frames)
    views = Views([read_survey(folder)], index_of(frames))
    runs = judge_line(divider(), Mosaic([folder], views=views).strip(LINE, HALF_WIDTH_M))
    assert [run.finding for run in runs] == findings


def faint(*dashes, contrast=0.15):
    """Dashes (from_m, left_m) of 3 m, worn or seen unsharply."""
    ground = road()
    for from_m, left_m in dashes:
        ground.line(LineString([(from_m, Y_M + left_m), (from_m + 3, Y_M + left_m)]), (contrast, 0.0))
    return ground


def test_two_faint_dashes_half_a_metre_aside(tmp_path):
    """Each dash speaks for the gap around it: those before and behind do not hide that two moved."""
    (run,) = judged(tmp_path, faint((2, 0), (11, 0), (20, 0.5), (29, 0.5), (38, 0)), element=divider(dashed=True))
    assert (run.finding, run.left_m) == ("moved", pytest.approx(0.5, abs=0.1))
    assert LINE.coords[0][0] + run.from_m == pytest.approx(17, abs=2)
    assert LINE.coords[0][0] + run.to_m == pytest.approx(35, abs=2)


@pytest.mark.parametrize(("lidar", "findings"), [("met nothing", []), ("met paint", ["moved"]), ("met the road", [])])
def test_one_faint_dash_aside_is_a_line_that_moved_where_lidar_sees_it(tmp_path, lidar, findings):
    """Of five, and nothing where the map has that one."""
    ground = faint((2, 0), (11, 0), (20, 0.5), (29, 0), (38, 0))
    if lidar == "met nothing":
        ground.returns[:] = 0
    elif lidar == "met the road":
        ground.intensity[ground.within(box(18, 2, 25, 10))] = ROAD_REFLECTS
    assert [run.finding for run in judged(tmp_path, ground, element=divider(dashed=True))] == findings


def test_one_plain_dash_aside_is_a_line_that_moved(tmp_path):
    """As plain as paint is, and nothing where the map has the line."""
    plain = faint((2, 0), (11, 0), (20, 0.6), (29, 0), (38, 0), contrast=0.6)
    (run,) = judged(tmp_path, plain, element=divider(dashed=True))
    assert (run.finding, run.left_m) == ("moved", pytest.approx(0.6, abs=0.1))
    assert LINE.coords[0][0] + (run.from_m + run.to_m) / 2 == pytest.approx(21.5, abs=1.5)


@pytest.mark.parametrize("side", [1, -1])
def test_a_dash_where_a_move_begins_does_not_hide_it(tmp_path, side):
    """Two dashes of five are aside; the first lies where the line leaves the map's, less far away than the second."""
    ground = faint((2, 0), (11, 0), (29, 0.9 * side), (38, 0), contrast=0.6)
    ground.line(LineString([(20, Y_M + 0.4 * side), (23, Y_M + 0.7 * side)]))
    (run,) = judged(tmp_path, ground, element=divider(dashed=True))
    assert run.finding == "moved"
    assert 0.5 < run.left_m * side < 1.0
    assert LINE.coords[0][0] + run.from_m == pytest.approx(17, abs=2)
    assert LINE.coords[0][0] + run.to_m == pytest.approx(35, abs=2)


def test_a_plain_dash_is_not_the_line_where_fainter_paint_lies_further_away(tmp_path):
    """To cameras alone."""
    ground = faint((2, 0), (11, 0), (20, 0.5), (38, 0), contrast=0.6)
    ground.line(LineString([(29, Y_M + 0.9), (32, Y_M + 0.9)]), (0.15, 0.0))
    ground.returns[:] = 0
    runs = judged(tmp_path, ground, element=divider(dashed=True))
    assert [run for run in runs if run.finding == "moved"] == []


@pytest.mark.parametrize("returns", [0, 4])
def test_a_dashed_line_that_is_never_level(tmp_path, returns):
    """Two dashes of five, each on the way over or back: told where LiDAR sees them."""
    ground = faint((2, 0), (11, 0), (38, 0), contrast=0.15)
    for piece in ((20, 0.4), (23, 0.7)), ((29, 1.0), (32, 0.6)):
        ground.line(LineString([(x, Y_M + y) for x, y in piece]), (0.15, 0.0))
    ground.returns[:] = returns
    runs = [run for run in judged(tmp_path, ground, element=divider(dashed=True)) if run.finding == "moved"]
    assert [0.4 < run.left_m < 1.0 for run in runs] == [True] * (returns > 0)


def test_paint_across_the_end_of_a_gap_is_no_line(tmp_path):
    """A line does not jump a metre within two."""
    ground = faint((2, 0), (11, 0), (16, 1.0), (26, 0), (35, 0), contrast=0.6)
    assert [run for run in judged(tmp_path, ground, element=divider(dashed=True)) if run.finding == "moved"] == []


def test_gaps_have_the_colour_of_their_dashes(tmp_path):
    """The change reaches from the first dash to the last, not from each to its gap."""
    dashes = faint((2, 0), (14, 0), (26, 0), (38, 0), contrast=0.6)
    runs = judged(tmp_path, dashes, element=divider("yellow", dashed=True))
    assert [(run.finding, run.colour) for run in runs] == [("colour", "white")]
    assert runs[0].length_m > 30


def test_paint_that_comes_nearer_is_not_the_line(tmp_path):
    """From 1 m aside to 0.5 m over 12 m, in a gap of the dashes."""
    ground = faint((2, 0), (11, 0), (35, 0), (44, 0), contrast=0.6)
    ground.line(LineString([(16, Y_M + 1.0), (28, Y_M + 0.5)]))
    assert [run for run in judged(tmp_path, ground, element=divider(dashed=True)) if run.finding == "moved"] == []


def test_faint_dashes_where_the_map_has_a_solid_line(tmp_path):
    (run,) = judged(tmp_path, faint((2, 0), (11, 0), (20, 0), (29, 0), (38, 0)))
    assert (run.finding, run.dashed) == ("dashing", True)


def test_solid_paint_that_drifts_a_little_has_no_gaps(tmp_path):
    """By 0.3 m over 40 m, as poses do: the paint of each row is looked for where it is there."""
    ground = road()
    ground.line(LineString([(2, Y_M - 0.15), (46, Y_M + 0.15)]))
    (run,) = judged(tmp_path, ground, element=divider(dashed=True))
    assert (run.finding, run.dashed) == ("dashing", False)
    assert run.length_m > 35
    assert judged(tmp_path / "right", ground) == []


@pytest.mark.parametrize(("left", "findings"), [([], ["moved"]), ([(20, 0.0), (29, 0.0)], [])])
def test_the_rim_of_a_shadow_does_not_outweigh_paint_on_the_line(tmp_path, left, findings):
    """A ridge 1 m aside, 15 m long and no plain paint, twice as strong as the worn dashes: it is the line where those are gone."""
    ground = faint((2, 0), (11, 0), (38, 0), *left, contrast=0.1)
    ground.paint(box(17, Y_M + 0.9, 32, Y_M + 1.1), (0.2, 0.0))
    assert [run.finding for run in judged(tmp_path, ground, element=divider(dashed=True))] == findings


@pytest.mark.parametrize(
    ("times", "returns", "findings"), [(1.0, 4.0, []), (1.2, 4.0, []), (1.5, 4.0, ["moved"]), (1.0, 0.1, ["moved"])]
)
def test_lidar_denies_a_line_that_is_the_rim_of_a_shadow(tmp_path, times, returns, findings):
    """The sunny ground beside a shadow gets brighter for 1.3 m up to its edge, where a dash is worn off: as plain as paint is, 13 m
    long. LiDAR meets as much light there as beside it, or half as much again, as from paint, or too little of anything to tell.
    """
    ground = faint((2, 0), (11, 0), (29, 0), (38, 0), contrast=0.6)
    nearer_m = ground.y_m - Y_M
    rim = ground.within(box(15, Y_M, 28, Y_M + 1.3))
    ground.contrast[rim] += 0.75 * nearer_m[rim] / 1.3
    ground.intensity[:] = ROAD_REFLECTS
    ground.intensity[ground.within(box(15, Y_M + 0.9, 28, Y_M + 1.3))] *= times
    ground.returns[:] = returns
    assert [run.finding for run in judged(tmp_path, ground, element=divider(dashed=True))] == findings


@pytest.mark.parametrize("left_m", [0.8, -0.8])
def test_gaps_between_dashes_aside_that_reflect_as_the_road_deny_nothing(tmp_path, left_m):
    """Faint to LiDAR: two of three cells of a line's width return 1.75 times what the road does. That is 1.5 on the dashes, and
    too little with as much of the gaps as the length over which dashes are looked for takes in.
    """
    pieces = painted((0, 48, left_m), dashed=True)
    pieces.intensity[:] = ROAD_REFLECTS + 0.25 * (pieces.intensity > 2 * ROAD_REFLECTS) * PAINT_REFLECTS
    (run,) = judged(tmp_path, pieces, element=divider(dashed=True))
    assert (run.finding, run.left_m) == ("moved", pytest.approx(left_m, abs=0.1))


def test_a_ghost_does_not_hide_that_plain_paint_moved(tmp_path):
    """What was painted over shines through, at a third of the new paint."""
    ground = painted((0, 14, 0), (14, 34, 0.8), (34, 48, 0))
    ground.line(LineString([(14, Y_M), (34, Y_M)]), (0.2, 0.0))
    assert [run.finding for run in judged(tmp_path, ground)] == ["moved"]


@pytest.mark.parametrize(("is_dashed", "told"), [(False, ["a dashed yellow line is now solid yellow"]), (True, [])])
def test_a_crosswalk_over_a_line_is_no_gap_in_it(tmp_path, is_dashed, told):
    """20 m of a line, of which the middle 3 m lie under a crosswalk that the map knows; either half is too short to be believed."""
    line, crosswalk = LineString([(14, Y_M), (34, Y_M)]), box(22.5, 2, 25.5, 10)
    ground = road()
    ground.line(LineString([(5, Y_M), (43, Y_M)]), YELLOW, is_dashed)
    under = ground.within(crosswalk)
    ground.contrast[under] = ground.yellow[under] = 0
    ground.zebra(crosswalk)
    yellow = MapElement("divider-1", "road_divider", line, colour="yellow", dashed=True)
    prior = prior_of(yellow, MapElement("crosswalk-1", "ped_crossing", crosswalk))
    mosaic = Mosaic([ground.write(tmp_path / "a")])
    assert [one.description for one in element_candidates(mosaic, prior, yellow)] == told


def test_a_line_that_lies_under_a_crosswalk_whole_says_nothing(tmp_path):
    line, crosswalk = LineString([(20, Y_M), (28, Y_M)]), box(19, 2, 29, 10)
    ground = road()
    ground.zebra(crosswalk)
    yellow = MapElement("divider-1", "road_divider", line, colour="yellow", dashed=True)
    prior = prior_of(yellow, MapElement("crosswalk-1", "ped_crossing", crosswalk))
    assert list(element_candidates(Mosaic([ground.write(tmp_path / "a")]), prior, yellow)) == []


@pytest.mark.parametrize("level_m", [10.0, 13.0])
def test_a_line_that_runs_over_to_where_it_moved(tmp_path, level_m):
    """Long tapers at both ends; level between, plain and long."""
    ground, ends = road(), (5.0, 13.0, 13.0 + level_m, 21.0 + level_m)
    bent = LineString(zip((0, *ends, 48), (Y_M, Y_M, Y_M + 1, Y_M + 1, Y_M, Y_M), strict=True))
    ground.line(bent, YELLOW, False)
    runs = judged(tmp_path, ground, element=divider("yellow"))
    (run,) = (run for run in runs if run.finding == "moved")
    assert run.left_m == pytest.approx(1.0, abs=0.15)


def test_a_line_that_runs_away_has_not_moved(tmp_path):
    ground = road()
    ground.line(LineString([(0, Y_M), (10, Y_M), (40, Y_M + 1.4), (48, Y_M + 2)]), WHITE, False)
    assert [run.finding for run in judged(tmp_path, ground) if run.finding == "moved"] == []


@pytest.mark.parametrize("first_m", np.arange(0.0, 9.0, 1.5))
def test_dashes_of_a_short_line(tmp_path, first_m):
    """12 m, judged to its ends, wherever its dashes begin: those of two of them may be half of it."""
    dashes = [(begin_m, 0) for begin_m in np.arange(first_m - 9, 48, 9) if begin_m >= 0]
    line = LineString([(18, Y_M), (30, Y_M)])
    (run,) = judged(tmp_path, faint(*dashes, contrast=0.6), line=line)
    assert (run.finding, run.dashed) == ("dashing", True)
    assert run.length_m > 10


def test_a_cell_that_no_camera_saw_hides_no_colour(tmp_path):
    ground = painted((0, 48, 0), colour=YELLOW)
    ground.weight[ground.within(box(3.0, Y_M - 0.3, 3.2, Y_M + 0.05))] = 0
    (run,) = judged(tmp_path, ground)
    assert (run.finding, run.colour) == ("colour", "yellow")
    assert run.length_m > 40


def test_bright_paint_does_not_make_plain_paint_a_gap(tmp_path):
    """A place of the line is three times as bright as the rest, which is plain: no gaps."""
    ground = faint((20, 0), contrast=0.5)
    ground.line(LineString([(0, Y_M), (48, Y_M)]), (0.25, 0.0))
    assert judged(tmp_path, ground) == []
    (run,) = judged(tmp_path / "dashed", ground, element=divider(dashed=True))
    assert (run.finding, run.dashed) == ("dashing", False)
