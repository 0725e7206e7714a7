import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from avjepa.errors import ConfigError, DataError
from avjepa.geometry.grid import BEVGrid
from avjepa.probes import dynamic, moving_scans
from avjepa.probes.dufomap_baseline import DufomapSettings
from avjepa.probes.dynamic import DynamicProbe, ResidualNormProbe, removed_from_map
from avjepa.probes.metrics.dynamic_map import removed_points
from avjepa.probes.metrics.moving_objects import IGNORED, MOVING, STATIC
from avjepa.probes.moving_scans import MovingScan, read_moving_scan, whole_drive_answer
from avjepa.probes.residual import ResidualView
from avjepa.probes.scans import read_drive
from avjepa.probes.task import Items
from avjepa.probes.visibility import VisibilityCheck, seen_through
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.nuscenes_files import read_lidar
from avjepa.sensors.nuscenes_index import load_index
from tests.probes.labelled_drive import read_table, write_labelled_drive
from tests.toy_drive import SCENES, VERSION

GRID = BEVGrid((-4.0, 4.0), (-4.0, 4.0), (-2.0, 4.0), 1.0, 1.0)
PROBE = DynamicProbe(GRID)
WHOLE = (slice(0, 8), slice(0, 8))
S, M, I = STATIC, MOVING, IGNORED  # noqa: E741


def scan_of(xyz: list, labels: list[int], thing: list[int] | None = None, scene: int = 0) -> MovingScan:
    points = np.array(xyz, dtype=np.float32).reshape(-1, 3)
    things = np.array(thing if thing is not None else [-1] * len(points), dtype=np.int64)
    return MovingScan(
        Path(), None, scene, 0, points, points, np.array(labels, dtype=np.int8), things, np.array(["car", "bus"])
    )


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_labelled_drive(tmp_path_factory.mktemp("labelled") / "drive")


def clips_of(root) -> NuScenesClips:
    return NuScenesClips(root, (SCENES[0],), (-1, 0), (), (16, 16), max_bad_share=1.0, cameras=())


# ------------------------------------------------------------------------------------------------------ logits to scores
def test_a_return_has_the_score_of_its_voxel():
    logits = torch.full((6, 8, 8), -20.0)
    logits[2, 4, 5] = 3.0  # z in [0, 1), y in [0, 1), x in [1, 2)
    truth = scan_of([[1.5, 0.5, 0.5], [1.5, 0.5, 1.5], [0.5, 1.5, 0.5], [9.0, 0, 0]], [S] * 4)
    score = PROBE.answer(logits, truth)
    np.testing.assert_allclose(score[0], 1 / (1 + np.exp(-3.0)), rtol=1e-6)
    assert score[1:].max() < 1e-6
    assert PROBE.answer(torch.full((6, 8, 8), 20.0), truth)[3] == 0  # beyond the grid nothing is said


def test_loss_by_hand():
    """One moving and three static returns weigh the same together; a return that does not count and one outside weigh nothing."""
    truth = scan_of([[1.5, 0.5, 0.5], *[[0.5, 0.5, 0.5]] * 3, [2.5, 0.5, 0.5], [9.0, 0, 0]], [M, S, S, S, I, M])
    logits = torch.zeros(1, 6, 8, 8)
    logits[0, 2, 4, 5], logits[0, 2, 4, 4], logits[0, 2, 4, 6] = 2.0, -1.0, 50.0
    expected = 0.5 * np.log1p(np.exp(-2.0)) + 0.5 * np.log1p(np.exp(-1.0))
    np.testing.assert_allclose(PROBE.loss(logits, [truth], WHOLE).item(), expected, rtol=1e-5)


