"""Counting and judging the processes of a study, with a script in the place of tools/train.py."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import DictAction

from avjepa.engine import study_training
from avjepa.engine.checkpoint import FORMAT, write_atomically
from avjepa.engine.study_runs import RECORD, RunRecord, TrainingRun, in_words, state_in_words
from avjepa.engine.study_training import train_runs

LOADERS = """
import time
from torch.utils.data import DataLoader, Dataset

class Burning(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        before = time.process_time()
        while time.process_time() - before < 3.0:
            pass
        return index

list(DataLoader(Burning(), num_workers=1, persistent_workers=True))
print("main", time.process_time())
"""


# Says when it is asked to end, and takes its time.
SLOW_TO_END = """
import pathlib, sys, time

folder = pathlib.Path(sys.argv[sys.argv.index("--work-dir") + 1])
try:
    (folder / "begun").touch()
    while True:
        time.sleep(0.01)
except KeyboardInterrupt:
    asked = time.monotonic()
    time.sleep(1.0)
    (folder / "times").write_text(f"{asked} {time.monotonic()}")
    sys.exit(130)
"""
DEAF = """
import pathlib, signal, sys, time

signal.signal(signal.SIGINT, signal.SIG_IGN)
(pathlib.Path(sys.argv[sys.argv.index("--work-dir") + 1]) / "begun").touch()
time.sleep(600)
"""


def run_in(folder: Path, seed: int = 0) -> TrainingRun:
    return TrainingRun(
        folder, RunRecord("jepa", seed, "a = 1", 100), {"randomness.seed": seed}, Path("config.py"), None
    )


def train(tmp_path: Path, script: str, runs: list[TrainingRun] | None = None) -> TrainingRun:
    """The first run, after its process ended."""
    tool = tmp_path / "tool.py"
    tool.write_text(script)
    runs = runs or [run_in(tmp_path / "run")]
    train_runs(runs, 2, tool, lambda words: None)
    return runs[0]


def test_loader_processes_are_counted(tmp_path):
    run = train(tmp_path, LOADERS)
    (part,) = run.record.parts
    main_s = float((run.folder / "train.log").read_text().split()[-1])
    assert part.exit_code == 0
    assert part.core_s > main_s + 2.5


def test_last_words_and_signals_are_reasons(tmp_path):
    run = train(tmp_path, "import sys; print('loading'); sys.exit('error: no such scene\\n')")
    assert run.record.state == "failed"
    assert run.record.reason == "exit code 1: error: no such scene"
    assert state_in_words(run) == "failed after 0 of 100 steps: exit code 1: error: no such scene"
    run = train(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert run.record.reason == "killed by SIGKILL: no word"
    kept = json.loads((run.folder / RECORD).read_text())
    assert kept["state"] == "failed"
    assert [part["exit_code"] for part in kept["parts"]] == [-9]


def test_only_a_collapse_is_one(tmp_path):
    words = "error: embedding collapsed at iteration 20: std 0.03 is below 0.1 x its start 0.8"
    collapsed = train(tmp_path, f"import sys; print({words!r}, file=sys.stderr); sys.exit(2)")
    assert (collapsed.record.state, collapsed.record.stopped_at) == ("collapsed", 20)
    assert state_in_words(collapsed) == "collapsed at step 20 of 100, before its first checkpoint"
    assert collapsed.is_settled
    assert collapsed.probed is None
    nan = train(tmp_path, "import sys; print('error: loss is nan at iteration 3; lower'); sys.exit(2)")
    assert (nan.record.state, nan.record.stopped_at) == ("collapsed", 3)
    other = train(tmp_path, "import sys; print('error: data/city: no such folder'); sys.exit(2)")
    assert other.record.state == "failed"


def test_costs_of_all_parts_add_up_and_the_checkpoint_decides(tmp_path):
    """The second part ends at the last iteration; what the first said is forgotten, what it cost is not."""
    run = train(tmp_path, "import sys; sum(range(20_000_000)); sys.exit('error: disk full')")
    write_atomically({"format": FORMAT, "iteration": 60}, run.folder / "last.pth")
    assert run.probed is None  # an unfinished run is no result
    run.record.parts[0].core_s, run.record.parts[0].wall_s = 30.0, 90.0
    write_atomically({"format": FORMAT, "iteration": 100}, run.folder / "last.pth")
    again = train(tmp_path, "import sys; print(sys.argv)", [run])
    assert again.record.state == "finished"
    assert again.probed == run.folder / "last.pth"
    assert "--resume" in again.record.parts[1].command
    assert again.record.core_minutes == pytest.approx((30 + again.record.parts[1].core_s) / 60)
    again.record.parts[0].core_s = None
    assert not again.record.is_counted
    assert "more than" in in_words(again)


def test_others_go_on_when_one_fails(tmp_path):
    runs = [run_in(tmp_path / str(seed), seed) for seed in range(3)]
    said = []
    tool = tmp_path / "tool.py"
    tool.write_text("import sys; sys.exit(1 if 'randomness.seed=0' in sys.argv else 0)")
    train_runs(runs, 2, tool, said.append)
    assert [run.record.parts[0].exit_code for run in runs] == [1, 0, 0]
    assert sum(words.startswith("[") for words in said) == 3
    assert {words[:5] for words in said if words.startswith("[")} == {"[1/3]", "[2/3]", "[3/3]"}


def test_options_reach_the_tool(tmp_path):
    run = train(tmp_path, "import sys; print(sys.argv[1:])")
    said = (run.folder / "train.log").read_text()
    assert f"['config.py', '--work-dir', '{run.folder}', '--cfg-options', 'randomness.seed=0']" in said


def test_lists_among_the_options_are_read_as_such(tmp_path):
    options = {
        "train_data.dataset.datasets.1.scenes": ("mini_val", "scene-0523"),
        "monitor.dataset.scenes": ("mini_train",),
    }
    command = replace(run_in(tmp_path), options=options).command(Path("train.py"))
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    read = parser.parse_args(command[command.index("--cfg-options") :]).cfg_options
    assert {key: tuple(value) for key, value in read.items()} == options


def stop_when_begun(tmp_path: Path, script: str) -> list[TrainingRun]:
    """Three runs, two at once, stopped by SIGTERM as tools/study.py hears it when both of these have begun."""
    runs = [run_in(tmp_path / str(seed), seed) for seed in range(3)]

    def stop() -> None:
        while not all((run.folder / "begun").exists() for run in runs[:2]):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=stop, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, script, runs)
    finally:
        signal.signal(signal.SIGTERM, before)
    return runs


def test_all_are_stopped_at_once_and_counted(tmp_path):
    runs = stop_when_begun(tmp_path, SLOW_TO_END)
    times = [[float(t) for t in (run.folder / "times").read_text().split()] for run in runs[:2]]
    assert max(asked for asked, _ in times) < min(ended for _, ended in times)
    for run in runs[:2]:
        kept = json.loads((run.folder / RECORD).read_text())
        assert (kept["state"], kept["reason"]) == ("unfinished", "interrupted")
        (part,) = kept["parts"]
        assert part["exit_code"] == 130
        assert part["core_s"] > 0
        assert part["wall_s"] >= 1.0
    assert not runs[2].folder.exists()  # it never began


def test_one_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(study_training, "PATIENCE_S", 0.5)
    for run in stop_when_begun(tmp_path, DEAF)[:2]:
        assert run.record.reason == "interrupted"
        assert run.record.parts[0].exit_code == -signal.SIGKILL
        assert run.record.is_counted


def test_one_that_ended_by_itself_is_counted_when_the_others_are_stopped(tmp_path):
    """Its end is noticed by nobody else than the one who counts."""
    tool = tmp_path / "tool.py"
    tool.write_text("pass")
    process = study_training.Process(run_in(tmp_path / "run"), tool, 1)
    os.waitid(os.P_PID, process.process.pid, os.WEXITED | os.WNOWAIT)
    study_training.stop_all([process])
    assert process.part.exit_code == 0
    assert process.part.core_s > 0


@pytest.mark.parametrize("moment", ["wait4", "_judge"])
def test_an_interruption_while_one_is_counted(tmp_path, monkeypatch, moment):
    """Just after the kernel has given it up, or while its checkpoint is read: what it cost is kept, and it is left alone."""
    tool = tmp_path / "tool.py"
    tool.write_text("import sys; sys.exit('error: disk full')")
    run = run_in(tmp_path / "run")
    process = study_training.Process(run, tool, 1)
    os.waitid(os.P_PID, process.process.pid, os.WEXITED | os.WNOWAIT)
    owner = os if moment == "wait4" else study_training.Process
    original = getattr(owner, moment)

    def interrupted(*arguments):
        found = original(*arguments)
        signal.raise_signal(signal.SIGINT)
        return found

    # Shells start what runs in the background with interruptions ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.has_ended()
    signal.signal(signal.SIGINT, before)
    study_training.stop_all([process])
    kept = json.loads((run.folder / RECORD).read_text())
    assert (kept["state"], kept["reason"]) == ("failed", "exit code 1: error: disk full")
    assert kept["parts"][0]["exit_code"] == 1
    assert kept["parts"][0]["core_s"] > 0
