import math

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString

from avjepa.mapping.evaluation.events import (
    EventScore,
    false_events,
    recall_by,
    score_events,
    unchanged_km,
    with_status,
)
from avjepa.mapping.evaluation.matching import match_events
from avjepa.mapping.evaluation.truth import Reach
from tests.mapping.evaluation.scenes import edit, event, square, straight


def reach(*edits, seen=None):
    """Edits that are all in reach, or as told."""
    in_reach = tuple(seen) if seen is not None else (True,) * len(edits)
    return Reach(tuple(edits), in_reach, tuple(map(int, in_reach)), (False,) * len(edits))


# ------------------------------------------------------------------------------------------------------------ matching
def test_within_three_metres_and_no_further():
    known = edit("known", square(0))  # up to x = 1
    for x_m, matched in ((4.99, 0), (5.0, 0), (5.01, None)):  # from x - 1
        assert match_events([event("e", square(x_m))], [known], [True]) == [matched]


def test_the_kind_must_agree_the_layer_only_if_asked():
    known = [edit("known", square(0), kind="geometry", layer="stop_line")]
    other_kind, other_layer = event("k", square(0), kind="deletion"), event("l", square(0), layer="ped_crossing")
    found = {rule: match_events([other_kind, other_layer], known, [True], rule) for rule in ("kind", "element")}
    assert found == {"kind": [None, 0], "element": [None, None]}
    assert match_events([other_kind], known, [True], "place") == [0]


def test_one_to_one_and_the_surest_first():
    known = [edit("a", square(0)), edit("b", square(6))]
    unsure, sure, third = (
        event("unsure", square(1), 0.5),
        event("sure", square(2.5), 0.9),
        event("third", square(0), 0.4),
    )
    # The sure one is 0.5 m from a and 1.5 m from b: it takes a. The next takes what is left within 3 m: b is exactly there.
    assert match_events([unsure, sure, third], known, [True, True]) == [1, 0, None]
    assert match_events([third, sure, unsure], known, [True, True]) == [None, 0, 1]


def test_ties_of_confidence_do_not_depend_on_the_order():
    known = [edit("a", square(0))]
    one, two = event("one", square(0)), event("two", square(0))
    assert match_events([one, two], known, [True]) == [0, None]
    assert match_events([two, one], known, [True]) == [None, 0]


def test_a_report_that_covers_the_street_matches_by_pieces_and_not_by_centroid():
    known, long = [edit("a", square(0))], event("long", LineString([(-1, 0), (199, 0)]))
    assert match_events([long], known, [True], distance="pieces") == [0]
    assert match_events([long], known, [True], distance="centroid") == [None]
    short = event("short", LineString([(-1, 0), (5, 0)]))  # centroid at x = 2, 1 m from the square
    assert match_events([short], known, [True], distance="centroid") == [0]


def test_edits_in_reach_come_before_nearer_ones_that_do_not_count():
    known = [edit("out", square(0)), edit("in", square(3))]
    assert match_events([event("e", square(0))], known, [False, True]) == [1]
    assert match_events([event("e", square(0)), event("f", square(0), 0.5)], known, [False, True]) == [1, 0]


# -------------------------------------------------------------------------------------------------------------- counts
def test_precision_recall_and_f1_by_hand():
    score = EventScore(found=3, wrong=1, missed=2, aside=7)
    assert (score.precision, score.recall, score.f1) == pytest.approx((0.75, 0.6, 2 / 3))
    assert score.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))


def test_scores_that_are_not_defined():
    silent, nothing, empty = EventScore(0, 0, 2, 0), EventScore(0, 3, 0, 0), EventScore(0, 0, 0, 0)
    assert math.isnan(silent.precision)
    assert (silent.recall, silent.f1) == (0.0, 0.0)
    assert math.isnan(nothing.recall)
    assert (nothing.precision, nothing.f1) == (0.0, 0.0)
    assert all(math.isnan(value) for value in (empty.precision, empty.recall, empty.f1))


