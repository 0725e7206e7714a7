"""Elements and candidates judged by hand: what is changed, what is right, and how well evidence tells them apart."""

import math

import numpy as np
import pytest
from shapely.geometry import box

from avjepa.mapping.candidates import Candidate
from avjepa.mapping.evaluation.evidence import (
    EVIDENCE,
    JudgedElement,
    auroc_of,
    fit_calibration,
    is_right,
    judged_elements,
    reliability,
)
from avjepa.mapping.learned_evidence import Reading
from avjepa.mapping.weighing import Weighed
from tests.mapping.evaluation.scenes import edit, square


def weighed(token, hand, combined=None, kind="deletion", old=None, new=None, readings=((1.0, 0.5),)):
    shape = square(0.0) if old is None and new is None else old
    log_odds = (hand if hand is not None else -math.inf) if combined is None else combined
    candidate = Candidate(token, "ped_crossing", kind, shape, new, log_odds, 1.0, "")
    return Weighed(
        candidate, hand, tuple(Reading(f"f{i}", f"drive {i}", i, *both, 1.0) for i, both in enumerate(readings))
    )


def element(hand, edit="", residual=0.0, combined=0.0):
    return JudgedElement("x", "ped_crossing", hand, residual, 0.0, combined, edit)


def test_an_element_has_the_most_that_is_said_of_it():
    said = [weighed("a", 1.0, 0.5), weighed("a", 3.0, 0.25), weighed("a", None, 2.0), weighed("b", 9.0, 9.0)]
    gone = [weighed("a", None, readings=[(1.0, 0.5), (2.0, -1.0)]), weighed("c", None, readings=[(4.0, 0.0)])]
    first, second = judged_elements(said, gone, {"a": "geometry"})
    assert first == JudgedElement("a", "ped_crossing", 3.0, 3.0, -0.5, 2.0, "geometry")  # drives add up
    assert second == JudgedElement("c", "ped_crossing", None, 4.0, 0.0, -math.inf, "")  # nobody spoke of it


def test_what_the_encoder_did_not_see_is_not_judged():
    assert judged_elements([weighed("a", 1.0)], [weighed("a", None, readings=())], {"a": "deletion"}) == []


def test_auroc_by_hand():
    """Two changed ones and three as mapped: 5 of 6 pairs in order."""
    elements = [
        *(element(2.0, "deletion"), element(0.5, "geometry")),
        *(element(1.0), element(-1.0), element(0.0)),
        *(element(-9.0, "markings"), element(9.0, "insertion")),  # still where the prior has them: neither
    ]
    assert auroc_of(elements, "hand") == pytest.approx(5 / 6)
    assert auroc_of(elements, "residual") == pytest.approx(0.5)  # all alike


def test_silence_comes_last():
    """Below the least that is said, however little that is; two silent ones are a draw."""
    elements = [element(-5.0, "deletion"), element(None), element(None, "deletion")]
    assert auroc_of(elements, "hand") == pytest.approx(3 / 4)
    unspoken = [element(0.0, "deletion", combined=-3.0), element(0.0, combined=-math.inf)]
    assert auroc_of(unspoken, "combined") == 1.0


def test_nothing_to_tell_apart_is_not_a_number():
    assert all(math.isnan(auroc_of(some, name)) for some in ([], [element(1.0)]) for name in EVIDENCE)


def test_right_is_an_edit_of_the_kind_within_three_metres():
    edits = [edit("e", square(0.0), kind="deletion")]
    assert is_right(weighed("a", 1.0, old=box(3.9, -1, 5, 1)), edits, {})  # 2.9 m away
    assert not is_right(weighed("a", 1.0, old=box(4.1, -1, 5, 1)), edits, {})
    assert not is_right(weighed("a", 1.0, kind="geometry"), edits, {})
    moved = [edit("e", square(0.0), kind="geometry")]
    assert is_right(weighed("a", 1.0, kind="geometry", old=square(9.0), new=square(0.0)), moved, {})  # where it is now


def test_where_rules_are_silent_the_very_element_must_be_edited():
    edits = [edit("e", square(0.0), kind="deletion")]
    assert is_right(weighed("a", None), edits, {"a": "deletion"})
    assert not is_right(weighed("a", None), edits, {"b": "deletion"})  # its neighbour
    assert not is_right(weighed("a", None), edits, {"a": "geometry"})


def test_a_fitted_calibration_follows_what_was_right():
    """Rules are right when they speak; where they are silent the residual tells."""
    rows = [weighed("r", 2.0, readings=[(0.0, 0.0)]), weighed("w", -2.0, readings=[(0.0, 0.0)])] * 8
    rows += [weighed("r", None, readings=[(3.0, 0.0)]), weighed("w", None, readings=[(-3.0, 0.0)])] * 8
    regression = fit_calibration(rows, [True, False] * 16)
    hand, _, residual, belief, _ = regression.weights
    assert hand > 1
    assert residual > 1
    assert belief == pytest.approx(0.0)
    assert regression.centre.tolist() == [0.0, 0.5, 0.0, 0.0]


def test_reliability_of_log_odds():
    """Log-odds of ln 4 are a confidence of .8, of 0 one of .5."""
    found = reliability([np.log(4.0), np.log(4.0), 0.0, -np.log(4.0)], [True, False, True, False])
    assert found.count == 4
    assert found.ece == pytest.approx((2 * 0.3 + 0.5 + 0.2) / 4)
    assert found.brier == pytest.approx((0.2**2 + 0.8**2 + 0.5**2 + 0.2**2) / 4)
    assert reliability([-np.inf], [False]).brier == 0.0
