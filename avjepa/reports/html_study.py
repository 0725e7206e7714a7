"""A study as pages: Markdown, and one self-contained HTML page. Both show the same tables; the second has the plots in it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from matplotlib.figure import Figure

from avjepa.reports.html_parts import document, folded, image_tag, missing, png_bytes
from avjepa.reports.study_tables import (
    BEST_ANSWER,
    NONE,
    StudyResult,
    TextTable,
    main_table,
    plotted_columns,
    runs_table,
    share_table,
)
from avjepa.reports.study_verdicts import verdict_table

INTRODUCTION = (
    "Every objective trains the same encoder on the same drives; small heads then read answers off the frozen embedding. "
    "Mean ± standard deviation over seeds; larger is better, except where a title ends in ↓; - is not there."
)
PLOTS = {
    "objectives": "The first metric of every task: a dot a seed, mean and spread; dashed, the best answer without training.",
    "label_share": "The same by the share of the labels that heads saw.",
    "cost": "The same against what pretraining cost, in CPU minutes of all its processes.",
}


def sections_of(result: StudyResult) -> dict[str, list[TextTable]]:
    """The tables by heading, in the order of the page."""
    splits = result.splits
    sections = {
        "Results": [main_table(result, split) for split in splits],
        "Gains and losses of the reference": [verdict_table(result, split) for split in splits],
    }
    if len(result.label_shares) > 1:
        sections["With fewer labels"] = [
            share_table(result, c) for split in splits for c in plotted_columns(result, split)
        ]
    sections["Pretraining"] = [runs_table(result)]
    return sections


def study_markdown(result: StudyResult, origin: Mapping[str, Any]) -> str:
    """The page of tables."""
    lines = [
        "# Study",
        "",
        INTRODUCTION,
        "",
        f"    {origin['command']}",
        "",
        f"Commit {origin['commit'] or 'not known'}.",
        "",
    ]
    for heading, tables in sections_of(result).items():
        lines += [f"## {heading}", ""]
        for table in tables:
            lines += [f"**{table.title}**", "", table.markdown(), ""]
            lines += [table.note, ""] if table.note else []
    return "\n".join(lines)


def study_page(result: StudyResult, origin: Mapping[str, Any], config: str, figures: Mapping[str, Figure]) -> str:
    """The page with everything in it."""
    facts = {"command": origin["command"], "commit": origin["commit"] or "not known", "seeds": result.seeds}
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    plots = "".join(
        f'<div class="wide paper window">{image_tag(png_bytes(figures[name]), words)}</div><p class="soft">{escape(words)}</p>'
        for name, words in PLOTS.items()
        if name in figures
    )
    body = [f"<p>{escape(INTRODUCTION)}</p><dl>{rows}</dl>", plots or missing("No plots: nothing was probed yet")]
    for heading, tables in sections_of(result).items():
        body.append(
            f"<h2>{escape(heading)}</h2>" + "".join(_table(table, result.title(result.reference)) for table in tables)
        )
    body += ["<h2>The study config</h2>", folded("config", config)]
    return document("avjepa study", "Pretraining objectives, compared", "\n".join(body))


def _table(table: TextTable, reference: str) -> str:
    """The reference tinted."""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = "".join(
        f"<tr{' class=ours' if name == reference else ''}><td>{escape(name)}</td>"
        + "".join(
            f"<td{' class=soft' if cell == NONE or name == BEST_ANSWER else ''}>{escape(cell)}</td>" for cell in cells
        )
        + "</tr>"
        for name, cells in table.rows.items()
    )
    note = f'<p class="soft">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h4>{escape(table.title)}</h4><div class="wide"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{note}"
    )
