"""Lines that the prior lacks, on a hand-made road with one line that the map knows."""

from datetime import datetime, timezone

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, box

from avjepa.mapping.candidates import new_line_candidates
from avjepa.mapping.detect import detect_changes, surest
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.new_lines import KNOWN_LINE_M, NewLine, as_one, guides_of
from avjepa.mapping.vector_map import MapElement
from tests.mapping.painted_ground import (
    ROAD_REFLECTS,
    WHITE,
    YELLOW,
    PaintedGround,
    index_of,
    prior_of,
    straight_frames,
)

ROAD = MapElement("road", "drivable_area", box(0, 1, 60, 15))
KNOWN_M, NEW_M = 8.0, 4.6


def along(y_m, from_m=0.0, to_m=60.0):
    return LineString([(from_m, y_m), (to_m, y_m)])


def lane(token, y_m, from_m=2.0, to_m=58.0):
    line = along(y_m, from_m, to_m)
    return MapElement(token, "lane", line.buffer(1.75, cap_style="flat"), centre_line=line)


def divider(y_m, token="known", layer="lane_divider"):
    return MapElement(token, layer, along(y_m), colour="white", dashed=False)


PRIOR = (ROAD, divider(KNOWN_M), lane("right", 4.75), lane("left", 11.25))


def road(seed=0, known_m=KNOWN_M):
    ground = PaintedGround((0, 0, 60, 16), seed)
    ground.line(along(known_m))
    return ground


def with_line(*lines, colour=WHITE, dashed=False, seed=0):
    ground = road(seed)
    for line in lines:
        ground.line(line, colour, dashed)
    return ground


def found(folder, *drives, prior=PRIOR):
    mosaic = Mosaic([ground.write(folder / str(i)) for i, ground in enumerate(drives)])
    return list(new_line_candidates(mosaic, prior_of(*prior), prior))


@pytest.mark.parametrize(("name", "colour"), [("white", WHITE), ("yellow", YELLOW)])
@pytest.mark.parametrize("dashed", [False, True])
@pytest.mark.parametrize("y_m", [4.9, 5.9])
def test_a_new_line(tmp_path, name, colour, dashed, y_m):
    """Wherever it lies across the lane: where it is, and what it looks like."""
    (new,) = found(tmp_path, with_line(along(y_m), colour=colour, dashed=dashed))
    assert (new.element_id, new.layer, new.kind, new.old) == (None, "lane_divider", "insertion", None)
    assert np.asarray(new.new.coords)[:, 1] == pytest.approx(y_m, abs=0.15)
    assert new.new.length == pytest.approx(56, abs=6)
    look = f"{'dashed' if dashed else 'solid'} {name}"
    assert (new.new_marking, new.description) == (look, f"a new {look} line")
    assert new.log_odds > 0.5


def test_a_road_as_mapped_has_none(tmp_path):
    assert found(tmp_path, road()) == []


@pytest.mark.parametrize("moved_m", [0.6, -1.2, 1.5])
def test_a_line_that_moved_is_not_new(tmp_path, moved_m):
    assert found(tmp_path, road(known_m=KNOWN_M + moved_m)) == []


def test_a_line_of_another_layer_is_known(tmp_path):
    """Also one without paint in the map; and of a line that went further than lines move there is a new one."""
    ground = with_line(along(NEW_M))
    for other in (divider(NEW_M, "other", "road_divider"), divider(NEW_M + KNOWN_LINE_M - 0.1, "other")):
        assert found(tmp_path / other.layer, ground, prior=(*PRIOR, other)) == []
    assert len(found(tmp_path / "far", ground, prior=(*PRIOR, divider(NEW_M + KNOWN_LINE_M + 0.2, "other")))) == 1


def test_sun_is_no_paint(tmp_path):
    """A bright line reflects no more of the LiDAR's light than the road; nor is it told where no LiDAR looked."""
    ground = road()
    ground.paint(along(NEW_M).buffer(0.1), reflects=ROAD_REFLECTS)
    assert found(tmp_path / "sun", ground) == []
    dark = with_line(along(NEW_M))
    dark.returns[:] = 0
    assert found(tmp_path / "dark", dark) == []


def test_a_kerb_is_no_line(tmp_path):
    """It is bright, reflects, and the ground is higher behind it."""
    ground = with_line(along(NEW_M))
    ground.lift(box(0, 0, 60, NEW_M))
    assert found(tmp_path, ground) == []


def test_what_stands_is_no_line(tmp_path):
    """A row of barriers, and hardly any ground between them."""
    ground = with_line(along(NEW_M))
    row = ground.within(along(NEW_M).buffer(0.3))
    ground.keyframes[row], ground.weight[row] = 5, 0.4
    assert found(tmp_path, ground) == []


@pytest.mark.parametrize(
    "known",
    [
        MapElement("road", "drivable_area", box(0, NEW_M - 0.5, 60, 15)),
        MapElement("edge", "road_edge", along(NEW_M - 0.5)),
        MapElement("bays", "carpark_area", box(0, 3, 60, 5)),
        MapElement("crosswalk", "ped_crossing", box(0, 3, 60, 5)),
    ],
    ids=lambda element: element.layer,
)
def test_paint_that_the_map_explains(tmp_path, known):
    """Along a kerb, in a car park, of a crosswalk."""
    others = [element for element in PRIOR if element.token != known.token]
    assert found(tmp_path, with_line(along(NEW_M)), prior=(*others, known)) == []


@pytest.mark.parametrize(
    "line",
    [along(NEW_M, 20, 33), LineString([(5, 4.6), (55, 5.05)])],
    ids=["short", "slanting"],
)
def test_other_paint_is_no_line(tmp_path, line):
    """A line is as far aside of its lane for two dashes and two gaps."""
    assert found(tmp_path, with_line(line)) == []


