import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, Point, box

from avjepa.errors import DataError
from avjepa.mapping.evaluation.frames import predict_drives, score_frames, true_frames
from avjepa.mapping.outputs.frame_predictions import MATCH, MISMATCH, FramePrediction
from tests.mapping.evaluation.scenes import START_US, STEP_US, edit, event, square, straight


def truth_of(*labels):
    """Truth of frames at 0, 1, 2, ... ns."""
    return {("log", number): label for number, label in enumerate(labels)}


def said(*answers):
    """Predictions of frames at 0, 1, 2, ... ns, each (class, confidence)."""
    return [FramePrediction("log", number, *answer, None) for number, answer in enumerate(answers)]


# --------------------------------------------------------------------------------------------------------------- truth
def test_frames_are_asked_for_every_five_metres():
    path = straight([0, 3, 6, 6, 6, 11, 12])
    times_ns = [(START_US + STEP_US * frame) * 1000 for frame in (0, 2, 6)]  # 6 - 0 > 5; 11 - 6 = 5 is not; 12 - 6 is
    assert list(true_frames([], [path])) == [("drive", time_ns) for time_ns in times_ns]
    assert [one.lidar_timestamp_ns for one in predict_drives([], [path])] == times_ns


@pytest.mark.parametrize(
    ("shape", "changed_at"),
    [
        (Point(60, 0), [50, 60]),  # below 20 m: not at 40
        (LineString([(50, 15), (60, 15)]), [40, 50, 60]),
        (box(-200, -200, 200, 200), []),  # the car is inside, far from the outline
        (box(-200, -200, 45, 200), [30, 40, 50, 60]),
    ],
)
def test_twenty_metres_to_a_line_or_to_the_outer_ring(shape, changed_at):
    x_m = list(range(0, 61, 10))
    labels = true_frames([edit("e", shape)], [straight(x_m)]).values()
    assert [x for x, label in zip(x_m, labels, strict=True) if label == MISMATCH] == changed_at


def test_kind_and_layer_do_not_matter_to_a_frame():
    path = straight([0])
    for kind, layer in (("connectivity", "lane_connector"), ("markings", "road_divider")):
        assert list(true_frames([edit("e", square(5), kind, layer)], [path]).values()) == [MISMATCH]


def test_a_report_predicts_its_own_truth():
    path = straight(np.arange(0, 201, 6))
    known = [edit("known", square(100))]
    score = score_frames(predict_drives([event("e", square(100))], [path]), true_frames(known, [path]))
    assert (score.m_acc, score.ap_match, score.ap_mismatch) == pytest.approx((1.0, 1.0, 1.0))
    assert score.unanswered == 0


# -------------------------------------------------------------------------------------------------------------- scores
def test_mean_accuracy_by_hand():
    truth = truth_of(MATCH, MATCH, MATCH, MATCH, MISMATCH, MISMATCH)
    answers = [(MATCH, 0.9)] * 3 + [(MISMATCH, 0.8), (MISMATCH, 0.7), (MATCH, 0.6)]
    score = score_frames(said(*answers), truth)
    assert score.confusion.tolist() == [[3, 1], [1, 1]]
    assert score.accuracies == (0.75, 0.5)
    assert score.m_acc == pytest.approx(0.625, abs=1e-6)  # of frames, 4 of 6 are right


def test_a_drive_without_changes_scores_a_half_at_most():
    score = score_frames(said(*[(MATCH, 1.0)] * 3), truth_of(MATCH, MATCH, MATCH))
    assert score.m_acc == pytest.approx(
        0.5, abs=1e-6
    )  # as pr_utils.py computes it: 0 / (0 + eps) of the class that lacks
    assert score.accuracies[0] == 1.0
    assert math.isnan(score.accuracies[1])
    assert math.isnan(score.ap_match)
    assert math.isnan(score.ap_mismatch)


