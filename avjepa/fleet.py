"""A fleet of logs: one task a log, here or on Ray, with the same files either way.

What a folder holds
    ``OUT/NAME/`` appears by one rename, when its log is done: whatever the task wrote there, and ``done.json``. It is kept by
    later calls as long as what it depends on is the same; otherwise it goes before its log is done anew.
    ``OUT/fleet.json`` says after every log how far the run is and what failed; ``OUT/NAME.error.txt`` why, in full.
A killed run leaves finished logs and hidden ``.partial`` folders, which the next one removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from avjepa.cli import progress
from avjepa.errors import ConfigError, DataError
from avjepa.files import file_stats, hold_lock, replacing, write_json
from avjepa.fleet_engines import Engine, SerialEngine, Work, ray_engine

DONE_FILE, SUMMARY_FILE, LOCK_FILE, ERROR_SUFFIX = "done.json", "fleet.json", ".lock", ".error.txt"
ATTEMPTS = 2  # what was in a log's way may be gone by the second one
LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255, and partial folders have longer ones


@dataclass(frozen=True)
class LogTask:
    """One log to work on.

    Attributes:
        name: of the log.
        fingerprint: hash of all that its result depends on; see :meth:`of`.

    Raises:
        DataError: the name makes no folder.
    """

    name: str
    fingerprint: str

    def __post_init__(self) -> None:
        is_ours = self.folder == SUMMARY_FILE or self.folder.endswith(ERROR_SUFFIX)
        if not self.name or is_ours or len(self.folder) > LONGEST_NAME:
            raise DataError(f"a log named {self.name[:80]!r}: want a name that makes a folder; rename it")

    @classmethod
    def of(cls, name: str, settings: Any, files: Iterable[Path]) -> LogTask:
        """A log whose result depends on settings (anything with a faithful ``repr``) and on files, by their size and time."""
        return cls(name, hashlib.sha256(repr((settings, file_stats(files))).encode()).hexdigest())

    @property
    def folder(self) -> str:
        """Name of its folder: other than the log's where that holds slashes and the like, and of no other log."""
        quoted = quote(self.name, safe=" +,=@")
        return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


@dataclass(frozen=True)
class LogOutcome:
    """How the work on one log ended.

    Attributes:
        name: of the log.
        state: "done" in this run, "kept" from an earlier one, or "failed".
        attempts: how many there were, in the run that did it.
        seconds: wall time of all attempts, the start of a worker included.
        error: one line; None unless it failed.
    """

    name: str
    state: Literal["done", "kept", "failed"]
    attempts: int
    seconds: float
    error: str | None = None


def run_logs(
    tasks: Sequence[LogTask],
    work: Work,
    out: Path,
    engine: Literal["serial", "ray"] = "serial",
    workers: int = 1,
    what: str = "logs",
) -> list[LogOutcome]:
    """Work on every log that is not done yet; one that fails is tried once again, then reported, and the others go on.

    A mistake of the user (UserError, such as DataError for bad data) stays one and is not tried again. Anything else that the work
    raises is, and with Ray the death of its process too. SIGINT and SIGTERM stop the workers and leave what is finished.

    Args:
        tasks: the logs, of different names.
        work: called with a log's name and an empty folder to write into, where ``done.json`` is ours. With Ray it runs in another
            process: a function of a module, or a functools.partial of one.
        out: folder of the results; one run at a time writes there. Workers on other machines of a cluster must see it.
        engine: "serial" here, one after the other; "ray" in processes of a Ray of our own, or of the cluster at $RAY_ADDRESS.
        workers: logs at once with Ray.
        what: words beside the progress bar.

    Returns:
        One outcome a task, in their order.

    Raises:
        ConfigError: an option is wrong, Ray is missing, or another run writes into ``out``.
        DataError: two logs have one name, or ``out`` holds something else in the place of a log's folder.
        KeyboardInterrupt: on either signal, after the workers were stopped.
    """
    _check(tasks, engine, workers)
    out.mkdir(parents=True, exist_ok=True)
    lock = hold_lock(out / LOCK_FILE)
    if lock is None:
        raise ConfigError(f"{out}: another run is writing there; wait for it, or give another --out")
    with lock:
        _remove_leftovers(out)
        kept = {task.name: outcome for task in tasks if (outcome := _kept(task, out))}
        left = [task for task in tasks if task.name not in kept]
        summary = Summary(out, engine, workers, tasks)
        for name in kept:
            summary.add(kept[name])
        summary.write()
        if left:
            running = ray_engine(work, workers) if engine == "ray" else SerialEngine(work)
            try:
                with _interrupted_by_sigterm():  # after Ray, which sets its own
                    for outcome in progress(_outcomes(left, running, out), what, len(left)):
                        summary.add(outcome)
                        summary.write()
            finally:
                running.stop()
                _remove_leftovers(out)
    return summary.outcomes()


