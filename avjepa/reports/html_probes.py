"""What the probes found, as a part of the HTML page: for each task a table, verdicts and a picture of every split.

A column is better when larger, unless its title ends in "↓".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from avjepa.probes.splits import MOST_OVERLAP, OVERLAP_RADIUS_M
from avjepa.reports.html_parts import folded, image_tag, in_digits, missing
from avjepa.reports.tables import Table, lower_is_better, metric_of, rivals, verdicts

# Title and question by task, in the order of the page; other tasks follow, without a question.
TASKS = {
    "occupancy": (
        "3-D occupancy",
        "What fills each voxel around the car now, and of which class is it? Asked of what the cameras see and of what is hidden.",
    ),
    "bev_occupancy": (
        "BEV occupancy",
        "Is each cell of the ground plan occupied now, also where no LiDAR ray of this moment comes? The truth is in the rays of "
        "the moments before and after, so no labels are needed.",
    ),
    "forecasting": (
        "Forecasting",
        "What will stand around the car up to three seconds from now, and what will its LiDAR measure? The answer to beat is "
        "the present, copied.",
    ),
    "map": (
        "Map segmentation and completion",
        "Where is the road, and where are the other parts of the map, such as crossings and walkways? Completion counts only the "
        "cells that the sensors did not observe, where a map has to be guessed.",
    ),
    "dynamic": (
        "Dynamic filtering",
        "Which LiDAR points lie on something that moves? Without those points, what is left is a map of what stands still.",
    ),
    "moving_parked": (
        "Moving or parked",
        "Of the vehicles and people that stand around the car, which move? The columns of cars, trucks and buses leave out the "
        "people and cycles, whose shape alone would tell much.",
    ),
}
NAMED_SCENES = 8


@dataclass(frozen=True)
class ProbeResult:
    """What tools/probe.py wrote of one task.

    Attributes:
        task: its name.
        columns: titles of the metrics.
        tables: by split.
        splits: by split, its scenes and its overlap with training, where recorded.
        convention: how the metrics are defined.
        record: the whole record, of which the above are parts.
        pictures: by split, where there is one.
    """

    task: str
    columns: dict[str, str]
    tables: dict[str, Table]
    splits: dict[str, dict[str, Any]]
    convention: str
    record: dict[str, Any]
    pictures: dict[str, Path]

    @property
    def title(self) -> str:
        """For headings."""
        return TASKS[self.task][0] if self.task in TASKS else self.task.replace("_", " ")


def place_of_task(task: str) -> tuple[int, str]:
    """Sort key: known tasks in their order, then the others by name."""
    return (list(TASKS).index(task) if task in TASKS else len(TASKS)), task


def probe_section(probes: Sequence[ProbeResult]) -> str:
    """Every task, one below the other."""
    if not probes:
        return missing("No probe results: run tools/probe.py, then this report again")
    return (
        "<p>Small heads read an answer off the frozen embedding. The same heads on raw input and on an untrained encoder show "
        'what training added.</p><p class="soft">Tables: mean ± standard deviation where there are several seeds; the best of a '
        "column is bold; larger is better, except where the title ends in ↓; rows of the pretrained encoder are tinted; - is not "
        "defined.</p>" + "".join(map(_task, probes))
    )


def probe_card(probe: ProbeResult) -> tuple[float, str] | None:
    """The first metric of the first split, of JEPA under the first head, and in words what it is and what others reach."""
    split, table = next(iter(probe.tables.items()))
    jepa = [row for row in table if row.startswith("JEPA")]
    if not jepa:
        return None
    row = min(jepa, key=lambda title: title.count(","))  # trained on all labels: fewer add their share to the title
    metric, column = next(iter(probe.columns.items()))
    others = {name: metric_of(table[other], metric) for name, other in rivals(row, table).items()}
    words = [f"{probe.title}, {split}: {column}, {row}", *(f"{name} {in_digits(m)}" for name, (m, _) in others.items())]
    return metric_of(table[row], metric)[0], "; ".join(words)


def _task(probe: ProbeResult) -> str:
    question = f"<p>{escape(TASKS[probe.task][1])}</p>" if probe.task in TASKS else ""
    splits = "".join(_split(probe, split) for split in probe.tables)
    record = json.dumps({k: v for k, v in probe.record.items() if k != "config"}, indent=2, ensure_ascii=False)
    return (
        f'<h3>{escape(probe.title)}</h3>{question}{splits}<p class="soft">{escape(probe.convention)}</p>'
        + folded("record", record)
        + folded("probe config", str(probe.record.get("config", "")))
    )


def _split(probe: ProbeResult, split: str) -> str:
    table = probe.tables[split]
    said = "".join(f"<li>{escape(words)}</li>" for words in verdicts(probe.columns, table))
    if split in probe.pictures:
        image = image_tag(probe.pictures[split].read_bytes(), "truth, answers, errors and uncertainty")
        picture = (
            f'<div class="wide paper window">{image}</div><p class="soft">The middle clip of this split: what the cameras see now, '
            "the truth, and for every row of the table its answer, its errors and, where a head gives one, its uncertainty.</p>"
        )
    else:
        picture = missing(f"No {split}.png beside the record")
    return (
        f"<h4>{escape(split.replace('_', ' '))}</h4>{_scenes(probe.splits.get(split, {}))}{_table(probe.columns, table)}"
        + (f"<ul>{said}</ul>" if said else "")
        + picture
    )


def _scenes(split: Mapping[str, Any]) -> str:
    """What the heads were trained and tested on, and how much of the test set they had passed in training."""
    words = []
    for kind in ("train", "test"):
        scenes = split.get(f"{kind}_scenes")
        if scenes is not None:
            named = f": {', '.join(scenes)}" if 0 < len(scenes) <= NAMED_SCENES else ""
            words.append(f"{kind} scenes, {len(scenes)}{named}")
    overlap = split.get("overlap_share_5m")
    if overlap is None:
        return f'<p class="soft">{escape("; ".join(words))}</p>' + missing("The overlap with training is not recorded")
    words.append(f"{overlap:.1%} of the test frames within {OVERLAP_RADIUS_M:g} m of a training frame")
    text = f'<p class="soft">{escape("; ".join(words))}</p>'
    if overlap > MOST_OVERLAP:
        text += (
            f'<p class="missing">Warning: the overlap is above {MOST_OVERLAP:.0%}, so these scores measure memory of the '
            "place as well.</p>"
        )
    return text


def _table(columns: Mapping[str, str], table: Table) -> str:
    """JEPA rows tinted, the best of each column bold."""
    best = {metric: _best(table, metric, lower_is_better(column)) for metric, column in columns.items()}
    head = "".join(f"<th>{escape(column)}</th>" for column in columns.values())
    body = ""
    for row, values in table.items():
        cells = ""
        for metric in columns:
            mean, spread = metric_of(values, metric)
            mark = ' class="best"' if mean == best[metric] else ""
            several = f" ± {in_digits(spread)}" if len(values.get(metric, ())) > 1 and math.isfinite(mean) else ""
            cells += f"<td{mark}>{in_digits(mean)}{several}</td>"
        body += f"<tr{' class=ours' if row.startswith('JEPA') else ''}><td>{escape(row)}</td>{cells}</tr>"
    return f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _best(table: Table, metric: str, lower: bool) -> float | None:
    means = [metric_of(values, metric)[0] for values in table.values()]
    means = [mean for mean in means if math.isfinite(mean)]
    return (min if lower else max)(means, default=None)
