"""The detector on a whole painted street whose prior is out of date, and the tool on the toy drive."""

from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from shapely.geometry import LineString, box

from avjepa.errors import DataError
from avjepa.mapping.candidates import MOST_DRIVES, SECOND_DRIVE, Candidate, as_one_crosswalk, surer
from avjepa.mapping.changes import change_id_of
from avjepa.mapping.detect import CONFIRMED, LEAST, confidence_of, detect_changes, element_candidates, surest
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.vector_map import MapElement
from tests.mapping.painted_ground import FRAME, YELLOW, PaintedGround, index_of, prior_of, straight_frames

NOW = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)
ROAD = box(0, 2, 80, 14)
GONE, KEPT, HIDDEN, NEW = box(20, 8, 23, 13), box(34, 3, 37, 13), box(2, 3, 4, 6), box(62, 3, 65, 13)
STOPS, STOPPED = box(28, 3, 28.5, 7), box(31, 3, 31.5, 7)
FRAMES = straight_frames(2, 80, 4.0)
# kind, layer, element: all that is different, and nothing else.
TRUTH = {
    ("markings", "lane_divider", "repainted"),
    ("geometry", "lane_divider", "moved"),
    ("deletion", "ped_crossing", "gone"),
    ("insertion", "ped_crossing", None),
    ("geometry", "stop_line", "stops"),
    ("geometry", "drivable_area", "road"),
    ("connectivity", "lane", "closed"),
}


def element(token, layer, shape, **fields):
    return MapElement(token, layer, shape, **fields)


def solid(token, from_m, to_m):
    return element(token, "lane_divider", LineString([(from_m, 7.5), (to_m, 7.5)]), colour="white", dashed=False)


PRIOR = prior_of(
    element("road", "drivable_area", ROAD),
    solid("repainted", 1, 19),
    solid("kept-line", 38, 60),
    solid("moved", 66, 92),
    element("gone", "ped_crossing", GONE),
    element("kept", "ped_crossing", KEPT),
    element("hidden", "ped_crossing", HIDDEN),
    element("stops", "stop_line", STOPS),
    element("closed", "lane", box(38, 9, 61, 13), centre_line=LineString([(38, 11), (61, 11)])),
    element("open", "lane", box(38, 3, 61, 7), centre_line=LineString([(38, 5), (61, 5)])),
    element("far", "ped_crossing", box(300, 3, 303, 13)),
)


def street(seed=0):
    """The world: see TRUTH for what PRIOR does not know of it."""
    ground = PaintedGround((0, 0, 96, 18), seed)
    ground.line(LineString([(0, 7.5), (19, 7.5)]), YELLOW)
    ground.line(LineString([(38, 7.5), (60, 7.5)]))
    ground.line(LineString([(66, 8.3), (96, 8.3)]))
    ground.zebra(KEPT)
    ground.zebra(NEW)
    ground.paint(STOPPED)
    ground.lift(box(0, 14, 96, 18))
    ground.lift(box(0, 0, 96, 2))
    widened = box(66, 14, 90, 15.5)
    ground.height_m[ground.within(widened)] -= 0.15
    for x_m in (42, 56):
        ground.stand(box(x_m, 9.6, x_m + 0.5, 12.4))
    ground.hide(HIDDEN.buffer(0.2))
    return ground


def quiet(items, what, total):
    return items


def run(surveys, prior=PRIOR, frames=FRAMES):
    return detect_changes(surveys, prior, "prior.geojson", index_of(frames), "run-1", NOW, quiet)


