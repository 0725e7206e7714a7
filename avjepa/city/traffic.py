"""Vehicles on the lanes of a town: car-following, stopping, yielding at junctions and at crosswalks.

Car-following is the Intelligent Driver Model (Treiber, Hennecke, Helbing: "Congested traffic states in empirical observations
and microscopic simulations", 2000, equations 3 and 4). A junction is entered when no crossing way is taken.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from avjepa.city.lane_graph import LaneGraph

STEP_S = 0.1
MAX_ACCELERATION, COMFORTABLE_BRAKING, HARDEST_BRAKING = 1.8, 2.2, 6.0
HEADWAY_S, STANDSTILL_M = 1.2, 2.2
LOOK_AHEAD_M = 45.0
CLAIM_M = {"signals": 22.0, "yield": 14.0, "stop": 2.5, "ring": 1e9}  # where a driver decides whether to go
EXIT_ROOM_M = 9.0
PATIENCE_S = 4.0  # who has stood so much longer goes first


@dataclass(eq=False)
class Vehicle:
    """A moving vehicle: the middle of its box is at arc length ``s_m`` of the lane ``route[0]``.

    Attributes:
        kind: "car", "truck" and so on.
        length_m: of its box.
        haste: factor on the speed limit.
        right_m: how far right of the lane's middle it keeps.
        wishes: turns to take at the next junctions, if there is a choice.
        claims: connectors that it may use.
        stood_s: how long it has been standing.
        is_held_up: others on crossing ways, and nothing else, keep it from entering a junction.
    """

    kind: str
    length_m: float
    haste: float
    right_m: float
    route: list[str]
    s_m: float
    speed_mps: float
    wishes: list[str] = field(default_factory=list)
    claims: set[str] = field(default_factory=set)
    stood_s: float = 0.0
    is_held_up: bool = False
    max_speed_mps: float = 30.0


class Traffic:
    """All moving vehicles of a town.

    Args:
        graph: lanes.
        vehicles: at time ``time_s``.
        rng: chooses turns.
    """

    def __init__(self, graph: LaneGraph, vehicles: list[Vehicle], rng: np.random.Generator, time_s: float) -> None:
        self.graph, self.vehicles, self.rng, self.time_s = graph, vehicles, rng, time_s
        for vehicle in vehicles:
            self._extend(vehicle)

    def clear(self, lane: str, s_m: float, within_m: float) -> None:
        """Take away the vehicles around a place."""
        gone = [v for v in self.vehicles if v.route[0] == lane and abs(v.s_m - s_m) < within_m]
        self.vehicles = [vehicle for vehicle in self.vehicles if vehicle not in gone]

    def join(self, vehicle: Vehicle) -> None:
        """Add a vehicle; it comes last in :meth:`poses`."""
        self.vehicles.append(vehicle)
        self._extend(vehicle)

    def step(self, busy_crosswalks: set[str]) -> None:
        """Advance everyone by STEP_S; ``busy_crosswalks`` have people on them."""
        self._sort_lanes()
        accelerations = [self._acceleration(vehicle, busy_crosswalks) for vehicle in self.vehicles]
        for vehicle, acceleration in zip(self.vehicles, accelerations, strict=True):
            speed = max(vehicle.speed_mps + acceleration * STEP_S, 0.0)
            vehicle.s_m += (vehicle.speed_mps + speed) / 2 * STEP_S
            vehicle.speed_mps = speed
            vehicle.stood_s = vehicle.stood_s + STEP_S if speed < 0.1 else 0.0
            self._advance(vehicle)
        self.time_s += STEP_S

    def poses(self) -> np.ndarray:
        """(n, 4): x, y, yaw, speed of the middles of all boxes."""
        rows = []
        for vehicle in self.vehicles:
            x, y, yaw = self.graph.pose(vehicle.route[0], vehicle.s_m)
            rows.append((x + vehicle.right_m * np.sin(yaw), y - vehicle.right_m * np.cos(yaw), yaw, vehicle.speed_mps))
        return np.array(rows).reshape(-1, 4)

    def near_crosswalk(self, lanes: dict[str, float], margin_s: float) -> bool:
        """Whether a vehicle is about to cross at one of these arc lengths, or has waited there so long that it goes first."""
        for vehicle in self.vehicles:
            gap = -vehicle.s_m - vehicle.length_m / 2
            for lane in vehicle.route[:3]:
                if lane in lanes and -vehicle.length_m - 4 < gap + lanes[lane] < vehicle.speed_mps * margin_s:
                    return True
                waits_long = vehicle.stood_s > PATIENCE_S and self.graph.is_green(vehicle.route[0], self.time_s)
                if lane in lanes and waits_long and 0 < gap + lanes[lane] < 8:
                    return True
                gap += self.graph.lengths_m[lane]
        return False

    def _acceleration(self, vehicle: Vehicle, busy: set[str]) -> float:
        """The most careful of: the way ahead is free, a leader, a stop bar, a crosswalk, a slower lane."""
        wanted = self._wanted_speed(vehicle)
        options = [_free(vehicle.speed_mps, wanted)]
        leader = self._leader(vehicle)
        if leader is not None:
            options.append(_follow(vehicle.speed_mps, wanted, leader[0], leader[1]))
        for gap in (self._bar_gap(vehicle, busy), self._crosswalk_gap(vehicle, busy)):
            if gap is not None:
                options.append(_follow(vehicle.speed_mps, wanted, gap + STANDSTILL_M - 0.6, 0.0))
        return float(np.clip(min(options), -HARDEST_BRAKING, MAX_ACCELERATION))

    def _wanted_speed(self, vehicle: Vehicle) -> float:
        """The limit here, or less where a slower lane comes within braking distance."""
        graph = self.graph
        wanted = graph.speeds_mps[vehicle.route[0]] * vehicle.haste
        ahead = graph.lengths_m[vehicle.route[0]] - vehicle.s_m
        for lane in vehicle.route[1:3]:
            limit = graph.speeds_mps[lane] * vehicle.haste
            wanted = min(wanted, float(np.sqrt(limit**2 + 2 * 1.4 * max(ahead, 0.0))))
            ahead += graph.lengths_m[lane]
        return min(wanted, vehicle.max_speed_mps)

    def _leader(self, vehicle: Vehicle) -> tuple[float, float] | None:
        """(gap, speed) of the next vehicle on the route, or beside it where ways part or join."""
        base = -vehicle.s_m
        for lane in vehicle.route:
            for s_m, other in self._in_way[lane]:
                if other is not vehicle and base + s_m > 0:
                    gap = base + s_m - (vehicle.length_m + other.length_m) / 2
                    return max(gap, 0.1), other.speed_mps
            base += self.graph.lengths_m[lane]
            if base > LOOK_AHEAD_M:
                return None
        return None

    def _bar_gap(self, vehicle: Vehicle, busy: set[str]) -> float | None:
        """Distance to the stop bar, or None where the driver may go on."""
        graph, lane = self.graph, vehicle.route[0]
        following = vehicle.route[1]
        if graph.is_connector[lane] or not graph.is_connector[following]:
            return None
        gap = graph.stops_m[lane] - vehicle.s_m - vehicle.length_m / 2
        is_open = graph.is_green(lane, self.time_s) and not any(
            token in busy for s_m, token in graph.crossings[lane] if s_m > graph.stops_m[lane]
        )
        if following in vehicle.claims:
            if is_open or gap < vehicle.speed_mps**2 / (2 * COMFORTABLE_BRAKING):
                return None
            vehicle.claims.discard(following)
        vehicle.is_held_up = False
        if gap > LOOK_AHEAD_M:
            return None
        if is_open and gap < CLAIM_M[graph.rules[following]] and self._may_enter(vehicle, lane, following):
            vehicle.claims.add(following)
            return None
        return max(gap, 0.05)

    def _may_enter(self, vehicle: Vehicle, lane: str, connector: str) -> bool:
        graph = self.graph
        if graph.rules[connector] == "stop" and vehicle.speed_mps > 0.8:
            return False
        ahead = next((other for other in self._by_lane[lane] if other.s_m > vehicle.s_m), None)
        if ahead is not None and not ahead.claims:  # it waits, and so does whoever is behind it
            return False
        for piece, from_m in graph.watched[connector]:
            if any(other.s_m + other.length_m / 2 > from_m for other in self._by_lane[piece]):
                return False
        exit_lane = graph.successors[connector][0]
        first = self._by_lane[exit_lane][0] if self._by_lane[exit_lane] else None
        room = EXIT_ROOM_M if graph.rules[connector] != "yield" else 3.0
        if not (first is None or first.s_m - first.length_m / 2 > room or first.speed_mps > 2.0):
            return False
        crossing = graph.conflicts[connector]
        vehicle.is_held_up = any(
            not crossing.isdisjoint(other.claims)
            or (other.is_held_up and other.stood_s > vehicle.stood_s + PATIENCE_S and other.route[1] in crossing)
            for other in self.vehicles
        )
        return not vehicle.is_held_up

    def _crosswalk_gap(self, vehicle: Vehicle, busy: set[str]) -> float | None:
        """Distance to the next crosswalk with people on it, if the vehicle can still stop."""
        base = -vehicle.s_m - vehicle.length_m / 2
        for lane in vehicle.route[:3]:
            for s_m, crosswalk in self.graph.crossings[lane]:
                gap = base + s_m - 1.0
                if crosswalk in busy and gap > vehicle.speed_mps**2 / (2 * HARDEST_BRAKING) - 0.5:
                    return max(gap, 0.05)
            base += self.graph.lengths_m[lane]
            if base > LOOK_AHEAD_M:
                break
        return None

    def _advance(self, vehicle: Vehicle) -> None:
        """Onto the next lane, and give back the junction once its rear has left it."""
        graph = self.graph
        while vehicle.s_m > graph.lengths_m[vehicle.route[0]]:
            vehicle.s_m -= graph.lengths_m[vehicle.route.pop(0)]
            self._extend(vehicle)
        here = vehicle.route[0]
        if vehicle.claims and not graph.is_connector[here] and vehicle.s_m > vehicle.length_m / 2:
            vehicle.claims &= {vehicle.route[1]}

    def _extend(self, vehicle: Vehicle) -> None:
        """Keep four lanes of route, wishes first, otherwise at random."""
        while len(vehicle.route) < 4:
            options = self.graph.successors[vehicle.route[-1]]
            chosen = options[int(self.rng.integers(len(options)))]
            if len(options) > 1 and vehicle.wishes:
                wish = vehicle.wishes.pop(0)
                chosen = next((option for option in options if option.endswith(wish)), chosen)
            vehicle.route.append(chosen)

    def _sort_lanes(self) -> None:
        self._by_lane, self._in_way = defaultdict(list), defaultdict(list)
        for vehicle in sorted(self.vehicles, key=lambda vehicle: vehicle.s_m):
            lane, reach_m = vehicle.route[0], vehicle.length_m / 2
            self._by_lane[lane].append(vehicle)
            self._in_way[lane].append((vehicle.s_m, vehicle))
            for begin_m, end_m, other, shift_m in self.graph.beside[lane]:
                if begin_m - reach_m < vehicle.s_m < end_m + reach_m:
                    self._in_way[other].append((vehicle.s_m + shift_m, vehicle))
        for vehicles in self._in_way.values():
            vehicles.sort(key=lambda item: item[0])


def _free(speed: float, wanted: float) -> float:
    if speed > wanted:
        return -COMFORTABLE_BRAKING * (1 - (wanted / speed) ** 2)
    return MAX_ACCELERATION * (1 - (speed / max(wanted, 0.1)) ** 4)


def _follow(speed: float, wanted: float, gap_m: float, leader_mps: float) -> float:
    """IDM acceleration behind a leader."""
    braking = speed * (speed - leader_mps) / (2 * np.sqrt(MAX_ACCELERATION * COMFORTABLE_BRAKING))
    desired = STANDSTILL_M + max(speed * HEADWAY_S + braking, 0.0)
    return MAX_ACCELERATION * (1 - (speed / max(wanted, 0.1)) ** 4 - (desired / max(gap_m, 0.1)) ** 2)
