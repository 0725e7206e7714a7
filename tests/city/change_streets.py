"""A small map drawn by hand for the tests of map changes: two wide streets and an avenue that crosses both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from shapely.geometry import LineString, MultiPolygon, Polygon, box
from shapely.ops import unary_union

from avjepa.city.arc_path import ArcPath, biarc, line
from avjepa.city.road_map import Area, Crosswalk, Divider, Lane, RoadMap, StopLine, TrafficLight
from avjepa.geometry.map_edit import Place

LANE_M, JUNCTION_M, WALKWAY_M = 3.5, 14.0, 4.0
BEND = ArcPath((214.0, 300.0, 0.0), ((0.0, 40.0), (1 / 90, 80.0), (0.0, 40.0)))
# name: path, lanes each way, metres from the outer lane to the kerb, junction at its start, junction at its end
ROADS = {
    "west-low": (line((20, 120), (186, 120)), 2, 2.7, "", "low"),
    "east-low": (line((214, 120), (380, 120)), 2, 0.4, "low", ""),
    "west-high": (line((20, 300), (186, 300)), 2, 0.4, "", "high"),
    "east-high": (BEND, 2, 2.7, "high", ""),
    "south": (line((200, 20), (200, 106)), 1, 0.4, "", "low"),
    "middle": (line((200, 134), (200, 286)), 1, 0.4, "low", "high"),
    "north": (line((200, 314), (200, 400)), 1, 0.4, "high", ""),
}
JUNCTIONS = {"low": (200.0, 120.0), "high": (200.0, 300.0)}
PLACES = (
    Place("west-low", (100.0, 120.0), 50.0),
    Place("east-low", (300.0, 120.0), 50.0),
    Place("west-high", (100.0, 300.0), 50.0),
    Place("east-high", (295.0, 315.0), 50.0),
    Place("low", (200.0, 120.0), 45.0),
    Place("high", (200.0, 300.0), 45.0),
    Place("middle", (200.0, 210.0), 40.0),
)


def change_streets() -> RoadMap:
    """The map; lanes are named road-ab0 (along the road's path, inner lane) to road-ba1."""
    parts = {name: {} for name in ("dividers", "crosswalks", "stop_lines", "lights", "roads", "walkways", "car_parks")}
    lanes = {}
    for name, (path, count, shoulder_m, start, end) in ROADS.items():
        lanes |= _lanes(name, path, count)
        parts["dividers"] |= _dividers(name, path, count)
        half_m = count * LANE_M + shoulder_m
        parts["roads"][f"{name}-road"] = Area(f"{name}-road", _wide(path, half_m))
        for side in (-1, 1):
            token = f"{name}-walkway{side}"
            parts["walkways"][token] = Area(token, _wide(path.offset(side * (half_m + WALKWAY_M / 2)), WALKWAY_M / 2))
        for junction, way, mouth in ((start, "ba", path.reversed()), (end, "ab", path)):
            if junction:
                tokens = tuple(f"{name}-{way}{i}" for i in range(count))
                _mouth(parts, f"{name}-{junction}", f"{name}-road", mouth, half_m, lanes, tokens, junction)
    middle = _wide(ROADS["west-low"][0].part(60.0, 64.0), 9.7)
    parts["crosswalks"]["half-way"] = Crosswalk("half-way", middle, "west-low-road", 0.1)
    parking = _wide(ROADS["west-low"][0].part(20.0, 150.0).offset(-8.55), 1.15)
    parts["car_parks"]["parking"] = Area("parking", parking)
    junctions = {name: Area(name, box(x - 14, y - 14, x + 14, y + 14)) for name, (x, y) in JUNCTIONS.items()}
    drivable = unary_union([area.polygon for area in (*parts["roads"].values(), *junctions.values())])
    return RoadMap(
        town="change-streets",
        size_m=(400.0, 420.0),
        lanes=_connected(lanes),
        dividers=parts["dividers"],
        crosswalks=parts["crosswalks"],
        stop_lines=parts["stop_lines"],
        traffic_lights=parts["lights"],
        roads=parts["roads"],
        junctions=junctions,
        walkways=parts["walkways"],
        car_parks=parts["car_parks"],
        drivable=MultiPolygon([drivable]),
    )


def _lanes(name: str, path: ArcPath, count: int) -> dict[str, Lane]:
    lanes = {}
    for way, sign in (("ab", -1), ("ba", 1)):
        for i in range(count):
            centre = path.offset(sign * (i + 0.5) * LANE_M)
            right = f"{name}-{way}-line" if i + 1 < count else ""
            left = f"{name}-{way}-line" if i else f"{name}-centre"
            token, centre = f"{name}-{way}{i}", centre if way == "ab" else centre.reversed()
            area = _wide(centre, LANE_M / 2)
            lanes[token] = Lane(token, centre, LANE_M, area, f"{name}-road", "", "", (), left, right, 11.0)
    return lanes


def _dividers(name: str, path: ArcPath, count: int) -> dict[str, Divider]:
    path = path.part(3.0, path.length_m - 7.0)
    found = [Divider(f"{name}-centre", _line(path), "directions", "yellow", False, f"{name}-road")]
    if count > 1:
        for way, left_m in (("ab", -LANE_M), ("ba", LANE_M)):
            line_of_lanes = _line(path.offset(left_m))
            found.append(Divider(f"{name}-{way}-line", line_of_lanes, "lanes", "white", True, f"{name}-road"))
    return {divider.token: divider for divider in found}


def _mouth(parts, name, road, mouth: ArcPath, half_m: float, lanes, tokens: tuple[str, ...], junction: str) -> None:
    """Crosswalk, stop line and signal where a road (``mouth`` leads into the junction) meets a junction."""
    end_m = mouth.length_m
    parts["crosswalks"][name] = Crosswalk(name, _wide(mouth.part(end_m - 4.5, end_m - 1.5), half_m), road, 0.0)
    bars = [_wide(lanes[token].path.part(end_m - 6.0, end_m - 5.6), LANE_M / 2) for token in tokens]
    parts["stop_lines"][name] = StopLine(name, unary_union(bars), tokens, road, "TRAFFIC_LIGHT")
    x, y, yaw = mouth.end
    parts["lights"][name] = TrafficLight(name, (x, y, 4.5), yaw + np.pi, tokens, road, junction)


def _connected(lanes: dict[str, Lane]) -> dict[str, Lane]:
    """Left from the inner lane, right from the outer one, straight on from any."""
    lanes = dict(lanes)
    for junction in JUNCTIONS:
        arms = [
            (name, row[1], way)
            for name, row in ROADS.items()
            for way, at in (("ab", 4), ("ba", 3))
            if row[at] == junction
        ]
        for name, count, way in arms:
            for i in range(count):
                lane = lanes[f"{name}-{way}{i}"]
                for other, other_count, other_way in arms:
                    first = lanes[f"{other}-{'ba' if other_way == 'ab' else 'ab'}0"]
                    turn_rad = np.angle(np.exp(1j * (first.path.start[2] - lane.path.end[2])))
                    turn = "straight" if abs(turn_rad) < 0.5 else "left" if turn_rad > 0 else "right"
                    allowed = turn == "straight" or (turn == "left" and i == 0) or (turn == "right" and i == count - 1)
                    if other == name or not allowed:
                        continue
                    target = lanes[first.token[:-1] + str(min(i, other_count - 1))]
                    path, token = biarc(lane.path.end, target.path.start), f"{lane.token}-{turn}"
                    width_m, follow = LANE_M - 0.5, (target.token,)
                    area = _wide(path, width_m / 2)
                    lanes[token] = Lane(token, path, width_m, area, "", junction, turn, follow, "", "", 6.0)
                    lane = lanes[lane.token] = replace(lane, successors=(*lane.successors, token))
    return lanes


def _line(path: ArcPath) -> LineString:
    return LineString(path.sampled(1.0)[:, :2])


def _wide(path: ArcPath, half_m: float) -> Polygon:
    return _line(path).buffer(half_m, cap_style="flat")
