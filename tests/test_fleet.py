"""Fleets of logs: retries, resuming after kills, and Ray against serial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avjepa.errors import ConfigError, DataError
from avjepa.fleet import DONE_FILE, SUMMARY_FILE, LogTask, run_logs

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("scene-0001", "scene-0002", "scene-0003", "odd/name: 4")


# ---------------------------------------------------------------------------------------------------- work on one log
def count_up(name, folder, trace):
    """Writes figures that follow from the name, one through torch, and notes that it was here."""
    with (trace / "calls").open("a") as calls:
        calls.write(f"{name}\n")
    rng = np.random.default_rng(list(name.encode()))
    values = rng.normal(size=(300, 300)).astype(np.float32)
    (folder / "parts").mkdir()
    np.save(
        folder / "parts" / "product.npy", (torch.from_numpy(values) @ torch.from_numpy(values).T).softmax(-1).numpy()
    )
    (folder / "name.txt").write_text(f"{name}, threads: {torch.get_num_threads()}, {cv2.getNumThreads()}\n")


def stumble(name, folder, trace, victim, how, times):
    """As count_up, but one log fails in one of many ways, the first times."""
    flag = trace / f"stumbled-{os.urandom(4).hex()}"
    if name == victim and len(list(trace.glob("stumbled-*"))) < times:
        flag.touch()
        (folder / "half.txt").write_text("half")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            sys.exit(3)
        raise {"bug": ZeroDivisionError("by\nnothing"), "data": DataError("drive: bad files")}[how]
    count_up(name, folder, trace)


def hang_at(name, folder, trace, victim):
    """As count_up, but one log never ends; its process and that it began are noted."""
    if name == victim:
        (folder / "half.txt").write_text("half")
        (trace / "pid").write_text(str(os.getpid()))
        time.sleep(600)
    count_up(name, folder, trace)


def tasks_of(names=NAMES, fingerprint="a"):
    return [LogTask(name, fingerprint) for name in names]


def calls_in(trace):
    return (trace / "calls").read_text().splitlines()


def files_in(out):
    """Content of every file of the logs, but for the one that holds times."""
    files = [path for path in out.glob("*/**/*") if path.is_file() and path.name != DONE_FILE]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def hidden_in(out):
    return [path.name for path in out.iterdir() if path.name.startswith(".") and path.name != ".lock"]


@pytest.fixture
def trace(tmp_path):
    (tmp_path / "trace").mkdir()
    return tmp_path / "trace"


@pytest.fixture(params=["serial", "ray"])
def engine(request):
    """Arguments of run_logs for each engine."""
    if request.param == "serial":
        return {}
    request.getfixturevalue("ray")
    return {"engine": "ray", "workers": 2}


# -------------------------------------------------------------------------------------------------------------- tests
def test_every_log_gets_its_folder_once(tmp_path, trace):
    out = tmp_path / "out"
    outcomes = run_logs(tasks_of(), partial(count_up, trace=trace), out)
    assert [(x.name, x.state, x.attempts, x.error) for x in outcomes] == [(name, "done", 1, None) for name in NAMES]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["scene-0001", "scene-0002", "scene-0003", "odd%2Fname%3A 4", ".lock", SUMMARY_FILE]
    )
    record = json.loads((out / "scene-0001" / DONE_FILE).read_text())
    assert record["fingerprint"] == "a"
    assert record["attempts"] == 1
    assert 0 < record["seconds"] == outcomes[0].seconds
    again = run_logs(tasks_of(), partial(count_up, trace=trace), out)
    assert [x.state for x in again] == ["kept"] * 4
    assert [x.seconds for x in again] == [x.seconds for x in outcomes]
    assert calls_in(trace) == list(NAMES)


def test_ray_writes_the_files_of_serial(tmp_path, trace, ray):
    work = partial(count_up, trace=trace)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(3)
    run_logs(tasks_of(), work, tmp_path / "serial")
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (threads[0], 3)
    cv2.setNumThreads(threads[1])
    outcomes = run_logs(tasks_of(), work, tmp_path / "ray", engine="ray", workers=2)
    assert [(x.name, x.state) for x in outcomes] == [(name, "done") for name in NAMES]
    serial = files_in(tmp_path / "serial")
    assert len(serial) == 2 * len(NAMES)
    assert serial == files_in(tmp_path / "ray")
    assert serial["scene-0001/name.txt"] == b"scene-0001, threads: 1, 1\n"
    assert ray.is_initialized(), "a Ray that somebody else started stays"


@pytest.mark.parametrize("how", ["bug", "exit"])
def test_a_log_that_failed_once_is_tried_again_last(tmp_path, trace, how):
    work = partial(stumble, trace=trace, victim="scene-0001", how=how, times=1)
    first, *others = run_logs(tasks_of(), work, tmp_path / "out")
    assert (first.state, first.attempts, first.error) == ("done", 2, None)
    assert {(x.state, x.attempts) for x in others} == {("done", 1)}
    assert calls_in(trace)[-1] == "scene-0001"
    assert not (tmp_path / "out" / "scene-0001" / "half.txt").exists()


def test_a_worker_that_is_killed_costs_an_attempt(tmp_path, trace, ray):
    work = partial(stumble, trace=trace, victim="scene-0002", how="kill", times=1)
    outcomes = run_logs(tasks_of(), work, tmp_path / "out", engine="ray", workers=2)
    assert [(x.state, x.attempts) for x in outcomes] == [("done", 1), ("done", 2), ("done", 1), ("done", 1)]
    assert not (tmp_path / "out" / "scene-0002" / "half.txt").exists()
    assert hidden_in(tmp_path / "out") == []


def test_a_log_that_always_fails_is_reported_and_tried_by_the_next_run(tmp_path, trace, engine):
    out = tmp_path / "out"
    work = partial(stumble, trace=trace, victim="scene-0002", how="bug", times=2)
    outcomes = run_logs(tasks_of(), work, out, **engine)
    assert [x.state for x in outcomes] == ["done", "failed", "done", "done"]
    assert (outcomes[1].attempts, outcomes[1].error) == (2, "ZeroDivisionError: by nothing")
    summary = json.loads((out / SUMMARY_FILE).read_text())
    assert (summary["logs"], summary["done"], summary["failed"], summary["left"]) == (4, 3, 1, [])
    assert summary["outcomes"][1]["error"] == "ZeroDivisionError: by nothing"
    assert "Traceback" in (out / "scene-0002.error.txt").read_text()
    assert not (out / "scene-0002").exists()
    assert hidden_in(out) == []
    again = run_logs(tasks_of(), work, out, **engine)
    assert [x.state for x in again] == ["kept", "done", "kept", "kept"]
    assert not (out / "scene-0002.error.txt").exists()


def test_a_mistake_of_the_user_is_not_tried_again(tmp_path, trace, engine):
    work = partial(stumble, trace=trace, victim="scene-0003", how="data", times=9)
    outcomes = run_logs(tasks_of(), work, tmp_path / "out", **engine)
    assert [x.state for x in outcomes] == ["done", "done", "failed", "done"]
    assert (outcomes[2].attempts, outcomes[2].error) == (1, "drive: bad files")


def test_a_log_whose_input_changed_is_done_anew(tmp_path, trace):
    out, lidar = tmp_path / "out", tmp_path / "lidar.bin"
    lidar.write_bytes(b"1234")

    def tasks():
        return [LogTask.of("first", {"threshold": 0.5}, [lidar]), LogTask.of("second", {"threshold": 0.5}, [])]

    run_logs(tasks(), partial(count_up, trace=trace), out)
    (out / "first" / "old.txt").write_text("of the old result")
    lidar.write_bytes(b"12345")
    assert [x.state for x in run_logs(tasks(), partial(count_up, trace=trace), out)] == ["done", "kept"]
    assert not (out / "first" / "old.txt").exists()
    assert calls_in(trace) == ["first", "second", "first"]
    settings = [LogTask.of("first", {"threshold": x}, [lidar]).fingerprint for x in (0.5, 0.25)]
    assert settings[0] != settings[1]


# The driver is another process, so that it can be killed. It imports this file, as its workers do.
DRIVER = """
import sys; from functools import partial; from pathlib import Path
from avjepa.cli import run_tool; from avjepa.fleet import run_logs; from tests.test_fleet import hang_at, tasks_of
out, trace, engine, workers = sys.argv[1:]
work = partial(hang_at, trace=Path(trace), victim="scene-0003")
run_tool(lambda: print(run_logs(tasks_of(), work, Path(out), engine=engine, workers=int(workers))))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
@pytest.mark.parametrize("kind", ["serial", "ray"])
def test_a_run_that_was_killed_goes_on_with_what_is_left(tmp_path, trace, kind, how):
    if kind == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: pip install avjepa[fleet]")
    out, workers = tmp_path / "out", {"serial": "1", "ray": "2"}[kind]
    command = [sys.executable, "-W", "ignore", "-c", DRIVER, str(out), str(trace), kind, workers]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    finished = NAMES[:2] if kind == "serial" else (*NAMES[:2], NAMES[3])
    try:
        wait_until(lambda: (trace / "pid").exists() and left_in(out) == len(NAMES) - len(finished), driver)
        with pytest.raises(ConfigError, match="another run is writing there"):
            run_logs(tasks_of(), partial(count_up, trace=trace), out)
        driver.send_signal(how)
        _, said = driver.communicate(timeout=120)
    finally:
        driver.kill()
    if how == signal.SIGTERM:
        assert driver.returncode == 130
        assert said.splitlines()[-1] == "interrupted"
        assert hidden_in(out) == []
    else:
        assert driver.returncode == -signal.SIGKILL
        assert any(name.startswith(".scene-0003.") for name in hidden_in(out))
    wait_until(lambda: not is_alive(int((trace / "pid").read_text())))
    outcomes = run_logs(tasks_of(), partial(count_up, trace=trace), out)
    assert [x.state for x in outcomes] == ["kept" if name in finished else "done" for name in NAMES]
    assert sorted(calls_in(trace)) == sorted(NAMES)
    assert hidden_in(out) == []
    assert not (out / "scene-0003" / "half.txt").exists()


