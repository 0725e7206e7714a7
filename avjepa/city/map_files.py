"""Map files of a town as nuScenes has them: the map expansion (JSON, version 1.3), the drivable-area mask and the basemap."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely
from PIL import Image
from shapely.geometry import MultiPoint, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.city.arc_path import ArcPath
from avjepa.city.road_map import Divider, Lane, RoadMap

_NODE_DIGITS = 4  # coordinates to 0.1 mm: points that are equal so far are one node
_SNAP_M = 0.01  # lane edges become nodes of the areas whose outlines they lie on
_CLOSE_M = 0.05  # gaps between neighbouring lanes on a bend, whose borders are sampled apart
_NODE_STEP_M = 5.0  # the devkit finds a line in a patch by its nodes alone
_STRAIGHT = 1e-6  # curvature (1/m) below which the devkit takes an arc for a line
_LINE_RADIUS_M = 999.999  # a Dubins piece needs a radius even when its arcs have no length
_SHORTEST_M = 1e-4  # the devkit cannot walk along shorter pieces
# nuScenes knows no single dashed line, and no dashed yellow one: that kind is ours, and the devkit takes any name.
_SEGMENT_TYPES = {
    ("white", True): "DOUBLE_DASHED_WHITE",
    ("white", False): "SINGLE_SOLID_WHITE",
    ("yellow", True): "SINGLE_DASHED_YELLOW",
    ("yellow", False): "SINGLE_SOLID_YELLOW",
}
_LENS_HEIGHTS_M = {"RED": 0.3, "YELLOW": 0.0, "GREEN": -0.3}  # from the middle of a signal head
_DRIVABLE = "drivable_area"  # token of the only drivable_area record


def register_town(name: str) -> None:
    """Let ``NuScenesMap`` load the town: it knows only the names in the devkit's ``locations``. Repeating does no harm."""
    from nuscenes.map_expansion import map_api

    if name not in map_api.locations:
        map_api.locations.append(name)


def write_map_expansion(path: Path, road_map: RoadMap) -> None:
    """Write the map as ``NuScenesMap`` reads it from ``maps/expansion/<town>.json``. The same map gives the same bytes.

    Records keep the tokens of the road map. Each direction of a road is one road_block ``<road>/<number>`` (more, where
    its lanes lie apart); the lanes' edges are nodes of the areas they touch, which is how the devkit finds the next road.

    Raises:
        ValueError: a coordinate is not finite, or a polygon has no area.
        KeyError: a token names nothing, or a divider has an unknown colour.
    """
    shapes = _Shapes()
    blocks = list(_road_blocks(road_map))
    block_of = {lane.token: block.token for block in blocks for lane in block.lanes}
    layers = {
        _DRIVABLE: [
            {
                "token": _DRIVABLE,
                "polygon_tokens": [
                    shapes.polygon(_DRIVABLE, str(number), polygon)
                    for number, polygon in enumerate(_polygons(road_map.drivable))
                ],
            }
        ],
        "road_segment": _road_segments(road_map, shapes),
        "road_block": [
            {
                "token": block.token,
                "polygon_token": shapes.polygon("road_block", block.token, _with_edges(block.polygon, block.lanes)),
                "from_edge_line_token": shapes.line(f"{block.token}/from", block.edge(road_map, at_end=False)),
                "to_edge_line_token": shapes.line(f"{block.token}/to", block.edge(road_map, at_end=True)),
                "road_segment_token": block.road,
            }
            for block in blocks
        ],
        **_lanes(road_map, shapes),
        "ped_crossing": [
            {
                "token": crosswalk.token,
                "polygon_token": shapes.polygon("ped_crossing", crosswalk.token, crosswalk.polygon),
                "road_segment_token": crosswalk.road,
            }
            for crosswalk in road_map.crosswalks.values()
        ],
        "walkway": [
            {"token": token, "polygon_token": shapes.polygon("walkway", token, area.polygon)}
            for token, area in road_map.walkways.items()
        ],
        "stop_line": _stop_lines(road_map, shapes, block_of),
        "carpark_area": [
            {
                "token": area.token,
                "polygon_token": shapes.polygon("carpark_area", area.token, area.polygon),
                "orientation": _long_axis_rad(area.polygon),
                "road_block_token": min(blocks, key=lambda block: block.polygon.distance(area.polygon)).token,
            }
            for area in road_map.car_parks.values()
        ],
        **_dividers(road_map, shapes),
        "traffic_light": _traffic_lights(road_map, shapes, block_of),
        "arcline_path_3": {lane.token: _arcline_path(lane.path) for lane in road_map.lanes.values()},
        "connectivity": {
            lane.token: {"incoming": list(road_map.predecessors(lane.token)), "outgoing": list(lane.successors)}
            for lane in road_map.lanes.values()
        },
    }
    town = {
        "version": "1.3",
        "polygon": shapes.polygons,
        "line": shapes.lines,
        "node": list(shapes.nodes.values()),
        **layers,
        "canvas_edge": [float(edge_m) for edge_m in road_map.size_m],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(town, allow_nan=False) + "\n")