def told(report):
    return {(one.atomic_change, one.layer, one.element_id) for one in report.changes if one.status != "unobservable"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return street().write(tmp_path_factory.mktemp("street") / "a", FRAMES)


@pytest.fixture(scope="module")
def report(survey):
    return run([survey])


def test_exactly_what_changed_is_told(report):
    assert told(report) == TRUTH
    assert len(report.changes) == len(TRUTH) + 1  # and what was not seen
    assert (report.run_id, report.prior_map, report.created) == ("run-1", "prior.geojson", NOW)
    assert report.frame == FRAME
    assert report.scenes == ("scene-0061",)
    confidences = [one.confidence for one in report.changes]
    assert confidences == sorted(confidences, reverse=True)


def test_where_the_changes_are(report):
    by_element = {(one.element_id, one.atomic_change): one for one in report.changes}
    new = by_element[None, "insertion"].new_geometry
    assert new.intersection(NEW).area / new.union(NEW).area > 0.6
    assert by_element["stops", "geometry"].new_geometry.centroid.distance(STOPPED.centroid) < 0.3
    assert by_element["stops", "geometry"].old_geometry.equals(STOPS)
    assert by_element["gone", "deletion"].old_geometry.equals(GONE)
    assert by_element["gone", "deletion"].new_geometry is None
    moved = by_element["moved", "geometry"]
    assert moved.new_geometry.distance(LineString([(66, 8.3), (96, 8.3)])) < 0.1
    assert moved.hausdorff_m == pytest.approx(0.8, abs=0.4)
    repainted = by_element["repainted", "markings"]
    assert (repainted.old_marking, repainted.new_marking) == ("solid white", "solid yellow")
    kerb = by_element["road", "geometry"].new_geometry
    assert kerb.intersection(box(66, 14, 90, 15.5)).area > 0.8 * 14 * 1.5  # the map's road ends at x = 80
    closed = by_element["closed", "connectivity"].new_geometry
    assert closed.bounds[::2] == pytest.approx([42, 56.5], abs=0.6)


def test_clear_evidence_is_confirmed(report):
    for one in report.changes:
        if one.status != "unobservable":
            assert (one.status == "confirmed") == (one.confidence >= CONFIRMED)
            assert one.confidence >= LEAST
            assert one.n_traversals == 1
            assert one.first_seen <= one.last_seen
            assert one.evidence
    assert {one.element_id for one in report.changes if one.status == "confirmed"} >= {"gone", "stops", "closed", None}


def test_what_was_not_seen_is_unobservable_and_not_gone(report):
    (hidden,) = (one for one in report.changes if one.element_id == "hidden")
    assert (hidden.status, hidden.confidence, hidden.observed_fraction) == ("unobservable", 0, 0)
    assert hidden.n_frames > 0  # the car came by
    assert "far" not in {one.element_id for one in report.changes}


def test_ids_say_the_same_of_the_same_data(report, survey):
    """Also when the map lists its elements in another order."""
    again = run([survey], prior_of(*reversed(PRIOR.elements.values())))
    assert {one.change_id for one in again.changes} == {one.change_id for one in report.changes}
    (gone,) = (one for one in report.changes if one.element_id == "gone")
    assert gone.change_id == change_id_of("ped_crossing", "deletion", "gone", GONE)


def test_a_second_drive_makes_surer(report, survey, tmp_path):
    later = tuple(replace(frame, token=f"later-{i}") for i, frame in enumerate(FRAMES))
    second = street(seed=1).write(tmp_path / "b", later, "scene-0103")
    both = run([survey, second], frames=(*FRAMES, *later))
    assert told(both) == TRUTH
    assert both.scenes == ("scene-0061", "scene-0103")
    once = {one.change_id: one.confidence for one in report.changes}
    for one in both.changes:
        if one.element_id in ("gone", "stops", "closed", "repainted", "moved"):
            assert one.n_traversals == 2
            assert one.confidence > once[one.change_id]


def test_a_drive_of_another_place(tmp_path):
    far = PaintedGround((5000, 0, 5010, 10)).write(tmp_path / "far", straight_frames(5000, 5010))
    with pytest.raises(DataError, match="scene-0061: nowhere near the map"):
        run([far])


def test_a_drive_of_another_place_does_not_stop_the_others(report, survey, tmp_path):
    far = PaintedGround((5000, 0, 5010, 10)).write(tmp_path / "far", straight_frames(5000, 5010), "scene-0103")
    both = run([far, survey])
    assert both.scenes == ("scene-0061",)
    assert {one.change_id for one in both.changes} == {one.change_id for one in report.changes}


def test_a_divider_without_paint_in_the_map_is_not_missed(tmp_path):
    """A bare road: the painted line is gone, the one that never had paint is not."""
    bare = PaintedGround((0, 0, 96, 18)).write(tmp_path / "bare", FRAMES)
    painted = solid("painted", 1, 40)
    assert told(run([bare], prior_of(painted))) == {("deletion", "lane_divider", "painted")}
    assert not told(run([bare], prior_of(replace(painted, subtype="NIL"))))


def test_a_stripe_of_a_new_crosswalk_is_no_line_that_moved(tmp_path):
    """It hides a dash; one of its stripes lies half a metre aside, and LiDAR sees it."""
    ground, crosswalk = PaintedGround((0, 0, 96, 18)), box(38, 6.75, 41, 13)
    line = element("line", "lane_divider", LineString([(2, 7.5), (80, 7.5)]), colour="white", dashed=True)
    ground.line(line.geometry, dashed=True)
    hidden = ground.within(box(37.5, 7, 41.5, 8))
    ground.contrast[hidden], ground.intensity[hidden] = 0.0, 0.1
    ground.zebra(crosswalk)
    mosaic, prior = Mosaic([ground.write(tmp_path / "a", FRAMES)]), prior_of(line)
    assert [one.kind for one in element_candidates(mosaic, prior, line)] == ["geometry"]
    assert list(element_candidates(mosaic, prior, line, crosswalk)) == []


def test_a_new_crosswalk_leaves_the_lines_under_it(tmp_path):
    ground = PaintedGround((0, 0, 96, 18))
    line = element("line", "lane_divider", LineString([(2, 7.5), (80, 7.5)]), colour="white", dashed=True)
    ground.line(line.geometry, dashed=True)
    ground.zebra(box(38, 3, 41, 13))
    prior = prior_of(element("road", "drivable_area", ROAD), line, element("far", "ped_crossing", box(300, 3, 303, 13)))
    assert told(run([ground.write(tmp_path / "a", FRAMES)], prior)) == {("insertion", "ped_crossing", None)}


def test_pavement_where_the_map_has_road_is_no_new_crosswalk(tmp_path):
    """Bright slabs that reflect, behind a kerb: the road ends before them, and that is all."""
    ground = PaintedGround((0, 0, 96, 18))
    for x_m in np.arange(30.0, 54.0, 1.0):
        ground.paint(box(x_m, 11, x_m + 0.5, 14))
    for curb in (box(0, 14, 96, 18), box(0, 0, 96, 2), box(30, 11, 54, 14)):
        ground.lift(curb)
    prior = [element("road", "drivable_area", ROAD), element("kept", "ped_crossing", box(300, 3, 303, 13))]
    changes = run([ground.write(tmp_path / "a", FRAMES)], prior_of(*prior)).changes
    assert {one.layer for one in changes} == {"drivable_area"}


@pytest.mark.parametrize(("y_m", "status"), [(8.9, "candidate"), (3.0, "confirmed")])
def test_paint_that_turned_yellow_beside_barriers_is_doubted(tmp_path, y_m, status):
    """They are yellow, too; further away paint is believed."""
    ground = street()
    line = LineString([(40, y_m), (58, y_m)])
    ground.line(line, YELLOW)
    white = element("line", "lane_divider", line, colour="white", dashed=False)
    report = run([ground.write(tmp_path / "a", FRAMES)], prior_of(PRIOR.elements["closed"], white))
    assert {(one.layer, one.atomic_change): one.status for one in report.changes} == {
        ("lane", "connectivity"): "confirmed",
        ("lane_divider", "markings"): status,
    }


def test_barriers_that_only_lidar_met_close_a_lane(tmp_path):
    ground = street()
    ground.weight[:] = 0  # no image was read
    report = run([ground.write(tmp_path / "dark", FRAMES)], prior_of(PRIOR.elements["closed"]))
    assert told(report) == {("connectivity", "lane", "closed")}
    assert report.changes[0].observed_fraction > 0


def test_a_lane_that_a_car_drove_through_is_hardly_closed(tmp_path):
    """Barriers stand there, and a car that was surveyed went where they are: at one of these times the lane was open."""
    through = straight_frames(2, 80, 11.0)
    report = run([street().write(tmp_path / "a", through)], prior_of(PRIOR.elements["closed"]), through)
    (closed,) = report.changes
    assert (closed.atomic_change, closed.status) == ("connectivity", "candidate")


def test_a_car_that_stood_still(tmp_path):
    """One keyframe: the place is seen, and no path."""
    frames = straight_frames(20, 22)
    ground = PaintedGround((10, 0, 34, 16))
    changes = run([ground.write(tmp_path / "a", frames)], prior_of(PRIOR.elements["gone"]), frames).changes
    assert [(one.atomic_change, one.status, one.n_frames) for one in changes] == [("deletion", "confirmed", 1)]


def candidate(shape, log_odds=1.0, layer="ped_crossing", kind="insertion", element_id=None):
    return Candidate(element_id, layer, kind, None, shape, log_odds, 1.0, "")


def test_neighbours_that_are_both_gone_are_two_changes():
    """Crosswalks at a corner; a line that goes on in the next element is one."""
    first = candidate(box(0, 0, 3, 9), 2.0, kind="deletion", element_id="first")
    second = candidate(box(4, 0, 7, 9), 1.0, kind="deletion", element_id="second")
    assert surest([second, first]) == [first, second]
    first, second = (replace(one, layer="lane_divider") for one in (first, second))
    assert surest([second, first]) == [first]


def test_pieces_of_a_crosswalk_are_one():
    """Across one road, with a gap that a bus may hide; not those of two roads, nor of two places of one."""
    left, right = candidate(box(10, 0, 13, 6), 1.0), candidate(box(10.3, 9, 13.3, 13), 2.0)
    (one,) = as_one_crosswalk([right, left])
    assert one.log_odds == 2.0
    assert one.new.area == pytest.approx(3.3 * 13, rel=0.05)
    corner, next_one = candidate(box(15, 6, 25, 9)), candidate(box(16, 0, 19, 6))
    far = candidate(box(10, 11, 13, 16))
    assert as_one_crosswalk([left, corner, next_one, far]) == [corner, left, next_one, far]


def test_more_drives_make_a_claim_surer_and_no_doubt():
    assert surer(1.0, 1) == 1.0
    assert surer(1.0, 2) == pytest.approx(1.0 + SECOND_DRIVE)
    assert surer(1.0, 50) == surer(1.0, MOST_DRIVES)
    assert surer(-0.1, 5) == -0.1
    assert surer(1.0, 0) == 1.0


def test_two_candidates_at_one_place_are_one_change():
    """The surer stays; another layer, another kind or another place is another change; weak ones are no change."""
    sure, twin = candidate(box(0, 0, 3, 9), 2.0), candidate(box(4, 0, 7, 9), 1.0)
    apart, other = candidate(box(10, 0, 13, 9)), candidate(box(0, 0, 3, 9), layer="stop_line")
    weak = candidate(box(50, 0, 53, 9), -2.5)
    assert surest([twin, weak, sure, apart, other]) == [sure, apart, other]
    assert confidence_of(0) == 0.5
    assert confidence_of(-2.5) < LEAST < confidence_of(-2.0)
    assert confidence_of(SECOND_DRIVE) == pytest.approx(2 / 3, abs=0.01)
