"""The tables of a study: objectives beside each other, by test split, with spreads and costs.

What was not finished shows as "-"; what failed stays, with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from avjepa.probes.study import ANSWERS, RANDOM_INIT, RAW_INPUT, SUPERVISED, Row
from avjepa.reports.tables import lower_is_better, mean_and_spread

NONE = "-"
FAILED = "failed"
BASELINES = (SUPERVISED, RANDOM_INIT, RAW_INPUT)
BEST_ANSWER = "best answer without training"
MONITORS = {
    "std": "std",
    "rankme": "RankMe",
    "ratio_occupied": "prediction / copying, occupied ↓",
    "ratio_changed": "changed ↓",
    "wrong_motion": "wrong ego-motion",
}


@dataclass(frozen=True)
class RunSummary:
    """One pretraining run.

    Attributes:
        seed: of the run.
        finished: it came to its end.
        settled: nothing is left to train: it finished or collapsed. Only such runs count in means.
        state: how it stands, in words.
        iterations: that it trained.
        core_minutes, wall_minutes: what was counted of it.
        is_counted: nothing of it was not counted.
        monitors: last row of the held-out monitors, by name.
    """

    seed: int
    finished: bool
    settled: bool
    state: str
    iterations: int
    core_minutes: float
    wall_minutes: float
    is_counted: bool
    monitors: dict[str, float]


@dataclass(frozen=True)
class ProbeFailure:
    """Rows of a task that could not be computed.

    Attributes:
        name: of the rows, or ANSWERS.
        seeds: of the rows.
        reason: in words, one line.
    """

    name: str
    seeds: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        seed = f", seed {self.seeds[0]}" if len(self.seeds) == 1 and self.name != ANSWERS else ""
        return f"{self.name}{seed}: {self.reason}"


@dataclass(frozen=True)
class TaskRows:
    """The rows of one task.

    Attributes:
        title: of the task.
        columns: titles of the metrics to show; the first is the one that plots show.
        heads: kinds of heads.
        splits: names of the test splits.
        no_rivals: answers without training that are not counted among the best.
        rows: those that are done.
        failures: what was tried and could not be done.
    """

    title: str
    columns: dict[str, str]
    heads: tuple[str, ...]
    splits: tuple[str, ...]
    no_rivals: tuple[str, ...]
    rows: list[Row]
    failures: list[ProbeFailure]

    def has_failed(self, name: str) -> bool:
        """For some seed."""
        return any(failure.name == name for failure in self.failures)


@dataclass(frozen=True)
class StudyResult:
    """A study, as far as it has come.

    Attributes:
        titles: of the objectives, by name.
        reference: the objective that the others are held against.
        seeds: that every row is to have.
        label_shares: growing; the last is that of the main tables.
        runs: of every objective.
        tasks: by name.
    """

    titles: dict[str, str]
    reference: str
    seeds: int
    label_shares: tuple[float, ...]
    runs: dict[str, list[RunSummary]]
    tasks: dict[str, TaskRows]

    @property
    def splits(self) -> list[str]:
        """Of all tasks."""
        return list(dict.fromkeys(split for task in self.tasks.values() for split in task.splits))

    @property
    def names(self) -> list[str]:
        """Of the rows with a head: objectives, then those that pretraining did not touch."""
        there = {row.name for task in self.tasks.values() for row in (*task.rows, *task.failures)}
        return [*self.titles, *(name for name in BASELINES if name in there)]

    def title(self, name: str) -> str:
        """Of a row."""
        return self.titles.get(name, name)


@dataclass(frozen=True)
class Column:
    """One metric of one task under one kind of head, on one split."""

    task: TaskRows
    head: str
    metric: str
    split: str

    @property
    def title(self) -> str:
        """Ends as the metric's own title does, where an arrow may say that less is better."""
        return f"{self.task.title}, {self.head}: {self.task.columns[self.metric]}"

    def values(self, name: str, share: float) -> list[float]:
        """Of the seeds that are done."""
        return list(self.by_seed(name, share).values())

    def by_seed(self, name: str, share: float) -> dict[int, float]:
        """As :meth:`values`, by seed."""
        heads = (self.head,) if name != SUPERVISED else {row.head for row in self.task.rows if row.name == SUPERVISED}
        rows = [row for row in self.task.rows if row.name == name and row.head in heads and row.label_share == share]
        return {row.seed: value for row in rows for value in self._metric(row)}

    def answers(self) -> dict[str, float]:
        """By name, the answers without training."""
        rows = [row for row in self.task.rows if not row.head and row.name not in self.task.no_rivals]
        return {row.name: value for row in rows for value in self._metric(row) if math.isfinite(value)}

    def best_answer(self) -> tuple[str, float] | None:
        """The best of them."""
        best = min if lower_is_better(self.title) else max
        return best(self.answers().items(), key=lambda answer: answer[1], default=None)

    def _metric(self, row: Row) -> list[float]:
        """None where the row has no answer."""
        metrics = row.metrics.get(self.split, {})
        return [metrics[self.metric]] if self.metric in metrics else []


@dataclass(frozen=True)
class TextTable:
    """A table of words: its title, the titles of its columns, and rows that begin with their own; and what it means."""

    title: str
    columns: list[str]
    rows: dict[str, list[str]]
    note: str = ""

    def markdown(self) -> str:
        """For a Markdown page, without the title."""
        lines = ["| | " + " | ".join(self.columns) + " |", "|---|" + "---|" * len(self.columns)]
        return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in self.rows.items())])


