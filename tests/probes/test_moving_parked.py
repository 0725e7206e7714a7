import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.errors import ConfigError
from avjepa.geometry.grid import BEVGrid
from avjepa.probes import moving_parked
from avjepa.probes.boxes import KeyframeBoxes
from avjepa.probes.frozen import Source
from avjepa.probes.heads import HeadTraining
from avjepa.probes.moving_parked import MovingParkedProbe, MovingParkedTruth, cells_of_things, motion_is_known
from avjepa.probes.study import Study
from avjepa.probes.task import Items
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from tests.bev.scenes import ground, lidar_frames
from tests.probes.labelled_drive import write_labelled_drive
from tests.toy_drive import SCENES

GRID = BEVGrid((-4.0, 4.0), (-4.0, 4.0), (-2.0, 4.0), 1.0, 6.0)
PROBE = MovingParkedProbe(GRID)
ROW = (slice(0, 1), slice(0, 5))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "cache"))


def boxes_of(things: list[tuple]) -> KeyframeBoxes:
    """Boxes of (category, attribute, speed, centre x, y, length, width), 2 m high, standing on z = 0."""
    ego_T_box = np.tile(np.eye(4), (len(things), 1, 1))
    for pose, (*_, x, y, _, _) in zip(ego_T_box, things, strict=True):
        pose[:3, 3] = x, y, 1.0
    return KeyframeBoxes(
        ego_T_box=ego_T_box,
        global_T_box=ego_T_box,
        size_lwh_m=np.array([[*thing[5:], 2.0] for thing in things]).reshape(-1, 3),
        velocity_mps=np.array([[0.6 * thing[2], -0.8 * thing[2], 5.0] for thing in things]).reshape(-1, 3),
        category=np.array([thing[0] for thing in things], dtype=str),
        attribute=np.array([thing[1] for thing in things], dtype=str),
        instance=np.array([str(n) for n in range(len(things))], dtype=str),
        num_lidar_pts=np.zeros(len(things), dtype=int),
    )


def cells_with(clouds: list[list[tuple]], boxes: KeyframeBoxes, is_movable=None, age_s: dict | None = None) -> dict:
    """Thing by (row, column) of clouds of returns on flat ground, a cloud a frame; some returns of the last one may be older."""
    flat = ground(half_m=4.0)
    frames = lidar_frames([torch.cat([flat, torch.tensor(cloud).reshape(-1, 3)]) for cloud in clouds])
    for number, age in (age_s or {}).items():
        frames.points[len(frames.points) - len(clouds[-1]) + number, 4] = age
    movable = np.ones(len(boxes), dtype=bool) if is_movable is None else np.array(is_movable)
    thing = cells_of_things(frames, boxes, movable, GRID)
    return {(row, column): int(thing[row, column]) for row, column in (thing >= 0).nonzero().tolist()}


# ---------------------------------------------------------------------------------------------------------------- cells
CAR = ("vehicle.car", "vehicle.parked", 0.0, 2.0, 0.5, 2.0, 1.0)  # x in [1, 3], y in [0, 1]: columns 5 and 6, row 4
PERSON = ("human.pedestrian.adult", "pedestrian.moving", 1.0, 1.0, 0.9, 0.4, 0.4)  # x in [.8, 1.2], y in [.7, 1.1]


def test_cells_by_hand():
    returns = [
        *[(1.5, 0.5, 1.0), (2.5, 0.5, 0.2)],  # in the car; the second one is too near the ground
        *[(0.9, 0.9, 1.0), (1.1, 1.05, 1.5)],  # in the person, in two cells of which none has its centre in the box
        (-2.5, -2.5, 1.0),  # something in no box
    ]
    assert cells_with([[], returns], boxes_of([CAR, PERSON])) == {(4, 5): 0, (4, 4): 1, (5, 5): 1}


def test_a_cell_belongs_to_the_thing_with_most_returns():
    left, right = (("vehicle.car", "vehicle.parked", 0.0, 1.5, y, 1.0, 0.5) for y in (0.75, 0.25))  # halves of one cell
    one, three = [(1.5, 0.7, 1.0)], [(1.2, 0.3, 1.0), (1.5, 0.3, 1.0), (1.7, 0.2, 1.0)]
    assert cells_with([one + three], boxes_of([left, right])) == {(4, 5): 1}
    assert cells_with([three + one], boxes_of([right, left])) == {(4, 5): 0}
    assert cells_with([one], boxes_of([left, right])) == {(4, 5): 0}


def test_only_the_own_sweep_of_the_present_counts():
    boxes, here, there = boxes_of([CAR]), (1.5, 0.5, 1.0), (2.5, 0.5, 1.0)
    assert cells_with([[here], [there]], boxes) == {(4, 6): 0}
    assert cells_with([[here, there]], boxes, age_s={0: 0.05}) == {(4, 6): 0}


