"""What drivers know of a road map: lane lengths, which ways cross which, where to stop, and when the signal is green."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from shapely.geometry import LineString, Point

from avjepa.city.arc_path import ArcPath
from avjepa.city.road_map import RoadMap
from avjepa.city.streets import as_line

GREEN_S, ALL_RED_S = 9.0, 2.0
TABLE_M = 0.25
CLEARANCE_M = 2.2  # two ways whose centre lines come nearer than this cannot be used at once


@dataclass(frozen=True)
class LaneGraph:
    """Derived once from a road map.

    Attributes:
        tables: (k, 3) poses every TABLE_M along the middle of every lane and connector.
        lengths_m, speeds_mps, successors: of every lane and connector.
        is_connector: by token.
        conflicts: connectors that cross or join a connector, those of its own origin lane left out.
        watched: of an entry to a roundabout, (ring piece, from arc length) where a vehicle bars the way.
        beside: of a lane, where it is too near to one that begins or ends at the same point: (from arc length, to arc length,
            the other lane, what to add for arc length there).
        stops_m: arc length of the stop bar of a lane, or its end.
        crossings: per lane (arc length where its crosswalk begins, token).
        rules: "signals", "stop", "yield" or "ring" of a connector.
        green_phase: per lane with a signal, 0 or 1.
    """

    tables: dict[str, np.ndarray]
    lengths_m: dict[str, float]
    speeds_mps: dict[str, float]
    successors: dict[str, tuple[str, ...]]
    is_connector: dict[str, bool]
    conflicts: dict[str, frozenset[str]]
    watched: dict[str, tuple[tuple[str, float], ...]]
    beside: dict[str, tuple[tuple[float, float, str, float], ...]]
    stops_m: dict[str, float]
    crossings: dict[str, tuple[tuple[float, str], ...]]
    rules: dict[str, str]
    green_phase: dict[str, int]

    def pose(self, lane: str, s_m: float) -> np.ndarray:
        """x, y, yaw at an arc length of a lane."""
        table = self.tables[lane]
        step = min(max(s_m / TABLE_M, 0.0), len(table) - 1.000001)
        number = int(step)
        return table[number] + (step - number) * (table[number + 1] - table[number])

    def is_green(self, lane: str, time_s: float) -> bool:
        """Whether the signal at the end of a lane is green; a lane without signal always is."""
        if lane not in self.green_phase:
            return True
        period = 2 * (GREEN_S + ALL_RED_S)
        since = (time_s - self.green_phase[lane] * (GREEN_S + ALL_RED_S)) % period
        return since < GREEN_S


def build_lane_graph(road_map: RoadMap) -> LaneGraph:
    """The lane graph of a road map."""
    lanes = road_map.lanes
    lines = {token: as_line(lane.path) for token, lane in lanes.items()}
    origins = defaultdict(set)
    for lane in lanes.values():
        for successor in lane.successors:
            origins[successor].add(lane.token)
    by_junction = defaultdict(list)
    for lane in lanes.values():
        if lane.junction:
            by_junction[lane.junction].append(lane.token)
    conflicts, watched, rules = {}, {}, {}
    cues = {lane: stop.cue for stop in road_map.stop_lines.values() for lane in stop.lanes}
    rule_of = {"TRAFFIC_LIGHT": "signals", "STOP_SIGN": "stop", "YIELD": "yield"}
    for tokens in by_junction.values():
        has_ring = any(lanes[token].turn == "ring" for token in tokens)
        for token in tokens:
            others = [o for o in tokens if o != token and not (origins[o] & origins[token])]
            origin = next(iter(origins[token]), "")
            rules[token] = (
                "ring" if has_ring and origin not in cues else rule_of.get(cues.get(origin, "YIELD"), "yield")
            )
            if has_ring:
                conflicts[token] = frozenset()
                watched[token] = _ring_watch(token, lanes, origins) if origin in cues else ()
            else:
                conflicts[token] = frozenset(o for o in others if lines[o].distance(lines[token]) < CLEARANCE_M)
                watched[token] = ()
    return LaneGraph(
        tables={token: _table(lane.path) for token, lane in lanes.items()},
        lengths_m={token: lane.path.length_m for token, lane in lanes.items()},
        speeds_mps={token: lane.speed_mps for token, lane in lanes.items()},
        successors={token: lane.successors for token, lane in lanes.items()},
        is_connector={token: bool(lane.junction) for token, lane in lanes.items()},
        conflicts=conflicts,
        watched=watched,
        beside=_beside(lanes, origins),
        stops_m=_stops(road_map, lines),
        crossings=_crossings(road_map, lines),
        rules=rules,
        green_phase=_phases(road_map),
    )


def _table(path: ArcPath) -> np.ndarray:
    return path.poses(np.arange(0, path.length_m + 2 * TABLE_M, TABLE_M))


def _ring_watch(entry: str, lanes, origins) -> tuple[tuple[str, float], ...]:
    """The ring pieces that lead to where an entry joins: the one beside it, and the end of the one before."""
    joined = lanes[entry].successors[0]
    beside = [token for token in origins[joined] if lanes[token].turn == "ring"]
    before = [token for piece in beside for token in origins[piece] if lanes[token].turn == "ring"]
    found = [(token, 0.0) for token in beside]
    found += [(token, lanes[token].path.length_m - 7.0) for token in before]
    found += [(token, 0.0) for token in origins[joined] if lanes[token].turn != "ring" and token != entry]
    return tuple(found)


def _beside(lanes, origins) -> dict[str, tuple[tuple[float, float, str, float], ...]]:
    """Ways that part from each other or join: side by side, vehicles on them follow each other as on one lane."""
    found = defaultdict(list)
    tables = {token: _table(lane.path)[:, :2] for token, lane in lanes.items() if lane.junction}
    for lane in lanes.values():
        for token, other in permutations(lane.successors, 2):
            if lanes[token].junction:
                apart = np.flatnonzero(_distances(tables[token], tables[other]) >= CLEARANCE_M)
                found[token].append((0.0, TABLE_M * apart[0] if len(apart) else lanes[token].path.length_m, other, 0.0))
        for token, other in permutations(sorted(origins[lane.token]), 2):
            if lanes[token].junction:
                apart = np.flatnonzero(_distances(tables[token], tables[other]) >= CLEARANCE_M)
                length, longer = lanes[token].path.length_m, lanes[other].path.length_m - lanes[token].path.length_m
                found[token].append((TABLE_M * apart[-1] if len(apart) else 0.0, length, other, longer))
    return {token: tuple(found[token]) for token in lanes}


def _distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(k,) from each of ``points`` (k, 2) to the nearest of ``others``."""
    return np.hypot(*(points[:, None] - others[None]).transpose(2, 0, 1)).min(1)


