from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from shapely.geometry import LineString, Point, Polygon

from avjepa.conventions import ATOMIC_CHANGES
from avjepa.mapping.changes import STATUSES, Evidence, Review, change_id_of
from tests.mapping.reports import END, HOLED, SQUARE, START, change, every_kind, make_report

NO_SIGHT = {"n_frames": 0, "n_traversals": 0, "first_seen": None, "last_seen": None}


def test_the_hand_made_report_holds_every_kind_and_status():
    assert {item.atomic_change for item in every_kind()} == set(ATOMIC_CHANGES)
    assert {item.status for item in every_kind()} == set(STATUSES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"change_id": ""}, "id"),
        ({"layer": "river"}, "river"),
        ({"atomic_change": "explosion"}, "explosion"),
        ({"status": "sure"}, "sure"),
        ({"confidence": 1.1}, "confidence"),
        ({"confidence": float("nan")}, "confidence"),
        ({"observed_fraction": -0.1}, "observed_fraction"),
        ({"position_sigma_m": -1.0}, "sigma"),
        ({"new_geometry": SQUARE}, "deletion"),
        ({"old_geometry": None}, "geometry"),
        ({"old_geometry": Polygon()}, "empty"),
        ({"old_geometry": LineString([(0, 0), (float("nan"), 1)])}, "finite"),
        ({"element_id": None}, "element"),
        ({"atomic_change": "insertion", "old_geometry": None, "new_geometry": SQUARE}, "element"),
        ({"atomic_change": "type"}, "type"),
        ({"n_traversals": 18}, "drives"),
        ({"n_frames": 0, "n_traversals": 0}, "times of sight"),
        ({"first_seen": None}, "times"),
        ({"first_seen": END, "last_seen": START}, "before"),
        ({"first_seen": START.replace(tzinfo=None)}, "UTC"),
        ({"first_seen": START.astimezone(timezone(timedelta(hours=8)))}, "UTC"),
        ({"confirmed_seen": END + timedelta(seconds=1)}, "nobody saw it"),
        ({"confirmed_seen": START.replace(tzinfo=None)}, "UTC"),
        ({"status": "unobservable", "confirmed_seen": START, **NO_SIGHT}, "nobody saw it"),
        (NO_SIGHT, "nothing of it was seen"),  # what nobody saw is never reported as deleted
        ({"observed_fraction": 0.0}, "nothing of it was seen"),
    ],
)
def test_a_change_that_contradicts_itself(fields, message):
    with pytest.raises(ValueError, match=message):
        change(**fields)


def test_nothing_is_said_of_what_nobody_saw():
    unseen = change(status="unobservable", observed_fraction=0.0, **NO_SIGHT)
    assert (unseen.world_change, unseen.map_edit) == ("", "")


def test_what_nobody_saw_is_unobservable_or_nothing():
    assert change(status="unobservable", observed_fraction=0.0, **NO_SIGHT).n_frames == 0


@pytest.mark.parametrize(
    ("fields", "world_change", "map_edit"),
    [
        ({}, "delete_crosswalk", "insert_crosswalk"),
        (
            {"atomic_change": "insertion", "element_id": None, "old_geometry": None, "new_geometry": SQUARE},
            *("insert_crosswalk", "delete_crosswalk"),
        ),
        ({"atomic_change": "geometry", "layer": "stop_line"}, "move_stop_line", "move_stop_line"),
        (
            {"atomic_change": "type", "layer": "lane_divider", "new_geometry": SQUARE},
            *("change_lane_boundary_dash_solid", "change_lane_boundary_dash_solid"),
        ),
        ({"atomic_change": "markings", "new_geometry": SQUARE}, "repaint_crosswalk", "repaint_crosswalk"),
    ],
)
def test_a_change_and_its_dual(fields, world_change, map_edit):
    item = change(**fields)
    assert (item.world_change, item.map_edit) == (world_change, map_edit)


def test_hausdorff_distance():
    assert change().hausdorff_m is None
    line = {"layer": "lane_divider", "atomic_change": "geometry", "old_geometry": LineString([(0, 0), (10, 0)])}
    assert change(**line, new_geometry=LineString([(0, 1), (10, 1)])).hausdorff_m == pytest.approx(1.0)
    # A bulge between the ends: vertices alone would say 3, too, but only because it has one there.
    bulge = LineString([(0, 0), (5, 3), (10, 0)])
    assert change(**line, new_geometry=bulge).hausdorff_m == pytest.approx(3.0)


def test_evidence_and_reviews_are_checked():
    for fields in ({"camera": "CAM_ROOF"}, {"distance_m": -1.0}, {"map_belief_log_odds": float("inf")}, {"frame": ""}):
        with pytest.raises(ValueError, match="evidence"):
            replace(Evidence("f", "s", START), **fields)
    no_zone = datetime(2026, 1, 1)
    for decision, note, time in (
        *(("maybe", "", END), ("accepted", "", None)),
        *(("undecided", "", END), ("rejected", "", no_zone), ("undecided", "a note", None)),
    ):
        with pytest.raises(ValueError, match=r"want|time"):
            Review(decision, note, time)


def test_a_report_takes_each_id_once_and_reviews_by_id():
    with pytest.raises(ValueError, match="c0"):
        make_report([change("c0"), change("c0")])
    said = Review("rejected", "parked bus", END)
    report = make_report().reviewed({"c1": said})
    assert [item.review == said for item in report.changes] == [False, True, False, False, False, False, False]
    with pytest.raises(KeyError, match="c99"):
        report.reviewed({"c99": said})


def test_ids_of_changes():
    kinds = [("ped_crossing", "deletion", "x"), ("ped_crossing", "deletion", "y"), ("ped_crossing", "geometry", "x")]
    assert len({change_id_of(*kind, HOLED) for kind in kinds}) == 3
    moved = [("road_divider", "geometry", "line", LineString([(x, 0.5), (x + 16, 0.5)])) for x in (0.0, 40.0)]
    assert change_id_of(*moved[0]) != change_id_of(*moved[1])  # two pieces of one divider
    assert change_id_of(*moved[0]) == change_id_of(*moved[0][:3], LineString([(0.1, 0.5), (16.2, 0.6)]))
    assert change_id_of("ped_crossing", "deletion", "\ud800", SQUARE).isascii()  # no name breaks it
    report = make_report([change(change_id_of(*piece)) for piece in moved])
    assert [item.change_id for item in report.changes] == [change_id_of(*piece) for piece in moved]
    new = [change_id_of("stop_line", "insertion", None, Point(x, 5.5)) for x in (3.2, 3.3, 4.1)]
    assert new[0] == new[1] != new[2]
