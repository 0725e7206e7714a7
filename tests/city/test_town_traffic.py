"""A minute of both towns: vehicles, people and closures together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from shapely import contains_xy, points, polygons, prepare
from shapely.ops import unary_union
from shapely.strtree import STRtree

from avjepa.city.actors import Closure
from avjepa.city.lane_graph import ALL_RED_S, GREEN_S, build_lane_graph
from avjepa.city.people import add_people
from avjepa.city.roads import build_town
from avjepa.city.simulation import JOIN_S, WARM_UP_S, _join_ego, _traffic, _trailed, simulate
from avjepa.city.traffic import STEP_S, Traffic
from avjepa.city.world import load_town

WIDTHS_M = {"car": 1.85, "truck": 2.5, "bus": 2.7, "motorcycle": 0.75, "bicycle": 0.6, "ego": 1.73}


@dataclass
class Minute:
    """A minute of a town: routes (lane, next, arc length, claims) and poses of every step."""

    road_map: object
    graph: object
    vehicles: list
    states: list
    poses: np.ndarray
    busy: list
    times: list
    crossers: list


@pytest.fixture(scope="module", params=[("minicity-a", 1), ("minicity-b", 0)], ids=str)
def minute(request):
    town, seed = request.param
    road_map = build_town(town, seed)
    graph, rng = build_lane_graph(road_map), np.random.default_rng([seed, 5])
    vehicles = _traffic(graph, set(), rng)
    _, crossers, _ = add_people(road_map, graph, 84, rng)
    traffic = Traffic(graph, vehicles, rng, -WARM_UP_S - JOIN_S)
    states, poses, busy, times, walks = [], [], [], [], []
    for step in range(round((WARM_UP_S + 60) / STEP_S)):
        people = {crosser.crosswalk for crosser in crossers if crosser.is_on_road}
        if step == round(WARM_UP_S / STEP_S):
            _join_ego(traffic, graph, f"{town}-s00", set(), rng)
        if step >= round(WARM_UP_S / STEP_S):
            poses.append(traffic.poses())
            states.append([(v.route[0], v.route[1], v.s_m, frozenset(v.claims)) for v in traffic.vehicles])
            busy.append(people)
            times.append(traffic.time_s)
            walks.append([(*crosser.pose(), crosser.is_on_road) for crosser in crossers])
        traffic.step(people)
        for crosser in crossers:
            crosser.step(traffic)
    return Minute(road_map, graph, traffic.vehicles, states, np.stack(poses), busy, times, walks)


def boxes(minute, every=5):
    """Corners (steps, vehicles, 4, 2) of the vehicles' boxes, a little smaller than they are."""
    tracks = np.stack(
        [_trailed(minute.poses[:, i], 0.3 * v.length_m)[::every] for i, v in enumerate(minute.vehicles)], 1
    )
    half = np.array([(0.98 * v.length_m, WIDTHS_M[v.kind]) for v in minute.vehicles]) / 2
    corners = half[None, :, None] * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    forward = np.stack([np.cos(tracks[..., 2]), np.sin(tracks[..., 2])], -1)[:, :, None]
    left = forward[..., ::-1] * [-1, 1]
    return tracks[:, :, None, :2] + corners[..., :1] * forward + corners[..., 1:] * left


def test_vehicles_hardly_ever_touch(minute):
    """Long vehicles swing out in tight turns, so that a few boxes brush each other; none drives through another."""
    overlaps, pairs = Counter(), 0
    for frame in boxes(minute):
        shapes = polygons(frame)
        pairs += len(STRtree(shapes).query(shapes, "dwithin", 3.0)[0]) // 2
        for one, other in zip(*STRtree(shapes).query(shapes, "intersects"), strict=True):
            if one < other:
                share = shapes[one].intersection(shapes[other]).area / min(shapes[one].area, shapes[other].area)
                overlaps[int(one), int(other)] = max(overlaps[int(one), int(other)], share)
    assert pairs > 1000
    assert sum(share > 0.02 for share in overlaps.values()) <= 4
    assert max(overlaps.values(), default=0) < 0.6


def test_vehicles_stay_on_the_road(minute):
    """Only long ones cut corners."""
    drivable = minute.road_map.drivable.buffer(0.1)
    prepare(drivable)
    outside = np.array([[not drivable.contains(shape) for shape in polygons(frame)] for frame in boxes(minute)])
    is_long = np.array([v.length_m > 6 for v in minute.vehicles])
    assert not outside[:, ~is_long].any()
    assert outside.mean() < 0.01


