"""tools/train.py as a user runs it, in processes of its own, on the toy drive."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.toy_drive import write_toy_drive

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "tests/engine/toy_config.py"
# The first losses of the toy run with seed 0. A change of these is a change of the method: say so in the changelog.
GOLDEN_LOSSES = (7.30057, 7.13212, 6.57551, 6.24223, 6.05284)


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    return write_toy_drive(tmp_path_factory.mktemp("toy"))


def command(drive: Path, work_dir: Path, *more: str) -> list[str]:
    return ["tools/train.py", CONFIG, "--data", str(drive), "--work-dir", str(work_dir), *more]


def environment(tmp: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "AVJEPA_CACHE": str(tmp / "cache"), "PYTHONPATH": str(ROOT)}


def train(drive: Path, work_dir: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command(drive, work_dir, *more)],
        cwd=ROOT,
        env=environment(work_dir.parent),
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def unbroken(drive, tmp_path_factory) -> Path:
    """Work dir of a run of nine iterations that nobody stopped."""
    work_dir = tmp_path_factory.mktemp("unbroken") / "run"
    done = train(drive, work_dir)
    assert done.returncode == 0, done.stderr
    return work_dir


def losses(work_dir: Path) -> list[float]:
    return [json.loads(row)["loss"] for row in (work_dir / "loss_curve.jsonl").read_text().splitlines()]


def test_golden_loss_curve(unbroken):
    assert losses(unbroken)[: len(GOLDEN_LOSSES)] == pytest.approx(GOLDEN_LOSSES, rel=1e-3)


def test_what_a_run_leaves(unbroken):
    names = {path.name for path in unbroken.iterdir()}
    assert {"last.pth", "loss_curve.jsonl", "monitors.jsonl", "pictures", "toy_config.py"} <= names
    assert sorted(path.name for path in unbroken.glob("iter_*.pth")) == [
        "iter_0000003.pth",
        "iter_0000006.pth",
        "iter_0000009.pth",
    ]
    assert (unbroken / "last.pth").resolve().name == "iter_0000009.pth"
    assert len(list((unbroken / "pictures").glob("*.png"))) == 2
    assert list(unbroken.glob("*/vis_data/events.out.tfevents*"))
    checkpoint = torch.load(unbroken / "last.pth", weights_only=True)
    assert checkpoint["iteration"] == 9
    monitors = [json.loads(row) for row in (unbroken / "monitors.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in monitors] == [0, 4, 8, 9]
    assert all(row["std"] > 0.2 for row in monitors)


@pytest.mark.slow
def test_killed_and_resumed_equals_never_stopped(drive, unbroken, tmp_path):
    """SIGKILL at an iteration between checkpoints, with a loading process beside; then --resume, twice."""
    work_dir = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, *command(drive, work_dir, "--cfg-options", "train_data.num_workers=1")],
        cwd=ROOT, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    curve = work_dir / "loss_curve.jsonl"
    deadline = time.monotonic() + 240
    while not (curve.exists() and len(curve.read_text().splitlines()) >= 5):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 5 <= len(losses(work_dir)) < 9

    done = train(drive, work_dir, "--resume", "--cfg-options", "train_data.num_workers=1")
    assert done.returncode == 0, done.stderr
    assert "after 3 iterations" in done.stdout + done.stderr or "after 6 iterations" in done.stdout + done.stderr
    assert curve.read_text() == (unbroken / "loss_curve.jsonl").read_text()  # to the last digit
    assert (work_dir / "monitors.jsonl").read_text() == (unbroken / "monitors.jsonl").read_text()
    ours, theirs = (torch.load(folder / "last.pth", weights_only=True) for folder in (work_dir, unbroken))
    assert ours["model"].keys() == theirs["model"].keys()
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in theirs["model"])


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_equal_one(drive, unbroken, tmp_path, parallel):
    """Torchrun over gloo, half the batch each: the loss curve of one process with the whole batch."""
    work_dir = tmp_path / "run"
    options = ("--launcher", "pytorch", "--cfg-options", "train_data.batch_size=1", f"parallel={parallel}")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, *command(drive, work_dir, *options)],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Sums over ranks are added in another order: 1e-7 at first, and up to 1e-5 after nine steps of AdamW.
    assert losses(work_dir)[:3] == pytest.approx(losses(unbroken)[:3], rel=1e-6)
    assert losses(work_dir) == pytest.approx(losses(unbroken), rel=1e-4)
    # The checkpoint is that of a bare model, whoever wrote it.
    ours, theirs = (torch.load(folder / "last.pth", weights_only=True)["model"] for folder in (work_dir, unbroken))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-3, rtol=1e-2, msg=lambda m, n=name: f"{n}: {m}")


def test_collapse_stops_the_run_with_a_readable_message(drive, tmp_path):
    """Without a regulariser, a teacher and a stop-gradient the embedding collapses within a few steps, and however long the
    interval of the monitors is, that is seen within the first fifty.
    """
    (tmp_path / "__init__.py").touch()
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    config = tmp_path / "collapse_config.py"
    config.write_text((ROOT / CONFIG).read_text().replace("from ...configs", "from .configs") + COLLAPSE)
    done = subprocess.run(
        [sys.executable, "tools/train.py", str(config), "--data", str(drive), "--work-dir", str(tmp_path / "run")],
        cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        ("error: embedding collapsed at iteration 20: std ", "error: embedding collapsed at iteration 50: std ")
    )
    assert last.endswith(
        "lower optim_wrapper.optimizer.lr, or raise variance in model.jepa.weights, or take EMATarget as model.jepa.target"
    )
    assert "Traceback" not in done.stderr


COLLAPSE = """
from avjepa.jepa.target_encoder import SharedTarget
model.jepa.target = dict(type=SharedTarget, stop_gradient=False)
model.jepa.weights.update(variance=0.0, covariance=0.0, occupancy=0.0)
train_cfg.update(max_iters=60)
param_scheduler[1].update(end=60)
monitor.update(interval=1000)
"""


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--amp",), "--amp needs a CUDA GPU"),
        (("--cfg-options", "train_cfg.max_iter=3"), "has no such key ('max_iter')"),
        (("--launcher", "pytorch"), "start with torchrun"),
        (("--data", "/nowhere/at/all"), "/nowhere/at/all: no such folder; download v1.0-mini"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(drive, tmp_path, capsys, monkeypatch, more, message):
    if more == ("--amp",) and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so --amp is no mistake")
    assert message in mistake(command(drive, tmp_path / "run", *more), capsys, monkeypatch)


def test_a_second_run_in_the_same_place_needs_resume(drive, unbroken, capsys, monkeypatch):
    assert "already holds a run; pass --resume" in mistake(command(drive, unbroken), capsys, monkeypatch)


def test_two_runs_cannot_share_a_work_dir(drive, tmp_path, capsys, monkeypatch):
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    hold = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(work_dir / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        assert "another run is writing there" in mistake(command(drive, work_dir), capsys, monkeypatch)
    finally:
        holder.communicate()


def test_resuming_with_another_seed_or_model_is_refused(drive, unbroken, capsys, monkeypatch):
    other_seed = command(drive, unbroken, "--resume", "--cfg-options", "randomness.seed=5", "train_cfg.max_iters=10")
    assert "made with seed 0, the config says 5" in mistake(other_seed, capsys, monkeypatch)
    other_model = command(
        drive,
        unbroken,
        "--resume",
        "--cfg-options",
        "model.jepa.predictor.hidden_channels=24",
        "train_cfg.max_iters=10",
    )
    assert "does not fit the model of this config" in mistake(other_model, capsys, monkeypatch)


def mistake(arguments: list[str], capsys, monkeypatch) -> str:
    """The one line that a tool prints for a user's mistake, run in this process."""
    import runpy

    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("AVJEPA_NUSCENES", raising=False)
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
    assert left.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]
