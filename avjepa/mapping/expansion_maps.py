"""nuScenes map expansion 1.3 (and the mini city's maps, which have its format) as a typed vector map."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from avjepa.errors import DataError
from avjepa.mapping.frames import FRAMES, MapFrame
from avjepa.mapping.map_report import (
    BAD,
    BAD_RECORD,
    DANGLING,
    DOUBLE,
    EMPTY,
    LEADS_NOWHERE,
    NO_CENTRE,
    NO_LINKS,
    NO_PAINT,
    MapReport,
    sound_shape,
)
from avjepa.mapping.vector_map import AREA_LAYERS, ElementMap, MapElement
from avjepa.probes.map_expansion import MapExpansion, polygon_tokens, reading_expansion

VERSION = "1.3"
PAINTED_LINES = ("road_divider", "lane_divider")
# What a record calls itself more closely, by layer.
SUBTYPES = {"stop_line": "stop_line_type", "lane": "lane_type", "traffic_light": "traffic_light_type"}
# nuScenes's kinds of paint, and the mini city's for dashed yellow: colour and whether it is dashed. NIL is no paint.
PAINT = {
    "DOUBLE_DASHED_WHITE": ("white", True),
    "DOUBLE_SOLID_WHITE": ("white", False),
    "SINGLE_SOLID_WHITE": ("white", False),
    "SINGLE_SOLID_YELLOW": ("yellow", False),
    "SINGLE_DASHED_YELLOW": ("yellow", True),
    "SINGLE_ZIGZAG_WHITE": ("white", False),
}
CENTRE_STEP_M = 1.0
STRAIGHT_M = 1e5  # arcs of a radius above it are lines
LONGEST_M = 1e5  # a piece of a centre line; a longer one is no piece
BROKEN = (KeyError, TypeError, ValueError, AttributeError)  # what a record raises that is not as it should be


def read_expansion(path: Path, frame: MapFrame) -> tuple[ElementMap, MapReport]:
    """Read ``maps/expansion/<city>.json``.

    Of a lane_divider its own paint is taken, of a road_divider that which lanes give to its nodes; the commonest, if several.
    A drivable_area of several polygons becomes as many elements, named after its polygons.

    Raises:
        DataError: missing, no JSON, not version 1.3, a layer is missing, the file of another known city, no element, or more than
            a fifth of the elements cannot be read; fewer are counted in the report, as is what was left out of an element.
    """
    if path.stem != frame.name and path.stem in FRAMES:
        raise DataError(f"{path}: the map of {path.stem}, but the drive is in {frame.name}; name that city's map")
    report = MapReport(path, f"map expansion {VERSION}")
    with reading_expansion(path) as expansion:
        if expansion.version != VERSION:
            raise DataError(f"{path}: map expansion {expansion.version}; want version {VERSION} from the nuScenes site")
        elements = list(_elements(expansion, report))
    unique: dict[str, MapElement] = {}
    for element in elements:
        if element.token in unique:
            report.lost.setdefault(DOUBLE, []).append(element.token)
        else:
            unique[element.token] = element
    report.finish(len(unique))
    return ElementMap(frame, linked(unique, report)), report


def linked(elements: dict[str, MapElement], report: MapReport) -> dict[str, MapElement]:
    """The elements, without links to elements that are not there."""
    whole = {}
    for token, element in elements.items():
        there = tuple(following for following in element.successors if following in elements)
        if there != element.successors:
            report.mended.setdefault(LEADS_NOWHERE, []).append(token)
        whole[token] = element if there == element.successors else replace(element, successors=there)
    return whole


@dataclass(frozen=True)
class _Source:
    """What several layers need of the file."""

    expansion: MapExpansion
    paint_of_node: dict[str, str]
    successors: dict[str, tuple[str, ...]]
    centre_lines: dict[str, LineString]


def _elements(expansion: MapExpansion, report: MapReport) -> Iterator[MapElement]:
    source = _Source(
        expansion, _paint_of_nodes(expansion, report), _successors(expansion, report), _centre_lines(expansion, report)
    )
    for layer in (*AREA_LAYERS, *PAINTED_LINES, "traffic_light"):
        for number, record in enumerate(expansion.records(layer)):
            for token, polygon in _names(layer, record, f"{layer} {number}", report):
                element = _element(source, layer, record, token, polygon, report)
                if element is not None:
                    yield element


def _names(layer: str, record: dict[str, Any], name: str, report: MapReport) -> list[tuple[str, str]]:
    """Tokens of the elements that a record becomes, each with that of its polygon; "" for a line."""
    try:
        polygons = polygon_tokens(record) if layer in AREA_LAYERS else [""]
        token = record["token"]
        if not (isinstance(polygons, list) and all(isinstance(item, str) for item in (token, *polygons))):
            raise TypeError("tokens are text")
    except BROKEN:
        report.lost.setdefault(BAD_RECORD, []).append(name)
        return []
    if not polygons:
        report.lost.setdefault(EMPTY, []).append(token)
    return [(token, polygons[0])] if len(polygons) == 1 else [(polygon, polygon) for polygon in polygons]


def _element(
    source: _Source, layer: str, record: dict[str, Any], token: str, polygon: str, report: MapReport
) -> MapElement | None:
    try:
        segment_type = _segment_type(source, layer, record)
        shape = sound_shape(_shape(source.expansion, record, polygon), token, report)
        if shape is None:
            return None
        colour, dashed = PAINT.get(segment_type, ("", None))
        return MapElement(
            token=token,
            layer=layer,
            geometry=shape,
            centre_line=source.centre_lines.get(token),
            successors=source.successors.get(token, ()),
            colour=colour,
            dashed=dashed,
            subtype=segment_type or str(record.get(SUBTYPES.get(layer, ""), "")),
            height_m=float(record["pose"]["tz"]) if layer == "traffic_light" else None,
        )
    except KeyError:
        report.lost.setdefault(DANGLING, []).append(token)
    except BROKEN:
        report.lost.setdefault(BAD, []).append(token)
    return None


def _shape(expansion: MapExpansion, record: dict[str, Any], polygon: str) -> BaseGeometry | None:
    return expansion.polygon(polygon) if polygon else expansion.line(record["line_token"])


def _segment_type(source: _Source, layer: str, record: dict[str, Any]) -> str:
    """The kind of paint along a divider: the commonest, if it is that of half of its nodes or more; else "", as of anything else.

    A road_divider's nodes may be named by lanes beside a neighbouring one, whose end it shares.
    """
    if layer == "lane_divider":
        kinds = [segment["segment_type"] for segment in record["lane_divider_segments"]]
        nodes = kinds
    elif layer == "road_divider":
        nodes = source.expansion.line_nodes(record["line_token"])
        kinds = [source.paint_of_node[node] for node in nodes if node in source.paint_of_node]
    else:
        return ""
    kind, count = Counter(kinds).most_common(1)[0] if kinds else ("", 0)
    return kind if 2 * count >= len(nodes) else ""


def _paint_of_nodes(expansion: MapExpansion, report: MapReport) -> dict[str, str]:
    """Node -> the kind of paint that the lanes beside it name."""
    paint: dict[str, str] = {}
    for number, record in enumerate(expansion.records("lane")):
        try:
            for side in ("left_lane_divider_segments", "right_lane_divider_segments"):
                paint |= {segment["node_token"]: segment["segment_type"] for segment in record.get(side, [])}
        except BROKEN:
            report.mended.setdefault(NO_PAINT, []).append(f"lane {number}")
    return paint


def _successors(expansion: MapExpansion, report: MapReport) -> dict[str, tuple[str, ...]]:
    """Lane or connector -> those that follow it."""
    found: dict[str, tuple[str, ...]] = {}
    for token, ways in expansion.connectivity.items():
        try:
            found[token] = tuple(map(str, ways["outgoing"]))
        except BROKEN:
            report.mended.setdefault(NO_LINKS, []).append(token)
    return found


def _centre_lines(expansion: MapExpansion, report: MapReport) -> dict[str, LineString]:
    """Of lanes and connectors, from their Dubins pieces."""
    lines: dict[str, LineString] = {}
    for token, pieces in expansion.paths.items():
        try:
            points = [xy for piece in pieces for xy in _along(piece)]
        except BROKEN:
            report.mended.setdefault(NO_CENTRE, []).append(token)
            continue
        if len(points) >= 2:
            lines[token] = LineString(points)
    return lines


def _along(piece: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """Points of a Dubins piece: three parts, each L(eft), R(ight) or S(traight).

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    x, y, yaw = map(float, piece["start_pose"])
    radius_m, lengths_m = float(piece["radius"]), np.array(piece["segment_length"], dtype=np.float64)
    if not (np.isfinite([x, y, yaw]).all() and radius_m > 0 and ((lengths_m >= 0) & (lengths_m < LONGEST_M)).all()):
        raise ValueError(f"a piece of radius {radius_m} m and lengths {lengths_m} m")
    yield x, y
    for turn, length_m in zip(piece["shape"], lengths_m.tolist(), strict=True):
        bend = {"L": 1.0, "S": 0.0, "R": -1.0}[turn] / radius_m
        steps = math.ceil(length_m / CENTRE_STEP_M)
        for _ in range(steps):
            step_m = length_m / steps
            # The chord of an arc leaves at half its turn.
            half = bend * step_m / 2
            chord_m = step_m if abs(half) < 1 / STRAIGHT_M else step_m * math.sin(half) / half
            x, y, yaw = x + chord_m * math.cos(yaw + half), y + chord_m * math.sin(yaw + half), yaw + 2 * half
            yield x, y
