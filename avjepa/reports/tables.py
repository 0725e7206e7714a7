"""Result tables: mean and spread over seeds, and an honest word on gains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

Table = Mapping[str, Mapping[str, Sequence[float]]]  # table[row][metric] = values over seeds
UNTOUCHED = ("random init", "raw input")  # rows that pretraining did not touch; JEPA is held against them


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds (0 for a single one)."""
    array = np.asarray(values, dtype=float)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0


def markdown_table(
    rows: Mapping[str, Mapping[str, Sequence[float]]], metrics: Mapping[str, str], digits: int = 3, seeds: bool = True
) -> str:
    """A Markdown table of ``rows[row][metric] = values over seeds``; ``metrics`` maps a metric to its column title, and the last
    column, if ``seeds``, says how many there are.
    """
    titles = [*metrics.values(), *(["seeds"] if seeds else [])]
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
    for row, values in rows.items():
        cells = []
        for metric in metrics:
            mean, spread = mean_and_spread(values[metric])
            several = len(values[metric]) > 1
            cells.append(f"{mean:.{digits}f} ± {spread:.{digits}f}" if several else f"{mean:.{digits}f}")
        if seeds:
            cells.append(str(len(next(iter(values.values())))))
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def lower_is_better(column: str) -> bool:
    """Titles of metrics of which less is better end in an arrow downwards."""
    return column.endswith("↓")


def gain_verdict(ours: Sequence[float], theirs: Sequence[float], column: str) -> str:
    """Say "gain", "loss" or "no difference" in the metric of this title; no larger than the larger spread is none."""
    (mean, spread), (other_mean, other_spread) = mean_and_spread(ours), mean_and_spread(theirs)
    difference = mean - other_mean
    if not abs(difference) > max(spread, other_spread):
        return "no difference"
    return "gain" if (difference < 0) == lower_is_better(column) else "loss"


def verdicts(columns: Mapping[str, str], table: Table) -> list[str]:
    """For every JEPA row, in words, whether it gains on the same head without pretraining, by the first metric."""
    metric, column = next(iter(columns.items()))
    lines = []
    for row in [row for row in table if row.startswith("JEPA")]:
        ours, words = table[row].get(metric, ()), []
        for name, rival in rivals(row, table).items():
            theirs = table[rival].get(metric, ())
            if all(math.isfinite(metric_of(table[r], metric)[0]) for r in (row, rival)):
                verdict = gain_verdict(ours, theirs, column)
                words.append(f"{verdict} against {name}")
        if words:
            lines.append(
                f"{row}, {column}: {', '.join(words)}" + ("" if len(ours) > 1 else " (one seed: spread not known)")
            )
    return lines


def rivals(row: str, table: Table) -> dict[str, str]:
    """By name, the rows with the head and labels of a JEPA row that pretraining did not touch."""
    rest = row.partition(", ")[2]
    return {name: f"{name}, {rest}" for name in UNTOUCHED if f"{name}, {rest}" in table}


def metric_of(row: Mapping[str, Sequence[float]], metric: str) -> tuple[float, float]:
    """Over seeds; nan where the metric is not defined for every one of them."""
    values = row.get(metric)
    return mean_and_spread(values) if values else (math.nan, math.nan)