def test_things_that_are_not_movable_have_no_number():
    returns = [[(1.5, 0.5, 1.0), (0.9, 0.9, 1.0)]]
    assert cells_with(returns, boxes_of([CAR, PERSON]), [False, True]) == {(4, 4): 0}
    assert cells_with(returns, boxes_of([CAR, PERSON]), [False, False]) == {}
    assert cells_with(returns, boxes_of([])) == {}


def test_a_thing_partly_outside_the_grid_has_its_inner_cells_alone():
    bus = ("vehicle.bus.rigid", "vehicle.moving", 5.0, 4.0, -2.5, 6.0, 1.0)
    returns = [(x, -2.5, 1.0) for x in (2.5, 3.5, 4.5, 5.5)]
    assert cells_with([returns], boxes_of([bus])) == {(1, 6): 0, (1, 7): 0}
    assert cells_with([returns[2:]], boxes_of([bus])) == {}


# --------------------------------------------------------------------------------------------------------------- labels
def test_motion_is_known_where_attribute_and_speed_agree():
    cases = [
        *[("vehicle.moving", 0.5, True), ("vehicle.moving", 0.49, False)],  # the second waits at a light
        *[("vehicle.stopped", 0.49, True), ("vehicle.parked", 0.5, False)],
        *[("cycle.with_rider", 3.0, True), ("cycle.with_rider", 0.0, False), ("cycle.without_rider", 0.0, True)],
        *[("pedestrian.standing", 0.1, True), ("pedestrian.moving", math.nan, False)],
        *[("vehicle.parked", math.nan, False), ("", 0.0, False), ("", 5.0, False)],
    ]
    known = motion_is_known(boxes_of([("vehicle.car", attribute, speed, 0, 0, 1, 1) for attribute, speed, _ in cases]))
    assert known.tolist() == [expected for *_, expected in cases]  # the vertical 5 m/s of every box is not counted


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_labelled_drive(tmp_path_factory.mktemp("labelled") / "drive")


def clips_of(root, offsets=(-1, 0)) -> NuScenesClips:
    return NuScenesClips(root, (SCENES[0],), offsets, (), (16, 16), max_bad_share=1.0, cameras=())


def test_truth_of_a_drive(root):
    """A car that moves, and a person whose attribute says standing while the box moves at 3 m/s."""
    dataset = clips_of(root)
    grid = BEVGrid((-25.6, 25.6), (-25.6, 25.6), (-5.0, 3.0), 0.8, 8.0)
    (truth,) = MovingParkedProbe(grid).truth(dataset, 0)
    boxes = moving_parked.boxes_of(dataset.root, None).at(dataset[0].now.token)
    car = boxes.category.tolist().index("vehicle.car")
    assert truth.is_car.tolist() == truth.is_known.tolist() == truth.moves.tolist() == [n == car for n in range(2)]
    xyz = dataset[0].now.points_ego[:, :3].double().numpy()
    inside = np.abs((xyz - boxes.ego_T_box[car, :3, 3]) @ boxes.ego_T_box[car, :3, :3]) <= boxes.size_lwh_m[car] / 2
    column_row = np.floor((xyz[inside.all(1) & (xyz[:, 2] > 0.5), :2] + 25.6) / 0.8).astype(int)  # the road is at z = 0
    expected = {(int(row), int(column)) for column, row in column_row}
    assert {tuple(cell) for cell in truth.moving.nonzero().tolist()} >= expected != set()
    assert torch.equal(truth.moving, truth.counted)  # the person is left out
    assert not (truth.counted & ~truth.occupied).any()
    metrics = MovingParkedProbe(grid).evaluate([(torch.rand(64, 64), truth)], 0.5)
    assert (metrics["things_all"], metrics["moving_things_cars"]) == (1, 1)
    assert math.isnan(metrics["auroc_all"])


def test_a_keyframe_without_boxes_counts_nothing(root):
    dataset = clips_of(root)
    (truth,) = PROBE.truth(dataset, 2)
    assert not truth.counted.any()
    metrics = PROBE.evaluate([(torch.rand(8, 8), truth)], 0.5)
    assert all(math.isnan(metrics[name]) for name in PROBE.columns)
    assert metrics["cells_all"] == metrics["things_left_out"] == 0