def _outcomes(left: list[LogTask], engine: Engine, out: Path) -> Iterator[LogOutcome]:
    """Every log's outcome, as they end. A failed log waits behind all others: what was in its way may be gone by then."""
    waiting, going = deque(left), {}
    tried, seconds = Counter(), Counter()
    while waiting or going:
        while waiting and len(going) < engine.size:
            task = waiting.popleft()
            folder = _partial(out, task)
            folder.mkdir()
            going[task.name] = task, folder, time.monotonic()
            engine.start(task.name, folder)
        name, failure = engine.wait()
        task, folder, started = going.pop(name)
        tried[name] += 1
        seconds[name] += time.monotonic() - started
        if failure is None:
            yield _finish(task, folder, out, tried[name], round(seconds[name], 3))
            continue
        shutil.rmtree(folder, ignore_errors=True)
        if failure.is_final or tried[name] == ATTEMPTS:
            with replacing(_error_file(out, task)) as temporary:
                temporary.write_text(failure.text, encoding="utf-8")
            yield LogOutcome(name, "failed", tried[name], round(seconds[name], 3), failure.error)
        else:
            waiting.append(task)


class Summary:
    """What ``fleet.json`` says: the run, the outcomes so far, and the logs that are left."""

    def __init__(self, out: Path, engine: str, workers: int, tasks: Sequence[LogTask]) -> None:
        """Of a run that begins."""
        self.path = out / SUMMARY_FILE
        self.run = {"command": _command(), "engine": engine, "workers": workers, "logs": len(tasks)}
        self.by_name: dict[str, LogOutcome | None] = {task.name: None for task in tasks}

    def add(self, outcome: LogOutcome) -> None:
        """A log has ended."""
        self.by_name[outcome.name] = outcome

    def outcomes(self) -> list[LogOutcome]:
        """Those that are known, in the order of the tasks."""
        return [outcome for outcome in self.by_name.values() if outcome is not None]

    def write(self) -> None:
        """Replace the file."""
        outcomes = self.outcomes()
        states = Counter(outcome.state for outcome in outcomes)
        left = [name for name, outcome in self.by_name.items() if outcome is None]
        write_json(self.path, {**self.run, **states, "left": left, "outcomes": [asdict(x) for x in outcomes]})


# ------------------------------------------------------------------------------------------------------------ folders
def _finish(task: LogTask, folder: Path, out: Path, attempts: int, seconds: float) -> LogOutcome:
    """Give a finished folder its name."""
    record = {"fingerprint": task.fingerprint, "attempts": attempts, "seconds": seconds, "command": _command()}
    write_json(folder / DONE_FILE, record)
    folder.rename(out / task.folder)
    return LogOutcome(task.name, "done", attempts, seconds)


def _kept(task: LogTask, out: Path) -> LogOutcome | None:
    """The outcome of a log that is done already; None, with nothing of an older result left, where it is not.

    Raises:
        DataError: there is something else in its place.
    """
    _error_file(out, task).unlink(missing_ok=True)
    folder = out / task.folder
    if not os.path.lexists(folder):
        return None
    try:
        record = json.loads((folder / DONE_FILE).read_text())
        is_same = record["fingerprint"] == task.fingerprint
        outcome = LogOutcome(task.name, "kept", record["attempts"], record["seconds"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder}: not a finished log of ours; remove it, or choose another --out") from error
    if is_same:
        return outcome
    old = _partial(out, task)
    folder.rename(old)  # in one step: a kill leaves all of it or a leftover
    shutil.rmtree(old)
    return None


def _partial(out: Path, task: LogTask) -> Path:
    """A new name each time: a worker of a dead run that still writes does so into its own folder."""
    return out / f".{task.folder}.{uuid.uuid4().hex[:8]}.partial"


def _remove_leftovers(out: Path) -> None:
    """Of attempts that were killed."""
    for folder in out.glob(".*.partial"):
        shutil.rmtree(folder, ignore_errors=True)


def _error_file(out: Path, task: LogTask) -> Path:
    return out / f"{task.folder}{ERROR_SUFFIX}"


# --------------------------------------------------------------------------------------------------------------- rest
def _check(tasks: Sequence[LogTask], engine: str, workers: int) -> None:
    if engine not in ("serial", "ray"):
        raise ConfigError(f"--engine {engine}: want serial or ray")
    if workers < 1:
        raise ConfigError(f"--workers {workers}: want at least 1")
    if engine == "serial" and workers != 1:
        raise ConfigError(f"--workers {workers}: one log after the other has one worker; add --engine ray")
    twice = [name for name, count in Counter(task.name for task in tasks).items() if count > 1]
    if twice:
        raise DataError(f"several logs have one name: {', '.join(twice[:3])}; rename them")


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does. Only the main thread may set that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _command() -> str:
    return shlex.join([Path(sys.executable).name, *sys.argv])
