import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avjepa.probes.metrics.dynamic_map import (
    DynamicMapScore,
    best_ha_threshold,
    removed_points,
    score_cleaned_map,
    score_labels,
)


def bools(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


def along_x(*x_m: float) -> np.ndarray:
    return np.array([[x, 0.0, 0.0] for x in x_m])


def test_rates_by_hand():
    """Static 0, 1, 2, 3 of which 3 is lost; dynamic 10, 11 of which 11 stays: SA 75, DA 50."""
    truth = along_x(0, 1, 2, 3, 10, 11)
    cleaned = along_x(0.04, 1.049, 2, 11.01)
    score = score_cleaned_map(truth, bools(0, 0, 0, 0, 1, 1), cleaned)
    assert score == DynamicMapScore(static_kept=3, num_static=4, dynamic_removed=1, num_dynamic=2)
    assert score.sa == pytest.approx(75, abs=1e-9)
    assert score.da == pytest.approx(50, abs=1e-9)
    assert score.aa == pytest.approx(math.sqrt(75 * 50), abs=1e-9)
    assert score.ha == pytest.approx(2 * 75 * 50 / 125, abs=1e-9)


def test_published_rates_give_the_published_means():
    """Removert on KITTI 00 in the benchmark's table: SA 99.44, DA 41.53, AA 64.26."""
    score = DynamicMapScore(static_kept=9944, num_static=10_000, dynamic_removed=4153, num_dynamic=10_000)
    assert score.aa == pytest.approx(64.26, abs=0.005)


@pytest.mark.parametrize(
    ("offset_m", "removed"), [(0.0, False), (0.0499, False), (0.05, False), (0.0501, True), (9, True)]
)
def test_a_point_is_removed_beyond_five_centimetres_and_not_at_them(offset_m, removed):
    assert removed_points(along_x(0), along_x(offset_m)).tolist() == [removed]


def test_the_distance_is_in_space_and_of_the_nearest_point():
    truth = np.array([[0.0, 0.0, 0.0]])
    assert removed_points(truth, np.array([[0.03, 0.03, 0.03]])).tolist() == [True]
    assert removed_points(truth, np.array([[0.03, 0.03, 0.03], [0.02, 0.02, 0.02]])).tolist() == [False]


def test_rates_over_voxels_are_others():
    """Nine static points in one voxel of 0.2 m, eight of them lost, and one elsewhere: by voxels nothing is missing."""
    truth = np.concatenate([along_x(*np.linspace(0.001, 0.199, 9)), along_x(5.1)])
    cleaned = along_x(0.001, 5.1)
    score = score_cleaned_map(truth, np.zeros(10, dtype=bool), cleaned)
    assert score.sa == pytest.approx(40.0)  # 0.001 and its two neighbours within 0.05 m, and 5.1
    voxels = [{int(x / 0.2) for x in cloud[:, 0]} for cloud in (truth, cleaned)]
    assert len(voxels[0] & voxels[1]) / len(voxels[0]) == 1.0


def test_an_empty_map_removes_everything_and_a_full_one_nothing():
    truth, dynamic = along_x(0, 1, 2), bools(0, 0, 1)
    empty = score_cleaned_map(truth, dynamic, np.zeros((0, 3)))
    assert (empty.sa, empty.da, empty.aa, empty.ha) == (0, 100, 0, 0)
    full = score_cleaned_map(truth, dynamic, truth)
    assert (full.sa, full.da, full.aa, full.ha) == (100, 0, 0, 0)


def test_nothing_right_at_all_is_zero_and_no_division_by_zero():
    score = score_labels(bools(0, 1), bools(1, 0))
    assert (score.sa, score.da, score.aa, score.ha) == (0, 0, 0, 0)


@pytest.mark.parametrize("dynamic", [0, 1])
def test_where_only_one_kind_occurs_there_is_no_score(dynamic):
    score = score_labels(bools(dynamic, dynamic), bools(dynamic, 0))
    assert math.isnan(score.sa if dynamic else score.da)
    assert math.isnan(score.aa)
    assert math.isnan(score.ha)


def test_labels_and_map_agree_on_points_far_apart():
    truth, dynamic, predicted = along_x(0, 1, 2, 3), bools(0, 1, 1, 0), bools(0, 1, 0, 1)
    assert score_labels(dynamic, predicted) == score_cleaned_map(truth, dynamic, truth[~predicted])


def test_counts_must_match():
    with pytest.raises(ValueError, match="3 predictions for 2 points of the truth: the counts must match"):
        score_labels(bools(0, 1), bools(0, 1, 1))
    with pytest.raises(ValueError, match="0 predictions for 0"):
        score_labels(bools(), bools())
    with pytest.raises(ValueError, match=r"prediction: want \(P,\) bool, got \(2,\) int64"):
        score_labels(bools(0, 1), np.array([0, 1]))


def test_bad_clouds_are_refused():
    good = along_x(0, 1)
    bad = good.copy()
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match="cleaned map: 1 points are not finite"):
        removed_points(good, bad)
    with pytest.raises(ValueError, match="truth: 1 points are not finite"):
        removed_points(bad, good)
    with pytest.raises(ValueError, match=r"truth: want \(n, 3\), got \(2, 2\)"):
        removed_points(good[:, :2], good)
    with pytest.raises(ValueError, match="must be positive"):
        removed_points(good, good, removed_m=0.0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_twin_with_all_distances(seed, num_cleaned):
    rng = np.random.default_rng(seed)
    truth, cleaned = rng.uniform(0, 0.4, (30, 3)), rng.uniform(0, 0.4, (num_cleaned, 3))
    distances = np.linalg.norm(truth[:, None] - cleaned, axis=-1)
    expected = [not any(distance <= 0.05 for distance in row) for row in distances]
    assert removed_points(truth, cleaned).tolist() == expected


def test_scores_of_drives_add_up():
    assert DynamicMapScore(1, 2, 3, 4) + DynamicMapScore(10, 20, 30, 40) == DynamicMapScore(11, 22, 33, 44)


def test_best_threshold_by_hand():
    """Static .1 .2 .6, dynamic .5 .9: above .2 both dynamic ones and one static are called, HA 80; above .6 one, HA 2/3."""
    score, dynamic = np.array([0.9, 0.1, 0.5, 0.6, 0.2]), bools(1, 0, 1, 0, 0)
    assert best_ha_threshold(score, dynamic) == 0.2
    assert best_ha_threshold(score, dynamic, slack=29) == 0.2  # all but the lowest called: HA 50
    assert best_ha_threshold(score, dynamic, slack=31) == 0.1
    assert best_ha_threshold(score, bools(0, 0, 0, 0, 0)) == 0.5
    assert best_ha_threshold(np.zeros(0), bools()) == 0.5


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_no_threshold_is_better(points):
    """Against every score as threshold, ties included."""
    score, dynamic = np.array([s for s, _ in points], dtype=np.float32), np.array([d for _, d in points])
    best = score_labels(dynamic, score > best_ha_threshold(score, dynamic)).ha
    for threshold in [-1.0, *score.tolist()]:
        ha = score_labels(dynamic, score > threshold).ha
        assert np.isnan(ha) or ha <= best + 1e-9
