"""The pretraining runs of a study: what each one is, how far it has come, and what it cost.

A run lives in OUT/runs/OBJECTIVE/seedS. Its ``cost.json`` says what it trains, how it ended and what every part of it cost: a
run that was stopped has a part for each time it went on.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from avjepa.engine.checkpoint import read_checkpoint
from avjepa.engine.config import settings_text
from avjepa.engine.study_plan import StudyPlan
from avjepa.engine.training_data import training_data_hash
from avjepa.errors import ConfigError, DataError
from avjepa.files import write_json

State = Literal["not run", "unfinished", "finished", "collapsed", "failed"]

RECORD = "cost.json"


@dataclass
class Part:
    """One process of a run.

    Attributes:
        command: that started it.
        started: "2026-11-21T16:40:00", local time.
        threads: that each of its libraries may use.
        core_s: CPU seconds of the process and its loaders, user and system; None while it runs, or if nobody was left to count.
        wall_s: seconds from start to end, as ``core_s``.
        exit_code: as ``core_s``; negative for a signal.
    """

    command: str
    started: str
    threads: int
    core_s: float | None = None
    wall_s: float | None = None
    exit_code: int | None = None


@dataclass
class RunRecord:
    """What is known of one run.

    Attributes:
        objective, seed: which one.
        config: what it trains, a setting a line.
        iterations: that it is to train.
        data: hash of what it trains on, see training_data.py. None where it could not be read, and in records of before there was
            one: such a run counts as trained on the data that is there.
        state: how it ended. A collapsed run is a result and is not tried again; a failed one goes on from its checkpoint.
        reason: in its own words, why it did not finish.
        stopped_at: iteration at which it collapsed.
        parts: its processes, the first one first.
    """

    objective: str
    seed: int
    config: str
    iterations: int
    data: str | None = None
    state: State = "not run"
    reason: str = ""
    stopped_at: int | None = None
    parts: list[Part] = field(default_factory=list)

    @property
    def core_minutes(self) -> float:
        """CPU minutes of all parts that were counted."""
        return sum(part.core_s or 0.0 for part in self.parts) / 60

    @property
    def wall_minutes(self) -> float:
        """Minutes from start to end of all parts that were counted."""
        return sum(part.wall_s or 0.0 for part in self.parts) / 60

    @property
    def is_counted(self) -> bool:
        """Every part was counted; otherwise the run cost more."""
        return all(part.core_s is not None for part in self.parts)


@dataclass(frozen=True)
class TrainingRun:
    """One run of a study: its place, its record, and the options that make it."""

    folder: Path
    record: RunRecord
    options: dict[str, Any]
    config_file: Path
    data: str | None

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.record.objective}, seed {self.record.seed}"

    @property
    def checkpoint(self) -> Path | None:
        """Newest checkpoint, None before the first."""
        last = self.folder / "last.pth"
        return last if last.is_file() else None

    @property
    def iteration(self) -> int:
        """Of the newest checkpoint."""
        return _iteration_in(self.checkpoint, self.checkpoint.stat().st_mtime_ns) if self.checkpoint else 0

    @property
    def is_settled(self) -> bool:
        """There is nothing left to train."""
        return self.record.state in ("finished", "collapsed")

    @property
    def probed(self) -> Path | None:
        """The checkpoint that counts: of a settled run, the newest, which a collapsed one may not have."""
        return self.checkpoint if self.is_settled else None

    def command(self, train_tool: Path) -> list[str]:
        """That trains it, or goes on."""
        data = ["--data", self.data] if self.data else []
        resume = ["--resume"] if self.checkpoint else []
        options = [f"{key}={_as_option(value)}" for key, value in self.options.items()]
        place = ["--work-dir", str(self.folder)]
        return [
            sys.executable,
            str(train_tool),
            str(self.config_file),
            *data,
            *place,
            *resume,
            "--cfg-options",
            *options,
        ]

    def keep(self) -> None:
        """Write the record."""
        write_json(self.folder / RECORD, asdict(self.record))


def _as_option(value: Any) -> str:
    """As ``--cfg-options`` reads it."""
    return f"[{','.join(map(_as_option, value))}]" if isinstance(value, list | tuple) else str(value)


def runs_of(plan: StudyPlan, out: Path) -> list[TrainingRun]:
    """Every run of a study, seed by seed, as far as it has come.

    Raises:
        ConfigError: a folder holds a run of another config, or of other data.
        DataError: a record is damaged.
        CheckpointError: a checkpoint is damaged.
    """
    data = {name: training_data_hash(plan.training(name, 0).train_data.dataset) for name in plan.objectives}
    return [_run(plan, out, name, seed, data[name]) for seed in range(plan.seeds) for name in plan.objectives]


def _run(plan: StudyPlan, out: Path, objective: str, seed: int, data: str | None) -> TrainingRun:
    cfg = plan.training(objective, seed)
    planned = RunRecord(objective, seed, settings_text(cfg), cfg.train_cfg.max_iters, data)
    folder = out / "runs" / objective / f"seed{seed}"
    record = _read_record(folder / RECORD)
    run = TrainingRun(
        folder, record or planned, plan.training_options(objective, seed), plan.training_config(objective), plan.data
    )
    mend = "give another --out, or remove this folder to train it anew"
    if record is None and run.checkpoint:
        raise ConfigError(f"{folder}: holds a run without {RECORD}, which no study made; {mend}")
    if record is not None and record.config != planned.config:
        raise ConfigError(
            f"{folder}: trained with another config ({first_change(record.config, planned.config)}); {mend}"
        )
    if not (run.checkpoint or run.is_settled):  # nothing that was trained is kept
        run.record.data = data
    elif data and run.record.data and data != run.record.data:
        raise ConfigError(f"{folder}: trained on other data, which was changed or made anew since; {mend}")
    if run.iteration == planned.iterations:  # the checkpoint decides: the last part may have been killed after it
        run.record.state, run.record.reason = "finished", ""
    return run


def first_change(before: str, now: str) -> str:
    """The first line that differs."""
    lines = zip_longest(before.splitlines(), now.splitlines(), fillvalue="")
    old, new = next((old, new) for old, new in lines if old != new)
    return f"it has `{old.strip()}` where now is `{new.strip()}`"


def in_words(run: TrainingRun) -> str:
    """How a run stands, and what it cost."""
    record = run.record
    more = "" if record.is_counted else "more than "
    return f"{state_in_words(run)}; {more}{record.core_minutes:.1f} core-minutes, {record.wall_minutes:.1f} minutes"


def state_in_words(run: TrainingRun) -> str:
    """How a run stands; of one that did not finish, where and why."""
    record = run.record
    if record.state == "collapsed":
        seen = f"checkpoint of step {run.iteration} probed" if run.checkpoint else "before its first checkpoint"
        return f"collapsed at step {record.stopped_at} of {record.iterations}, {seen}"
    if record.state in ("unfinished", "failed"):
        reason = f": {record.reason}" if record.reason else ""
        return f"{record.state} after {run.iteration} of {record.iterations} steps{reason}"
    return record.state


def monitors_of(run: TrainingRun) -> dict[str, float]:
    """Last row of the held-out monitors; empty before the first."""
    path = run.folder / "monitors.jsonl"
    rows = path.read_text().splitlines() if path.is_file() else []
    return json.loads(rows[-1]) if rows else {}


@cache
def _iteration_in(checkpoint: Path, time_ns: int) -> int:
    """Of a checkpoint of this time, which is read once however often it is asked."""
    return read_checkpoint(checkpoint)["iteration"]


def _read_record(path: Path) -> RunRecord | None:
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text())
        return RunRecord(**{**fields, "parts": [Part(**part) for part in fields["parts"]]})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: damaged ({error}); remove its folder to train the run anew") from error
