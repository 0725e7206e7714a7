"""Skipped steps: what is judged a spike, and that a run goes on as if the step had not been."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import nn

from avjepa.engine.loss_spikes import GuardedUpdates, LossSpikes
from avjepa.errors import CollapseError
from tests.engine.spikes import StopAfter, spiked_runner
from tests.engine.test_training import ROOT, environment
from tests.toy_drive import write_toy_drive


# ----------------------------------------------------------------------------------------------------------- judgement
def test_the_limit_by_hand():
    """Mean 3, standard deviation 1 of (2, 4): with 3 std, 6 is the largest loss that is no spike."""
    spikes = LossSpikes(num_std=3.0, window=2, most_in_a_row=0)
    assert spikes.limit == math.inf
    assert [spikes.accepts(loss) for loss in (2.0, 4.0)] == [True, True]
    assert spikes.limit == pytest.approx(6.0)
    assert not spikes.accepts(6.01)
    assert spikes.limit == pytest.approx(6.0)  # a spike does not raise the limit for the next
    assert spikes.accepts(6.0)  # now (4, 6): mean 5, std 1
    assert spikes.limit == pytest.approx(8.0)
    assert spikes.accepts(-100.0)  # a low loss is no spike


def test_while_warming_up_everything_finite_is_accepted():
    spikes = LossSpikes(3.0, 4, 1)
    assert [spikes.accepts(loss) for loss in (1.0, 1e9, math.nan, math.inf, 2.0, 1.0)] == [1, 1, 0, 0, 1, 1]
    assert list(spikes.accepted) == [1.0, 1e9, 2.0, 1.0]
    assert (spikes.skipped, spikes.in_a_row) == (2, 0)


def test_restored_judge_goes_on_as_the_first():
    """To the last digit, through JSON-plain values; in_a_row too."""
    generator = torch.Generator().manual_seed(0)
    losses = torch.randn(200, generator=generator).exp().tolist()
    first = LossSpikes(1.5, 20, 3)
    for loss in losses[:100]:
        first.accepts(loss)
    second = LossSpikes(1.5, 20, 3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [first.accepts(loss) for loss in losses[100:]] == [second.accepts(loss) for loss in losses[100:]]
    assert first.state_dict() == second.state_dict()
    assert first.skipped > 3


@pytest.mark.parametrize("settings", [(0.0, 10, 1), (3.0, 1, 1), (3.0, 10, -1)])
def test_senseless_settings(settings):
    with pytest.raises(ValueError, match="want num_std > 0"):
        LossSpikes(*settings)


# ------------------------------------------------------------------------------------------------------------- updates
def updates_of(losses: list[float], accumulate: int, spikes: LossSpikes | None) -> tuple[list[float], list[bool]]:
    """Weight of one linear unit after every update with SGD at rate 1, whose gradient is the loss's factor; and ``stepped``."""
    weight = nn.Parameter(torch.zeros(()))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=accumulate)
    updates, weights, stepped = GuardedUpdates(wrapper, spikes), [], []
    for loss in losses:
        with updates.optim_context(nn.Identity()):
            value = weight - weight.detach() + loss  # the value is the loss, the gradient 1
        updates.update_params(value)
        weights.append(weight.item())
        stepped.append(updates.stepped)
    return weights, stepped


def test_a_spike_moves_nothing_and_leaves_no_gradient_behind():
    losses = [1.0, 1.1, 1.0, 50.0, math.nan, 1.0]
    weights, stepped = updates_of(losses, 1, LossSpikes(5.0, 3, 9))
    assert weights == [-1, -2, -3, -3, -3, -4]
    assert stepped == [True, True, True, False, False, True]
    assert updates_of(losses, 1, None)[0] == [-1, -2, -3, -4, -5, -6]


def test_a_spike_drops_what_was_accumulated_with_it():
    """Pairs of batches: the second pair has a spike first, the third a spike last; the fourth is whole again."""
    losses = [1.0, 1.1, 50.0, 1.0, 1.1, math.inf, 1.0, 1.0]
    weights, stepped = updates_of(losses, 2, LossSpikes(5.0, 2, 9))
    assert weights == [0, -1, -1, -1, -1, -1, -1, -2]
    assert stepped == [False, True, False, False, False, False, False, True]


