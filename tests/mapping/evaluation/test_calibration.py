import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from avjepa.mapping.evaluation.calibration import calibration_of


def test_by_hand():
    # In [0.8, 0.9): 0.8 and 0.85, one of them right; in [0.2, 0.3): 0.25, wrong.
    found = calibration_of([0.8, 0.85, 0.25], [True, False, False])
    assert [one.count for one in found.bins] == [0, 0, 1, 0, 0, 0, 0, 0, 2, 0]
    eighth = found.bins[8]
    assert (eighth.lower, eighth.upper, eighth.confidence, eighth.share_right) == pytest.approx((0.8, 0.9, 0.825, 0.5))
    assert found.ece == pytest.approx((2 * 0.325 + 1 * 0.25) / 3)
    assert found.brier == pytest.approx((0.2**2 + 0.85**2 + 0.25**2) / 3)
    assert found.count == 3
    assert math.isnan(found.bins[0].share_right)


def test_edges_of_bins():
    # A tenth lies in the bin that begins with it, and 1 in the last.
    tenths = [number / 10 for number in range(11)]
    found = calibration_of(tenths, [True] * 11)
    assert [one.count for one in found.bins] == [1] * 9 + [2]


def test_perfect_and_worst():
    sure = calibration_of([1.0, 1.0, 0.0], [True, True, False])
    assert (sure.ece, sure.brier) == (0.0, 0.0)
    wrong = calibration_of([1.0, 0.0], [False, True])
    assert (wrong.ece, wrong.brier) == (1.0, 1.0)
    honest = calibration_of([0.75] * 4, [True, True, True, False])
    assert honest.ece == pytest.approx(0.0)
    assert honest.brier == pytest.approx(0.75 * 0.25)


def test_no_event_has_no_calibration():
    found = calibration_of([], [])
    assert found.count == 0
    assert math.isnan(found.ece)
    assert math.isnan(found.brier)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_against_sklearn_and_bounds(pairs):
    said, right = zip(*pairs, strict=True)
    found = calibration_of(said, right)
    assert found.brier == pytest.approx(brier_score_loss(np.array(right), np.array(said), pos_label=True), abs=1e-12)
    assert sum(one.count for one in found.bins) == len(pairs)
    assert abs(np.mean(said) - np.mean(right)) - 1e-12 <= found.ece <= 1.0  # bins can only add to the gap of the means


def test_what_is_no_confidence():
    for said, right in (([1.1], [True]), ([float("nan")], [True]), ([0.5], [True, False])):
        with pytest.raises(ValueError, match="confidences"):
            calibration_of(said, right)
