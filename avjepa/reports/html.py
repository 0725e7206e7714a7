"""One self-contained HTML page of a training run: pictures are inside it, nothing is loaded from elsewhere, no scripts.

Everything that comes from a file is escaped: a run directory may come from someone else. What it does not hold is said to be
missing.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from avjepa.conventions import CAMERAS
from avjepa.reports.dataset_statistics import GRID, show_returns
from avjepa.reports.tables import gain_verdict, mean_and_spread
from avjepa.sensors.sample import Frame

JPEG_QUALITY = 88
REGULARISERS = ("loss_variance", "loss_covariance")
METRICS = {
    "iou_known": "IoU, all",
    "iou_hidden": "IoU, hidden now",
    "iou_never_seen": "IoU, never seen",
    "auroc_known": "AUROC, all",
    "auroc_hidden": "AUROC, hidden now",
    "auroc_never_seen": "AUROC, never seen",
}
LIGHT = {"text": "#333333", "grid": "#bbbbbb"}
DARK = {"text": "#d0d0d4", "grid": "#55555c"}
STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --text: #1d1d22; --soft: #5f6068; --line: #e2e2e0; --mark: #c8540f;
  --fine: #eef5ee }
@media (prefers-color-scheme: dark) { :root { --page: #17171a; --card: #202024; --text: #e8e8ea; --soft: #a3a4ad;
  --line: #35353b; --mark: #f39a5a; --fine: #22301f } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .2rem 0 .4rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .5rem; padding-top: .8rem; border-top: 1px solid var(--line) }
p { margin: .4rem 0; max-width: 46rem } .soft, figcaption { color: var(--soft); font-size: .88rem }
code, pre { font: .86rem/1.5 ui-monospace, Menlo, Consolas, monospace }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem 1rem; margin: .6rem 0 }
img { display: block; width: 100%; height: auto; border-radius: 6px } figure { margin: 0 }
.cards, .cameras, .charts { display: grid; gap: .7rem; margin: 1rem 0 }
.cards { grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)) }
.cameras { grid-template-columns: repeat(3, 1fr); gap: .4rem }
.charts { grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem }
.card b { display: block; font-size: 1.45rem; line-height: 1.3; font-variant-numeric: tabular-nums }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .8rem 0; font-size: .93rem }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
.wide { overflow-x: auto; margin: .8rem 0 } .wide > img { min-width: 66rem } .tall { max-width: 40rem }
.moment { display: grid; grid-template-columns: minmax(0, 9fr) minmax(0, 4fr); gap: .8rem; align-items: center }
.paper { background: #fff; padding: .5rem; border-radius: 8px; border: 1px solid var(--line) }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line); text-align: right; font-weight: 400 }
th:first-child, td:first-child { text-align: left } thead th { color: var(--soft) } tr.ours { background: var(--fine) }
td.best { font-weight: 700 } .missing { color: var(--mark) } summary { cursor: pointer; color: var(--soft); margin: .4rem 0 }
.bar { background: var(--mark); height: .55rem; border-radius: 3px; min-width: 2px } td.track { width: 100%; min-width: 8rem }
@media (max-width: 48rem) { .moment { grid-template-columns: 1fr } }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: .4rem } .cameras { gap: .2rem } }
"""


@dataclass(frozen=True)
class Run:
    """What a run directory of tools/train.py holds; None or empty for what it has not.

    Attributes:
        folder: the directory.
        config_name, config_text: its config.
        settings: the plain values in the config, by name.
        losses, monitors: rows of loss_curve.jsonl and monitors.jsonl.
        picture: newest file of pictures/.
        stages: seconds by stage, from stages.json.
        command, commit: that started it last, from run.json.
        start, end, machine: from its logs: "2026/11/21 07:19:31", and what it ran on.
    """

    folder: Path
    config_name: str | None
    config_text: str
    settings: dict[str, Any]
    losses: list[dict]
    monitors: list[dict]
    picture: Path | None
    stages: dict[str, float] | None
    command: str | None
    commit: str | None
    start: str | None
    end: str | None
    machine: str | None

    @property
    def planned(self) -> int | None:
        """Iterations that the config asks for."""
        iterations = setting(self.settings, "train_cfg.max_iters")
        return iterations if isinstance(iterations, int) else None