def test_what_nobody_could_see_is_neither_right_nor_wrong():
    known = reach(edit("in", square(0)), edit("out", square(50)), edit("missed", square(100)), seen=[True, False, True])
    events = [event("a", square(0)), event("b", square(50)), event("c", square(50.5)), event("d", square(300))]
    # a is found; b, on the edit out of reach, stands aside; c is a second event on it and wrong, as is d.
    assert score_events(events, known) == EventScore(found=1, wrong=2, missed=1, aside=1)


def test_a_move_told_as_deletion_and_insertion_is_two_wrong_events_at_the_right_place():
    known = reach(edit("moved", square(0), kind="geometry"))
    events = [event("gone", square(-1), kind="deletion"), event("new", square(1), kind="insertion")]
    assert score_events(events, known) == EventScore(0, 2, 1, 0)
    assert score_events(events, known, rule="place") == EventScore(1, 1, 0, 0)
    assert false_events(events, known) == 0


def test_worn_paint_and_what_nobody_saw_are_no_events():
    statuses = ("confirmed", "candidate", "degraded", "unobservable")
    changes = [event(status, square(0), status=status) for status in statuses]
    assert [change.change_id for change in with_status(changes, ("confirmed",))] == ["confirmed"]
    assert [change.change_id for change in with_status(changes, ("confirmed", "candidate"))] == list(statuses[:2])


def test_recall_by_kind_counts_only_what_is_in_reach():
    known = reach(
        *(edit("a", square(0)), edit("b", square(20)), edit("c", square(40), kind="deletion"), edit("d", square(60))),
        seen=[True, True, True, False],
    )
    events = [event("1", square(0)), event("2", square(60))]
    assert recall_by(events, known, lambda number, one: one.kind) == {"deletion": (0, 1), "geometry": (1, 2)}


# ------------------------------------------------------------------------------------------------------- false alarms
def test_false_events_lie_on_unchanged_street():
    """Further than 20 m from every edit, in reach or not, as the kilometres are counted."""
    known = reach(edit("in", square(0)), edit("out", square(100)), seen=[True, False])
    shapes = {"on": 0, "beside": 21.9, "far": 22.1, "by the other": 121.9, "far from it": 122.1}  # 1 + 20 + 1
    events = [event(name, square(x_m)) for name, x_m in shapes.items()]
    assert false_events(events, known) == 2
    # Where the map is right, every event is false.
    assert false_events(events, reach()) == 5


def test_kilometres_of_unchanged_street():
    path = straight(np.arange(0, 201, 5))
    point = edit("point", shapely.Point(100, 0))
    # 200 m but for those from 80 to 120 (the disc has 128 corners: its ends are exact on the axes).
    assert unchanged_km([path], [point]) == pytest.approx(0.160, abs=1e-6)
    assert unchanged_km([path], []) == pytest.approx(0.200)
    # There and back is one street, but for the metres beside the turn; so are two drives, and one in the other lane.
    back = straight(np.concatenate([np.arange(0, 201, 5), np.arange(195, -1, -5)]))
    assert unchanged_km([back], [point]) == pytest.approx(0.160, abs=0.016)
    assert unchanged_km([path, path], []) == pytest.approx(0.200)
    assert unchanged_km([path, straight(np.arange(0, 301, 5), y_m=4.0)], []) == pytest.approx(0.291, abs=0.002)
    assert unchanged_km([path, straight(np.arange(0, 201, 5), y_m=40.0)], []) == pytest.approx(0.400)
    assert unchanged_km([straight([7])], []) == 0.0  # a single keyframe


def test_edits_that_leave_no_trace_count_and_are_told_apart():
    known = reach(
        edit("way", square(0), "connectivity", "lane_connector"),
        edit("way out of reach", square(50), "connectivity", "lane_connector"),
        edit("lane", square(100), "connectivity", "lane"),
        seen=[True, False, True],
    )
    events = [event("barriers", square(100), kind="connectivity", layer="lane")]
    assert known.traceless == [0]
    assert score_events(events, known) == EventScore(found=1, wrong=0, missed=1, aside=0)
    assert score_events(events, known.visible) == EventScore(found=1, wrong=0, missed=0, aside=0)
