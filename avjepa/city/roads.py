"""The road map of a town: lanes and their connectors, paint, walkways, car parks, drivable area.

Streets give lanes, dividers and crosswalks; nodes join their lanes (connectors.py); the kerbs follow from the union of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from shapely.geometry import MultiPolygon, Point, Polygon
from shapely.ops import unary_union

from avjepa.city.connectors import connect_lanes
from avjepa.city.layout import TownPlan, plan_town
from avjepa.city.road_map import Area, Crosswalk, Divider, Lane, RoadMap, StopLine, TrafficLight
from avjepa.city.streets import (
    CORNER_M,
    CROSSWALK_M,
    PARKING_M,
    RING_LANE_M,
    STOP_BAR_M,
    StreetShape,
    approaches,
    as_line,
    ring_radius_m,
    shape_streets,
    strip,
)

WALKWAY_M = 2.6
CAR_PARK_M = (34.0, 18.0)  # along and across its street
DRIVEWAY_M = 6.5
WALKWAY_MIN_M2 = 6.0


@lru_cache(maxsize=4)
def build_town(town: str, seed: int) -> RoadMap:
    """The road map of a town.

    Args:
        town: "minicity-a" or "minicity-b".
        seed: moves junctions and bends streets.
    """
    plan = plan_town(town, seed)
    shapes = shape_streets(plan)
    lanes = connect_lanes(plan, shapes, street_lanes(plan, shapes))
    crosswalks = _crosswalks(plan, shapes, seed)
    stop_lines = _stop_lines(plan, shapes, lanes)
    car_parks = _car_parks(shapes)
    islands = _islands(plan)
    roads = {f"{s.street.name}-road": _road(s) for s in shapes}
    drivable = _drivable(plan, shapes, lanes, roads, car_parks, islands)
    return RoadMap(
        town=town,
        size_m=plan.size_m,
        lanes=lanes,
        dividers=_dividers(plan, shapes),
        crosswalks=crosswalks,
        stop_lines=stop_lines,
        traffic_lights=_traffic_lights(plan, shapes),
        roads={token: Area(token, polygon) for token, polygon in roads.items()},
        junctions=_junctions(plan, drivable, roads, car_parks),
        walkways=_walkways(drivable, islands),
        car_parks={token: Area(token, polygon) for token, polygon in car_parks.items()},
        islands={token: Area(token, polygon) for token, polygon in islands.items()},
        drivable=drivable,
    )


def street_lanes(plan: TownPlan, shapes: list[StreetShape]) -> dict[str, Lane]:
    """Lanes of all streets, without successors."""
    lanes, width_m = {}, plan.style.lane_m
    for shape in shapes:
        street, middle = shape.street, shape.path.part(shape.begin_m, shape.end_m)
        for forward, count in ((True, street.lanes_ab), (False, street.lanes_ba)):
            for number in range(count):
                path = middle.offset(shape.lane_offset_m(number, forward, width_m))
                path = path if forward else path.reversed()
                token = lane_token(street.name, forward, number)
                lanes[token] = Lane(
                    token=token,
                    path=path,
                    width_m=width_m,
                    polygon=strip(path, -width_m / 2, width_m / 2),
                    road=f"{street.name}-road",
                    junction="",
                    turn="",
                    successors=(),
                    left_divider=_divider_token(street, forward, number),
                    right_divider=_divider_token(street, forward, number + 1) if number + 1 < count else "",
                    speed_mps=street.speed_mps,
                )
    return lanes


def lane_token(street: str, forward: bool, number: int) -> str:
    """Name of a lane: number 0 is next to the opposite direction."""
    return f"{street}-{'ab' if forward else 'ba'}{number}"


def _divider_token(street, forward: bool, number: int) -> str:
    """Name of the paint on the left of lane ``number``."""
    if number == 0:
        return f"{street.name}-centre" if street.lanes_ab and street.lanes_ba else ""
    return f"{street.name}-{'ab' if forward else 'ba'}-line{number}"


def _dividers(plan: TownPlan, shapes: list[StreetShape]) -> dict[str, Divider]:
    """Paint between the stop bars of both ends."""
    dividers, style = {}, plan.style
    for shape in shapes:
        street, road = shape.street, f"{shape.street.name}-road"
        middle = shape.path.part(shape.begin_m + STOP_BAR_M[1], shape.end_m - STOP_BAR_M[1])
        if street.lanes_ab and street.lanes_ba:
            line = as_line(middle.offset(shape.forward_left_m))
            token = f"{street.name}-centre"
            dashed = style.centre_dashed and street.lanes_ab == street.lanes_ba == 1
            dividers[token] = Divider(token, line, "directions", style.centre_colour, dashed, road)
        for forward, count in ((True, street.lanes_ab), (False, street.lanes_ba)):
            for number in range(1, count):
                side = -number if forward else number
                path = middle.offset(shape.forward_left_m + side * style.lane_m)
                token = _divider_token(street, forward, number)
                line = as_line(path if forward else path.reversed())
                dividers[token] = Divider(token, line, "lanes", "white", True, road)
    return dividers


def _crosswalks(plan: TownPlan, shapes: list[StreetShape], seed: int) -> dict[str, Crosswalk]:
    """At every mouth of a junction with signals or stop signs, at one mouth of the others, and half-way where planned."""
    rng = np.random.default_rng([seed, 7])
    crosswalks = {}

    def add(token: str, shape: StreetShape, begin_m: float) -> None:
        area = shape.across(begin_m, begin_m + CROSSWALK_M[1] - CROSSWALK_M[0], -shape.half_width_m, shape.half_width_m)
        wear = float(rng.choice([0.0, 0.15, 0.6], p=[0.5, 0.3, 0.2]))
        crosswalks[token] = Crosswalk(token, area, f"{shape.street.name}-road", wear)

    for shape in shapes:
        street = shape.street
        for end, _node in (("a", street.a), ("b", street.b)):
            if has_crosswalk(plan, street, end):
                at_begin = shape.begin_m + CROSSWALK_M[0]
                at_end = shape.end_m - CROSSWALK_M[1]
                add(f"{street.name}-crosswalk-{end}", shape, at_begin if end == "a" else at_end)
        if street.crossing:
            beside_m = DRIVEWAY_M if street.car_park else 0.0  # the driveway takes the very middle
            add(f"{street.name}-crosswalk-mid", shape, (shape.begin_m + shape.end_m) / 2 + beside_m)
    return crosswalks


def has_crosswalk(plan: TownPlan, street, end: str) -> bool:
    """Whether the mouth of a street at its end "a" or "b" has a crosswalk."""
    kind = plan.nodes[street.a if end == "a" else street.b].kind
    return kind in ("signals", "stop") or (kind == "roundabout" and end == "a")


def _stop_lines(plan: TownPlan, shapes: list[StreetShape], lanes: dict[str, Lane]) -> dict[str, StopLine]:
    cues = {"signals": "TRAFFIC_LIGHT", "stop": "STOP_SIGN", "yield": "YIELD", "roundabout": "YIELD"}
    stop_lines = {}
    for shape, end, node, tokens in _incoming(shapes):
        street = shape.street
        depth = np.array(STOP_BAR_M) if has_crosswalk(plan, street, end) else np.array(STOP_BAR_M) - 4.2
        parts = []
        for lane in tokens:
            length = lanes[lane].path.length_m
            bar = lanes[lane].path.part(length - depth[1], length - depth[0])
            parts.append(strip(bar, -lanes[lane].width_m / 2, lanes[lane].width_m / 2).buffer(0.01))
        token = f"{street.name}-stop-{end}"
        area = unary_union(parts).simplify(0.02)
        stop_lines[token] = StopLine(token, area, tokens, f"{street.name}-road", cues[plan.nodes[node].kind])
    return stop_lines


def _traffic_lights(plan: TownPlan, shapes: list[StreetShape]) -> dict[str, TrafficLight]:
    """A signal on the right of each approach of a junction with signals."""
    lights = {}
    for shape, end, node, tokens in _incoming(shapes):
        if plan.nodes[node].kind != "signals":
            continue
        forward = end == "b"
        path = shape.path if forward else shape.path.reversed()
        mouth_m = shape.end_m if forward else shape.path.length_m - shape.begin_m
        x, y, yaw = path.poses(np.array([mouth_m - STOP_BAR_M[1]]))[0]
        side = -(shape.half_width_m + 0.6)
        xyz = (float(x - side * np.sin(yaw)), float(y + side * np.cos(yaw)), 4.6)
        token, road = f"{shape.street.name}-light-{end}", f"{shape.street.name}-road"
        lights[token] = TrafficLight(token, xyz, float(yaw + np.pi), tokens, road, f"{plan.nodes[node].name}-junction")
    return lights


def _incoming(shapes: list[StreetShape]) -> Iterator[tuple[StreetShape, str, int, tuple[str, ...]]]:
    """Both ends of every street, where lanes lead to a junction: (street, "a" or "b", node, tokens of those lanes)."""
    for shape in shapes:
        street = shape.street
        for end, node, count in (("a", street.a, street.lanes_ba), ("b", street.b, street.lanes_ab)):
            if count:
                yield shape, end, node, tuple(lane_token(street.name, end == "b", number) for number in range(count))


def _road(shape: StreetShape) -> Polygon:
    return shape.across(shape.begin_m, shape.end_m, -shape.half_width_m, shape.half_width_m)


def _car_parks(shapes: list[StreetShape]) -> dict[str, Polygon]:
    """Parking strips along the kerbs, and car parks beside the street with a driveway."""
    areas = {}
    for shape in shapes:
        street = shape.street
        if street.parking:
            for side, right, left in (
                ("left", shape.half_width_m - PARKING_M, shape.half_width_m),
                ("right", -shape.half_width_m, PARKING_M - shape.half_width_m),
            ):
                areas[f"{street.name}-parking-{side}"] = shape.across(shape.begin_m + 9, shape.end_m - 9, right, left)
        if street.car_park:
            middle, kerb = (shape.begin_m + shape.end_m) / 2, shape.half_width_m
            inner = kerb + 2 * WALKWAY_M + 1.5
            lot = shape.across(middle - CAR_PARK_M[0] / 2, middle + CAR_PARK_M[0] / 2, inner, inner + CAR_PARK_M[1])
            driveway = shape.across(middle - DRIVEWAY_M / 2, middle + DRIVEWAY_M / 2, kerb - 0.2, inner + 0.4)
            areas[f"{street.name}-car-park"] = lot
            areas[f"{street.name}-driveway"] = driveway
    return areas


def _islands(plan: TownPlan) -> dict[str, Polygon]:
    rounds = [node for node in plan.nodes if node.kind == "roundabout"]
    return {f"{node.name}-island": Point(node.xy_m).buffer(plan.style.island_m - 0.4, 32) for node in rounds}


def _drivable(plan, shapes, lanes, roads, car_parks, islands) -> MultiPolygon:
    """Everything cars may drive on; corners rounded, islands cut out."""
    parts = list(roads.values())
    parts += [lane.polygon.buffer(0.5) for lane in lanes.values() if lane.junction]
    for number, node in enumerate(plan.nodes):
        if node.kind == "roundabout":
            parts.append(Point(node.xy_m).buffer(ring_radius_m(plan) + RING_LANE_M / 2, 32))
            continue
        for street, starts, _ in approaches(plan, number):
            shape = shapes[street]
            ends = (0.0, shape.begin_m + 0.1) if starts else (shape.end_m - 0.1, shape.path.length_m)
            parts.append(shape.across(*ends, -shape.half_width_m, shape.half_width_m))
    streets = unary_union(parts).buffer(CORNER_M, 6).buffer(-CORNER_M, 6)
    whole = unary_union([streets, *car_parks.values()]).buffer(0.3).buffer(-0.3)
    return _as_multi(whole.difference(unary_union(list(islands.values()))))


def _junctions(plan: TownPlan, drivable: MultiPolygon, roads, car_parks) -> dict[str, Area]:
    """What is drivable around a node and belongs to no road."""
    rest = _as_multi(drivable.difference(unary_union([*roads.values(), *car_parks.values()]))).geoms
    areas = {}
    for node in plan.nodes:
        token = f"{node.name}-junction"
        pieces = [piece for piece in rest if piece.distance(Point(node.xy_m)) < 14.0]
        areas[token] = Area(token, max(pieces, key=lambda piece: piece.area))
    return areas


def _walkways(drivable: MultiPolygon, islands: dict[str, Polygon]) -> dict[str, Area]:
    """A band along every kerb."""
    inside = unary_union(list(islands.values()))
    band = drivable.union(inside).buffer(WALKWAY_M, 6).difference(drivable).difference(inside)
    pieces = [piece for piece in _as_multi(band.simplify(0.05)).geoms if piece.area > WALKWAY_MIN_M2]
    pieces.sort(key=lambda piece: piece.representative_point().coords[0])
    return {f"walkway-{number:03d}": Area(f"walkway-{number:03d}", piece) for number, piece in enumerate(pieces)}


def _as_multi(shape) -> MultiPolygon:
    parts = [shape] if isinstance(shape, Polygon) else [part for part in shape.geoms if isinstance(part, Polygon)]
    return MultiPolygon(parts)
