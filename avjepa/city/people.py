"""People on foot: along the walkways, over the crosswalks, and standing about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapely.geometry import LineString, Polygon
from shapely.ops import unary_union

from avjepa.city.ground import parts_of
from avjepa.city.lane_graph import LaneGraph
from avjepa.city.road_map import RoadMap
from avjepa.city.traffic import STEP_S, Traffic

KERB_SIDE_M = (0.7, 2.1)  # where people walk, from the kerb
GAP_S = 3.5  # a gap in traffic that makes one step off the kerb


@dataclass
class Walker:
    """Somebody who walks along a closed line at a steady pace."""

    line: LineString
    s_m: float
    pace_mps: float  # negative: against the line's direction

    def step(self) -> None:
        """Walk on for STEP_S."""
        self.s_m = (self.s_m + self.pace_mps * STEP_S) % self.line.length

    def pose(self) -> tuple[float, float, float, float]:
        """x, y, yaw, speed."""
        here, there = self.line.interpolate(self.s_m), self.line.interpolate((self.s_m + 0.3) % self.line.length)
        yaw = np.arctan2(there.y - here.y, there.x - here.x) + (np.pi if self.pace_mps < 0 else 0.0)
        return here.x, here.y, float(yaw), abs(self.pace_mps)


@dataclass
class Crosser:
    """Somebody who waits at a crosswalk, crosses when there is a gap, and waits again on the other side.

    Attributes:
        crosswalk: token.
        start, end: (2,) points on either walkway.
        lanes: lanes that the crosswalk lies on, each with the arc length where it begins.
        wait_s: time until the next try.
    """

    crosswalk: str
    start: np.ndarray
    end: np.ndarray
    lanes: dict[str, float]
    pace_mps: float
    wait_s: float
    walked_m: float = 0.0
    is_walking: bool = False

    @property
    def is_on_road(self) -> bool:
        """Whether drivers must wait."""
        length = float(np.hypot(*(self.end - self.start)))
        return self.is_walking and 0.3 < self.walked_m < length - 0.8

    def step(self, traffic: Traffic) -> None:
        """Wait, set off or walk on for STEP_S."""
        length = float(np.hypot(*(self.end - self.start)))
        if self.is_walking:
            self.walked_m += self.pace_mps * STEP_S
            if self.walked_m >= length:
                self.start, self.end, self.walked_m, self.is_walking = self.end, self.start, 0.0, False
                self.wait_s = 12.0
            return
        self.wait_s -= STEP_S
        if self.wait_s <= 0 and not traffic.near_crosswalk(self.lanes, GAP_S):
            self.is_walking = True

    def pose(self) -> tuple[float, float, float, float]:
        """x, y, yaw, speed."""
        way = self.end - self.start
        yaw = float(np.arctan2(way[1], way[0]))
        x, y = self.start + way / np.hypot(*way) * self.walked_m
        return float(x), float(y), yaw, self.pace_mps if self.is_walking else 0.0


def walkway_lines(road_map: RoadMap, kerb_side_m: float) -> list[LineString]:
    """Closed lines along all kerbs, on the walkway side; none on islands."""
    lines, islands = [], [area.polygon for area in road_map.islands.values()]
    for polygon in parts_of(unary_union([road_map.drivable, *islands]).buffer(kerb_side_m)):
        for ring in (polygon.exterior, *polygon.interiors):
            if ring.length > 60:
                lines.append(LineString(ring.coords))
    return lines


def add_people(
    road_map: RoadMap, graph: LaneGraph, count: int, rng: np.random.Generator
) -> tuple[list[Walker], list[Crosser], list[tuple[float, float, float, float]]]:
    """Walkers, crossers and people who stand (x, y, yaw, 0)."""
    walkers, crossers, standing = [], [], []
    crosswalks = list(road_map.crosswalks.values())
    sides = [walkway_lines(road_map, kerb_side_m) for kerb_side_m in np.linspace(*KERB_SIDE_M, 4)]
    for _ in range(count):
        lines = sides[int(rng.integers(len(sides)))]
        lengths = np.array([line.length for line in lines])
        line = lines[int(rng.choice(len(lines), p=lengths / lengths.sum()))]
        pace = float(rng.uniform(0.9, 1.7)) * (1 if rng.random() < 0.5 else -1)
        kind = rng.random()
        if kind < 0.42:
            walkers.append(Walker(line, float(rng.uniform(0, line.length)), pace))
        elif kind < 0.66:
            crosswalk = crosswalks[int(rng.integers(len(crosswalks)))]
            start, end = _crosswalk_ends(crosswalk.polygon, rng)
            lanes = {t: s for t, found in graph.crossings.items() for s, token in found if token == crosswalk.token}
            crossers.append(Crosser(crosswalk.token, start, end, lanes, abs(pace), float(rng.uniform(0, 25))))
        else:
            point = line.interpolate(float(rng.uniform(0, line.length)))
            standing.append((point.x, point.y, float(rng.uniform(0, 2 * np.pi)), 0.0))
    return walkers, crossers, standing


def _crosswalk_ends(polygon: Polygon, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two points a metre behind the kerbs, on a line along the crosswalk."""
    corners = np.array(polygon.minimum_rotated_rectangle.exterior.coords)[:4]
    edges = np.roll(corners, -1, 0) - corners
    longest = int(np.argmax(np.hypot(*edges.T)))
    along, aside = edges[longest], edges[(longest + 1) % 4]
    unit = along / np.hypot(*along)
    base = corners[longest] + aside * rng.uniform(0.2, 0.8)
    ends = [base - unit * 1.0, base + along + unit * 1.0]
    if rng.random() < 0.5:
        ends.reverse()
    return ends[0], ends[1]
