from pathlib import Path

import numpy as np
import pytest
import torch
from shapely import LineString, box

from avjepa.errors import DataError
from avjepa.geometry.rigid import transform_from_se2
from avjepa.probes import map_completion
from avjepa.probes.colours import MAP_COLOURS
from avjepa.probes.map_completion import MapProbe, MapTruth
from avjepa.probes.map_labels import DrivableMask, VectorMap
from avjepa.probes.metrics.map_iou import MAP_CLASSES
from avjepa.probes.task import Items
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from tests.toy_drive import CITIES, SCENES, ego_pose, write_toy_drive

SHAPE = MapProbe.grid.shape_yx  # 200 x 200 cells of 0.5 m
NEAR = (slice(50, 150), slice(50, 150))
ROAD, WALKWAY = MAP_CLASSES.index("drivable_area"), MAP_CLASSES.index("walkway")
CITY = CITIES[0]


def cells(*windows: tuple[slice, slice], of: tuple[int, int] = SHAPE) -> torch.Tensor:
    """(Y, X) bool, true in these windows."""
    chosen = torch.zeros(of, dtype=torch.bool)
    for window in windows:
        chosen[window] = True
    return chosen


def truth_of(hidden: torch.Tensor, pose=None, city: str = CITY, **areas: torch.Tensor) -> MapTruth:
    classes = torch.stack([areas.get(name, cells()) for name in MAP_CLASSES])
    return MapTruth(classes, hidden, np.eye(4) if pose is None else pose, Path("root"), city)


def town(x_m: float = 0.0) -> VectorMap:
    """Beside the toy drive's first pose: a road ahead, a walkway to its left; x_m further along."""
    areas = {name: np.array([], dtype=object) for name in MAP_CLASSES[:-1]}
    areas["drivable_area"] = np.array([box(310 + x_m, 895, 330 + x_m, 905)])
    areas["walkway"] = np.array([box(310 + x_m, 905, 330 + x_m, 909)])
    return VectorMap(areas, np.array([LineString([(310 + x_m, 900), (330 + x_m, 900)])], dtype=object))


# ------------------------------------------------------------------------------------------------------------- metrics
def test_only_cells_that_are_hidden_count_for_completion():
    """Everything observed is wrong, everything hidden is right; and the other way round."""
    road, hidden = cells((slice(90, 110), slice(20, 180))), cells((slice(0, 200), slice(100, 200)))
    truth = truth_of(hidden, drivable_area=road)
    right = torch.where(hidden, truth.classes, ~truth.classes).float()
    metrics = MapProbe().evaluate([(right, truth)], 0.5)
    for stratum in ("hidden", "hidden_near"):
        assert metrics[f"miou_{stratum}_iou@0.50"] == pytest.approx(1, abs=1e-6)
    assert metrics["miou_all_iou@0.50"] == pytest.approx(20 * 80 / (20 * 80 + 200 * 100), abs=1e-6)
    metrics = MapProbe().evaluate([(1 - right, truth)], 0.5)
    assert metrics["miou_hidden_iou@0.50"] == metrics["miou_hidden_iou@max"] == 0
    assert metrics["miou_all_iou@0.50"] == pytest.approx(20 * 80 / (20 * 80 + 200 * 100), abs=1e-6)


def test_near_is_25_m_to_every_side():
    road = cells((slice(40, 60), slice(100, 101)), (slice(140, 160), slice(100, 101)))  # half of each is near
    truth = truth_of(cells((slice(None), slice(None))), drivable_area=road)
    inside = cells(NEAR) & road
    score = torch.stack([inside, *[cells()] * 5]).float()
    metrics = MapProbe().evaluate([(score, truth)], 0.5)
    assert metrics["miou_hidden_near_iou@0.50"] == pytest.approx(1, abs=1e-6)
    assert metrics["miou_hidden_iou@0.50"] == metrics["miou_all_iou@0.50"] == pytest.approx(1 / 2, abs=1e-6)