def write_map_mask(path: Path, road_map: RoadMap, resolution_m: float = 0.1) -> None:
    """Write the mask that the devkit's ``MapMask`` reads: 8-bit grey PNG, 255 where cars may drive, else 0.

    Pixel (column, row) shows the point x = column * resolution, y = (rows - row) * resolution; its value is right to one
    pixel. ``MapMask`` takes every file to have 0.1 m.
    """
    image = _canvas(road_map, resolution_m, background=0)
    _paint(image, _polygons(road_map.drivable), 255, resolution_m)
    _save(path, image)


def write_basemap(path: Path, road_map: RoadMap, resolution_m: float = 0.1) -> None:
    """Write the 8-bit grey picture that the devkit's ``BitMap`` draws below map layers (``maps/basemap/<town>.png``)."""
    image = _canvas(road_map, resolution_m, background=255)
    paint = [divider.line.buffer(0.075) for divider in road_map.dividers.values()]
    marks = [*road_map.crosswalks.values(), *road_map.stop_lines.values()]
    for shapes, grey in (
        ([area.polygon for area in road_map.walkways.values()], 215),
        ([road_map.drivable], 150),
        ([area.polygon for area in road_map.islands.values()], 200),
        ([*paint, *(mark.polygon for mark in marks)], 245),
    ):
        _paint(image, [polygon for shape in shapes for polygon in _polygons(shape)], grey, resolution_m)
    _save(path, image)