def test_the_past_of_a_cell(root, monkeypatch):
    """Two past frames and the present; seen free is a matter of the past alone."""
    columns = [[FREE, FREE, OCCUPIED], [FREE, OCCUPIED, OCCUPIED], [UNOBSERVED, FREE, OCCUPIED], [UNOBSERVED] * 3]
    columns += [[OCCUPIED, UNOBSERVED, FREE], [OCCUPIED, OCCUPIED, FREE]]
    states = torch.tensor(columns, dtype=torch.uint8).T[:, None]  # (3, 1, 6)
    monkeypatch.setattr(moving_parked, "lidar_cell_states", lambda frames, grid: states)
    (truth,) = PROBE.truth(clips_of(root, (-2, -1, 0)), 0)
    assert truth.occupied[0].tolist() == [True, True, True, False, False, False]
    assert truth.seen_free[0].tolist() == [True, True, True, False, False, False]
    assert truth.was_free[0].tolist() == [1.0, 0.5, 0.75, 0.5, 0.25, 0.0]


def test_a_past_is_wanted(root):
    with pytest.raises(ConfigError, match="two context keyframes"):
        PROBE.items_per_clip(clips_of(root, (0,)))


# -------------------------------------------------------------------------------------------------------------- metrics
def one_row(thing: list[int], moves: list[int], is_known: list[int], is_car: list[int], **past) -> MovingParkedTruth:
    """A single row of occupied cells."""
    flags = [torch.tensor(values, dtype=torch.bool) for values in (moves, is_known, is_car)]
    cells = torch.zeros(1, len(thing))
    own = MovingParkedTruth(cells == 0, torch.tensor([thing]), *flags, seen_free=cells > 0, was_free=cells)
    return replace(own, **{name: torch.tensor([values]) for name, values in past.items()})


def test_metrics_by_hand():
    """Two clips. In the first: a moving car of two cells, a parked one, a thing of unknown motion, one without a cell; in the
    second a person who walks. Cell 4 of the first holds no thing.
    """
    first = one_row([0, 0, 1, 2, -1, -1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1])
    second = one_row([0, -1, -1, -1, -1, -1], [1], [1], [0])
    answers = [torch.tensor([[0.9, 0.3, 0.5, 1.0, 0.99, 0.0]]), torch.tensor([[0.4, 1, 1, 1, 1, 1.0]])]
    metrics = PROBE.evaluate(iter(zip(answers, [first, second], strict=True)), 0.5)
    expected = {
        "auroc_all": 1 / 3,  # moving .9, .3, .4 against a parked .5
        "ap_all": (1 / 1 + 2 / 3 + 3 / 4) / 3,  # in order .9, .5, .4, .3
        "things_auroc_all": 1 / 2,  # moving .6 and .4 against .5
        **{"auroc_cars": 1 / 2, "ap_cars": (1 / 1 + 2 / 3) / 2, "things_auroc_cars": 1.0},
        **{"cells_all": 4, "moving_cells_all": 3, "things_all": 3, "moving_things_all": 2, "things_left_out": 1},
        **{"cells_cars": 3, "moving_cells_cars": 2, "things_cars": 2, "moving_things_cars": 1},
    }
    assert metrics == pytest.approx(expected, abs=1e-6)
    assert set(PROBE.columns) <= set(metrics)


def test_nothing_known_scores_the_share_of_moving_cells():
    """Ties count half in AUROC, and are found all at once in AP; a mean over cells that tie is the same number."""
    truth = one_row([0, 0, 0, 1, 2, 2, 2], [1, 0, 0], [1, 1, 1], [1, 1, 0])
    metrics = PROBE.evaluate([(torch.full((1, 7), 1 / 3), truth)], 0.5)
    assert metrics["auroc_all"] == metrics["things_auroc_all"] == metrics["auroc_cars"] == 0.5
    assert metrics["ap_all"] == pytest.approx(3 / 7)
    assert metrics["ap_cars"] == pytest.approx(3 / 4)


def test_scores_of_the_best_and_the_worst_answer():
    generator = torch.Generator().manual_seed(0)
    thing = torch.randint(-1, 12, (1, 200), generator=generator)
    truth = one_row(thing[0].tolist(), [1, 0] * 6, [1] * 10 + [0, 0], [1] * 12)
    best = PROBE.evaluate([(truth.moving.float(), truth)], 0.5)
    worst = PROBE.evaluate([(1 - truth.moving.float(), truth)], 0.5)
    assert [best[name] for name in PROBE.columns] == [1.0] * 6
    assert [worst[name] for name in PROBE.columns if "auroc" in name] == [0.0] * 4
    noise = torch.rand(1, 200, generator=generator)
    squashed = PROBE.evaluate([(noise**3 / 2, truth)], 0.5)  # metrics of cells need the order alone
    assert PROBE.evaluate([(noise, truth)], 0.5)["ap_all"] == squashed["ap_all"] < 1