def test_average_precision_in_both_polarities_by_hand():
    # Probability of mismatch: 0.9 (is), 0.8 (is not), 0.6 (is), 0.2 (is not), 0.1 (is not).
    truth = truth_of(MISMATCH, MATCH, MISMATCH, MATCH, MATCH)
    answers = [(MISMATCH, 0.9), (MISMATCH, 0.8), (MISMATCH, 0.6), (MATCH, 0.8), (MATCH, 0.9)]
    score = score_frames(said(*answers), truth)
    assert score.ap_mismatch == pytest.approx((1 / 1 + 2 / 3) / 2)
    # The other way round: 0.9 (is), 0.8 (is), 0.4 (is not), 0.2 (is), 0.1 (is not).
    assert score.ap_match == pytest.approx((1 / 1 + 2 / 2 + 3 / 4) / 3)


def test_confidences_that_tie_in_one_polarity_tie_in_the_other():
    # 1 - 0.7 and 0.3 differ in the last bit; together they are one step of the curve: precision 1/2 at recall 1.
    truth = truth_of(MISMATCH, MATCH)
    score = score_frames(said((MATCH, 0.7), (MISMATCH, 0.3)), truth)
    assert score.ap_mismatch == pytest.approx(0.5)
    assert score.ap_match == pytest.approx(0.5)
    assert 1 - 0.7 != 0.3


def test_the_same_answer_everywhere_scores_the_share_of_the_class():
    truth = truth_of(*[MISMATCH] * 3, *[MATCH] * 5)
    score = score_frames(said(*[(MATCH, 1.0)] * 8), truth)
    assert (score.ap_mismatch, score.ap_match) == pytest.approx((3 / 8, 5 / 8))
    assert score.m_acc == pytest.approx(0.5, abs=1e-6)


def step_sum(score, positive):
    """Average precision, written out: the sum over distinct scores of precision times the step of recall."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        chosen = [is_positive for value, is_positive in zip(score, positive, strict=True) if value >= threshold]
        recall = sum(chosen) / sum(positive)
        total += sum(chosen) / len(chosen) * (recall - before)
        before = recall
    return total


@given(st.lists(st.tuples(st.sampled_from([MATCH, MISMATCH]), st.integers(0, 8)), min_size=2, max_size=30))
def test_average_precision_is_the_sum_of_its_steps(frames):
    labels, eighths = zip(*frames, strict=True)
    if len(set(labels)) < 2:
        return
    answers = [(MISMATCH, value / 8) for value in eighths]
    score = score_frames(said(*answers), truth_of(*labels))
    p_mismatch = [value / 8 for value in eighths]
    assert score.ap_mismatch == pytest.approx(step_sum(p_mismatch, [label == MISMATCH for label in labels]))
    assert score.ap_match == pytest.approx(step_sum([1 - p for p in p_mismatch], [label == MATCH for label in labels]))


# ------------------------------------------------------------------------------------------------------- which frames
def test_frames_that_are_not_answered_are_counted():
    score = score_frames(said((MATCH, 1.0), (MISMATCH, 1.0)), truth_of(MATCH, MISMATCH, MATCH))
    assert score.unanswered == 1
    assert score.confusion.sum() == 2


def test_another_methods_labels_and_frames_are_not_looked_at():
    wrong = [FramePrediction("log", 0, MATCH, 1.0, MISMATCH), FramePrediction("log", 77, MISMATCH, 1.0, MISMATCH)]
    assert score_frames(wrong, truth_of(MATCH)).confusion.tolist() == [[1, 0], [0, 0]]


def test_frames_predicted_twice_or_of_other_drives():
    with pytest.raises(DataError, match="twice"):
        score_frames(said((MATCH, 1.0)) * 2, truth_of(MATCH))
    with pytest.raises(DataError, match="same drives"):
        score_frames([FramePrediction("other", 0, MATCH, 1.0, None)], truth_of(MATCH))