def _stops(road_map: RoadMap, lines: dict[str, LineString]) -> dict[str, float]:
    stops = {token: line.length for token, line in lines.items()}
    for stop in road_map.stop_lines.values():
        for token in stop.lanes:
            meets = lines[token].intersection(stop.polygon)
            if not meets.is_empty:
                stops[token] = min(lines[token].project(point) for point in _ends(meets))
    return stops


def _crossings(road_map: RoadMap, lines: dict[str, LineString]) -> dict[str, tuple[tuple[float, str], ...]]:
    found = defaultdict(list)
    for token, line in lines.items():
        for crosswalk in road_map.crosswalks.values():
            meets = line.intersection(crosswalk.polygon)
            if not meets.is_empty:
                found[token].append((min(line.project(point) for point in _ends(meets)), crosswalk.token))
    return {token: tuple(sorted(found[token])) for token in lines}


def _phases(road_map: RoadMap) -> dict[str, int]:
    """Approaches of a junction that face each other are green together."""
    phases, first_yaw = {}, {}
    for light in road_map.traffic_lights.values():
        reference = first_yaw.setdefault(light.junction, light.yaw_rad)
        across = abs(np.sin(light.yaw_rad - reference)) > 0.7
        phases.update(dict.fromkeys(light.lanes, int(across)))
    return phases


def _ends(shape):
    lines = [shape] if isinstance(shape, LineString) else [part for part in shape.geoms if isinstance(part, LineString)]
    return [Point(xy) for line in lines for xy in (line.coords[0], line.coords[-1])]