@dataclass(frozen=True)
class Probe:
    """Record and picture of tools/probe.py; the picture may be missing."""

    record: dict[str, Any]
    picture: Path | None


def setting(settings: Mapping[str, Any], dotted: str) -> Any:
    """A nested setting such as "monitor.dataset.scenes", None where there is none."""
    node: Any = settings
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def page(run: Run, probe: Probe | None, frame: Frame | None, why_no_frame: str, commands: Sequence[str]) -> str:
    """The whole page.

    Args:
        run: the run.
        probe: its probe, or None.
        frame: a held-out keyframe to show, or None, and then ``why_no_frame``.
        commands: what to type next.
    """
    title = f"{run.config_name or 'avjepa run'}: {run.folder.name}"
    sections = {
        "": _header(run, probe) + _cards(run, probe),
        "One held-out moment": _moment(frame, why_no_frame),
        "What the frozen embedding knows": _probe(probe),
        "How it trained": _training(run),
        "Where the time went": _stages(run.stages),
        "Next": f"<pre>{escape(chr(10).join(commands))}</pre>",
        "The record": _record(run, probe),
    }
    body = "\n".join((f"<h2>{escape(name)}</h2>\n" if name else "") + text for name, text in sections.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><main>
<p class="soft">avjepa training report</p>
<h1>{escape(title)}</h1>
{body}
</main></body></html>
"""


def _header(run: Run, probe: Probe | None) -> str:
    scenes = {name: setting(run.settings, f"{name}.dataset.scenes") for name in ("train_data", "monitor")}
    facts = {
        "run directory": str(run.folder),
        "command": run.command,
        "commit": run.commit,
        "iterations": f"{len(run.losses)} of {run.planned}" if run.planned else f"{len(run.losses)}",
        "trained": f"{run.start} to {run.end}" if run.start else None,
        "on": run.machine,
        "seed": setting(run.settings, "randomness.seed"),
        "scenes to train on": scenes["train_data"],
        "held-out scenes": scenes["monitor"],
    }
    if probe:
        facts |= {f"probe's {name}": probe.record.get(name) for name in ("command", "commit")}
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{_or_missing(value)}</dd>" for name, value in facts.items())
    return (
        "<p>A bird's-eye-view world model learned from unlabelled drives: six cameras and a LiDAR become one map of embeddings, "
        f"and a predictor is trained to fill in hidden and future parts of it.</p><dl>{rows}</dl>"
    )


def _cards(run: Run, probe: Probe | None) -> str:
    cards = []
    if run.monitors:
        last = run.monitors[-1]
        cards += [
            (
                last.get("ratio_occupied"),
                "prediction error / error of copying the present, occupied cells; below 1 is learning",
            ),
            (last.get("wrong_motion"), "error without the ego-motion / with it; above 1, the motion is used"),
            (last.get("std"), "std of the embedding; near 0 is collapse"),
        ]
    results = probe.record["results"] if probe else {}
    for row, metrics in results.items():
        if row.startswith("JEPA") and metrics.get("iou_hidden"):
            others = "".join(f"; {name} {mean_and_spread(v)[0]:.3f}" for name, v in _baselines(row, results).items())
            cards.append((mean_and_spread(metrics["iou_hidden"])[0], f"IoU of cells hidden now: {row}{others}"))
    return '<div class="cards">' + "".join(
        f'<div class="card"><b>{_number(value)}</b><span class="soft">{escape(text)}</span></div>'
        for value, text in cards
    ) + "</div>"  # fmt: skip


def _moment(frame: Frame | None, why_not: str) -> str:
    if frame is None:
        return _missing(f"No pictures of the data: {why_not}")
    strip = ""
    for name, image, present in zip(CAMERAS, frame.images, frame.camera_present, strict=False):
        _, jpeg = cv2.imencode(
            ".jpg", image.movedim(0, -1).numpy()[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
        )
        caption = name.removeprefix("CAM_").replace("_", " ").lower()
        picture = _img(jpeg.tobytes(), f"camera {caption}") if present else _missing("absent")
        strip += f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"
    figure = Figure(figsize=(5, 5))
    show_returns(figure.add_axes((0, 0, 1, 1)), frame, GRID)
    half_m = GRID.x_range_m[1]
    seen = (
        _img(_png(figure), "LiDAR returns from above") if frame.lidar_present else _missing("No LiDAR at this moment")
    )
    return (
        f'<p class="soft">{escape(frame.scene)}, keyframe {escape(frame.token[:8])}, of the held-out scenes</p>'
        f'<div class="moment"><div class="cameras">{strip}</div><figure>{seen}<figcaption>LiDAR returns from above, '
        f"{half_m:g} m to each side; forward is up, warm colours are high</figcaption></figure></div>"
    )


def _probe(probe: Probe | None) -> str:
    if probe is None:
        return _missing("No probe results: run tools/probe.py, then this report again")
    record, results = probe.record, probe.record["results"]
    split = record.get("split") or {}
    scenes = ", ".join(
        f"{name.replace('_', ' ')}: {_words(split[name])}" for name in ("train_scenes", "test_scenes") if name in split
    )
    text = (
        "<p>A small head reads occupancy off the frozen embedding. The same head on raw input and on an untrained encoder "
        f'shows what training added.</p><p class="soft">{escape(scenes)}<br>{escape(str(record.get("convention", "")))}</p>'
    )
    text += _results_table(results)
    verdicts = []
    for row, metrics in results.items():
        others = _baselines(row, results)
        if row.startswith("JEPA") and others and metrics.get("iou_hidden"):
            words = [f"{gain_verdict(metrics['iou_hidden'], values)} against {name}" for name, values in others.items()]
            verdicts.append(f"<li>{escape(row)}, IoU of cells hidden now: {escape(', '.join(words))}</li>")
    text += f"<ul>{''.join(verdicts)}</ul>" if verdicts else ""
    if probe.picture is None:
        return text + _missing("No occupancy.png beside the record")
    return (
        f'{text}<div class="wide paper">{_img(probe.picture.read_bytes(), "truth, probability and errors of every row")}</div>'
        '<p class="soft">Green: found; red: missed; yellow: invented; full colour where the cell is hidden now.</p>'
    )


def _baselines(row: str, results: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Sequence[float]]:
    """IoU of hidden cells over seeds, of the rows with the same head as ``row`` that pretraining did not touch."""
    rows = {name: results.get(f"{name}, {row.partition(', ')[2]}", {}) for name in ("random init", "raw input")}
    return {name: values["iou_hidden"] for name, values in rows.items() if values.get("iou_hidden")}


def _results_table(results: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Mean ± spread over seeds, JEPA rows tinted, the best of each column bold."""
    metrics = list(dict.fromkeys(metric for values in results.values() for metric in values))
    metrics.sort(key=lambda name: list(METRICS).index(name) if name in METRICS else len(METRICS))
    means = {m: [mean_and_spread(v[m])[0] for v in results.values() if v.get(m)] for m in metrics}
    head = "".join(f"<th>{escape(METRICS.get(metric, metric))}</th>" for metric in metrics)
    rows = ""
    for row, values in results.items():
        cells = ""
        for metric in metrics:
            if not values.get(metric):
                cells += "<td>-</td>"
                continue
            mean, spread = mean_and_spread(values[metric])
            best = ' class="best"' if mean == max(means[metric]) else ""
            cells += f"<td{best}>{mean:.3f}" + (f" ± {spread:.3f}" if len(values[metric]) > 1 else "") + "</td>"
        rows += f"<tr{' class=ours' if row.startswith('JEPA') else ''}><td>{escape(row)}</td>{cells}</tr>"
    return f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _training(run: Run) -> str:
    terms = [name for name in (run.losses[-1] if run.losses else {}) if name.startswith("loss_")]
    charts = [
        _chart("loss", run.losses, ["loss"]),
        _chart("prediction and grounding terms", run.losses, [name for name in terms if name not in REGULARISERS]),
        _chart("regularisers, unweighted", run.losses, [name for name in terms if name in REGULARISERS]),
        _chart(
            "held-out error / copying the present", run.monitors, ["ratio_occupied", "ratio_all", "ratio_changed"], 1.0
        ),
        _chart("held-out std of the embedding", run.monitors, ["std", "std_min"]),
        _chart("held-out effective rank (RankMe)", run.monitors, ["rankme"]),
    ]
    text = (
        f'<div class="charts">{"".join(charts)}</div><p class="soft">The target is learned too, so the loss may rise while the '
        "model improves; look at the held-out curves.</p>"
    )
    text += "" if run.monitors else _missing("No monitors.jsonl: nothing was measured on held-out clips")
    if run.picture is None:
        return text + _missing("No picture in pictures/: the run has not come to its first one")
    picture = _img(run.picture.read_bytes(), "context, mask, target, prediction and error")
    return text + (
        f'<figure class="tall paper">{picture}</figure><p class="soft">{escape(run.picture.name)}: one training clip. Embeddings '
        "as colours; same colours, same projection in target and prediction.</p>"
    )


def _stages(stages: Mapping[str, float] | None) -> str:
    if not stages:
        return _missing("No stages.json: the stages were not timed")
    longest = max(max(stages.values()), 1e-9)
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td>{_duration(seconds)}</td><td class="track">'
        f'<div class="bar" style="width:{100 * seconds / longest:.1f}%"></div></td></tr>'
        for name, seconds in stages.items()
    )
    return f"<table><tbody>{rows}<tr><td>together</td><td>{_duration(sum(stages.values()))}</td><td></td></tr></tbody></table>"


