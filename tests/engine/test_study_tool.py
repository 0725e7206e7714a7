"""tools/study.py on the toy drive: whole studies of a few steps, killed, resumed, and with objectives that fail.

What a run's process is counted for, and how runs are stopped, is in test_study_training.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avjepa.cli import run_tool
from avjepa.engine import probe_study, study_probes, study_runs, study_training, training_data
from avjepa.engine.checkpoint import read_checkpoint
from avjepa.engine.study_plan import read_plan
from avjepa.engine.study_runs import first_change, in_words, runs_of
from avjepa.engine.training_data import training_data_hash
from avjepa.errors import ConfigError
from avjepa.probes.study import Study
from avjepa.sensors.nuscenes_index import load_index
from tests.engine.study_toy import ROOT, write_studies
from tests.toy_drive import SCENES
from tools import study


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a drive and configs."""
    place = tmp_path_factory.mktemp("study")
    write_studies(place)
    return place


@contextmanager
def environment(place: Path) -> Iterator[None]:
    """Of a tool: what it sets, too, is as before afterwards."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(place / "index"))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("AVJEPA_NUSCENES", raising=False)
        yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(autouse=True)
def environment_of_a_test(place):
    with environment(place):
        yield


def arguments(place: Path, out: Path, *more: str, config: str = "study.py") -> list[str]:
    return [str(place / config), "--data", str(place / "toy"), "--out", str(out), *more]


def mistake(capsys, argv: list[str]) -> str:
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: study.main(argv))
    assert left.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory) -> Path:
    """A whole study, two workers."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with environment(place):
        study.main(arguments(place, out, "--workers", "2"))
    return out


def test_a_whole_study(finished):
    record = json.loads((finished / "study.json").read_text())
    runs = {(run["objective"], run["seed"]): run for run in record["runs"]}
    assert {key: (run["state"], run["iterations"]) for key, run in runs.items()} == {
        ("jepa", 0): ("finished", 3),
        ("jepa", 1): ("finished", 3),
        ("ungrounded", 0): ("finished", 4),
        ("ungrounded", 1): ("finished", 4),
    }
    for run in runs.values():
        assert len(run["parts"]) == 1
        assert run["parts"][0]["exit_code"] == 0
        assert run["core_minutes"] == pytest.approx(run["parts"][0]["core_s"] / 60)
        assert run["monitors"]["std"] > 0
    rows = record["tasks"]["bev"]["rows"]
    trained = {(row["name"], row["label_share"], row["seed"]) for row in rows if row["head"]}
    names = ("jepa", "ungrounded", "raw input", "random init")
    assert trained == {(name, share, seed) for name in names for share in (0.5, 1.0) for seed in (0, 1)}
    scores = {
        (row["name"], row["seed"]): row["metrics"]["other"]["auroc_known"] for row in rows if row["label_share"] == 1
    }
    assert scores["jepa", 0] != scores["jepa", 1]
    assert scores["jepa", 0] != scores["ungrounded", 0]
    assert record["tasks"]["bev"]["split"]["other"]["pretraining_scenes"] == [SCENES[0]]
    assert record["commit"]
    tables = (finished / "study.md").read_text()
    assert "| JEPA | 0." in tables
    assert "2 of 2 finished" in tables
    assert "| against no grounding | " in tables
    page = (finished / "study.html").read_text()
    assert page.count("data:image/png;base64") == 3
    for name in ("objectives", "label_share", "cost"):
        assert (finished / f"{name}.png").stat().st_size > 10_000
        assert "<svg" in (finished / f"{name}.svg").read_text()[:1000]