def test_classes_that_do_not_occur_are_left_out_of_our_mean_and_count_zero_in_bevfusions():
    everywhere = cells((slice(None), slice(None)))
    road, walkway = cells((slice(60, 70), slice(60, 70))), cells((slice(0, 10), slice(0, 10)))
    truth = truth_of(everywhere, drivable_area=road, walkway=walkway)
    metrics = MapProbe().evaluate([(truth.classes.float(), truth)], 0.5)
    assert metrics["miou_all_iou@0.50"] == pytest.approx(1, abs=1e-6)
    assert metrics["bevfusion_iou@0.50"] == metrics["bevfusion_iou@max"] == pytest.approx(2 / 6, abs=1e-6)
    assert metrics["hidden_near_iou_of_drivable_area"] == pytest.approx(1, abs=1e-6)
    assert np.isnan(metrics["hidden_near_iou_of_walkway"])  # it occurs, but not within 25 m


def test_counts_are_of_the_whole_split_and_thresholds_of_each_class():
    everywhere = cells((slice(None), slice(None)))
    frames = [truth_of(everywhere, drivable_area=cells((slice(0, rows), slice(100, 101)))) for rows in (10, 30)]
    found = torch.stack([cells((slice(0, 40), slice(100, 101))), *[cells()] * 5])
    metrics = MapProbe().evaluate(
        [(found * score, truth) for score, truth in zip((0.6, 0.4), frames, strict=True)], 0.5
    )
    assert metrics["miou_all_iou@0.50"] == pytest.approx(10 / (40 + 30), abs=1e-6)
    assert metrics["miou_all_iou@max"] == pytest.approx(40 / 80, abs=1e-6)  # both at .4, not the mean of two IoUs


@pytest.mark.parametrize("hidden", [cells(), cells((slice(0, 10), slice(0, 10)))])
def test_a_stratum_without_cells_is_nan_and_stops_nothing(hidden):
    truth = truth_of(hidden, drivable_area=cells((slice(0, 200), slice(0, 200))))
    metrics = MapProbe().evaluate([(truth.classes.float(), truth)], 0.5)
    assert np.isnan(metrics["miou_hidden_near_iou@0.50"])
    assert np.isnan(metrics["hidden_near_iou_of_drivable_area"])
    assert np.isnan(metrics["miou_hidden_iou@max"]) == (not hidden.any())
    assert metrics["miou_all_iou@0.50"] == pytest.approx(1, abs=1e-6)
    assert set(MapProbe.columns) <= set(metrics)


def test_the_same_metrics_whatever_counts():
    everywhere = cells((slice(None), slice(None)))
    some = MapProbe().evaluate([(truth.classes.float(), truth) for truth in [truth_of(everywhere)]], 0.5)
    none = MapProbe().evaluate([], 0.5)
    assert set(some) == set(none)
    assert all(np.isnan(value) for value in none.values())


# ----------------------------------------------------------------------------------------------------- loss and answer
def test_loss_and_answer_have_the_same_axes():
    """On a window that is no square, a step down the gradient gives the truth."""
    truth = truth_of(
        cells(), drivable_area=cells((slice(0, 120), slice(0, 30))), divider=cells((slice(30, 35), slice(5, 9)))
    )
    window = (slice(20, 80), slice(0, 50))
    logits = torch.zeros(1, len(MAP_CLASSES), 60, 50, requires_grad=True)
    probe = MapProbe()
    (gradient,) = torch.autograd.grad(probe.loss(logits, [truth], window), logits)
    answer = probe.answer(-1e6 * gradient[0], truth)
    assert torch.equal(answer > 0.5, truth.classes[:, window[0], window[1]])
    assert answer.min() >= 0
    assert answer.max() <= 1


