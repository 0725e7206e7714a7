"""The truth of the forecasting probe, read from drives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avjepa.errors import ConfigError
from avjepa.geometry.occ3d import FREE, UNKNOWN
from avjepa.geometry.rigid import invert
from avjepa.probes import forecasting
from avjepa.probes.forecasting import ForecastProbe
from avjepa.probes.frozen import FutureView
from avjepa.probes.occ3d_files import Occ3DLabels
from avjepa.probes.task import Items
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from tests.probes.labelled_drive import write_labelled_drive
from tests.probes.test_forecasting import GRID, SHAPE, STEPS, TIME_S, evaluate, untrained
from tests.toy_drive import SCENES, ego_pose, write_toy_drive


def drive(tmp_path, monkeypatch, future=(1, 2, 3, 4, 5, 6), context=(-1, 0), **settings) -> NuScenesClips:
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "index"))
    root = tmp_path / "toy"
    if not root.exists():
        write_toy_drive(root, scenes=1, keyframes=8, image_size=(16, 9))
    return NuScenesClips(root, (SCENES[0],), context, future, (32, 64), max_bad_share=1.0, cameras=(), **settings)


@pytest.fixture
def numbered_labels(monkeypatch):
    """Labels whose class is the keyframe's place in the list of those read, unknown in one corner."""
    read = []

    def labels(path):
        semantics = np.full(SHAPE[::-1], len(read), dtype=np.uint8)
        semantics[:50, :100, 3] = UNKNOWN  # [x, y, z]: behind and to the right
        read.append(path.parent.name)
        nothing = np.zeros(SHAPE[::-1], dtype=bool)
        return Occ3DLabels(semantics, nothing, nothing)

    monkeypatch.setattr(forecasting, "read_labels", labels)
    return read


def test_which_labels_are_the_truth_and_which_are_copied(tmp_path, monkeypatch, numbered_labels):
    dataset = drive(tmp_path, monkeypatch)
    truths = ForecastProbe().truth(dataset, 0)
    tokens = [frame.token for frame in dataset[0].frames]
    assert numbered_labels == tokens[1:]  # the present one first, never the past
    assert [truth.step for truth in truths] == list(range(STEPS))
    assert [int(truth.classes.min()) for truth in truths] == [1, 2, 3, 4, 5, 6]
    assert (truths[0].classes[3, :100, :50] == UNKNOWN).all()
    copied = truths[0].past.classes  # what is copied must name a class
    assert (copied[3, :100, :50] == FREE).all()
    assert int(copied.min()) == 0
    rows = untrained(truths)
    known = (truths[5].classes != UNKNOWN).sum()
    assert known == np.prod(SHAPE) - 100 * 50
    assert np.isfinite(evaluate(rows["persistence"], truths)["miou_mean"])


def test_poses_times_and_sweeps(tmp_path, monkeypatch, numbered_labels):
    dataset = drive(tmp_path, monkeypatch)
    truths = ForecastProbe(ray_step=3).truth(dataset, 0)
    frames, truth = dataset[0].frames, truths[4]
    assert truth.now_T_future == pytest.approx(invert(ego_pose(1)) @ ego_pose(6), abs=1e-6)
    assert truth.past.time_s == pytest.approx(TIME_S)
    xyz = frames[6].points_ego[::3, :3].double()
    assert truth.returns == pytest.approx(xyz[GRID.cell_index(xyz)[1]].numpy())
    assert 100 < len(truth.returns) < len(xyz)
    assert [len(cloud) for cloud in truth.past.clouds] == [len(frame.points_ego) for frame in frames[:2]]
    assert truth.directions * np.linalg.norm(truth.returns - truth.lidar, axis=1)[
        :, None
    ] + truth.lidar == pytest.approx(truth.returns)
    assert truth.past.now_lidar == pytest.approx([0.94, 0, 1.84], abs=1e-6)


def test_a_true_sweep_is_the_keyframes_own(tmp_path, monkeypatch, numbered_labels):
    """Rays of older sweeps started elsewhere."""
    one, many = (
        ForecastProbe().truth(drive(tmp_path, monkeypatch, num_sweeps=sweeps), 0)[2].returns for sweeps in (1, 3)
    )
    assert np.array_equal(one, many)


def test_a_still_world_is_forecast_by_warping_it(tmp_path, monkeypatch, numbered_labels):
    """The toy drive turns: a wrong order of poses would show. Rings on the ground move with the car, boxes do not."""
    truth = ForecastProbe().truth(drive(tmp_path, monkeypatch), 0)[2]
    boxes = [cloud[(cloud[:, 2] > 0.5) & (np.abs(cloud) < 25).all(1)] for cloud in (*truth.past.clouds, truth.returns)]
    truth = replace(truth, returns=boxes[2], past=replace(truth.past, clouds=boxes[:2], now_cloud=boxes[1]))
    rows = {name: evaluate(answers, [truth]) for name, answers in untrained([truth]).items()}
    assert rows["warp-persistence, true poses"]["nfcd"] < 0.3
    assert rows["persistence"]["nfcd"] > 1
    assert rows["ray tracing, true poses"]["l1"] < 0.5 * rows["persistence"]["l1"]


@pytest.mark.parametrize(
    ("future", "context"),
    [((), (-1, 0)), ((1, 2), (-1, 0)), ((1, 2, 4), (-1, 0)), ((1, 2, 3, 4, 5), (-1, 0)), ((1, 2, 3, 4, 5, 6), (0,))],
)
def test_other_moments_are_refused(tmp_path, monkeypatch, future, context):
    dataset = drive(tmp_path, monkeypatch, future, context)
    with pytest.raises(ConfigError, match=r"future_offsets=\(1, 2, 3, 4, 5, 6\) and two context"):
        len(Items(ForecastProbe(), dataset, [0]))


def test_labels_from_lidar_and_boxes(tmp_path, monkeypatch):
    """Every moment in its own frame, and the copied present without UNKNOWN."""
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "index"))
    root = write_labelled_drive(tmp_path / "toy")
    dataset = NuScenesClips(root, (SCENES[0],), (-1, 0), (1,), (32, 64), max_bad_share=1.0, cameras=())
    (truth,) = ForecastProbe(labels="lidar_and_boxes").truth(dataset, 0)
    index_zyx, inside = GRID.cell_index(torch.from_numpy(truth.returns))
    assert inside.all()
    seen = truth.classes[index_zyx.unbind(-1)]
    assert ((seen != FREE) & (seen != UNKNOWN)).all()  # all returns of that moment lie in occupied voxels
    assert (truth.classes == UNKNOWN).any()
    assert not (truth.past.classes == UNKNOWN).any()


def test_the_convention_and_the_repr_say_what_decides():
    probe = ForecastProbe(poses="constant velocity", ray_step=8)
    assert probe.view == FutureView("constant velocity")
    assert "constant velocity" in probe.convention
    assert "every 8." in probe.convention
    assert len({repr(ForecastProbe(**one)) for one in ({}, {"poses": "constant velocity"}, {"ray_step": 2})}) == 3