def test_loss_of_a_window_reads_its_own_returns():
    truths = [scan_of([[1.5, 0.5, 0.5], [-3.5, -3.5, 0.5]], [M, S]), scan_of([[-3.5, 3.5, 0.5]], [S])]
    logits = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    rows, columns = slice(4, 6), slice(3, 7)
    alone = PROBE.loss(logits[:1], [scan_of([[1.5, 0.5, 0.5]], [M])], WHOLE)
    torch.testing.assert_close(PROBE.loss(logits[:, :, rows, columns], truths, (rows, columns)), alone)
    nothing = PROBE.loss(logits[:, :, :1, 4:5].requires_grad_(), truths, (slice(0, 1), slice(4, 5)))
    assert nothing.item() == 0
    nothing.backward()  # a step without a return still runs


# -------------------------------------------------------------------------------------------------------------- metrics
def test_metrics_by_hand():
    """Two drives. The second's moving return beside a static one of another keyframe is removed by its label, not from the map."""
    first = scan_of([[0, 0, 0], [1, 0, 0], [2, 0, 0], [30, 0, 0], [3, 0, 0]], [S, M, M, M, I], [-1, 0, 0, 1, -1])
    second = [scan_of([[0, 1, 0], [1, 1, 0]], [S, M], [-1, 1], scene=1), scan_of([[1, 1.01, 0]], [S], scene=1)]
    answers = [[0.9, 0.9, 0.1, 0.1, 0.9], [0.1, 0.9], [0.1]]
    pairs = [(np.array(a, dtype=np.float32), t) for a, t in zip(answers, [first, *second], strict=True)]
    metrics = PROBE.evaluate(iter(pairs), 0.5)
    sa, da = 100 * 2 / 3, 100 * 2 / 4
    expected = {
        **{"sa": sa, "da": da, "aa": np.sqrt(sa * da), "ha": 2 * sa * da / (sa + da)},
        **{"da_near": 100 * 2 / 3, "sa_near": sa, "ha_near": sa},  # the return 30 m away is not near
        **{"sa_map": sa, "da_map": 100 * 1 / 4},
        **{"auroc": 100 * (2 * 2.5 + 2 * 1.0) / (3 * 4)},  # against static scores of .9, .1, .1, ties half
        **{"iou": 100 * 2 / (2 + 1 + 2), "precision": 100 * 2 / 3},
        **{"found": 100 * 2 / 3, "found_car": 100.0, "found_bus": 50.0},  # half of the car's returns is enough
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-6, err_msg=name)
    assert set(PROBE.columns) <= set(metrics)


def test_metrics_without_a_return_are_not_defined():
    empty = PROBE.evaluate([(np.zeros(0, dtype=np.float32), scan_of([], []))], 0.5)
    assert all(np.isnan(empty[name]) for name in PROBE.columns)
    ignored = PROBE.evaluate([(np.ones(1, dtype=np.float32), scan_of([[0, 0, 0]], [I]))], 0.5)
    assert all(np.isnan(ignored[name]) for name in PROBE.columns)


def test_removed_from_map_is_the_benchmarks_rule():
    rng = np.random.default_rng(0)
    xyz, moving = rng.uniform(0, 1, (400, 3)).astype(np.float32), rng.random(400) < 0.3
    expected = removed_points(xyz, xyz[~moving])
    assert (removed_from_map(xyz, moving) == expected).all()
    assert expected.sum() < moving.sum()  # some lie within .05 m of a static one
    assert removed_from_map(xyz, np.ones(400, dtype=bool)).all()
    assert not removed_from_map(xyz, np.zeros(400, dtype=bool)).any()


def test_tuning_counts_known_returns_only():
    truth = scan_of([[0, 0, 0]] * 5, [S, S, M, M, I])
    threshold = PROBE.tune([(np.array([0.1, 0.3, 0.4, 0.9, 0.35], dtype=np.float32), truth)])
    assert threshold == pytest.approx(0.3)


def test_tuning_takes_the_lowest_of_nearly_equal_thresholds():
    """Of 200 static returns four lie below the moving ones, above the rest: HA 100, 99.2 with three of them, 98.99 with four."""
    score = np.r_[np.zeros(196), 0.1, 0.2, 0.3, 0.4, np.full(10, 0.9)].astype(np.float32)
    truth = scan_of([[0, 0, 0]] * 210, [S] * 200 + [M] * 10)
    assert PROBE.tune([(score, truth)]) == pytest.approx(0.1)