def test_rare_classes_weigh_more_up_to_ten_times():
    """One true cell of 400: sqrt(399) is cut to 10; a class of half the cells weighs 1."""
    probe, window = MapProbe(classes=("drivable_area",)), (slice(0, 20), slice(0, 20))
    for road, weight in (
        (cells((0, 0)), 10),
        (cells((slice(0, 4), slice(0, 20))), 2),
        (cells((slice(0, 10), slice(0, 20))), 1),
    ):
        truth = MapTruth(road[None], cells(), np.eye(4), Path("root"), CITY)
        true = int(road[window].sum())
        loss = probe.loss(torch.zeros(1, 1, 20, 20), [truth], window).item()
        assert loss == pytest.approx(np.log(2) * (weight * true + 400 - true) / 400, rel=1e-5)


# ------------------------------------------------------------------------------------------------------ without training
@pytest.fixture
def items(monkeypatch):
    """Two training frames and one test frame between them, turned a little; a prior map that is 2 m out of date."""
    poses = [transform_from_se2(300, 900, 0.0), transform_from_se2(345, 900, 3.0), transform_from_se2(302, 901, 0.1)]
    probe = MapProbe()
    monkeypatch.setattr(map_completion, "cached_prior_map", lambda root, city: town(2.0) if city == CITY else None)
    made = [MapTruth(town().labels(pose), cells(), pose, Path("root"), CITY) for pose in poses]
    train, test = Items(probe, None, [0, 1]), Items(probe, None, [0])
    train._truths.update({0: [made[0]], 1: [made[1]]})
    test._truths[0] = [made[2]]
    return probe, train, test


def test_answers_that_need_no_training(items):
    probe, train, test = items
    rows = {name: list(answers()) for name, answers in probe.untrained(train, test)}
    assert list(rows) == ["prior map, copied", "mean map", "map of the nearest training pose"]
    assert all(len(answers) == 1 for answers in rows.values())
    prior, mean, nearest = (answers[0] for answers in rows.values())
    assert torch.equal(prior, town(2.0).labels(test.truth(0).global_T_ego).float())
    assert torch.equal(mean, (train.truth(0).classes.float() + train.truth(1).classes) / 2)
    truth = test.truth(0)
    iou = {
        name: probe.evaluate([(answer, truth)], 0.5)["miou_all_iou@0.50"]
        for name, answer in {
            "prior": prior,
            "mean": mean,
            "nearest": nearest,
            "unmoved": train.truth(0).classes.float(),
        }.items()
    }
    assert iou["nearest"] > 0.7 > iou["unmoved"]
    assert iou["nearest"] > iou["prior"] > iou["mean"]


def test_the_mean_map_is_made_once(items, monkeypatch):
    probe, train, test = items
    test.clips = [0] * 5
    calls = []
    monkeypatch.setattr(map_completion, "mean_map", lambda truths: calls.append(1) or torch.zeros(6, *SHAPE))
    assert len(list(dict(probe.untrained(train, test))["mean map"]())) == 5
    assert len(calls) == 1


def test_there_is_no_prior_row_where_one_city_has_no_prior_map(items):
    probe, train, test = items
    test.clips = [0, 1]
    test._truths[1] = [truth_of(cells(), city="elsewhere")]
    assert "prior map, copied" not in dict(probe.untrained(train, test))


def test_the_prior_of_some_classes_is_in_their_order(items, monkeypatch):
    _, train, test = items
    probe = MapProbe(classes=("walkway", "drivable_area"))
    (prior,) = dict(probe.untrained(train, test))["prior map, copied"]()
    want = town(2.0).labels(test.truth(0).global_T_ego)
    assert torch.equal(prior, want[[WALKWAY, ROAD]].float())


# --------------------------------------------------------------------------------------------------------------- truth
@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "index"))
    root = write_toy_drive(tmp_path / "toy", scenes=1, keyframes=4)
    return NuScenesClips(root, (SCENES[0],), (-1, 0), (), (32, 64), max_bad_share=1.0, cameras=())


@pytest.fixture
def the_town(monkeypatch):
    monkeypatch.setattr(map_completion, "cached_map", lambda root, city: town())


