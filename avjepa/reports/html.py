"""One self-contained HTML page of a training run: pictures are inside it, nothing is loaded from elsewhere, no scripts.
Review pages of map changes beside the run are linked.

Everything that comes from a file is escaped: a run directory may come from someone else. What it does not hold is said to be
missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
from matplotlib.figure import Figure

from avjepa.conventions import CAMERAS
from avjepa.reports.dataset_statistics import GRID, show_returns
from avjepa.reports.html_map_changes import MapChangeResult, map_change_section
from avjepa.reports.html_parts import (
    document,
    folded,
    image_tag,
    in_digits,
    in_time,
    line_chart,
    missing,
    or_missing,
    png_bytes,
    spectrum_chart,
)
from avjepa.reports.html_probes import ProbeResult, probe_card, probe_section
from avjepa.sensors.sample import Frame

JPEG_QUALITY = 88
REGULARISERS = ("loss_variance", "loss_covariance")


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


def setting(settings: Mapping[str, Any], dotted: str) -> Any:
    """A nested setting such as "monitor.dataset.scenes", None where there is none."""
    node: Any = settings
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def page(
    run: Run,
    probes: Sequence[ProbeResult],
    frame: Frame | None,
    why_no_frame: str,
    commands: Sequence[str],
    map_changes: Sequence[MapChangeResult] = (),
) -> str:
    """The whole page.

    Args:
        run: the run.
        probes: its probes, in the order to show.
        frame: a held-out keyframe to show, or None, and then ``why_no_frame``.
        commands: what to type next.
        map_changes: reports of map changes beside the run; most runs have none, and then nothing is said of them.
    """
    title = f"{run.config_name or 'avjepa run'}: {run.folder.name}"
    sections = {
        "": _header(run) + _cards(run, probes),
        "One held-out moment": _moment(frame, why_no_frame),
        "What the frozen embedding knows": probe_section(probes),
        **({"Where the prior maps are out of date": map_change_section(map_changes)} if map_changes else {}),
        "How it trained": _training(run),
        "Where the time went": _stages(run.stages),
        "Next": f"<pre>{escape(chr(10).join(commands))}</pre>",
        "The training config": _config(run),
    }
    body = "\n".join((f"<h2>{escape(name)}</h2>\n" if name else "") + text for name, text in sections.items())
    return document("avjepa training report", title, body)


def _header(run: Run) -> str:
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
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{or_missing(value)}</dd>" for name, value in facts.items())
    return (
        "<p>A bird's-eye-view world model learned from unlabelled drives: six cameras and a LiDAR become one map of embeddings, "
        f"and a predictor is trained to fill in hidden and future parts of it.</p><dl>{rows}</dl>"
    )


def _cards(run: Run, probes: Sequence[ProbeResult]) -> str:
    cards = []
    if run.monitors:
        last = run.monitors[-1]
        cards += [
            (
                last.get("ratio_occupied"),
                "prediction error / error of copying the present, occupied cells; below 1 is learning",
            ),
            (last.get("wrong_motion"), "error without the ego-motion / with it; above 1, the motion is used"),
            (
                last.get("shuffled_motion"),
                "error with another clip's ego-motion / with its own; above 1, the motion is used",
            ),
            (last.get("std"), "std of the embedding; near 0 is collapse"),
        ]
    cards += [card for probe in probes if (card := probe_card(probe))]
    return '<div class="cards">' + "".join(
        f'<div class="card"><b>{in_digits(value)}</b><span class="soft">{escape(text)}</span></div>'
        for value, text in cards
    ) + "</div>"  # fmt: skip


def _moment(frame: Frame | None, why_not: str) -> str:
    if frame is None:
        return missing(f"No pictures of the data: {why_not}")
    strip = ""
    for name, image, present in zip(CAMERAS, frame.images, frame.camera_present, strict=False):
        _, jpeg = cv2.imencode(
            ".jpg", image.movedim(0, -1).numpy()[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
        )
        caption = name.removeprefix("CAM_").replace("_", " ").lower()
        picture = image_tag(jpeg.tobytes(), f"camera {caption}") if present else missing("absent")
        strip += f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"
    figure = Figure(figsize=(5, 5))
    show_returns(figure.add_axes((0, 0, 1, 1)), frame, GRID)
    half_m = GRID.x_range_m[1]
    seen = (
        image_tag(png_bytes(figure), "LiDAR returns from above")
        if frame.lidar_present
        else missing("No LiDAR at this moment")
    )
    return (
        f'<p class="soft">{escape(frame.scene)}, keyframe {escape(frame.token[:8])}, of the held-out scenes</p>'
        f'<div class="moment"><div class="cameras">{strip}</div><figure>{seen}<figcaption>LiDAR returns from above, '
        f"{half_m:g} m to each side; forward is up, warm colours are high</figcaption></figure></div>"
    )


def _training(run: Run) -> str:
    terms = [name for name in (run.losses[-1] if run.losses else {}) if name.startswith("loss_")]
    losses = [row for row in run.losses if not row.get("skipped")]
    left_out = len(run.losses) - len(losses)
    charts = [
        line_chart("loss", losses, ["loss"]),
        line_chart("prediction and grounding terms", losses, [name for name in terms if name not in REGULARISERS]),
        line_chart("regularisers, unweighted", losses, [name for name in terms if name in REGULARISERS]),
        line_chart(
            "held-out error / copying the present", run.monitors, ["ratio_occupied", "ratio_all", "ratio_changed"], 1.0
        ),
        line_chart("held-out std of the embedding", run.monitors, ["std", "std_min"]),
        line_chart("held-out effective rank (RankMe)", run.monitors, ["rankme", "rankme_moving"]),
        line_chart(
            "held-out error with a wrong ego-motion / the true one",
            run.monitors,
            ["wrong_motion", "shuffled_motion"],
            1.0,
        ),
        line_chart("held-out cosine with the teacher", run.monitors, ["teacher_cosine"]),
        spectrum_chart("share of the variance by principal direction", run.monitors, "spectrum"),
        spectrum_chart("slowness: change per step by direction, 2 is noise", run.monitors, "slowness"),
        line_chart(
            "held-out slowness; changed: where things change / where not",
            run.monitors,
            ["slowness_min", "slowness_median", "slowness_changed"],
        ),
    ]
    text = (
        f'<div class="charts">{"".join(charts)}</div><p class="soft">The target is learned too, so the loss may rise while the '
        "model improves; look at the held-out curves.</p>"
    )
    text += f"<p>Skipped for their loss, and not drawn: {left_out} steps.</p>" if left_out else ""
    text += "" if run.monitors else missing("No monitors.jsonl: nothing was measured on held-out clips")
    if run.picture is None:
        return text + missing("No picture in pictures/: the run has not come to its first one")
    picture = image_tag(run.picture.read_bytes(), "context, mask, target, prediction and error")
    return text + (
        f'<figure class="tall paper">{picture}</figure><p class="soft">{escape(run.picture.name)}: one training clip. Embeddings '
        "as colours; same colours, same projection in target and prediction.</p>"
    )


def _stages(stages: Mapping[str, float] | None) -> str:
    if not stages:
        return missing("No stages.json: the stages were not timed")
    longest = max(max(stages.values()), 1e-9)
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td>{in_time(seconds)}</td><td class="track">'
        f'<div class="bar" style="width:{100 * seconds / longest:.1f}%"></div></td></tr>'
        for name, seconds in stages.items()
    )
    return f"<table><tbody>{rows}<tr><td>together</td><td>{in_time(sum(stages.values()))}</td><td></td></tr></tbody></table>"


def _config(run: Run) -> str:
    return folded(run.config_name or "", run.config_text) if run.config_text else missing("No training config")