def test_again_nothing_is_done_twice(place, finished, monkeypatch, capsys):
    def never(*arguments):
        raise AssertionError("done again")

    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.parts[-2] in ("rows", "embeddings")}
    assert before
    monkeypatch.setattr(study_training, "Process", never)
    monkeypatch.setattr("avjepa.engine.study_probes.run_job", never)
    study.main(arguments(place, finished, "--workers", "1"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "2 of 2 finished" in capsys.readouterr().out


def test_what_is_not_there_is_a_dash(place, tmp_path, capsys):
    study.main(arguments(place, tmp_path, "--report-only"))
    tables = (tmp_path / "study.md").read_text()
    assert "| JEPA | - | - | - | 0 of 2 finished; seed 0 not run; seed 1 not run |" in tables
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.glob("*.png"))
    assert "No plots: nothing was probed yet" in (tmp_path / "study.html").read_text()


def test_a_changed_config_is_refused(place, finished, capsys):
    said = mistake(capsys, arguments(place, finished, "--cfg-options", "objectives.jepa.iterations=5"))
    assert f"{finished / 'runs' / 'jepa' / 'seed0'}: trained with another config" in said
    assert "give another --out, or remove this folder" in said


def test_changed_data_are_refused(place, finished, tmp_path):
    """A sensor file that was written anew, or another pose; not of scenes that the run does not train on."""
    plan = read_plan(place / "study.py", None, str(place / "toy"), None)
    index = load_index(place / "toy")
    trained, other = (place / "toy" / str(index.camera_file[np.flatnonzero(index.scene == s)[0], 0]) for s in (0, 1))
    before = {path: path.stat() for path in (trained, other)}
    try:
        other.touch()
        assert len(runs_of(plan, finished)) == 4
        trained.touch()
        with pytest.raises(ConfigError, match=r"jepa/seed0: trained on other data.*give another --out, or remove"):
            runs_of(plan, finished)
        old = shutil.copytree(finished / "runs", tmp_path / "runs")
        for record in old.rglob("cost.json"):  # as they were before there was a hash: nothing tells
            record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != "data"}))
        assert {run.record.state for run in runs_of(plan, tmp_path)} == {"finished"}
    finally:
        for path, stat in before.items():
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(runs_of(plan, finished)) == 4


def test_the_hash_of_data_knows_poses_and_not_other_scenes(place, monkeypatch):
    index = load_index(place / "toy")
    dataset = {"root": str(place / "toy"), "scenes": (SCENES[0],)}
    before = training_data_hash(dataset)
    assert before == training_data_hash({"datasets": ({**dataset, "version": None},)})
    assert before != training_data_hash({**dataset, "scenes": SCENES})
    assert training_data_hash({**dataset, "scenes": ("scene-nowhere",)}) is None
    for scene, is_trained in ((0, True), (1, False)):
        poses = index.global_T_ego.copy()
        poses[index.scene == scene, 0, 3] += 0.01
        monkeypatch.setattr(training_data, "load_index", lambda *_, p=poses: replace(index, global_T_ego=p))
        assert (training_data_hash(dataset) != before) == is_trained


def test_the_first_change_is_named():
    assert first_change("a=1\nb=2\nc=3", "a=1\nb=4\nc=5") == "it has `b=2` where now is `b=4`"
    assert first_change("a=1", "a=1\nb=4") == "it has `` where now is `b=4`"


def test_scenes_that_were_trained_on_are_not_scored(place, finished, capsys):
    options = ("--report-only", "--cfg-options", "tasks.bev.config=leaky_probe.py")
    assert f"the checkpoint was pretrained on {SCENES[0]}" in mistake(capsys, arguments(place, finished, *options))


def test_probes_that_fail_are_named_and_the_others_go_on(place, finished, tmp_path, monkeypatch, capsys):
    """Rows of one checkpoint and of the raw input are still to be made: first every worker dies, then one row cannot be made."""
    out = tmp_path / "out"
    shutil.copytree(finished, out, symlinks=True)
    rows = out / "probes" / "bev" / "rows"
    for row in [*rows.glob("jepa-*seed1-*.json"), *rows.glob("raw_input-*.json")]:
        row.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(study_probes, "_start_worker", os._exit)
        said = mistake(capsys, arguments(place, out, "--workers", "2"))
    assert f"BEV occupancy: probing failed: jepa, seed 1: {study_probes.KILLED}" in said
    assert f"BEV occupancy: probing failed: raw input: {study_probes.KILLED}" in said
    tables = (out / "study.md").read_text()
    assert "| raw input | failed | failed |" in tables
    assert "Probing failed: BEV occupancy: " in tables

    trained_rows = Study.trained_rows

    def failing(self, names, seeds):
        if names == ["jepa"]:
            raise ValueError("no such\nluck")
        return trained_rows(self, names, seeds)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "trained_rows", failing)
        said = mistake(capsys, arguments(place, out, "--workers", "1"))
    assert "BEV occupancy: probing failed: jepa, seed 1: ValueError: no such luck. The same command tries again" in said
    assert "probing failed: raw input" not in said
    assert len(list(rows.glob("raw_input-*.json"))) == 4  # two seeds, two shares
    record = json.loads((out / "study.json").read_text())["tasks"]["bev"]
    assert record["failures"] == [{"name": "jepa", "seeds": [1], "reason": "ValueError: no such luck"}]
    assert "(1 of 2 seeds), others failed" in (out / "study.md").read_text()
    study.main(arguments(place, out, "--report-only"))  # says it again, and is no failure itself
    assert "ValueError: no such luck" in (out / "study.md").read_text()

    study.main(arguments(place, out, "--workers", "1"))
    assert "failed" not in (out / "study.md").read_text()
    assert kept_rows(out) == kept_rows(finished)


