from dataclasses import replace

import numpy as np
import pytest
import torch

from avjepa.geometry.occ3d import CLASS_NAMES, FREE, UNKNOWN
from avjepa.geometry.rigid import transform_from_se2
from avjepa.probes.forecasting import Forecast, ForecastProbe, ForecastTruth, Past
from avjepa.probes.occupancy import CLASSES

CAR, ROAD = CLASS_NAMES.index("car"), CLASS_NAMES.index("driveable_surface")
GRID = ForecastProbe.grid
SHAPE = GRID.shape_zyx  # 16, 200, 200 voxels of 0.4 m, from (-1, -40, -40) m
LIDAR = np.array([1.0, 0.0, 1.8])
STEPS = 6
TIME_S = np.arange(-1, STEPS + 1) * 0.5


def wall(x_m: float, classes=None) -> torch.Tensor:
    """A car-like wall across the road, one voxel thick, at x_m; (Z, Y, X)."""
    classes = torch.full(SHAPE, FREE, dtype=torch.uint8) if classes is None else classes
    classes[:, 90:110, int((x_m + 40) / 0.4)] = CAR
    return classes


def on_wall(x_m: float, rays: int = 9) -> np.ndarray:
    """Returns (P, 3) on a wall's far face, where rays are said to end."""
    y_m = np.linspace(-3, 3, rays)
    return np.c_[np.full(rays, x_m), y_m, 1.8 + 0.05 * np.arange(rays)]


def far_face_m(x_m: float) -> float:
    return (int((x_m + 40) / 0.4) + 1) * 0.4 - 40


def clip_truths(
    speed_m: float = 2.0, wall_m: float = 20.2, accelerates_m: float = 0.0, past_classes=None, clouds=None
) -> list[ForecastTruth]:
    """A wall that stands still, seen from a car that drives towards it; speed and wall in metres a keyframe and at now."""
    along_m = [-speed_m, 0.0, *(speed_m * k + accelerates_m * k * k for k in range(1, STEPS + 1))]
    face_m = far_face_m(wall_m)
    clouds = [on_wall(face_m - x_m) for x_m in along_m[:2]] if clouds is None else clouds
    past = Past(
        classes=wall(wall_m) if past_classes is None else past_classes,
        clouds=clouds,
        now_cloud=clouds[-1],
        now_T_frame=np.stack([transform_from_se2(x_m, 0, 0) for x_m in along_m]),
        time_s=TIME_S,
        now_lidar=LIDAR,
    )
    return [
        ForecastTruth(step, wall(wall_m - x_m), on_wall(face_m - x_m), LIDAR, past)
        for step, x_m in enumerate(along_m[2:])
    ]


def untrained(truths: list[ForecastTruth], probe: ForecastProbe = ForecastProbe()) -> dict[str, list[Forecast]]:  # noqa: B008
    class Truths:
        def truths(self):
            return iter(truths)

    return {name: list(answers()) for name, answers in probe.untrained(Truths(), Truths())}


def evaluate(forecasts: list[Forecast], truths: list[ForecastTruth]) -> dict[str, float]:
    return ForecastProbe().evaluate(zip(forecasts, truths, strict=True), 0.5)


# ------------------------------------------------------------------------------------------------------------- metrics
def test_a_perfect_forecast():
    truths = clip_truths()
    metrics = evaluate([Forecast(truth.classes, truth.returns) for truth in truths], truths)
    assert set(ForecastProbe.columns) <= set(metrics)
    for name in ("iou_1s", "iou_3s", "iou_mean", "miou_mean"):
        assert metrics[name] == 1, name
    for name in ("cd_1s", "cd_2s", "cd_3s", "nfcd", "l1", "absrel"):
        assert metrics[name] == pytest.approx(0, abs=1e-12), name
    assert metrics["sweeps_skipped"] == 0