def left_in(out):
    """How many logs are left, says the run."""
    try:
        return len(json.loads((out / SUMMARY_FILE).read_text())["left"])
    except FileNotFoundError:
        return None


def is_alive(pid):
    """A process that has ended and that nobody has waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(holds, driver=None, limit_s=180.0):
    deadline = time.monotonic() + limit_s
    while not holds():
        assert driver is None or driver.poll() is None, driver.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_not_ours_is_never_removed(tmp_path, trace):
    mine = tmp_path / "out" / "scene-0002" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    with pytest.raises(DataError, match="scene-0002: not a finished log of ours; remove it"):
        run_logs(tasks_of(), partial(count_up, trace=trace), tmp_path / "out")
    assert mine.read_text() == "precious"
    assert not (trace / "calls").exists()


@pytest.mark.parametrize("name", ["", "fleet.json", "x" * 300, "scene.error.txt"])
def test_names_that_make_no_folder(name):
    with pytest.raises(DataError, match="want a name that makes a folder"):
        LogTask(name, "a")


def test_folders_stay_inside_and_apart():
    folders = [LogTask(name, "a").folder for name in ("..", ".", ".lock", "a/b", "a%2Fb", "a_b", "../../etc", "a\0b")]
    assert len(set(folders)) == len(folders)
    assert not any("/" in folder or "\0" in folder or folder.startswith(".") for folder in folders)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "dask"}, "want serial or ray"),
        ({"workers": 2}, "add --engine ray"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_be(tmp_path, trace, options, message):
    with pytest.raises(ConfigError, match=message):
        run_logs(tasks_of(), partial(count_up, trace=trace), tmp_path / "out", **options)


def test_two_logs_of_one_name(tmp_path, trace):
    with pytest.raises(DataError, match="several logs have one name: a;"):
        run_logs(tasks_of(("a", "b", "a")), partial(count_up, trace=trace), tmp_path / "out")


def test_without_ray_the_mend_is_one_line(tmp_path, trace, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install avjepa\[fleet\]"):
        run_logs(tasks_of(), partial(count_up, trace=trace), tmp_path / "out", engine="ray", workers=2)
    assert hidden_in(tmp_path / "out") == []
