import numpy as np
import pytest

from avjepa.geometry.occ3d import FREE
from avjepa.probes.metrics.occupancy_forecast import OccupancyForecastScore

SHAPE = (20, 20, 14)  # inside and outside of the margin that another convention leaves out
CAR, ROAD = 4, 11


def volume(*classes: int) -> np.ndarray:
    """These classes along one edge, the rest free."""
    grid = np.full(SHAPE, FREE, dtype=np.uint8)
    grid.reshape(-1)[: len(classes)] = classes
    return grid


def score(predicted: list[np.ndarray], truth: list[np.ndarray]):
    counted = OccupancyForecastScore()
    counted.add(predicted, truth)
    return counted.scores()


def test_one_moment_by_hand():
    truth, predicted = volume(CAR, CAR, CAR, ROAD), volume(CAR, CAR, ROAD, ROAD, CAR)
    found = score([predicted] * 6, [truth] * 6)
    # car: 2 of 4; road: 1 of 2; the 15 other classes are absent and count 1
    assert found.miou[1] == pytest.approx((2 / 4 + 1 / 2 + 15) / 17, abs=1e-9)
    assert found.geometric_iou[1] == pytest.approx(4 / 5, abs=1e-9)


def test_a_class_absent_from_the_truth_counts_one_even_if_it_is_predicted():
    found = score([volume(7, 7, ROAD)] * 6, [volume(FREE, FREE, ROAD)] * 6)
    assert found.miou[1] == pytest.approx(1.0, abs=1e-12)
    assert found.geometric_iou[1] == pytest.approx(1 / 3, abs=1e-9)


def test_nothing_occupied_at_all_counts_one():
    found = score([volume(CAR)] * 6, [volume()] * 6)
    assert (found.miou[3], found.geometric_iou[3]) == (1.0, 1.0)


def test_seconds_are_moments_and_their_mean_is_over_three():
    truth = [volume(CAR, CAR, CAR, CAR)] * 6
    right = (0, 4, 0, 2, 0, 1)  # at 0.5, 1, ... 3 s
    predicted = [volume(*[CAR] * count, *[FREE] * (4 - count)) for count in right]
    found = score(predicted, truth)
    assert found.geometric_iou == pytest.approx({1: 1.0, 2: 0.5, 3: 0.25}, abs=1e-12)
    assert found.miou == pytest.approx({1: 1.0, 2: 16.5 / 17, 3: 16.25 / 17}, abs=1e-12)
    assert found.mean_geometric_iou == pytest.approx(1.75 / 3, abs=1e-12)
    assert found.mean_miou == pytest.approx((1 + 16.5 / 17 + 16.25 / 17) / 3, abs=1e-12)
    assert [step.geometric_iou for step in found.steps] == pytest.approx([0, 1, 0, 0.5, 0, 0.25])


def test_counts_are_pooled_over_the_split_before_dividing():
    counted = OccupancyForecastScore()
    counted.add([volume(CAR)] * 6, [volume(CAR)] * 6)
    counted.add([volume(FREE, FREE, FREE)] * 6, [volume(CAR, CAR, CAR)] * 6)
    assert counted.scores().geometric_iou[2] == pytest.approx(1 / 4, abs=1e-12)  # not the mean of 1 and 0


def test_one_moment_alone_counts_in_its_own_matrix():
    counted = OccupancyForecastScore()
    counted.add_step(3, volume(CAR), volume(CAR, ROAD))
    assert [confusion.frames for confusion in counted.confusions] == [0, 0, 0, 1, 0, 0]
    with pytest.raises(ValueError, match="all 6 moments"):
        counted.scores()
    for step in (0, 1, 2, 4, 5):
        counted.add_step(step, volume(), volume())
    assert counted.scores().geometric_iou[2] == pytest.approx(1 / 2, abs=1e-12)


def test_against_plain_counting():
    rng = np.random.default_rng(0)
    predicted, truth = rng.integers(0, 18, (2, 3, 6, *SHAPE), dtype=np.uint8)
    truth[truth == 9] = FREE
    counted = OccupancyForecastScore()
    for clip in range(3):
        counted.add(predicted[clip], truth[clip])
    found = counted.scores()
    for second in (1, 2, 3):
        p, t = predicted[:, 2 * second - 1], truth[:, 2 * second - 1]
        ious = [1.0 if c == 9 else ((p == c) & (t == c)).sum() / ((p == c) | (t == c)).sum() for c in range(17)]
        assert found.miou[second] == pytest.approx(np.mean(ious), abs=1e-9)
        occupied = ((p != FREE) & (t != FREE)).sum() / ((p != FREE) | (t != FREE)).sum()
        assert found.geometric_iou[second] == pytest.approx(occupied, abs=1e-9)


def test_five_volumes_are_refused():
    with pytest.raises(ValueError, match="6 future volumes"):
        score([volume()] * 5, [volume()] * 5)
