"""Plots of a study: every task's first metric by objective, by share of labels, and by cost; a row of panels a test split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from avjepa.reports.study_tables import Column, StudyResult, plotted_columns
from avjepa.reports.tables import mean_and_spread

BASELINE_COLOURS = ("#444444", "#888888", "#bbbbbb")
ANSWER_COLOUR = "#b8860b"


def study_figures(result: StudyResult) -> dict[str, Figure]:
    """By name: "objectives", "label_share" (of several shares) and "cost" (of several objectives); none of what has no numbers."""
    wanted: dict[str, Callable[[Axes, StudyResult, Column], None]] = {"objectives": by_objective}
    if len(result.label_shares) > 1:
        wanted["label_share"] = by_label_share
    if len(result.titles) > 1:
        wanted["cost"] = by_cost
    figures = {name: _panels(result, draw) for name, draw in wanted.items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


def by_objective(axis: Axes, result: StudyResult, column: Column) -> None:
    """One line a row of the table: every seed a dot, mean and spread in front, the best answer without training dashed."""
    names = result.names
    for place, name in enumerate(names):
        values = _finite(column.values(name, result.label_shares[-1]))
        if values:
            colour = colour_of(result, name)
            mean, spread = mean_and_spread(values)
            axis.plot(values, [place] * len(values), "o", color=colour, alpha=0.35, ms=4, mec="none")
            axis.errorbar(mean, place, xerr=spread, fmt="D", color=colour, ms=5, capsize=3, lw=1.4)
    best = column.best_answer()
    if best:
        axis.axvline(best[1], color=ANSWER_COLOUR, ls="--", lw=1)
        axis.set_title(f"- - {best[0]}", fontsize=6.5, color=ANSWER_COLOUR, loc="right", pad=2)
    axis.set_yticks(range(len(names)), [result.title(name) for name in names], fontsize=7.5)
    axis.set_ylim(len(names) - 0.5, -0.5)


def by_label_share(axis: Axes, result: StudyResult, column: Column) -> None:
    """One curve a row of the table, with the spread over seeds."""
    for name in result.names:
        points = [(share, _finite(column.values(name, share))) for share in result.label_shares]
        points = [(100 * share, *mean_and_spread(values)) for share, values in points if values]
        if points:
            share, mean, spread = np.array(points).T
            style = "o-" if name in result.titles else "s--"
            axis.errorbar(
                share, mean, spread, fmt=style, color=colour_of(result, name), ms=3.5, capsize=2, lw=1.2, label=result.title(name)
            )  # fmt: skip
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator([100 * share for share in result.label_shares]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axis.set_xlabel("share of the labels", fontsize=7.5)


def by_cost(axis: Axes, result: StudyResult, column: Column) -> None:
    """Metric against core-minutes a run, an objective a point with its spreads; the untrained rows are lines."""
    for name in result.names:
        values = _finite(column.values(name, result.label_shares[-1]))
        minutes = [run.core_minutes for run in result.runs.get(name, []) if run.settled]
        colour = colour_of(result, name)
        if values and minutes:
            (x, dx), (y, dy) = mean_and_spread(minutes), mean_and_spread(values)
            axis.errorbar(x, y, dy, dx, fmt="o", color=colour, ms=5, capsize=2, lw=1.2, label=result.title(name))
        elif values and name not in result.titles:
            axis.axhline(mean_and_spread(values)[0], color=colour, ls="--", lw=1, label=result.title(name))
    axis.set_xlim(left=0)
    axis.set_xlabel("core-minutes of pretraining, a run", fontsize=7.5)


def colour_of(result: StudyResult, name: str) -> str | tuple[float, ...]:
    """Of a row, the same in every plot: objectives in colours, the others in greys."""
    objectives = list(result.titles)
    if name in objectives:
        return matplotlib.colormaps["tab10"](objectives.index(name) % 10)
    greys = [other for other in result.names if other not in objectives]
    return BASELINE_COLOURS[greys.index(name) % len(BASELINE_COLOURS)]


def _panels(result: StudyResult, draw: Callable[[Axes, StudyResult, Column], None]) -> Figure | None:
    """A panel a task, a row a split; None if there is no number to show."""
    rows = {split: plotted_columns(result, split) for split in result.splits}
    shown = [column for columns in rows.values() for column in columns]
    if not any(_finite(c.values(name, share)) for c in shown for name in result.names for share in result.label_shares):
        return None
    tasks = list(result.tasks.values())
    best_above = draw is by_objective  # a line above each panel names the best answer
    per_row = 0.3 * len(result.names) + 1.5 if best_above else 2.6
    figure = Figure(figsize=(2.9 * len(tasks) + 1.8, per_row * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), len(tasks), squeeze=False, sharey=best_above)
    for line, (split, columns) in zip(axes, rows.items(), strict=True):
        placed = {column.task.title: column for column in columns}
        for axis, task in zip(line, tasks, strict=True):
            if task.title not in placed:
                axis.set_axis_off()
                continue
            draw(axis, result, placed[task.title])
            metric = next(iter(task.columns.values()))
            room = "\n" if best_above else ""
            axis.set_title(f"{task.title}, {split}\n{metric}, {task.heads[0]} head{room}", fontsize=8)
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.35, lw=0.5)
    _legend(figure, axes, [result.title(name) for name in result.names])
    return figure


def _legend(figure: Figure, axes: np.ndarray, order: list[str]) -> None:
    """One for all panels, where they name their curves."""
    named = {}
    for axis in axes.flat:
        named |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    shown = [title for title in order if title in named]
    if shown:
        handles = [named[title] for title in shown]
        figure.legend(handles, shown, loc="outside lower center", ncols=min(len(shown), 4), fontsize=8, frameon=False)


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
