import math

import numpy as np
import pytest

from avjepa.probes.metrics.moving_objects import (
    IGNORED,
    MOVING,
    STATIC,
    MovingConfusion,
    MovingObjects,
    semantickitti_labels,
)

N, M, S = IGNORED, MOVING, STATIC


def bools(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


def labels(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int8)


def test_iou_by_hand_without_the_ignored_points():
    confusion = MovingConfusion.of(bools(1, 1, 1, 0, 0, 1, 0), labels(M, M, S, M, S, N, N))
    assert confusion == MovingConfusion(true_moving=2, false_moving=1, false_static=1, true_static=1)
    assert confusion.iou == pytest.approx(2 / 4)
    assert confusion.recall == pytest.approx(2 / 3)
    assert confusion.precision == pytest.approx(2 / 3)


def test_the_data_set_is_counted_as_one_and_not_scan_by_scan():
    first = MovingConfusion.of(bools(1, 0, 0, 0), labels(M, S, S, S))
    second = MovingConfusion.of(bools(0, 0, 0, 0), labels(M, M, M, S))
    assert (first + second).iou == pytest.approx(1 / 4)
    assert (first.iou + second.iou) / 2 == pytest.approx(1 / 2)
    assert first + MovingConfusion() == first


def test_nothing_moving_is_no_score():
    confusion = MovingConfusion.of(bools(1, 0), labels(S, S))
    assert math.isnan(confusion.iou)
    assert math.isnan(confusion.recall)
    assert math.isnan(confusion.precision)
    missed = MovingConfusion.of(bools(0, 0), labels(M, S))
    assert (missed.iou, missed.recall) == (0, 0)
    assert math.isnan(missed.precision)
    assert math.isnan(MovingConfusion().iou)


def test_the_two_rules_for_unlabeled_points_give_two_ious():
    raw = np.array([252, 252, 40, 0, 1, 10])
    called_moving = bools(1, 0, 0, 1, 0, 0)
    ignoring = semantickitti_labels(raw, "semantickitti")
    static = semantickitti_labels(raw, "motionseg3d")
    assert ignoring.tolist() == [M, M, S, N, N, S]
    assert static.tolist() == [M, M, S, S, S, S]
    assert MovingConfusion.of(called_moving, ignoring).iou == pytest.approx(1 / 2)
    assert MovingConfusion.of(called_moving, static).iou == pytest.approx(1 / 3)


@pytest.mark.parametrize("rule", ["semantickitti", "motionseg3d"])
def test_every_class_of_semantickitti(rule):
    """Prediction files (9, 251), instances in the upper bits, and classes that do not exist."""
    raw = np.array([9, 251, 259, 99, 252 | (7 << 16), 250, 260, 2, 0xFFFF], dtype=np.uint32)
    assert semantickitti_labels(raw, rule).tolist() == [S, M, M, S, M, N, N, N, N]
    assert semantickitti_labels(raw.view(np.int32), rule).tolist() == [S, M, M, S, M, N, N, N, N]


def test_an_unknown_rule():
    with pytest.raises(KeyError, match="mapmos"):
        semantickitti_labels(np.array([0]), "mapmos")


def objects() -> MovingObjects:
    """A bus with 8 of 10 points found, a pedestrian with 0 of 2, another with 1 of 2; a car that is still; no thing."""
    thing = np.array([0] * 10 + [1] * 2 + [2] * 2 + [3] * 4 + [-1] * 3)
    truth = labels(*[M] * 14, *[S] * 4, M, S, N)
    found = bools(*[1] * 8, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1)
    return MovingObjects.of(found, truth, thing, np.array(["bus", "pedestrian", "pedestrian", "car"]))


def test_recall_over_objects_by_hand():
    found = objects()
    assert found.category.tolist() == ["bus", "pedestrian", "pedestrian"]
    assert found.num_points.tolist() == [10, 2, 2]
    assert found.num_found.tolist() == [8, 0, 1]
    assert found.recall(0.5) == pytest.approx(2 / 3)
    assert found.recall(0.6) == pytest.approx(1 / 3)
    assert found.recall(0.8) == pytest.approx(1 / 3)
    assert found.recall(0.81) == 0
    assert found.recall_by_category(0.5) == {"bus": 1.0, "pedestrian": 0.5}


def test_points_hide_what_objects_show():
    """Nine points in fourteen are found, but most of it is the bus."""
    found = objects()
    assert found.num_found.sum() / found.num_points.sum() == pytest.approx(9 / 14)
    assert found.recall_by_category(0.6) == {"bus": 1.0, "pedestrian": 0.0}


def test_objects_of_several_scans():
    both = MovingObjects.joined([objects(), objects()])
    assert len(both.num_points) == 6
    assert both.recall() == objects().recall()
    none = MovingObjects.joined([])
    assert math.isnan(none.recall())
    assert none.recall_by_category() == {}
    still = MovingObjects.of(bools(1), labels(S), np.array([0]), np.array(["car"]))
    assert math.isnan(still.recall())


def test_shapes_that_do_not_match():
    with pytest.raises(ValueError, match=r"got bool \(2,\), \(3,\)"):
        MovingConfusion.of(bools(0, 1), labels(S, S, S))
    with pytest.raises(ValueError, match="got float64"):
        MovingConfusion.of(np.array([0.2, 0.9]), labels(S, M))
    with pytest.raises(ValueError, match="a thing for each"):
        MovingObjects.of(bools(0, 1), labels(S, M), np.array([0]), np.array(["car"]))
