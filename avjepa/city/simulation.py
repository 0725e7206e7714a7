"""Who is where at every moment of one drive, the ego included."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from shapely.geometry import LineString, MultiPoint, Point

from avjepa.city import shapes
from avjepa.city.actors import Actor, Closure, obstacles, parked_actors, vehicle_of
from avjepa.city.ground import CELL_M, KERB_M
from avjepa.city.lane_graph import ALL_RED_S, GREEN_S, LaneGraph, build_lane_graph
from avjepa.city.materials import Ground
from avjepa.city.people import add_people
from avjepa.city.rig import EGO_CENTRE_M, EGO_SIZE_WLH_M
from avjepa.city.traffic import STEP_S, Traffic, Vehicle
from avjepa.city.world import Town

WARM_UP_S = 12.0  # of traffic before the ego joins
JOIN_S = 2.0  # before the recording
VEHICLES, PEOPLE = 44, 84  # in a town
BEFORE_BAR_M = (16.0, 34.0)  # where the ego joins that is to take a way, its front from the stop bar
BEFORE_STOP_M, STOP_MPS = (1.0, 6.0), 3.0  # the same where it has to stop, which takes time, and how fast it is
CLEAR_OF_WAY_M = 7.0  # of either lane in the recording
TRIES = 10
KINDS = {"car": 0.72, "truck": 0.07, "bus": 0.05, "motorcycle": 0.06, "bicycle": 0.10}
ROAD = (Ground.ASPHALT, Ground.WHITE, Ground.YELLOW, Ground.PARKING)


@dataclass(frozen=True)
class Simulation:
    """One drive. Times are seconds from its start; tracks reach from 0.2 s before it to its end.

    Attributes:
        actors: things other than the ego; the number of a thing is its place here.
        ego: (T, 4) x, y, yaw, speed of the rear axle.
        start_s: time of the first row of every track.
    """

    actors: tuple[Actor, ...]
    ego: np.ndarray
    start_s: float
    town: Town

    def actor_states(self, time_s: float) -> np.ndarray:
        """(n, 5): x, y, z, yaw, speed of all actors."""
        rows = np.array([_at(actor.track, (time_s - self.start_s) / STEP_S) for actor in self.actors]).reshape(-1, 4)
        z = np.where(_is_road(self.town, rows[:, :2]), 0.0, KERB_M)
        return np.column_stack([rows[:, :2], z, rows[:, 2:]])

    def town_T_actors(self, time_s: float) -> np.ndarray:
        """(n, 4, 4) poses on the ground."""
        return _poses(self.actor_states(time_s)[:, :4])

    def town_T_standing(self) -> np.ndarray:
        """(n, 4, 4) poses of the actors that stay where they are, nan for the others."""
        moves = np.array([len(actor.track) > 1 for actor in self.actors])
        return np.where(moves[:, None, None], np.nan, self.town_T_actors(self.start_s))

    def ego_states(self, times_s: np.ndarray) -> np.ndarray:
        """(k, 4): x, y, yaw, speed of the ego."""
        return np.array([_at(self.ego, (t - self.start_s) / STEP_S) for t in np.atleast_1d(times_s)])

    def town_T_ego(self, times_s: np.ndarray) -> np.ndarray:
        """(k, 4, 4)."""
        states = self.ego_states(times_s)
        return _poses(np.column_stack([states[:, :2], np.zeros(len(states)), states[:, 2]]))


def simulate(
    town: Town,
    street: str,
    seconds: float,
    closures: tuple[Closure, ...],
    rng: np.random.Generator,
    way: str = "",
) -> Simulation:
    """Traffic and people of one drive that starts in a street.

    With a way, the ego starts before it, whatever the street, while the signal there is green, and takes it. Where others bar it
    beyond the drive's end, the drive is simulated anew, some times; the last try counts, and may still wait. Drives of less than
    about 6 s are too short; a way that barriers close is left alone.

    Args:
        town: where.
        street: name of the street in which the recording starts.
        seconds: length.
        closures: lanes that nobody drives on, with barriers.
        rng: of this drive.
        way: token of a connector that the ego is to take; "" for a random drive.
    """
    graph, closed = _without(build_lane_graph(town.road_map), {closure.lane for closure in closures})
    before = next((lane for lane, ways in graph.successors.items() if way in ways), "")
    for _ in range(TRIES if before else 1):
        simulation = _simulated(town, graph, closed, street, seconds, closures, rng, way if before else "")
        if before and _took(simulation, graph, before, way, seconds):
            break
    return simulation


def _simulated(
    town: Town,
    graph: LaneGraph,
    closed: set[str],
    street: str,
    seconds: float,
    closures: tuple[Closure, ...],
    rng: np.random.Generator,
    way: str,
) -> Simulation:
    vehicles = _traffic(graph, closed, rng)
    walkers, crossers, standing = add_people(town.road_map, graph, PEOPLE, rng)
    clock_s = _green_at(graph, way, rng) if way else -JOIN_S
    traffic = Traffic(graph, vehicles, rng, clock_s - WARM_UP_S)
    steps = round((WARM_UP_S + JOIN_S + seconds) / STEP_S) + 2
    join = round(WARM_UP_S / STEP_S)
    record_from = round((WARM_UP_S + JOIN_S - 0.2) / STEP_S)
    vehicle_rows, people_rows = [], []
    for step in range(steps + 1):
        if step == join:
            if way:
                _join_before(traffic, graph, way, rng)
            else:
                _join_ego(traffic, graph, street, closed, rng)
        if step >= join:
            vehicle_rows.append(traffic.poses())
            people_rows.append([person.pose() for person in (*walkers, *crossers)])
        traffic.step({crosser.crosswalk for crosser in crossers if crosser.is_on_road})
        for walker in walkers:
            walker.step()
        for crosser in crossers:
            crosser.step(traffic)
    first = record_from - join
    tracks = np.stack(vehicle_rows, 1)  # (vehicles, T, 4), the ego last
    actors = []
    for vehicle, track in zip(traffic.vehicles[:-1], tracks[:-1], strict=True):
        category, family, shape, size = vehicle_of(vehicle.kind, rng)
        actors.append(Actor(category, family, False, shape, size, _trailed(track, 0.3 * size[1])[first:]))
    actors += _people(people_rows, first, standing, rng)
    actors += parked_actors(town, rng)
    actors += obstacles(town, street, closures, rng)
    ego = _trailed(tracks[-1], EGO_CENTRE_M)
    ego[:, :2] -= EGO_CENTRE_M * np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], 1)
    return Simulation(tuple(actors), ego[first:], -0.2, town)


def _traffic(graph: LaneGraph, closed: set[str], rng) -> list[Vehicle]:
    """Vehicles spread over the streets, at least 14 m apart."""
    lanes = [token for token, is_connector in graph.is_connector.items() if not is_connector and token not in closed]
    lengths = np.array([graph.lengths_m[token] for token in lanes])
    vehicles, taken = [], []
    names, shares = list(KINDS), np.array(list(KINDS.values()))
    while len(vehicles) < VEHICLES:
        lane = lanes[int(rng.choice(len(lanes), p=lengths / lengths.sum()))]
        s_m = float(rng.uniform(8, graph.lengths_m[lane] - 12))
        if any(other == lane and abs(s - s_m) < 16 for other, s in taken):
            continue
        taken.append((lane, s_m))
        kind = names[int(rng.choice(len(names), p=shares))]
        slow = kind == "bicycle"
        length = {"car": 4.8, "truck": 8.5, "bus": 12.0, "motorcycle": 2.1, "bicycle": 1.8}[kind]
        vehicles.append(
            Vehicle(
                kind=kind,
                length_m=length,
                haste=float(rng.uniform(0.75, 1.1)),
                right_m=0.9 if slow else float(rng.normal(0, 0.1)),
                route=[lane],
                s_m=s_m,
                speed_mps=4.0 if slow else 6.0,
                max_speed_mps=float(rng.uniform(3.5, 6.0)) if slow else 30.0,
            )
        )
    return vehicles


def _join_ego(traffic: Traffic, graph: LaneGraph, street: str, closed, rng) -> None:
    """Put the ego into a lane of its street; whoever is too near vanishes."""
    own = [t for t in graph.tables if t.startswith(f"{street}-") and not graph.is_connector[t]]
    lanes = [t for t in own if t not in closed] or [_nearest_open(graph, own, closed)]
    lane = lanes[int(rng.integers(len(lanes)))]
    s_m = float(rng.uniform(0.08, 0.45) * graph.lengths_m[lane])
    traffic.clear(lane, s_m, 18.0)
    wishes = [["left", "right"][int(rng.integers(2))], ["straight", "left", "right"][int(rng.integers(3))]]
    limit = graph.speeds_mps[lane]
    ego = Vehicle("ego", EGO_SIZE_WLH_M[1], float(rng.uniform(0.8, 1.05)), 0.0, [lane], s_m, 0.7 * limit, wishes)
    traffic.join(ego)


def _nearest_open(graph: LaneGraph, lanes: list[str], closed: set[str]) -> str:
    """The lane nearest to a street of which nobody can use any."""
    street = MultiPoint(np.concatenate([graph.tables[token][:, :2] for token in lanes]))
    others = [t for t in graph.tables if not graph.is_connector[t] and t not in closed]
    return min(others, key=lambda token: LineString(graph.tables[token][:, :2]).distance(street))


def _join_before(traffic: Traffic, graph: LaneGraph, way: str, rng) -> None:
    """Put the ego on the lane before a way, its first there."""
    lane = next(lane for lane, ways in graph.successors.items() if way in ways)
    has_stop = graph.rules[way] == "stop"
    gap_m = float(rng.uniform(*(BEFORE_STOP_M if has_stop else BEFORE_BAR_M)))
    s_m = max(graph.stops_m[lane] - EGO_SIZE_WLH_M[1] / 2 - gap_m, EGO_SIZE_WLH_M[1])
    traffic.clear(lane, s_m, max(18.0, graph.lengths_m[lane] - s_m))
    speed_mps = STOP_MPS if has_stop else 0.7 * graph.speeds_mps[lane]
    traffic.join(Vehicle("ego", EGO_SIZE_WLH_M[1], float(rng.uniform(0.8, 1.05)), 0.0, [lane, way], s_m, speed_mps))


def _green_at(graph: LaneGraph, way: str, rng) -> float:
    """A time of the town's signals at which that of a way's lane is green, and will be for some seconds."""
    lane = next(lane for lane, ways in graph.successors.items() if way in ways)
    return graph.green_phase.get(lane, 0) * (GREEN_S + ALL_RED_S) + float(rng.uniform(0.0, GREEN_S - JOIN_S - 1.0))


def _took(simulation: Simulation, graph: LaneGraph, before: str, way: str, seconds: float) -> bool:
    """Whether the recording begins on the lane before a way, and ends on the one behind it, some metres from it each."""
    lines = [LineString(graph.tables[token][:, :2]) for token in (before, graph.successors[way][0])]
    begin, end = (Point(state[:2]) for state in simulation.ego_states(np.array([0.0, seconds])))
    on_lanes = lines[0].distance(begin) < 1 and lines[1].distance(end) < 1
    far_m = (lines[0].length - lines[0].project(begin), lines[1].project(end))
    return on_lanes and min(far_m) >= CLEAR_OF_WAY_M


def _people(rows, first: int, standing, rng) -> list[Actor]:
    tracks = np.array(rows, dtype=float)[first:].transpose(1, 0, 2) if rows and rows[0] else np.zeros((0, 1, 4))
    actors = []
    for track in [*tracks, *(np.array([row]) for row in standing)]:
        walking = bool((track[:, 3] > 0.1).mean() > 0.5)
        shape, size = shapes.pedestrian(rng, walking)
        child = size[2] < 1.53
        category = "human.pedestrian.child" if child else "human.pedestrian.adult"
        track = track.copy()
        track[:, 2] = np.unwrap(track[:, 2])
        actors.append(Actor(category, "pedestrian", False, shape, size, track))
    return actors


def _trailed(track: np.ndarray, axle_m: float) -> np.ndarray:
    """Headings of vehicles whose rear axle, ``axle_m`` behind their middle, follows (a tractrix)."""
    track = track.copy()
    track[:, 2] = np.unwrap(track[:, 2])
    yaw = track[0, 2]
    rear = track[0, :2] - axle_m * np.array([np.cos(yaw), np.sin(yaw)])
    for row in track:
        way = row[:2] - rear
        yaw = yaw + np.angle(np.exp(1j * (np.arctan2(way[1], way[0]) - yaw)))
        row[2] = yaw
        rear = row[:2] - axle_m * np.array([np.cos(yaw), np.sin(yaw)])
    return track


def _without(graph: LaneGraph, closed: set[str]) -> tuple[LaneGraph, set[str]]:
    """The graph without closed lanes and the ways that end in them; and all lanes that nobody can use."""
    barred = set(closed)
    while True:
        dead_ends = {
            token
            for token, ways in graph.successors.items()
            if token not in barred and all(way in barred for way in ways)
        }
        if not dead_ends:
            break
        barred |= dead_ends
    successors = {token: tuple(way for way in ways if way not in barred) for token, ways in graph.successors.items()}
    return replace(graph, successors=successors), barred


def _at(track: np.ndarray, step: float) -> np.ndarray:
    """Linear interpolation between the rows of a track; constant before and after."""
    if len(track) == 1:
        return track[0]
    step = min(max(step, 0.0), len(track) - 1.000001)
    number = int(step)
    return track[number] + (step - number) * (track[number + 1] - track[number])


def _poses(xyz_yaw: np.ndarray) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(xyz_yaw), 1, 1))
    cosine, sine = np.cos(xyz_yaw[:, 3]), np.sin(xyz_yaw[:, 3])
    poses[:, 0, 0], poses[:, 0, 1], poses[:, 1, 0], poses[:, 1, 1] = cosine, -sine, sine, cosine
    poses[:, :3, 3] = xyz_yaw[:, :3]
    return poses


def _is_road(town: Town, xy: np.ndarray) -> np.ndarray:
    rows, columns = town.raster.shape
    column = np.floor(xy[:, 0] / CELL_M).astype(int).clip(0, columns - 1)
    row = np.floor(xy[:, 1] / CELL_M).astype(int).clip(0, rows - 1)
    return np.isin(town.raster[row, column], ROAD)
