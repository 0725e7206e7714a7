import math

import numpy as np
import pytest

from avjepa.probes.metrics.point_forecast import (
    PointForecastScore,
    chamfer_distance,
    near_field_chamfer_distance,
    point_forecast_errors,
    range_on_true_rays,
    ray_errors,
)

HERE = np.zeros(3)


def points(*xyz) -> np.ndarray:
    return np.array(xyz, dtype=np.float64).reshape(-1, 3)


# -------------------------------------------------------------------------------------------------------------- Chamfer
def test_chamfer_distance_is_half_the_sum_of_mean_squares():
    predicted, truth = points([0, 0, 0], [4, 0, 0]), points([1, 0, 0], [1, 0, 0], [1, 2, 0])
    # predicted -> truth: 1 and 9; truth -> predicted: 1, 1 and 5
    assert chamfer_distance(predicted, truth) == pytest.approx((10 / 2 + 7 / 3) / 2, abs=1e-12)


def test_chamfer_distance_against_all_pairs():
    rng = np.random.default_rng(0)
    predicted, truth = rng.normal(0, 30, (300, 3)), rng.normal(0, 30, (200, 3))
    squares = ((predicted[:, None] - truth) ** 2).sum(-1)
    assert chamfer_distance(predicted, truth) == pytest.approx(squares.min(1).mean() / 2 + squares.min(0).mean() / 2)


def test_near_field_leaves_points_outside_of_the_volume_out_and_counts_its_faces():
    predicted = points([69, 0, 0], [90, 0, 0])
    truth = points([70, 0, 0], [0, 0, 4.6])  # the first on a face, the second above the volume
    assert near_field_chamfer_distance(predicted, truth) == pytest.approx(1.0, abs=1e-12)
    assert chamfer_distance(predicted, truth) > 100


@pytest.mark.parametrize("far", [(71, 0, 0), (0, -71, 0), (0, 0, 4.6), (0, 0, -4.6)])
def test_near_field_without_points_is_zero(far):
    assert near_field_chamfer_distance(points(far), points([1, 0, 0])) == 0
    assert near_field_chamfer_distance(points([1, 0, 0]), points(far)) == 0


# ---------------------------------------------------------------------------------------------------------- ray errors
@pytest.mark.parametrize(
    ("origin", "truth", "predicted_m", "l1_m", "true_m"),
    [
        ((0, 0, 0), (10, 0, 0), 13.0, 3.0, 10.0),  # plain
        ((0, 0, 0), (10, 0, 0), 7.0, 3.0, 10.0),
        ((0, 0, 0), (100, 0, 0), 60.0, 10.0, 70.0),  # the true end is clamped to 70
        ((0, 0, 0), (60, 0, 0), 100.0, 10.0, 60.0),  # the predicted one
        ((0, 0, 0), (100, 0, 0), 200.0, 0.0, 70.0),  # both: no error
        ((0, 0, 0), (0, 0, -9), 4.0, 0.5, 4.5),  # a face in z
        ((0, 0, 0), (30, 0, -40), 2.0, 4.5 * 5 / 4 - 2, 4.5 * 5 / 4),  # the nearest face counts
        ((10, 0, 0), (100, 0, 0), 50.0, 10.0, 60.0),  # ranges are measured from the LiDAR, not from the volume's middle
        ((-80, 0, 0), (-50, 0, 0), 32.0, 2.0, 30.0),  # LiDAR outside, end inside: the range starts at the LiDAR
        ((-80, 0, 0), (80, 0, 0), 100.0, 50.0, 140.0),  # LiDAR and end outside: it starts at the face
        ((-80, 0, 0), (-50, 0, 0), 5.0, 20.0, 30.0),  # predicted before the volume: clamped to its face
        ((0, 0, 0), (70.01, 0, 0), 70.0, 0.01, 70.01),  # two centimetres outside are not clamped
    ],
)
def test_both_ends_are_clamped_to_the_volume(origin, truth, predicted_m, l1_m, true_m):
    found = ray_errors(np.array([predicted_m]), points(truth), np.array(origin, dtype=float))
    assert found == pytest.approx((l1_m, l1_m / true_m), abs=1e-9)