def test_occupancy_is_turned_into_a_sweep_along_the_true_rays():
    """The wall is 4 voxels too far: every ray is longer by 1.6 m over the cosine of its angle. All lie in one row of voxels:
    a ray ends where it leaves the FIRST voxel, through whatever side.
    """
    returns = np.array([[20.4, 0.05, 1.85], [20.4, 0.3, 2.1], [20.4, 0.1, 1.9]])
    truths = [replace(truth, returns=returns) for truth in clip_truths(speed_m=0.0)]
    metrics = evaluate([Forecast(wall(20.2 + 1.6), None)] * STEPS, truths)
    truth = truths[0]
    length_m = np.linalg.norm(truth.returns - LIDAR, axis=1)
    error_m = 1.6 * length_m / (truth.returns[0, 0] - LIDAR[0])
    assert metrics["l1"] == pytest.approx(error_m.mean(), abs=1e-6)
    assert metrics["absrel"] == pytest.approx((error_m / length_m).mean(), abs=1e-6)
    assert metrics["iou_mean"] == 0
    assert metrics["miou_1s"] == pytest.approx(16 / 17)  # the car is wrong, absent classes count 1


def test_seconds_are_moments_whatever_the_order_of_items():
    """Only the keyframes at 1 and 3 s are forecast well."""
    truths = clip_truths()
    forecasts = [
        Forecast(truth.classes, truth.returns)
        if truth.step in (1, 5)
        else Forecast(wall(0.0), truth.returns + np.array([0.6, 0.8, 0]))
        for truth in truths
    ]
    metrics = ForecastProbe().evaluate(list(zip(forecasts, truths, strict=True))[::-1], 0.5)
    assert [metrics[f"iou_{second}s"] for second in (1, 2, 3)] == [1, 0, 1]
    assert metrics["iou_mean"] == pytest.approx(2 / 3)
    assert metrics["cd_1s"] == metrics["cd_3s"] == 0
    assert metrics["cd_2s"] > 0.1
    assert metrics["nfcd"] == pytest.approx(4 / 6 * metrics["cd_2s"], rel=1e-6)  # each step weighs the same


def test_scores_within_25_m_look_no_further():
    """A wall at 20 m is forecast, one at 30 m is invented."""
    truths = clip_truths(speed_m=0.0)
    metrics = evaluate([Forecast(wall(30.2, truth.classes.clone()), None) for truth in truths], truths)
    assert metrics["iou_near_mean"] == metrics["miou_near_mean"] == metrics["iou_near_3s"] == 1
    assert metrics["iou_mean"] == pytest.approx(1 / 2)


def test_rays_that_meet_nothing_end_where_they_leave_the_grid():
    truths = clip_truths(speed_m=0.0)
    metrics = evaluate([Forecast(torch.full(SHAPE, FREE, dtype=torch.uint8), None)] * STEPS, truths)
    directions = truths[0].directions
    ends = LIDAR + directions * ((40 - LIDAR[0]) / directions[:, 0])[:, None]  # they all leave at x = 40 m, below 5.4 m
    assert (ends[:, 2] < 5.4).all()
    wanted = np.linalg.norm(ends - truths[0].returns, axis=1).mean()
    assert metrics["l1"] == pytest.approx(wanted, abs=1e-6)
    assert np.isfinite([metrics[name] for name in ForecastProbe.columns]).all()


def test_sweeps_are_scored_about_the_present_lidar():
    """4D-Occ's volume is +-70 m about the LiDAR of now: after 36 m, what lies 35.5 m ahead is out of the near field."""
    for ahead_m, inside in ((34.5, True), (35.5, False)):
        truths = [
            replace(truth, returns=on_wall(ahead_m)) for truth in clip_truths(speed_m=6.0) if truth.step == STEPS - 1
        ]
        metrics = evaluate([Forecast(None, truths[0].returns + np.array([0.0, 0.1, 0.0]))], truths)
        assert metrics["cd_3s"] == pytest.approx(0.01, rel=1e-6)
        assert metrics["nfcd"] == pytest.approx(0.01 if inside else 0.0, rel=1e-6)