class _Shapes:
    """The layers node, line and polygon. Neighbours share the nodes of their common edge."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[float, float], dict] = {}
        self.lines: list[dict] = []
        self.polygons: list[dict] = []

    def line(self, name: str, points_xy: Iterable) -> str:
        """Add a line; its token."""
        self.lines.append({"token": _token("line", name), "node_tokens": self.node_tokens(points_xy)})
        return self.lines[-1]["token"]

    def polygon(self, layer: str, name: str, polygon: Polygon) -> str:
        """Add the polygon of a record of ``layer``; its token."""
        # Rounding alone can make an outline cross itself, and the devkit leaves such polygons out of its masks.
        rounded = shapely.set_precision(shapely.make_valid(polygon), 10.0**-_NODE_DIGITS)
        polygon = max(_polygons(rounded), key=lambda part: part.area)
        self.polygons.append(
            {
                "token": _token("polygon", layer, name),
                # shapely repeats the first point of a ring as its last, nuScenes does not.
                "exterior_node_tokens": self.node_tokens(polygon.exterior.coords[:-1]),
                "holes": [{"node_tokens": self.node_tokens(ring.coords[:-1])} for ring in polygon.interiors],
            }
        )
        return self.polygons[-1]["token"]

    def node_tokens(self, points_xy: Iterable) -> list[str]:
        """Tokens of the nodes at the points, new ones added; one token for points that fall together."""
        tokens = []
        for x, y, *_ in points_xy:
            xy = round(float(x), _NODE_DIGITS) + 0.0, round(float(y), _NODE_DIGITS) + 0.0  # + 0.0: no negative zero
            node = self.nodes.setdefault(xy, {"token": _token("node", *map(str, xy)), "x": xy[0], "y": xy[1]})
            if not tokens or tokens[-1] != node["token"]:
                tokens.append(node["token"])
        return tokens


@dataclass(frozen=True)
class _RoadBlock:
    """Neighbouring lanes of one road in one direction."""

    token: str
    road: str
    lanes: tuple[Lane, ...]
    polygon: Polygon

    def edge(self, road_map: RoadMap, at_end: bool) -> np.ndarray:
        """Points (k, 2) from left to right, where lanes enter the block or leave it."""
        tokens = {lane.token for lane in self.lanes}
        inside = road_map.predecessors if not at_end else lambda token: road_map.lanes[token].successors
        outer = [lane for lane in self.lanes if tokens.isdisjoint(inside(lane.token))] or self.lanes
        points = np.concatenate([_edge(lane, at_end) for lane in outer])
        rightwards = points[1] - points[0]
        return points[np.argsort(points @ rightwards, kind="stable")]


def _road_blocks(road_map: RoadMap) -> Iterator[_RoadBlock]:
    for road in road_map.roads:
        lanes = [lane for lane in road_map.lanes.values() if lane.road == road]
        is_ahead = [_same_direction(lanes[0].path, lane.path) for lane in lanes]
        number = 0
        for direction in (True, False):
            group = [lane for lane, ahead in zip(lanes, is_ahead, strict=True) if ahead == direction]
            grown = shapely.union_all([lane.polygon.buffer(_CLOSE_M, join_style="mitre") for lane in group])
            for polygon in _polygons(grown.buffer(-_CLOSE_M, join_style="mitre")):
                members = tuple(lane for lane in group if polygon.contains(lane.polygon.representative_point()))
                yield _RoadBlock(f"{road}/{number}", road, members, polygon)
                number += 1


def _same_direction(first: ArcPath, second: ArcPath) -> bool:
    """Whether ``second`` is driven as ``first`` is, at the point of ``first`` that is nearest to its middle."""
    x, y, yaw = second.poses(np.array([second.length_m / 2]))[0]
    poses = first.sampled(1.0)
    nearest = np.hypot(poses[:, 0] - x, poses[:, 1] - y).argmin()
    return np.cos(poses[nearest, 2] - yaw) > 0


def _road_segments(road_map: RoadMap, shapes: _Shapes) -> list[dict]:
    records = []
    for areas, attribute in ((road_map.roads, "road"), (road_map.junctions, "junction")):
        for area in areas.values():
            lanes = [lane for lane in road_map.lanes.values() if getattr(lane, attribute) == area.token]
            records.append(
                {
                    "token": area.token,
                    "polygon_token": shapes.polygon("road_segment", area.token, _with_edges(area.polygon, lanes)),
                    "is_intersection": attribute == "junction",
                    "drivable_area_token": _DRIVABLE,
                }
            )
    return records


def _lanes(road_map: RoadMap, shapes: _Shapes) -> dict[str, list[dict]]:
    """Layers lane and lane_connector."""
    lanes, connectors = [], []
    for lane in road_map.lanes.values():
        polygon = shapes.polygon("lane", lane.token, _with_edges(lane.polygon, [lane]))
        record = {"token": lane.token, "polygon_token": polygon}
        if not lane.road:
            connectors.append(record)
            continue
        record |= {
            "lane_type": "CAR",
            "from_edge_line_token": shapes.line(f"{lane.token}/from", _edge(lane, at_end=False)),
            "to_edge_line_token": shapes.line(f"{lane.token}/to", _edge(lane, at_end=True)),
        }
        for side, token in (("left", lane.left_divider), ("right", lane.right_divider)):
            divider = road_map.dividers[token] if token else None
            record[f"{side}_lane_divider_segments"] = _divider_segments(divider, shapes, lane.path) if divider else []
        lanes.append(record)
    return {"lane": lanes, "lane_connector": connectors}


def _divider_segments(divider: Divider, shapes: _Shapes, along: ArcPath | None = None) -> list[dict]:
    """The kind of paint at each node, in the direction of driving."""
    points = np.array(divider.line.segmentize(_NODE_STEP_M).coords)[:, :2]
    if along is not None:
        start_xy = np.array(along.start[:2])
        points = points if np.hypot(*(points[0] - start_xy)) <= np.hypot(*(points[-1] - start_xy)) else points[::-1]
    kind = _SEGMENT_TYPES[divider.colour, divider.dashed]
    return [{"node_token": token, "segment_type": kind} for token in shapes.node_tokens(points)]


def _dividers(road_map: RoadMap, shapes: _Shapes) -> dict[str, list[dict]]:
    """Layers road_divider and lane_divider."""
    between_directions, between_lanes = [], []
    for divider in road_map.dividers.values():
        line = shapes.line(divider.token, divider.line.segmentize(_NODE_STEP_M).coords)
        record = {"token": divider.token, "line_token": line}
        if divider.separates == "directions":
            between_directions.append(record | {"road_segment_token": divider.road})
        else:
            between_lanes.append(record | {"lane_divider_segments": _divider_segments(divider, shapes)})
    return {"road_divider": between_directions, "lane_divider": between_lanes}


def _stop_lines(road_map: RoadMap, shapes: _Shapes, block_of: dict[str, str]) -> list[dict]:
    records = []
    for stop in road_map.stop_lines.values():
        lights = [light for light in road_map.traffic_lights.values() if not set(light.lanes).isdisjoint(stop.lanes)]
        records.append(
            {
                "token": stop.token,
                "polygon_token": shapes.polygon("stop_line", stop.token, stop.polygon),
                "stop_line_type": stop.cue,
                "ped_crossing_tokens": [],
                "traffic_light_tokens": [light.token for light in lights] if stop.cue == "TRAFFIC_LIGHT" else [],
                "road_block_token": block_of[stop.lanes[0]],
            }
        )
    return records


def _traffic_lights(road_map: RoadMap, shapes: _Shapes, block_of: dict[str, str]) -> list[dict]:
    records = []
    for light in road_map.traffic_lights.values():
        x, y, z = map(float, light.xyz_m)
        tip_xy = x + np.cos(light.yaw_rad), y + np.sin(light.yaw_rad)
        records.append(
            {
                "token": light.token,
                "line_token": shapes.line(light.token, [(x, y), tip_xy]),  # the devkit draws it as an arrow
                "traffic_light_type": "VERTICAL",
                "from_road_block_token": block_of[light.lanes[0]],
                "items": [
                    {
                        "color": colour,
                        "shape": "CIRCLE",
                        "rel_pos": {"tx": 0.0, "ty": 0.0, "tz": height_m, "rx": 0.0, "ry": 0.0, "rz": 0.0},
                        "to_road_block_tokens": [],
                    }
                    for colour, height_m in _LENS_HEIGHTS_M.items()
                ],
                "pose": {"tx": x, "ty": y, "tz": z, "rx": 0.0, "ry": 0.0, "rz": float(light.yaw_rad)},
            }
        )
    return records


def _arcline_path(path: ArcPath) -> list[dict]:
    """One Dubins piece for each segment: an arc is its first part, a line its middle one."""
    poses = [[float(x), float(y), float((yaw + np.pi) % (2 * np.pi) - np.pi)] for x, y, yaw in path.segment_starts()]
    pieces = []
    for (curvature, length_m), start, end in zip(path.segments, poses[:-1], poses[1:], strict=True):
        if length_m < _SHORTEST_M:
            continue
        is_line = abs(curvature) < _STRAIGHT
        pieces.append(
            {
                "start_pose": start,
                "end_pose": end,
                "shape": "LSL" if is_line or curvature > 0 else "RSR",
                "radius": _LINE_RADIUS_M if is_line else float(1 / abs(curvature)),
                "segment_length": [0.0, float(length_m), 0.0] if is_line else [float(length_m), 0.0, 0.0],
            }
        )
    return pieces


def _edge(lane: Lane, at_end: bool) -> np.ndarray:
    """(2, 2): left and right end of the lane's first or last edge."""
    x, y, yaw = lane.path.end if at_end else lane.path.start
    leftwards = np.array([-np.sin(yaw), np.cos(yaw)]) * lane.width_m / 2
    return np.array([x, y]) + np.stack([leftwards, -leftwards])