@pytest.mark.parametrize("missing", [(-90, 5, 0), (-80, 90, 0), (-75, 0, 0), (-80, 0, 3)])
def test_rays_that_miss_the_volume_add_no_error_but_count(missing):
    origin = np.array([-80.0, 0, 0])
    truth = points([-40, 0, 0], missing)  # behind, beside, ending before it, or straight up
    l1_m, absrel = ray_errors(np.array([42.0, 1.0]), truth, origin)
    assert (l1_m, absrel) == pytest.approx((2 / 2, 2 / 40 / 2), abs=1e-12)


@pytest.mark.parametrize("reach_m", [40.0, 120.0])
def test_clamping_against_small_steps_along_the_rays(reach_m):
    """Twin: walk along each ray in steps of a few centimetres and keep what lies in the volume.

    Rays that nearly follow a face are left out: along them the slack of two centimetres is long.
    """
    rng = np.random.default_rng(0)
    steps = np.linspace(0, 1, 20_001)
    compared = 0
    for _ in range(200):
        origin, end = rng.uniform(-reach_m, reach_m, (2, 3)) * [[1, 1, 0.04], [1, 1, 0.3]]
        true_m, predicted_m = np.linalg.norm(end - origin), rng.uniform(1, 2 * reach_m)
        if np.abs((end - origin) / true_m).min() < 0.1:
            continue
        to_truth, to_predicted, to_infinity = (
            along[(np.abs(origin + along[:, None] * (end - origin) / true_m) <= [70, 70, 4.5]).all(1)]
            for along in (steps * true_m, steps * predicted_m, steps * 8 * reach_m)
        )
        l1_m, absrel = ray_errors(np.array([predicted_m]), points(end), origin)
        if not len(to_truth):
            assert l1_m == pytest.approx(0, abs=0.25)
            continue
        error_m = abs((to_predicted.max() if len(to_predicted) else to_infinity.min()) - to_truth.max())
        assert l1_m == pytest.approx(error_m, abs=0.25)
        length_m = to_truth.max() - (0 if (np.abs(end) <= [70, 70, 4.5]).all() else to_truth.min())
        if length_m > 5:
            assert absrel == pytest.approx(error_m / length_m, abs=0.25)
            compared += 1
    assert compared > 20


# ------------------------------------------------------------------------------------------------- clouds off the rays
def test_the_range_is_that_of_the_predicted_point_nearest_in_angle():
    predicted = points([5, 0, 0], [0, 20, 0], [30, 1, 1])
    truth = points([10, 0.1, 0], [1, 20, 0], [10, 0.3, 0.3])
    range_m, _ = range_on_true_rays(predicted, truth, HERE)
    assert range_m == pytest.approx([5, 20, math.sqrt(902)])


def test_elevation_is_over_the_forward_axis_as_in_4d_occ():
    """To the side atan2(z, x) is steep: by true angles the first predicted point would be nearest to the ray."""
    truth = points([1.0, 20.0, 1.0])  # atan2(1, 1) = 45 degrees
    predicted = points([0.5, 10.0, -0.5], [13.0, 30.0, 13.0])  # -45 and 45 degrees
    assert range_on_true_rays(predicted, truth, HERE)[0] == pytest.approx([math.sqrt(13**2 * 2 + 900)])


def test_points_at_the_lidar_are_no_rays():
    predicted, truth = points([0, 0, 0.005], [10, 0, 0]), points([20, 0, 0], [0.001, 0, 0])
    range_m, left = range_on_true_rays(predicted, truth, HERE)
    assert range_m == pytest.approx([10.0])
    assert left.tolist() == [[20, 0, 0]]
    with pytest.raises(ValueError, match="from the origin"):
        range_on_true_rays(predicted[:1], truth, HERE)