def kept_rows(out: Path) -> list[dict]:
    return json.loads((out / "study.json").read_text())["tasks"]["bev"]["rows"]


def test_a_checkpoint_is_read_once(place, finished, monkeypatch):
    """For its iteration and for its scenes, by however many tasks."""
    read = []

    def reading(path):
        read.append(path)
        return read_checkpoint(path)

    plan = read_plan(place / "study.py", None, str(place / "toy"), None)
    runs = runs_of(plan, finished)
    probes = study_probes.probes_of(plan, finished, runs)
    (bev,) = probes.studies(probes.sources([]), ["bev"], lambda items, what, total: items).values()
    monkeypatch.setattr(probe_study, "read_checkpoint", reading)
    splits = study_probes.split_records(probes, {"bev": bev, "again": bev})
    assert splits["bev"] == splits["again"]
    assert sorted(read) == sorted(run.checkpoint for run in runs)
    assert len(read) == 4
    monkeypatch.setattr(study_runs, "read_checkpoint", None)
    assert [in_words(run) for run in runs] == [in_words(run) for run in runs_of(plan, finished)]


def test_objectives_that_fail_stay_in_the_table(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_training, "cores", lambda: 1)  # a second thread is no help to so small a model
    argv = arguments(place, tmp_path, "--workers", "1", config="failing.py")
    said = mistake(capsys, argv)
    assert "broken, seed 0: failed after 0 of 9 steps: exit code 2: error: " in said
    assert "scene-nowhere" in said
    record = json.loads((tmp_path / "study.json").read_text())
    runs = {run["objective"]: run for run in record["runs"]}
    assert {name: run["state"] for name, run in runs.items()} == {"collapsing": "collapsed", "broken": "failed"}
    step = runs["collapsing"]["stopped_at"]
    assert 0 < step < 60
    assert runs["collapsing"]["reason"].startswith(f"embedding collapsed at iteration {step}: std ")
    probed = {row["name"] for row in record["tasks"]["bev"]["rows"]}
    assert "collapsing" in probed  # by its last checkpoint
    assert "broken" not in probed
    tables = (tmp_path / "study.md").read_text()
    assert f"0 of 1 finished; seed 0 collapsed at step {step} of 60, checkpoint of step" in tables
    assert "| broken | - | - |" in tables  # what it has cost so far is in the record; means are of runs that ended

    # Again: the collapse is a result, the failure is tried again, and its costs add up.
    mistake(capsys, argv)
    again = {run["objective"]: run for run in json.loads((tmp_path / "study.json").read_text())["runs"]}
    assert len(again["collapsing"]["parts"]) == 1
    assert len(again["broken"]["parts"]) == 2
    assert again["broken"]["core_minutes"] == pytest.approx(
        sum(part["core_s"] for part in again["broken"]["parts"]) / 60
    )


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes_in(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if str(folder) in line]


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(place, tmp_path):
    """No process is left, nothing is half-written, and what was trained is not trained again. Nothing is probed here."""
    out = tmp_path / "out"
    folder = out / "runs" / "jepa" / "seed0"
    iterations = ("--cfg-options", "objectives.jepa.iterations=15")
    argv = arguments(place, out, "--workers", "2", "--seeds", "1", "--only", "jepa", "--tasks", *iterations)
    process = subprocess.Popen([sys.executable, "tools/study.py", *argv], cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(lambda: (folder / "last.pth").exists(), process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while processes_in(out):
        assert time.monotonic() < deadline, processes_in(out)
        time.sleep(0.1)
    stopped = json.loads((folder / "cost.json").read_text())
    assert stopped["state"] == "unfinished"
    assert stopped["parts"][0]["core_s"] is None  # nobody was left to count it
    run = runs_of(read_plan(place / "study.py", {"objectives.jepa.iterations": 15}, str(place / "toy"), 1), out)[0]
    assert 0 < run.iteration < 15

    study.main(argv)
    run = json.loads((folder / "cost.json").read_text())
    assert run["state"] == "finished"
    assert len(run["parts"]) == 2
    assert "--resume" in run["parts"][1]["command"]
    curve = [json.loads(row)["iteration"] for row in (folder / "loss_curve.jsonl").read_text().splitlines()]
    assert curve == list(range(1, 16))
    record = json.loads((out / "study.json").read_text())
    assert not record["runs"][0]["is_counted"]
    assert record["runs"][0]["core_minutes"] == pytest.approx(run["parts"][1]["core_s"] / 60)
    assert record["tasks"]["bev"]["rows"] == []
    assert not (out / "probes").exists()


def test_a_kill_is_an_interruption(place, tmp_path, capsys, monkeypatch):
    """SIGTERM reaches the runs as Ctrl-C does."""
    monkeypatch.setattr(study, "train_runs", lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: study.main(arguments(place, tmp_path)))
    assert left.value.code == 130
    assert capsys.readouterr().err.strip().endswith("interrupted")


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--only", "mae"), "--only: no mae; there is jepa, ungrounded"),
        (("--tasks", "sleep"), "--tasks: no sleep; there is bev"),
        (("--workers", "0"), "--workers must be at least 1"),
        (("--seeds", "0"), "seeds must be at least 1"),
        (("--cfg-options", "reference=mae"), "reference 'mae' is none of the objectives (jepa, ungrounded)"),
        (("--cfg-options", "tasks.bev.metrics=[accuracy]"), "task bev: no metric accuracy; it has iou_known"),
        (("--cfg-options", "tasks.bev.heads=[mlp]"), "has no mlp; it has linear, conv"),
        (("--cfg-options", "tasks.bev.config=nothing.py"), "nothing.py: no such config"),
        (("--cfg-options", "objectives.ungrounded.title=JEPA"), "objectives: the title 'JEPA' would stand for two"),
        (("--cfg-options", "objectives.jepa.iterations=0"), "objectives.jepa: iterations must be at least 1"),
    ],
)
def test_mistakes(place, tmp_path, capsys, more, complaint):
    assert complaint in mistake(capsys, arguments(place, tmp_path, *more))
    assert not (tmp_path / "runs").exists()


def test_an_objective_with_the_title_of_a_baseline(place):
    with pytest.raises(ConfigError, match="objectives: the title 'raw input' would stand for two"):
        read_plan(place / "study.py", {"objectives.jepa.title": "raw input"}, None, None)


def test_two_tasks_of_one_title(place):
    task = "dict(config='probe.py', title='BEV occupancy', heads=('conv',), metrics=('iou_known',), options={})"
    text = (place / "study.py").read_text()
    (place / "twice.py").write_text(text.replace("tasks = dict(", f"tasks = dict(again={task},"))
    with pytest.raises(ConfigError, match="tasks: the title 'BEV occupancy' would stand for two"):
        read_plan(place / "twice.py", None, None, None)


def test_the_schedule_is_stretched(place):
    plan = read_plan(place / "study.py", {"objectives.jepa.iterations": 18}, None, None)
    cfg = plan.training("jepa", 1)  # the toy run warms up for 3 of 9 iterations
    assert cfg.train_cfg.max_iters == 18
    assert cfg.randomness.seed == 1
    assert [(part.begin, part.end) for part in cfg.param_scheduler] == [(0, 6), (6, 18)]