def _record(run: Run, probe: Probe | None) -> str:
    parts = {f"training config, {run.config_name}": run.config_text}
    if probe:
        parts["probe record"] = json.dumps({k: v for k, v in probe.record.items() if k != "config"}, indent=2)
        parts["probe config"] = str(probe.record.get("config", ""))
    return "".join(
        f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"
        if text
        else _missing(f"No {name}")
        for name, text in parts.items()
    )


def _chart(title: str, rows: Sequence[Mapping[str, float]], names: Sequence[str], level: float | None = None) -> str:
    """A line chart of columns of ``rows`` over "iteration", drawn for a light and for a dark page; "" without anything to draw."""
    curves = {name: [(r["iteration"], r[name]) for r in rows if name in r] for name in names}
    curves = {name: np.array(points, dtype=float) for name, points in curves.items() if points}
    if not curves:
        return ""
    images = []
    for colours in (LIGHT, DARK):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        axis = figure.add_subplot(facecolor="none")
        for number, (name, points) in enumerate(curves.items()):
            colour = matplotlib.colormaps["tab10"](number)
            window = max(1, len(points) // 25)
            axis.plot(*points.T, color=colour, alpha=0.25 if window > 1 else 1.0, lw=1.2)
            if window > 1:
                smooth = np.convolve(points[:, 1], np.full(window, 1 / window), mode="valid")
                axis.plot(points[window - 1 :, 0], smooth, color=colour, lw=1.6)
            axis.plot([], [], color=colour, label=name.removeprefix("loss_").removeprefix("ratio_"))
        if level is not None:
            axis.axhline(level, color=colours["text"], lw=0.8, ls="--")
        axis.set_title(title, fontsize=10, color=colours["text"])
        axis.set_xlabel("iteration", fontsize=8, color=colours["text"])
        axis.tick_params(labelsize=8, colors=colours["text"])
        axis.grid(color=colours["grid"], alpha=0.5, lw=0.5)
        for spine in axis.spines.values():
            spine.set_color(colours["grid"])
        if len(curves) > 1:
            axis.legend(fontsize=8, frameon=False, labelcolor=colours["text"])
        images.append(_png(figure, transparent=True))
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{_data_url(images[1])}">'
    return f"<figure><picture>{dark}{_img(images[0], title)}</picture></figure>"


def _png(figure: Figure, transparent: bool = False) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=170, transparent=transparent)
    return buffer.getvalue()


def _img(content: bytes, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="{_data_url(content)}">'


def _data_url(content: bytes) -> str:
    kind = "jpeg" if content[:2] == b"\xff\xd8" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _missing(text: str) -> str:
    return f'<p class="missing">{escape(text)}.</p>'


def _or_missing(value: Any) -> str:
    return '<span class="missing">not recorded</span>' if value is None else escape(_words(value))


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