def columns_of(result: StudyResult, split: str) -> list[Column]:
    """What is measured on a split."""
    tasks = [task for task in result.tasks.values() if split in task.splits]
    return [Column(task, head, metric, split) for task in tasks for head in task.heads for metric in task.columns]


def plotted_columns(result: StudyResult, split: str) -> list[Column]:
    """The first metric of every task, under its first head."""
    shown = {task.title: (task.heads[0], next(iter(task.columns))) for task in result.tasks.values()}
    return [c for c in columns_of(result, split) if shown[c.task.title] == (c.head, c.metric)]


def main_table(result: StudyResult, split: str) -> TextTable:
    """Everything that is measured on a split with all labels, and what it cost."""
    columns, share = columns_of(result, split), result.label_shares[-1]
    rows = {}
    for name in result.names:
        cells = [score_cell(result, column, name, share) for column in columns]
        runs = result.runs.get(name, [])
        rows[result.title(name)] = [*cells, cost_cell(runs), state_cell(runs)]
    best = [column.best_answer() for column in columns]
    if any(best) or any(column.task.has_failed(ANSWERS) for column in columns):
        rows[BEST_ANSWER] = [*(answer_cell(*pair) for pair in zip(columns, best, strict=True)), NONE, NONE]
    named = dict.fromkeys(f"{c.title}: {b[0]}" for c, b in zip(columns, best, strict=True) if b)
    notes = [f"Best answers without training: {'; '.join(named)}."] if named else []
    failures = [
        f"{c.title}: {failure}" for c in {c.task.title: c.task for c in columns}.values() for failure in c.failures
    ]
    notes += [f"Probing failed: {'; '.join(failures)}."] if failures else []
    labels = "" if share == 1 else f" with {100 * share:g} % of the labels"
    return TextTable(
        f"{split}{labels}",
        [*(column.title for column in columns), "core-minutes a run", "pretraining"],
        rows,
        " ".join(notes),
    )


def share_table(result: StudyResult, column: Column) -> TextTable:
    """One metric by the share of labels that heads saw."""
    rows = {
        result.title(name): [score_cell(result, column, name, share) for share in result.label_shares]
        for name in result.names
    }
    titles = [f"{100 * share:g} % of labels" for share in result.label_shares]
    return TextTable(f"{column.title}, {column.split}", titles, said(rows))


def runs_table(result: StudyResult) -> TextTable:
    """What the held-out monitors said at the end, and what a run cost."""
    rows = {}
    for name, title in result.titles.items():
        runs = result.runs[name]
        ended = [run for run in runs if run.settled]
        seen = [[run.monitors[monitor] for run in ended if monitor in run.monitors] for monitor in MONITORS]
        steps = sorted({run.iterations for run in runs})
        rows[title] = [
            " to ".join(map(str, dict.fromkeys((steps[0], steps[-1])))),
            *(cell(values, result.seeds, 3) for values in seen),
            cost_cell(runs),
            cell([run.wall_minutes for run in ended if run.wall_minutes], result.seeds, 1),
            state_cell(runs),
        ]
    columns = ["steps", *MONITORS.values(), "core-minutes a run", "minutes a run", "pretraining"]
    note = "Held-out monitors at the end of a run: mean ± standard deviation over seeds."
    return TextTable("pretraining", columns, rows, note)


def said(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """The rows that say something."""
    return {name: cells for name, cells in rows.items() if set(cells) != {NONE}}


def score_cell(result: StudyResult, column: Column, name: str, share: float) -> str:
    """A row's metric; it says so where a seed is missing because probing failed."""
    values = column.values(name, share)
    text = cell(values, result.seeds, digits_of(column))
    if len(values) == result.seeds or not column.task.has_failed(name):
        return text
    return FAILED if text == NONE else f"{text}, others {FAILED}"


def answer_cell(column: Column, best: tuple[str, float] | None) -> str:
    """The best answer without training."""
    if best is None:
        return FAILED if column.task.has_failed(ANSWERS) else NONE
    return f"{best[1]:.{digits_of(column)}f}"


def cell(values: Sequence[float], seeds: int, digits: int) -> str:
    """Mean ± spread; how many seeds, where some are missing."""
    if not values or not math.isfinite(mean_and_spread(values)[0]):
        return NONE
    mean, spread = mean_and_spread(values)
    text = f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(values) > 1 else "")
    return text if len(values) == seeds else f"{text} ({len(values)} of {seeds} seeds)"


def cost_cell(runs: Sequence[RunSummary]) -> str:
    """Core-minutes of a run, over those that are settled."""
    ended = [run for run in runs if run.settled]
    text = cell([run.core_minutes for run in ended], len(runs), 1)
    return text if all(run.is_counted for run in ended) else f"> {text}"


def state_cell(runs: Sequence[RunSummary]) -> str:
    """How many runs finished, and what became of the others."""
    if not runs:
        return NONE
    others = [f"seed {run.seed} {run.state}" for run in runs if not run.finished]
    done = len(runs) - len(others)
    return "; ".join([f"{done} of {len(runs)} finished", *others]).replace("|", "/")


def digits_of(column: Column) -> int:
    """Per cents need fewer."""
    return 1 if "%" in column.title else 3
