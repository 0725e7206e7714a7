"""Parts of an HTML page: style, pictures inside it, line charts, values in words. What returns HTML escapes what it is given."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
h3 { font-size: 1.08rem; margin: 2.2rem 0 .3rem } h4 { font-size: .95rem; margin: 1.4rem 0 .2rem }
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
.window { width: min(97vw, 130rem); margin-left: calc(50% - min(48.5vw, 65rem)) }
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


def document(kind: str, title: str, body: str) -> str:
    """A whole page around its ``body``, which is HTML; the other two are text. Nothing is loaded from elsewhere, no scripts."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><main>
<p class="soft">{escape(kind)}</p>
<h1>{escape(title)}</h1>
{body}
</main></body></html>
"""


def line_chart(title: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str], level: float | None = None) -> str:
    """A line chart of columns of ``rows`` over "iteration", drawn for a light and for a dark page; "" without anything to draw.
    What is not a number in a column is left out.
    """
    curves = {name: [(r["iteration"], r[name]) for r in rows if isinstance(r.get(name), int | float)] for name in names}
    curves = {name: np.array(points, dtype=float) for name, points in curves.items() if points}

    def draw(axis: Axes) -> None:
        for number, (name, points) in enumerate(curves.items()):
            colour = matplotlib.colormaps["tab10"](number)
            window = max(1, len(points) // 25)
            axis.plot(*points.T, color=colour, alpha=0.25 if window > 1 else 1.0, lw=1.2)
            if window > 1:
                smooth = np.convolve(points[:, 1], np.full(window, 1 / window), mode="valid")
                axis.plot(points[window - 1 :, 0], smooth, color=colour, lw=1.6)
            axis.plot([], [], color=colour, label=name.removeprefix("loss_").removeprefix("ratio_"))
        if level is not None:
            axis.axhline(level, color=axis.title.get_color(), lw=0.8, ls="--")

    return _chart(title, "iteration", draw, legend=len(curves) > 1) if curves else ""


def spectrum_chart(title: str, rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """The first and the last list of numbers in a column of ``rows``, over their places; "" where there is none."""
    spectra = [(row["iteration"], row[name]) for row in rows if isinstance(row.get(name), list) and row[name]]
    shown = spectra[:1] + spectra[1:][-1:]

    def draw(axis: Axes) -> None:
        for number, (iteration, values) in enumerate(shown):
            colour = matplotlib.colormaps["tab10"](number)
            axis.plot(range(1, len(values) + 1), values, color=colour, lw=1.4, label=f"iteration {iteration}")
        axis.set_ylim(bottom=0)

    return _chart(title, "direction", draw, legend=True) if shown else ""


def _chart(title: str, x_label: str, draw: Callable[[Axes], None], legend: bool) -> str:
    """A figure that ``draw`` fills, for a light and for a dark page."""
    images = []
    for colours in (LIGHT, DARK):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        axis = figure.add_subplot(facecolor="none")
        axis.set_title(title, fontsize=10, color=colours["text"])
        axis.set_xlabel(x_label, fontsize=8, color=colours["text"])
        axis.tick_params(labelsize=8, colors=colours["text"])
        axis.grid(color=colours["grid"], alpha=0.5, lw=0.5)
        for spine in axis.spines.values():
            spine.set_color(colours["grid"])
        draw(axis)
        if legend:
            axis.legend(fontsize=8, frameon=False, labelcolor=colours["text"])
        images.append(png_bytes(figure, transparent=True))
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{data_url(images[1])}">'
    return f"<figure><picture>{dark}{image_tag(images[0], title)}</picture></figure>"


def png_bytes(figure: Figure, transparent: bool = False) -> bytes:
    """A figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=170, transparent=transparent)
    return buffer.getvalue()


def image_tag(content: bytes, alt: str) -> str:
    """A picture, the content of a PNG or JPEG file, inside the page."""
    return f'<img alt="{escape(alt)}" src="{data_url(content)}">'


def data_url(content: bytes) -> str:
    """The same as an address."""
    kind = "jpeg" if content[:2] == b"\xff\xd8" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def missing(text: str) -> str:
    """A marked sentence; its full stop is added."""
    return f'<p class="missing">{escape(text)}.</p>'


def or_missing(value: Any) -> str:
    """A value, or a mark that there is none."""
    return '<span class="missing">not recorded</span>' if value is None else escape(in_words(value))


def folded(summary: str, text: str) -> str:
    """Long text behind a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def in_words(value: Any) -> str:
    """Plain text of a setting, not escaped."""
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def in_digits(value: Any) -> str:
    """Three decimals, or "-" for what is not a finite number."""
    return f"{value:.3f}" if isinstance(value, int | float) and math.isfinite(value) else "-"


def in_time(seconds: float) -> str:
    """Seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