def test_two_dashes_far_apart_are_no_line(tmp_path):
    assert found(tmp_path, with_line(along(NEW_M, 5, 11), along(NEW_M, 40, 46))) == []


def test_beside_the_seam_of_two_windows_it_is_one_line(tmp_path):
    """And so are stretches on both sides of what nobody saw, and of a crosswalk of the map."""
    ground = with_line(along(4.75 + 0.3))
    ground.hide(box(24, 0, 38, 7))
    (new,) = found(tmp_path / "hidden", ground)
    assert new.new.length == pytest.approx(56, abs=6)
    crosswalk = MapElement("crosswalk", "ped_crossing", box(24, 2, 34, 14))
    crossed = with_line(along(NEW_M, 9, 49))  # too short on either side alone
    crossed.zebra(crosswalk.geometry)
    (new,) = found(tmp_path / "crossed", crossed, prior=(*PRIOR, crosswalk))
    assert new.new.length == pytest.approx(40, abs=3)


def test_lanes_beside_each_other_tell_it_once(tmp_path):
    """It lies between them; and two lines are two."""
    prior = (ROAD, divider(13.5), lane("right", 3.3), lane("left", 6.7))
    ground = PaintedGround((0, 0, 60, 16))
    for y_m in (5.0, 13.5):
        ground.line(along(y_m))
    (new,) = found(tmp_path / "one", ground, prior=prior)
    assert np.asarray(new.new.coords)[:, 1] == pytest.approx(5.0, abs=0.15)
    ground.line(along(8.6))
    two = surest(found(tmp_path / "two", ground, prior=prior))
    assert sorted(round(one.new.centroid.y, 1) for one in two) == pytest.approx([5.0, 8.6], abs=0.15)


def test_where_nothing_is_looked_for(tmp_path):
    """Without lanes or dividers no road has a direction; a map without dividers was made without them."""
    ground = with_line(along(NEW_M))
    assert found(tmp_path / "bare", ground, prior=(ROAD,)) == []
    assert found(tmp_path / "lanes", ground, prior=(ROAD, lane("right", 4.75))) == []
    assert len(found(tmp_path / "both", ground, prior=(ROAD, lane("right", 4.75), divider(13.0)))) == 1


def test_a_divider_is_a_guide_where_no_lane_is():
    """One that lies beside a lane for half its length guides along the rest; what is left of others is too short."""
    (first, rest) = guides_of([along(4, 0, 30)], [along(5, 0, 60), along(5, 10, 45)])
    assert first.equals(along(4, 0, 30))
    assert rest.equals(along(5, 30, 60))


def test_a_second_drive_makes_surer(tmp_path):
    one = found(tmp_path / "one", with_line(along(NEW_M)))
    two = found(tmp_path / "two", with_line(along(NEW_M)), with_line(along(NEW_M), seed=1))
    assert two[0].log_odds > one[0].log_odds + 0.5


def piece(*xy_m):
    return NewLine(shapely.segmentize(LineString(xy_m), 2.0), 3.0, 2.0, 1.0, "white", False, 1)


def test_pieces_of_one_line():
    """The longest, what lies on it, and what goes on; drawn either way."""
    whole = as_one([piece((30, 0.1), (12, 0.2)), piece((0, 0), (25, 0)), piece((3, 0.3), (20, 0.3))])
    (line,) = (one.line for one in whole)
    assert (line.coords[0], line.coords[-1]) == ((0, 0), (30, 0.1))
    assert line.length == pytest.approx(30, abs=0.1)
    (line,) = (one.line for one in as_one([piece((0, 0), (30, 0)), piece((-6, 0.4), (-24, 0.4))]))
    assert (line.coords[0], line.coords[-1]) == ((-24, 0.4), (30, 0))
    assert line.length == pytest.approx(54, abs=0.1)
    (line,) = (one.line for one in as_one([piece((0, 0), (30, 0)), piece((36, 0.4), (54, 0.4))]))
    assert line.length == pytest.approx(54, abs=0.1)


@pytest.mark.parametrize(
    "other",
    [
        [(2, 3.5), (28, 3.5)],
        [(45, 0), (65, 0)],
        [(33, 3.0), (60, 3.0)],
        [(15, -9), (15, 9)],
        [(20, 0.5), (40, 6)],
    ],
    ids=["beside", "beyond a junction", "beside and further", "across", "away"],
)
def test_other_lines_stay_others(other):
    assert len(as_one([piece((0, 0), (30, 0)), piece(*other)])) == 2


def run(folder, ground, *prior):
    frames = straight_frames(2, 58, 6.0)
    survey = ground.write(folder / "a", frames)
    now = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)
    report = detect_changes([survey], prior_of(*prior), "prior", index_of(frames), "run", now, lambda x, *_: x)
    return [one for one in report.changes if one.atomic_change == "insertion"]


def test_the_detector_tells_it(tmp_path):
    """Confirmed, and when; the evidence is that of the parts of the drive so far."""
    (new,) = run(tmp_path, with_line(along(NEW_M)), *PRIOR)
    assert (new.layer, new.status, new.new_marking) == ("lane_divider", "confirmed", "solid white")
    assert new.first_seen < new.confirmed_seen <= new.last_seen


def test_a_map_off_its_place_tells_none(tmp_path):
    """All of it lies 3 m aside of the road, or its lines have no paint: neither says what is new."""
    off = [divider(KNOWN_M + 3), lane("right", 4.75 + 3)]
    assert run(tmp_path / "off", with_line(along(NEW_M)), *off) == []
    bare = PaintedGround((0, 0, 60, 16))
    bare.line(along(NEW_M))
    assert run(tmp_path / "bare", bare, *PRIOR) == []