def test_sweeps_turn_with_the_car():
    """The present frame looks along y: what is ahead of the turned car is to the left, and the clouds agree there only."""
    truths = clip_truths(speed_m=0.0)
    turned = [
        replace(truth, past=replace(truth.past, now_T_frame=np.tile(transform_from_se2(0, 0, np.pi / 2), (8, 1, 1))))
        for truth in truths
    ]
    assert evaluate([Forecast(None, t.returns) for t in turned], turned)["cd_1s"] == pytest.approx(0, abs=1e-12)


def test_what_cannot_be_scored_is_counted_and_nothing_stops():
    truths = clip_truths()
    empty = np.zeros((0, 3))
    truths[1] = replace(truths[1], returns=empty)  # an empty sweep: at 1 s
    forecasts = [Forecast(truth.classes, None) for truth in truths]
    forecasts[3] = Forecast(forecasts[3].classes, empty)  # a forecast of no return: at 2 s
    metrics = evaluate(forecasts, truths)
    assert metrics["sweeps_skipped"] == 2
    assert np.isnan(metrics["cd_1s"])
    assert np.isnan(metrics["cd_2s"])
    assert metrics["cd_3s"] == pytest.approx(0, abs=1e-12)
    assert metrics["iou_mean"] == 1


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_moments_that_are_missing_are_not_right(steps):
    """OccWorld's rule for an absent class would call an empty confusion matrix perfect."""
    truths = clip_truths()[:steps]
    metrics = evaluate([Forecast(truth.classes, truth.returns) for truth in truths], truths)
    assert np.isnan([metrics[name] for name in ("iou_mean", "miou_mean", "iou_3s", "miou_3s", "cd_3s")]).all()
    assert set(metrics) == set(evaluate([Forecast(t.classes, None) for t in clip_truths()], clip_truths()))


def test_unknown_voxels_do_not_count():
    truths = clip_truths()
    hidden = [replace(t, classes=torch.where(wall(0.0) == CAR, UNKNOWN, t.classes).to(torch.uint8)) for t in truths]
    invented = [Forecast(wall(0.0, t.classes.clone()), t.returns) for t in truths]
    assert evaluate(invented, truths)["iou_mean"] < 0.6
    assert evaluate(invented, hidden)["iou_mean"] == 1


# ------------------------------------------------------------------------------------------------------ without training
def test_persistence_carries_the_world_along_and_warping_leaves_it():
    truths = clip_truths(speed_m=2.0)  # five voxels a keyframe
    rows = untrained(truths)
    assert torch.equal(rows["persistence"][5].classes, truths[0].past.classes)
    assert rows["persistence"][5].returns == pytest.approx(truths[0].past.clouds[-1])
    for poses in ("true", "constant velocity"):
        warped = rows[f"warp-persistence, {poses} poses"]
        for answer, truth in zip(warped, truths, strict=True):
            assert torch.equal(answer.classes, truth.classes)
            assert answer.returns == pytest.approx(truth.returns, abs=1e-9)
        assert evaluate(warped, truths)["iou_mean"] == 1
    assert evaluate(rows["persistence"], truths)["iou_mean"] == 0
    assert evaluate(rows["persistence"], truths)["cd_3s"] > 100


def test_casting_and_tracing_meet_the_wall_the_context_saw():
    truths = clip_truths()
    rows = untrained(truths)
    for kind, tolerance_m in (("casting", 0.45), ("tracing", 0.15)):
        for answer, truth in zip(rows[f"ray {kind}, true poses"], truths, strict=True):
            assert answer.classes is None
            assert answer.returns[:, 0] == pytest.approx(truth.returns[:, 0], abs=tolerance_m), kind
        metrics = evaluate(rows[f"ray {kind}, true poses"], truths)
        assert np.isnan(metrics["iou_mean"])
        assert metrics["l1"] < tolerance_m


def test_constant_velocity_does_not_know_that_the_car_speeds_up():
    truths = clip_truths(accelerates_m=0.4)  # at 3 s: 26.4 m instead of 12 m
    rows = untrained(truths)
    true, expected = (rows[f"warp-persistence, {poses} poses"] for poses in ("true", "constant velocity"))
    assert torch.equal(true[5].classes, truths[5].classes)
    assert torch.equal(expected[5].classes, wall(20.2 - 12.0))