# ---------------------------------------------------------------------------------------------------------------- truth
def test_returns_and_labels_of_a_keyframe(root):
    """The rows are those of the file, in the ego frame; what lies in a moving box moves."""
    index = load_index(root)
    scan = read_moving_scan(root, None, 1, "boxes")
    turn = read_drive(root, index, 0).turns[4]
    xyz_lidar = read_lidar(root / index.lidar_file[1])[0][turn.file_row, :3]
    xyz_ego = xyz_lidar @ index.ego_T_lidar[1, :3, :3].T + index.ego_T_lidar[1, :3, 3]
    np.testing.assert_allclose(scan.xyz_ego, xyz_ego, atol=1e-4)
    assert (scan.scene, scan.keyframe, len(scan)) == (0, 1, len(xyz_ego))
    assert scan.counted.all()
    car = scan.category.tolist().index("vehicle.car")  # it moves; the pedestrian's first attribute is "standing"
    assert (scan.moves == (scan.thing == car)).all()
    assert scan.moves.any()
    assert not read_moving_scan(root, None, 3, "boxes").counted.any()  # no annotation at the last keyframe


def test_motion_files(root, tmp_path):
    root = write_labelled_drive(tmp_path / "drive")
    with pytest.raises(DataError, match="has no motion labels; generate the city again"):
        read_moving_scan(root, None, 1, "motion files")
    index, folder = load_index(root), root / "motion" / VERSION
    points = np.fromfile(root / index.lidar_file[1], dtype=np.float32).reshape(-1, 5)
    np.insert(points, 0, 0, axis=0).tofile(
        root / index.lidar_file[1]
    )  # a return from the car itself: rows differ by one
    moving_scans.drive_scans.cache_clear()
    folder.mkdir(parents=True)
    moving_scans.motion_files_of.cache_clear()
    record = next(r for r in read_table(root, "sample_data") if r["filename"] == index.lidar_file[1])
    turn = read_drive(root, index, 0, sweeps=False).turns[1]
    labels = np.arange(turn.num_file_points) % 2
    labels.astype(np.uint8).tofile(folder / f"{record['token']}_motion.bin")
    assert turn.file_row[0] == 1
    assert (read_moving_scan(root, None, 1, "motion files").labels == labels[turn.file_row]).all()


def test_the_truth_is_that_of_the_clip_that_is_read(tmp_path):
    """Where a file is corrupt, the data set gives another clip."""
    root = write_labelled_drive(tmp_path / "drive")
    dataset = clips_of(root)
    (root / dataset.index.lidar_file[0]).write_bytes(b"rubbish")
    assert dataset[0].now.token == dataset.index.token[2]
    assert [PROBE.truth(dataset, clip)[0].keyframe for clip in (0, 1)] == [2, 2]


def test_a_past_is_wanted(root):
    alone = NuScenesClips(root, (SCENES[0],), (0,), (), (32, 64), max_bad_share=1.0, cameras=())
    with pytest.raises(ConfigError, match="two context keyframes"):
        PROBE.items_per_clip(alone)


def test_a_keyframe_without_its_sweep_has_no_return(tmp_path):
    root = write_labelled_drive(tmp_path / "drive")
    (root / load_index(root).lidar_file[1]).unlink()
    scan = read_moving_scan(root, None, 1, "boxes")
    assert len(scan) == 0
    assert len(PROBE.answer(torch.zeros(6, 8, 8), scan)) == 0
    assert whole_drive_answer(scan, VisibilityCheck()).shape == (0,)


# ---------------------------------------------------------------------------------------------------------- whole drives
@pytest.mark.parametrize("least_scans", [1, 2, 4])
def test_visibility_rows_see_all_turns(root, least_scans):
    check = VisibilityCheck(least_scans=least_scans, least_gap_m=0.05, relative_gap=0.0)
    turns = read_drive(root, load_index(root), 0).turns
    scan = read_moving_scan(root, None, 2, "boxes")
    expected = seen_through(scan.xyz_map, [turn.scan for turn in turns], check)
    assert (whole_drive_answer(scan, check) == expected).all()
    assert 0 < expected.sum() < len(expected)