def test_loss_reads_cells_that_count_and_weighs_both_answers_equally():
    truth = one_row([0, 1, 1, 1, 2], [1, 0, 1], [1, 1, 0], [1, 1, 1])
    logits = torch.tensor([[[[2.0, -1, -1, -1, 50]]]])
    expected = 0.5 * math.log1p(math.exp(-2.0)) + 0.5 * math.log1p(math.exp(-1.0))
    assert PROBE.loss(logits, [truth], ROW).item() == pytest.approx(expected)
    assert PROBE.loss(logits[..., 4:], [truth], (slice(0, 1), slice(4, 5))).item() == 0  # nothing to learn, no failure


def test_untrained_rows_by_hand(root):
    past = {"seen_free": [True, False, True], "was_free": [1.0, 0.5, 0.75]}
    items = Items(PROBE, clips_of(root), [0], {0: [one_row([0, 1, -1], [1, 0], [1, 1], [1, 1], **past)]})
    rows = {name: next(answers()) for name, answers in PROBE.untrained(items, items)}
    assert rows["seen free before"].tolist() == [[1, 0, 1]]
    assert rows["free against occupied before"].tolist() == [[1.0, 0.5, 0.75]]
    assert rows["all alike"].shape == rows["near the car's axis"].shape == GRID.shape_yx
    assert rows["near the car's axis"][:, 0].tolist() == pytest.approx(
        [0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125]
    )


# ------------------------------------------------------------------------------------------------------------- pictures
def test_panels_by_hand():
    truth = one_row([0, 0, 1, 2, -1], [1, 0, 1], [1, 1, 0], [1, 1, 1])
    truth = replace(truth, occupied=torch.tensor([[True, True, True, True, False]]))
    shown = PROBE.truth_panels(truth).answer[0]
    moving, parked, other, nothing = (shown[n].tolist() for n in (0, 2, 3, 4))
    assert shown[1].tolist() == moving
    assert moving[0] > parked[0] > moving[2]  # orange
    assert parked[2] > parked[0]  # blue
    assert len(set(other)) == len(set(nothing)) == 1
    assert other[0] > nothing[0]
    panels = PROBE.panels(torch.tensor([[0.9, 0.2, 0.8, 0.9, 0.9]]), truth, 0.5, torch.zeros(1, 1, 5))
    assert panels.error[0, :3].tolist() == [
        [0.2, 0.65, 0.35],
        [0.85, 0.2, 0.2],
        [0.95, 0.75, 0.2],
    ]  # found, missed, invented
    assert panels.error[0, 3].tolist() == panels.error[0, 4].tolist() == nothing
    assert panels.answer[0, 0, 0] > panels.answer[0, 2, 0] > panels.answer[0, 1, 0]  # redder where more likely
    np.testing.assert_allclose(
        panels.uncertainty[0, :, 0], [1, 1, 1, 0, 0], atol=1e-6
    )  # nothing is asked of the last two
    assert PROBE.panels(truth.was_free, truth, 0.5, None).uncertainty is None


# ------------------------------------------------------------------------------------------------------------ real data
@pytest.mark.real_data
def test_the_whole_table_on_real_scenes(nuscenes_root, tmp_path):
    grid = BEVGrid((-25.6, 25.6), (-25.6, 25.6), (-5.0, 3.0), 0.8, 8.0)

    def clips(scene: str) -> NuScenesClips:
        return NuScenesClips(nuscenes_root, (scene,), (-2, -1, 0), (), (16, 16), cameras=(), clip_stride=6)

    study = Study(
        probe=MovingParkedProbe(grid),
        train=clips("scene-0523"),
        tests={"original": clips("scene-0916")},
        sources={"raw input": [Source.of_raw_input(grid)]},
        heads={"linear": HeadTraining(steps=60, batch_size=4)},
        supervised=None,
        label_shares=(1.0,),
        folder=tmp_path / "results",
        features=tmp_path / "kept",
        progress=lambda items, what, total: items,
    )
    rows = {row.name: row.metrics["original"] for row in study.rows()}
    assert list(rows) == [
        "all alike",
        "seen free before",
        "free against occupied before",
        "near the car's axis",
        "raw input",
    ]
    counts = rows["raw input"]
    assert (
        0.02 < counts["moving_cells_all"] / counts["cells_all"] < 0.3
    )  # most of what is parked there are cars in a row
    assert counts["cells_cars"] > 0.5 * counts["cells_all"]
    assert 0 < counts["things_left_out"] < 0.15 * counts["things_all"]
    assert rows["all alike"]["auroc_all"] == 0.5
    assert rows["all alike"]["ap_all"] == pytest.approx(counts["moving_cells_all"] / counts["cells_all"])
    assert rows["free against occupied before"]["auroc_all"] > 0.65
    assert rows["raw input"]["auroc_all"] > 0.6
    assert not any((truth.counted & ~truth.occupied).any() for truth in study.items(study.tests["original"]).truths())