# ---------------------------------------------------------------------------------------------------------------- runs
@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    return write_toy_drive(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("AVJEPA_NUSCENES", raising=False)


class WeightsAfter(Hook):
    """Keeps all weights, teacher's too, and the learning rate after every iteration."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.weights, self.rates = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.weights.append({name: value.clone() for name, value in runner.model.state_dict().items()})
        self.rates.append(runner.optim_wrapper.get_lr()["lr"][0])


def rows(work_dir: Path) -> list[dict]:
    return [json.loads(row) for row in (work_dir / "loss_curve.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def unbroken(drive, tmp_path_factory) -> tuple[Path, WeightsAfter]:
    """A run of nine iterations with spikes at the fifth, sixth and eighth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        work_dir, seen = tmp_path_factory.mktemp("spikes") / "run", WeightsAfter()
        runner = spiked_runner(drive, work_dir, {})
        runner.register_hook(seen)
        runner.train()
    return work_dir, seen


def test_spikes_are_skipped_and_named(unbroken):
    work_dir, seen = unbroken
    curve = rows(work_dir)
    assert [row["iteration"] for row in curve if row.get("skipped") == 1] == [5, 6, 8]
    assert curve[4]["loss"] > 100
    assert math.isnan(curve[5]["loss"])
    (log,) = work_dir.glob("*/*.log")
    assert "step skipped: loss nan at iteration 6" in log.read_text()
    assert "3 so far" in log.read_text()

    def moved(i: int) -> bool:
        return any(not torch.equal(seen.weights[i][name], seen.weights[i - 1][name]) for name in seen.weights[i])

    assert [i + 1 for i in range(1, 9) if not moved(i)] == [5, 6, 8]
    assert all(value.isfinite().all() for value in seen.weights[-1].values() if value.is_floating_point())
    assert all(seen.rates[i - 1] < seen.rates[i - 2] for i in (5, 6, 8))  # the schedule went on
    monitors = [json.loads(row) for row in (work_dir / "monitors.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in monitors] == [0, 4, 8, 9]


def test_resumed_with_spikes_equals_never_stopped(drive, unbroken, tmp_path):
    """Broken off after the seventh iteration, resumed from the checkpoint of the sixth; what the eighth is compared with was
    partly seen before.
    """
    work_dir, unstopped = tmp_path / "run", unbroken[0]
    runner = spiked_runner(drive, work_dir, {})
    runner.register_hook(StopAfter(7))
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert len(rows(work_dir)) == 7
    resumed = spiked_runner(drive, work_dir, {}, resume=True)
    resumed.train()
    assert resumed.train_loop.spikes.skipped == 3
    for name in ("loss_curve.jsonl", "monitors.jsonl"):
        assert (work_dir / name).read_text() == (unstopped / name).read_text(), name
    ours, theirs = (torch.load(folder / "last.pth", weights_only=True) for folder in (work_dir, unstopped))
    assert ours["loss_spikes"] == theirs["loss_spikes"]
    assert ours["loss_spikes"]["skipped"] == 3
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in theirs["model"])


def test_too_many_in_a_row_stop_the_run(drive, tmp_path):
    runner = spiked_runner(drive, tmp_path / "run", {"train_cfg.skip_spikes.most_in_a_row": 1})
    with pytest.raises(CollapseError, match="2 steps in a row skipped, the last for its loss nan at iteration 6"):
        runner.train()
    assert rows(tmp_path / "run")[-1]["iteration"] == 6


def test_without_the_setting_nothing_is_skipped(drive, tmp_path):
    """The fifth loss moves the weights, and the sixth, nan, stops the run."""
    runner = spiked_runner(drive, tmp_path / "run", {"train_cfg.skip_spikes": None})
    with pytest.raises(CollapseError, match="loss is nan at iteration 6"):
        runner.train()
    assert not any("skipped" in row for row in rows(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_decide_alike(drive, unbroken, tmp_path, parallel):
    """Torchrun over gloo, half the batch each: the curve and the skipped steps of one process."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.engine.spikes", str(drive), str(tmp_path / "run"), parallel],
        cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = rows(tmp_path / "run"), rows(unbroken[0])
    assert [row["iteration"] for row in ours if "skipped" in row] == [5, 6, 8]
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=1e-4, nan_ok=True)
