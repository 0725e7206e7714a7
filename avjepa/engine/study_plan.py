"""What a study trains and asks: {objective} x {seed}, each probed by {task} x {label share}, read from its config and checked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from avjepa.engine.config import load_config
from avjepa.engine.probe_study import chosen_heads
from avjepa.engine.registry import build
from avjepa.errors import ConfigError
from avjepa.reports.study_tables import BASELINES, BEST_ANSWER

ROWS_OF_EVERY_TABLE = (*BASELINES, BEST_ANSWER)
FOLDER_NAME = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Objective:
    """One way to pretrain.

    Attributes:
        config: path of its training config, relative to the study's.
        title: as tables show it.
        iterations: in place of the config's, its schedule stretched along; None for the config's own. Cheaper objectives get
            more, so that every one costs about as much.
        options: settings of that config to change, by dotted key; values are numbers, names and lists of them.
    """

    config: str
    title: str
    iterations: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.iterations is not None and self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")


@dataclass(frozen=True)
class Task:
    """One probe.

    Attributes:
        config: path of its probe config, relative to the study's.
        title: as tables show it.
        heads: of that config.
        metrics: of the probe that tables show; the first is the one that plots show.
        options: settings of that config to change, by dotted key.
        supervised: with the row that is trained from scratch.
        no_rivals: answers without training that are not counted among the best of them, such as one that copies the truth.
    """

    config: str
    title: str
    heads: tuple[str, ...]
    metrics: tuple[str, ...]
    options: Mapping[str, Any]
    supervised: bool = False
    no_rivals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.heads or not self.metrics:
            raise ValueError("a task needs at least one head and one metric")


@dataclass(frozen=True)
class StudyPlan:
    """A study config, checked.

    Attributes:
        path, text: the config's file, and what it says after all options.
        objectives, tasks: by name.
        reference: the objective that the others are held against.
        seeds: of every objective, and of every probe.
        label_shares: shares of the training scenes whose labels heads see, growing.
        data: root of every data set; None for what the configs say.
    """

    path: Path
    text: str
    objectives: dict[str, Objective]
    tasks: dict[str, Task]
    reference: str
    seeds: int
    label_shares: tuple[float, ...]
    data: str | None

    def training_options(self, objective: str, seed: int) -> dict[str, Any]:
        """Settings that a run changes in its config, as ``--cfg-options`` of tools/train.py."""
        options = {"randomness.seed": seed, **self.objectives[objective].options}
        iterations = self.objectives[objective].iterations
        if iterations is None:
            return options
        cfg = load_config(self.training_config(objective), kind="training")
        stretch = iterations / cfg.train_cfg.max_iters
        options["train_cfg.max_iters"] = iterations
        for number, scheduler in enumerate(cfg.param_scheduler):
            for edge in ("begin", "end"):
                options[f"param_scheduler.{number}.{edge}"] = round(scheduler[edge] * stretch)
        return options

    def training_config(self, objective: str) -> Path:
        """File of an objective's training config."""
        return self.path.parent / self.objectives[objective].config

    def training(self, objective: str, seed: int) -> Config:
        """Exactly what a run trains."""
        options = self.training_options(objective, seed)
        return load_config(self.training_config(objective), options, self.data, kind="training")

    def probing(self, task: str) -> Config:
        """A task's probe config."""
        settings = self.tasks[task]
        return load_config(self.path.parent / settings.config, dict(settings.options), self.data, kind="a probe")


def read_plan(path: Path, options: dict[str, Any] | None, data: str | None, seeds: int | None) -> StudyPlan:
    """Read a study config.

    Args:
        path: the file, see configs/studies/city.py.
        options: settings in it to change.
        data: root of every data set; None for what the configs say.
        seeds: in place of the config's.

    Raises:
        ConfigError: a config is missing or wrong, or names what another one does not have.
    """
    cfg = load_config(path, options, kind="a study")
    plan = StudyPlan(
        path=path,
        text=cfg.pretty_text,
        objectives=_typed(Objective, cfg.objectives, f"{path}: objectives"),
        tasks=_typed(Task, cfg.tasks, f"{path}: tasks"),
        reference=cfg.reference,
        seeds=cfg.seeds if seeds is None else seeds,
        label_shares=tuple(sorted(cfg.label_shares)),
        data=data,
    )
    if plan.seeds < 1 or not plan.label_shares or not all(0 < share <= 1 for share in plan.label_shares):
        raise ConfigError(f"{path}: seeds must be at least 1, and every label share in (0, 1]")
    if plan.reference not in plan.objectives:
        raise ConfigError(
            f"{path}: reference {plan.reference!r} is none of the objectives ({', '.join(plan.objectives)})"
        )
    _check_titles(path, plan)
    for objective in plan.objectives:
        plan.training(objective, 0)
    for name, task in plan.tasks.items():
        cfg = plan.probing(name)
        chosen_heads(cfg, list(task.heads))
        columns = build(cfg.probe).columns
        unknown = [metric for metric in task.metrics if metric not in columns]
        if unknown:
            raise ConfigError(f"{path}: task {name}: no metric {', '.join(unknown)}; it has {', '.join(columns)}")
        if task.supervised and cfg.get("supervised") is None:
            raise ConfigError(f"{path}: task {name}: {task.config} has no supervised row; set supervised=False")
    return plan


def _check_titles(path: Path, plan: StudyPlan) -> None:
    """Titles name the rows of tables and the panels of plots: one of each."""
    titles = {
        "objectives": [*ROWS_OF_EVERY_TABLE, *(objective.title for objective in plan.objectives.values())],
        "tasks": [task.title for task in plan.tasks.values()],
    }
    for entries, named in titles.items():
        twice = [title for title, count in Counter(named).items() if count > 1]
        if twice:
            raise ConfigError(
                f"{path}: {entries}: the title {twice[0]!r} would stand for two in the tables; give another"
            )


def _typed(cls: type, entries: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Any]:
    """Entries of a config as objects; their names become folders and rows."""
    typed = {}
    for name, entry in entries.items():
        if not FOLDER_NAME.fullmatch(name):  # so it is none of "raw input" and the like either
            raise ConfigError(f"{where}: {name!r} names a folder; use letters, digits and _")
        try:
            typed[name] = cls(**build(entry))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}.{name}: {error}") from error
    if not typed:
        raise ConfigError(f"{where}: none")
    return typed