def test_a_cloud_on_the_true_rays_keeps_its_own_ranges():
    rng = np.random.default_rng(1)
    origin, truth = np.array([3.0, -2.0, 0.5]), rng.uniform(-60, 60, (400, 3)) * [1, 1, 0.05]
    factor = rng.uniform(0.2, 1.2, 400)
    predicted = origin + (truth - origin) * factor[:, None]
    range_m, _ = range_on_true_rays(predicted, truth, origin)
    assert range_m == pytest.approx(np.linalg.norm(truth - origin, axis=1) * factor)


# ------------------------------------------------------------------------------------------------------------ the score
def test_errors_of_one_sweep_by_hand():
    truth, predicted = points([10, 0, 0], [0, 20, 0]), points([12, 0, 0], [0, 19, 0])
    errors = point_forecast_errors(predicted, truth, HERE)
    assert errors.cd_m2 == pytest.approx((4 + 1) / 2, abs=1e-9)
    assert errors.nfcd_m2 == errors.cd_m2
    assert errors.l1_m == pytest.approx(1.5, abs=1e-9)
    assert errors.absrel == pytest.approx((0.2 + 0.05) / 2, abs=1e-9)


def test_rays_start_at_the_lidar_of_that_moment():
    """Seen from x = 20 the truth lies behind and beside; seen from the volume's middle both are ahead."""
    truth, predicted = points([10, 0, 0], [20, 8, 0]), points([20, 6, 0], [15, 0, 0])
    errors = point_forecast_errors(predicted, truth, np.array([20.0, 0, 0]))
    assert (errors.l1_m, errors.absrel) == pytest.approx(((5 + 2) / 2, (5 / 10 + 2 / 8) / 2), abs=1e-9)


def test_points_at_the_lidar_count_in_the_chamfer_distance_only():
    errors = point_forecast_errors(points([0, 0, 0], [12, 0, 0]), points([0, 0, 0], [10, 0, 0]), HERE)
    assert (errors.cd_m2, errors.l1_m) == pytest.approx((2.0, 2.0), abs=1e-9)


def test_every_sweep_weighs_the_same():
    score = PointForecastScore(3)
    score.add(0, points([11, 0, 0]), points([10, 0, 0]), HERE)
    score.add(1, points([12, 0, 0], [0, 12, 0]), points([10, 0, 0], [0, 10, 0]), HERE)
    score.add(1, points([10, 0, 0]), points([10, 0, 0]), HERE)
    assert [score.at(step).l1_m for step in (0, 1)] == pytest.approx([1.0, 1.0])
    assert math.isnan(score.at(2).cd_m2)
    assert score.until(1).l1_m == pytest.approx((1 + 2 + 0) / 3)  # not the mean of the means, 1
    assert score.until(2).cd_m2 == pytest.approx((1 + 4 + 0) / 3)
    assert score.count.tolist() == [1, 2, 0]


def test_sweeps_without_truth_are_skipped_and_counted():
    score = PointForecastScore(1)
    score.add(0, points([1, 0, 0]), points(), HERE)
    assert (score.skipped, score.count.tolist()) == (1, [0])


@pytest.mark.parametrize(
    ("predicted", "truth", "complaint"),
    [
        (points(), points([1, 0, 0]), "predicted cloud must be"),
        (np.ones((2, 4)), points([1, 0, 0]), "predicted cloud must be"),
        (points([1, 0, 0]), points([1, math.nan, 0]), "true cloud has points that are not finite"),
        (points([math.inf, 0, 0]), points([1, 0, 0]), "predicted cloud has points that are not finite"),
    ],
)
def test_bad_clouds(predicted, truth, complaint):
    with pytest.raises(ValueError, match=complaint):
        point_forecast_errors(predicted, truth, HERE)