def test_copies_and_rays_stay_inside_the_grid_like_the_truth():
    """A return 60 m away cannot be true, so that no row answers it."""
    far = np.array([[60.0, 0.0, 1.8], [20.2, 0.0, 1.8]])
    truths = clip_truths(speed_m=0.0, clouds=[far, far])
    rows = untrained(truths)
    for name in ("persistence", "warp-persistence, true poses"):
        assert rows[name][0].returns == pytest.approx(far[1:], abs=1e-9)
    only_far = clip_truths(speed_m=0.0, clouds=[far[:1], far[:1]])
    for kind in ("casting", "tracing"):
        returns = untrained(only_far)[f"ray {kind}, true poses"][0].returns
        assert returns[:, 0] == pytest.approx(40.0, abs=1e-6), kind


def test_copies_are_as_thin_as_the_truth_and_rays_meet_all_that_was_seen():
    cloud = on_wall(20.4, rays=9)
    truths = clip_truths(speed_m=0.0, clouds=[cloud[::-1], cloud])
    rows = untrained(truths, ForecastProbe(ray_step=4))
    assert rows["persistence"][0].returns == pytest.approx(cloud[::4])
    assert rows["ray tracing, true poses"][0].returns == pytest.approx(truths[0].returns, abs=1e-6)


def test_baselines_without_a_cloud_or_without_a_ray_answer_nothing():
    empty = np.zeros((0, 3), dtype=np.float32)
    blind = clip_truths(clouds=[empty, empty])
    unseen = [replace(truth, returns=empty.astype(np.float64)) for truth in clip_truths()]
    for truths in (blind, unseen):
        for name, answers in untrained(truths).items():
            metrics = evaluate(answers, truths)
            knows_the_grid = truths is blind and "casting" in name  # nothing is met before its end
            assert metrics["sweeps_skipped"] == (0 if knows_the_grid else STEPS), name


# ----------------------------------------------------------------------------------------------------- loss and answer
def test_logits_are_read_back_as_the_loss_wrote_them():
    truth = replace(clip_truths()[0], classes=wall(20.2))
    truth.classes[:, :95] = UNKNOWN
    window = (slice(92, 108), slice(145, 160))
    logits = torch.zeros(1, CLASSES * SHAPE[0], 16, 15, requires_grad=True)
    probe = ForecastProbe()
    (gradient,) = torch.autograd.grad(probe.loss(logits, [truth], window), logits)
    part = truth.classes[:, window[0], window[1]]
    answer = probe.answer(-gradient[0], truth)
    assert answer.returns is None
    assert torch.equal(answer.classes[part != UNKNOWN], part[part != UNKNOWN])
    assert not gradient.unflatten(1, (CLASSES, -1))[0, :, part == UNKNOWN].any()


# ------------------------------------------------------------------------------------------------------------ pictures
def test_pictures_show_things_where_they_are():
    """An asymmetric place: 20 m ahead, 5 to 9 m to the right; rows are y."""
    classes = torch.full(SHAPE, FREE, dtype=torch.uint8)
    classes[4, 80:90, 150] = CAR
    truth = replace(clip_truths()[0], classes=classes)
    probe = ForecastProbe()
    returns = np.array([[20.2, -5.0, 1.0], [90.0, 0.0, 1.0]])
    for answer in (Forecast(classes, None), Forecast(None, returns), Forecast(torch.full_like(classes, FREE), None)):
        panels = probe.panels(answer, truth, 0.5, None)
        assert panels.uncertainty is None
        red, green, _ = panels.error[87, 150]
        missed = answer.classes is not None and (answer.classes == FREE).all()
        assert (red > green) == missed
    assert not np.allclose(probe.truth_panels(truth).answer[85, 150], probe.truth_panels(truth).answer[150, 85])
    logits = torch.zeros(CLASSES * SHAPE[0], *SHAPE[1:])
    assert probe.panels(Forecast(classes, None), truth, 0.5, logits).uncertainty.min() > 0.99