def _with_edges(polygon: Polygon, lanes: Iterable[Lane]) -> Polygon:
    """The polygon with the ends of the lanes' edges among its nodes, where they lie on its outline."""
    points = [point for lane in lanes for at_end in (False, True) for point in _edge(lane, at_end)]
    return shapely.snap(polygon, MultiPoint(points), _SNAP_M) if points else polygon


def _long_axis_rad(polygon: Polygon) -> float:
    """Direction of the longer edge of the smallest rectangle around the polygon, in [0, pi)."""
    corners = np.array(polygon.minimum_rotated_rectangle.exterior.coords)
    edge = max(np.diff(corners, axis=0), key=lambda edge: float(np.hypot(*edge)))
    return float(np.arctan2(edge[1], edge[0]) % np.pi)


def _polygons(shape: BaseGeometry) -> list[Polygon]:
    """Its polygons that are not empty; lines and points left out."""
    parts = shapely.get_parts(shapely.get_parts(shape))  # twice: a collection may hold multi-polygons
    return [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]


def _canvas(road_map: RoadMap, resolution_m: float, background: int) -> np.ndarray:
    width, height = (round(edge_m / resolution_m) for edge_m in road_map.size_m)
    return np.full((height, width), background, np.uint8)


def _paint(image: np.ndarray, polygons: Iterable[Polygon], grey: int, resolution_m: float) -> None:
    """Fill the polygons, without their holes; ``cv2`` takes coordinates in sixteenths of a pixel."""
    for polygon in polygons:
        rings = []
        for ring in (polygon.exterior, *polygon.interiors):
            xy = np.array(ring.coords)[:, :2] / resolution_m
            rings.append(np.rint(np.stack([xy[:, 0], len(image) - xy[:, 1]], 1) * 16).astype(np.int32))
        cv2.fillPoly(image, rings, grey, shift=4)


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def _token(*parts: str) -> str:
    return hashlib.md5("/".join(parts).encode(), usedforsecurity=False).hexdigest()
