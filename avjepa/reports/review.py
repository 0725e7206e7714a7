"""``review.html``: one self-contained page on which a person accepts or rejects every change of a report.

The page needs no network and no server. Its data are JSON inside it, escaped so that no text of a map, a drive or a note can end
the script element; the page's own script puts them in as text only. A Content-Security-Policy names the hashes of its one style
and one script and forbids everything else, requests included.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from avjepa.files import replacing
from avjepa.mapping import decisions
from avjepa.mapping.changes import STATUSES, ChangeReport, MapChange
from avjepa.mapping.outputs.fields import change_fields, utc_text
from avjepa.mapping.vector_map import ElementMap
from avjepa.reports.html_parts import data_url

PAGE = resources.files("avjepa.reports") / "review_page"
CONTEXT_M = 80.0  # of the map around every change
DETAIL_M = 0.03  # outlines are simplified by so much
DIGITS = 2  # of coordinates on the page: centimetres
# Drawn in this order, areas below lines.
CONTEXT_LAYERS = (
    *("walkway", "drivable_area", "lane", "lane_connector", "carpark_area", "ped_crossing", "stop_line"),
    *("road_edge", "lane_divider", "road_divider", "traffic_light"),
)
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


@dataclass(frozen=True)
class Picture:
    """A picture of a change: a camera crop, or BEV evidence.

    Attributes:
        content: of a PNG or JPEG file.
        caption: one line.

    Raises:
        ValueError: neither PNG nor JPEG.
    """

    content: bytes
    caption: str

    def __post_init__(self) -> None:
        if not self.content.startswith(SIGNATURES):
            raise ValueError(f"{self.caption}: want the content of a PNG or JPEG file")


def write_review(
    path: Path,
    report: ChangeReport,
    prior: ElementMap,
    pictures: Mapping[str, Sequence[Picture]],
    driven_xy_m: Mapping[str, np.ndarray],
) -> None:
    """Write the page.

    Args:
        path: the file.
        report: what to review; reviews that it holds already are shown. The browser keeps what was decided on an earlier page
            of this run, change by change; where the report's review is newer, that counts.
        prior: the map that was checked, of which the surroundings of every change are drawn.
        pictures: change id -> its pictures, in the order to show; changes without any may be missing.
        driven_xy_m: scene -> (n, 2) ego positions in metres of the map.

    Raises:
        ValueError: the prior lies in another frame than the report.
    """
    if prior.frame != report.frame:
        raise ValueError(f"a prior of {prior.frame.name} for a report on {report.frame.name}")
    data = _page_data(report, prior, pictures, driven_xy_m)
    style, script = ((PAGE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    parts = {
        "POLICY": (
            f"default-src 'none'; img-src data:; style-src '{_hash_source(style)}'; script-src '{_hash_source(script)}'; "
            "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
        ),
        "TITLE": escape(f"Map changes, {report.frame.name}"),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": script_safe_json(data),
    }
    template = (PAGE / "page.html").read_text(encoding="utf-8")
    # In one pass: what is put in is not searched again.
    page = re.sub(r"@@(\w+)@@", lambda match: parts[match[1]], template)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def script_safe_json(data: Any) -> str:
    """JSON in ASCII that no HTML parser takes for anything but text: it holds none of < > & and no line separators."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _page_data(
    report: ChangeReport,
    prior: ElementMap,
    pictures: Mapping[str, Sequence[Picture]],
    driven_xy_m: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    shapes = [
        shape for change in report.changes for shape in (change.old_geometry, change.new_geometry) if shape is not None
    ]
    # Coordinates on the page count from here: they stay short, and browsers draw with single precision.
    origin_m = np.floor(shapely.total_bounds(shapes)[:2]) if shapes else np.zeros(2)
    around = shapely.union_all([shapely.box(*shape.bounds).buffer(CONTEXT_M, join_style="mitre") for shape in shapes])
    ways = [LineString(xy_m).intersection(around) for xy_m in driven_xy_m.values() if len(xy_m) >= 2]
    return {
        "run_id": report.run_id,
        "city": report.frame.name + (" (a fictitious place)" if report.frame.fictitious else ""),
        "prior_map": report.prior_map,
        "scenes": list(report.scenes),
        "created": utc_text(report.created),
        "warnings": list(report.warnings),
        "statuses": list(STATUSES),
        "decisions_format": decisions.FORMAT,
        "decisions_version": decisions.VERSION,
        "changes": [_change(change, report, origin_m, pictures.get(change.change_id, ())) for change in report.changes],
        "context": _context(prior, around, origin_m),
        "driven": [_shape(way, origin_m) for way in ways if not way.is_empty],
    }


def _change(
    change: MapChange, report: ChangeReport, origin_m: np.ndarray, pictures: Sequence[Picture]
) -> dict[str, Any]:
    x_m, y_m = change.geometry.centroid.coords[0]
    longitude_deg, latitude_deg = report.frame.to_wgs84(np.array([[x_m, y_m]]))[0]
    return change_fields(change) | {
        "old": None if change.old_geometry is None else _shape(change.old_geometry, origin_m),
        "new": None if change.new_geometry is None else _shape(change.new_geometry, origin_m),
        "x_m": x_m,
        "y_m": y_m,
        "longitude_deg": float(longitude_deg),
        "latitude_deg": float(latitude_deg),
        "pictures": [{"url": data_url(picture.content), "caption": picture.caption} for picture in pictures],
    }


def _context(prior: ElementMap, around: BaseGeometry, origin_m: np.ndarray) -> list[dict[str, Any]]:
    """Surroundings of the changes by look, in the order of drawing: one path each, however many elements."""
    by_look: dict[str, list[dict[str, Any]]] = defaultdict(list)
    near = prior.near(around, 0.0)
    for layer in CONTEXT_LAYERS:
        for element in (element for element in near if element.layer == layer):
            shape = element.geometry.intersection(around).simplify(DETAIL_M)
            if not shape.is_empty:
                by_look[f"{layer} dashed" if element.dashed else layer].append(_shape(shape, origin_m))
    return [{"names": names, "shapes": shapes} for names, shapes in by_look.items()]


def _shape(shape: BaseGeometry, origin_m: np.ndarray) -> dict[str, Any]:
    """Rings or lines as flat lists x, y, x, y, ... from the page's origin."""
    parts = shapely.get_parts(shape)
    rings = shapely.get_rings(parts)  # of areas alone, which a cut may have left among lines
    is_area = len(rings) > 0
    lines = rings if is_area else parts
    flat = [(shapely.get_coordinates(line) - origin_m).round(DIGITS).ravel().tolist() for line in lines]
    return {"area": is_area, "lines": flat}


def _hash_source(text: str) -> str:
    """A source of a Content-Security-Policy: the hash of a style or script that stands in the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