def test_no_two_vehicles_are_on_crossing_ways(minute):
    graph, together = minute.graph, 0
    for frame in minute.states:
        inside = {lane for lane, *_ in frame if graph.is_connector[lane]}
        together += len(inside) > 1
        for lane in inside:
            assert not graph.conflicts[lane] & inside, lane
    assert together > 100


def test_nobody_passes_the_bar_of_a_red_signal(minute):
    graph, passed = minute.graph, 0
    lengths = [v.length_m / 2 for v in minute.vehicles]
    for before, after, time_s in zip(minute.states, minute.states[1:], minute.times, strict=False):
        for i, (lane, _, s_m, _) in enumerate(before):
            bar_m = graph.stops_m[lane] - lengths[i]
            if lane in graph.green_phase and after[i][0] == lane and s_m <= bar_m < after[i][2]:
                passed += 1
                since_green = (time_s - graph.green_phase[lane] * (GREEN_S + ALL_RED_S)) % (2 * (GREEN_S + ALL_RED_S))
                assert since_green < GREEN_S + 2.6, (lane, time_s)  # whoever is too near to stop drives on
    assert passed > 10


def test_only_the_first_of_a_queue_may_enter(minute):
    for frame in minute.states:
        lanes = {}
        for lane, following, s_m, claims in frame:
            lanes.setdefault(lane, []).append((s_m, following in claims))
        for lane, queue in lanes.items():
            if not minute.graph.is_connector[lane]:
                goes = [has_claim for _, has_claim in sorted(queue, reverse=True)]
                assert goes == sorted(goes, reverse=True), lane


def test_nobody_stands_for_long_without_a_reason(minute):
    """A reason is a vehicle close ahead, a red signal, or people on the crosswalk before the junction."""
    graph, waited, longest = minute.graph, Counter(), 0.0
    for frame, poses, people, time_s in zip(minute.states, minute.poses, minute.busy, minute.times, strict=True):
        for i, (lane, following, s_m, _) in enumerate(frame):
            here = minute.vehicles[i].length_m / 2 + s_m
            ahead = [s for other, _, s, _ in frame if other in (lane, following) and (other != lane or s > s_m)]
            is_near = any(other in people for s, other in graph.crossings[lane] if s > here - 1)
            is_near |= any(other in people for way in graph.successors[following] for _, other in graph.crossings[way])
            has_reason = ahead or is_near or not graph.is_green(lane, time_s)
            waited[i] = 0 if poses[i, 3] > 0.1 else waited[i] + (0 if has_reason else STEP_S)
            longest = max(longest, waited[i])
    assert longest < 25
    standing = minute.poses[:, :, 3] < 0.1
    assert 0.02 < standing.mean() < 0.5
    assert (standing[-100:].all(0)).mean() < 0.4  # no gridlock at the end


def test_vehicles_move_as_fast_as_they_say(minute):
    moved = np.hypot(*np.diff(minute.poses[..., :2], axis=0).transpose(2, 0, 1)) / STEP_S
    said = (minute.poses[1:, :, 3] + minute.poses[:-1, :, 3]) / 2
    # A vehicle right of the middle of its lane takes a longer or shorter way round a bend.
    assert np.quantile(np.abs(moved - said), 0.99) < 0.6
    assert np.abs(moved - said).max() < 5
    assert said.max() < 15


def test_drivers_and_people_do_not_meet(minute):
    for frame, walks in zip(boxes(minute), minute.crossers[::5], strict=True):
        spots = points(np.array(walks)[:, :2])
        touching = STRtree(polygons(frame)).query(spots, "dwithin", 0.15)
        assert len(touching[0]) == 0


def test_closed_lanes_are_not_driven_on():
    town = load_town("minicity-a", 0)
    closures = (Closure("minicity-a-s00-ab0", 20.0, 60.0), Closure("minicity-a-s03-ab0", 10.0, 40.0))
    simulation = simulate(town, "minicity-a-s00", 15.0, closures, np.random.default_rng(2))
    moving = [actor.track for actor in simulation.actors if len(actor.track) > 1 and actor.family != "pedestrian"]
    places = np.concatenate([track[::5, :2] for track in [*moving, simulation.ego]])
    barriers = [actor for actor in simulation.actors if actor.category == "movable_object.barrier"]
    for closure in closures:
        closed, open_lane = (town.road_map.lanes[closure.lane[:-1] + number].polygon.buffer(-1.0) for number in "01")
        assert not contains_xy(closed, places).any()
        standing = [contains_xy(closed, *actor.track[0, :2]) for actor in barriers]
        assert sum(standing) == 3
        assert not contains_xy(open_lane, np.array([actor.track[0, :2] for actor in barriers])).any()
    lanes = unary_union([lane.polygon for lane in town.road_map.lanes.values()])
    assert contains_xy(lanes, places).mean() > 0.99