def test_truth_is_in_the_present_ego_frame(dataset, the_town):
    """The ego stands at (304, 900.2) and has turned by 6 degrees: the road begins 6 m ahead, the walkway is to the left."""
    (truth,) = MapProbe().truth(dataset, 1)
    assert torch.equal(truth.classes, town().labels(ego_pose(2)))
    assert truth.city == CITY
    road, walkway = (truth.classes[number].nonzero() for number in (ROAD, WALKWAY))
    assert 110 <= road[:, 1].min() <= 114  # 5 to 7 m ahead
    assert walkway[:, 0].double().mean() > 100 > road[:, 0].double().mean() - 5


def test_hidden_is_what_no_context_frame_observes(dataset, the_town):
    (truth,) = MapProbe().truth(dataset, 1)
    assert not truth.hidden[100, 103:110].any()  # the road ahead, in the rays' sight
    assert truth.hidden[:20, :20].all()  # 60 m away
    more = NuScenesClips(dataset.root, (SCENES[0],), (-2, -1, 0), (), (32, 64), max_bad_share=1.0, cameras=())
    (longer,) = MapProbe().truth(more, 0)  # the same present, one frame more
    assert np.array_equal(longer.global_T_ego, truth.global_T_ego)
    assert not (longer.hidden & ~truth.hidden).any()
    assert longer.hidden.sum() < truth.hidden.sum()


def test_a_clip_that_stands_in_for_an_unreadable_one_has_its_own_map(dataset, the_town):
    (path,) = (dataset.root / name for name in [str(dataset.index.lidar_file[2])])
    path.write_bytes(path.read_bytes()[:-3])  # clip 1 and 2 hold it: clip 0 is the next that can be read
    (truth,) = MapProbe().truth(dataset, 1)
    assert np.array_equal(truth.global_T_ego, dataset[1].now.global_T_ego)
    assert not np.array_equal(truth.global_T_ego, ego_pose(2))


def test_a_root_with_the_drivable_mask_alone(dataset, monkeypatch):
    mask = DrivableMask(
        np.packbits(np.ones((2000, 4000), dtype=np.uint8), axis=1), 4000
    )  # 400 x 200 m: not that far north
    monkeypatch.setattr(map_completion, "cached_map", lambda root, city: mask)
    with pytest.raises(DataError, match=r"holds drivable_area, not carpark_area, .*set the probe's classes"):
        MapProbe().truth(dataset, 0)
    (truth,) = MapProbe(classes=("drivable_area",)).truth(dataset, 0)
    assert truth.classes.shape == (1, *SHAPE)
    assert MapProbe(classes=("drivable_area",)).outputs == 1


# ------------------------------------------------------------------------------------------------------------ pictures
def test_pictures_show_cells_where_they_are_and_classes_in_their_colours():
    """An asymmetric map: rows are y. Divider alone keeps the divider's colour."""
    line = cells((slice(20, 30), slice(150, 190)))
    truth = MapTruth(line[None], line, np.eye(4), Path("root"), CITY)
    probe = MapProbe(classes=("divider",))
    shown = probe.truth_panels(truth).answer
    assert shown.shape == (*SHAPE, 3)
    assert shown[25, 170] == pytest.approx(MAP_COLOURS["divider"])
    assert not np.allclose(shown[170, 25], MAP_COLOURS["divider"])
    panels = probe.panels(torch.full((1, *SHAPE), 0.2), truth, 0.5, torch.zeros(1, *SHAPE))
    assert panels.error[25, 170, 0] > panels.error[25, 170, 1]  # missed: red
    assert panels.uncertainty == pytest.approx(np.ones((*SHAPE, 3)), abs=1e-3)
    assert probe.panels(truth.classes.float(), truth, 0.5, None).uncertainty is None


def test_what_decides_a_result_is_in_the_repr():
    assert repr(MapProbe()) != repr(MapProbe(classes=("drivable_area",)))