def test_dufomap_answers_are_those_of_the_keyframe(root, monkeypatch):
    """Each scan's answer is told by its length and number; the package itself is not needed."""
    calls = []

    def fake(scans, settings):
        calls.append(settings)
        return [np.arange(len(scan.xyz_map)) == number for number, scan in enumerate(scans)]

    monkeypatch.setattr(moving_scans, "dufomap_dynamic", fake)
    moving_scans._dufomap_of_drive.cache_clear()
    for keyframe, turn in ((1, 4), (2, 8)):  # three sweeps between keyframes
        answer = whole_drive_answer(read_moving_scan(root, None, keyframe, "boxes"), DufomapSettings())
        assert np.flatnonzero(answer).tolist() == [turn]
    assert len(calls) == 1
    moving_scans._dufomap_of_drive.cache_clear()


def test_untrained_rows(root, monkeypatch, caplog):
    items = Items(PROBE, clips_of(root), [0, 1])
    rows = dict(PROBE.untrained(items, items))
    assert [len(answer) for answer in rows["all static"]()] == [len(truth) for truth in items.truths()]
    metrics = PROBE.evaluate(zip(rows["all static"](), items.truths(), strict=True), 0.5)
    assert (metrics["sa"], metrics["da"], metrics["ha"], metrics["found"]) == (100, 0, 0, 0)
    by_sight = list(rows["visibility check, whole drive"]())
    assert [len(answer) for answer in by_sight] == [len(truth) for truth in items.truths()]
    assert list(dict(DynamicProbe(GRID, whole_drive_rows=False).untrained(items, items))) == ["all static"]
    monkeypatch.setattr(dynamic.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        rows = dict(PROBE.untrained(items, items))
    assert not any("DUFOMap" in name for name in rows)
    assert "pip install dufomap" in caplog.text


# ------------------------------------------------------------------------------------------------------------- pictures
def test_panels_by_hand():
    truth = scan_of([[0.5, 0.5, 0], [1.5, 0.5, 0], [2.5, 0.5, 0], [-0.5, 0.5, 0]], [M, M, S, S])
    answer = np.array([0.9, 0.2, 0.8, 0.0], dtype=np.float32)
    panels = PROBE.panels(answer, truth, 0.5, torch.zeros(6, 8, 8))
    found, missed, invented, right, empty = (panels.error[4, x].tolist() for x in (4, 5, 6, 3, 0))
    assert (found, missed, invented) == ([0.2, 0.65, 0.35], [0.85, 0.2, 0.2], [0.95, 0.75, 0.2])
    assert right[0] > empty[0]  # grey where a static return is, dark where nothing is
    shown, score = PROBE.truth_panels(truth).answer, panels.answer
    assert shown[4, 4].tolist() == shown[4, 5].tolist() != shown[4, 6].tolist() == shown[4, 3].tolist()
    assert shown[4, 0].tolist() == score[4, 0].tolist() == empty
    assert score[4, 4][0] > score[4, 6][0] > score[4, 5][0] > score[4, 3][0]  # redder where more likely
    np.testing.assert_allclose(panels.uncertainty, 1.0, atol=1e-6)
    assert PROBE.panels(answer, truth, 0.5, None).uncertainty is None


def test_everything_that_decides_is_in_the_repr():
    others = [DynamicProbe(GRID, "motion files"), DynamicProbe(GRID, view=ResidualView(norm_only=True))]
    assert len({repr(probe) for probe in (PROBE, *others)}) == 3
    assert ResidualNormProbe(GRID).view == others[1].view
    assert ResidualNormProbe.name != DynamicProbe.name  # of folders
    assert "past" in PROBE.convention
    assert "later ones too" in PROBE.convention
