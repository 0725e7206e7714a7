"""Both towns of several seeds: how lanes, kerbs and crossings of their maps lie to each other."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
from shapely import prepare
from shapely.geometry import LineString, Point, box
from shapely.ops import unary_union

from avjepa.city.connectors import connect_lanes
from avjepa.city.layout import STYLES, plan_town
from avjepa.city.roads import WALKWAY_M, build_town, street_lanes
from avjepa.city.streets import approaches, shape_streets

TOWNS = sorted(STYLES)
SLACK_M = 0.01  # polygons of neighbouring things share edges only up to rounding


@pytest.fixture(scope="module", params=[(town, seed) for town in TOWNS for seed in range(4)], ids=str)
def road_map(request):
    return build_town(*request.param)


def is_inside(inner, outer):
    return prepared(outer, SLACK_M).covers(inner)


@lru_cache(maxsize=64)
def prepared(area, slack_m):
    grown = area.buffer(slack_m)
    prepare(grown)
    return grown


def test_every_lane_leads_on_to_where_the_next_begins(road_map):
    for lane in road_map.lanes.values():
        assert lane.successors, lane.token
        for token in lane.successors:
            end, start = lane.path.end, road_map.lanes[token].path.start
            assert math.dist(end[:2], start[:2]) < 1e-6, (lane.token, token)
            assert abs(math.remainder(end[2] - start[2], 2 * math.pi)) < 1e-6, (lane.token, token)


@pytest.mark.parametrize("town", TOWNS)
def test_lanes_of_many_seeds_have_no_kinks_nor_loops(town):
    for seed in range(4, 12):
        plan = plan_town(town, seed)
        shapes = shape_streets(plan)
        for lane in connect_lanes(plan, shapes, street_lanes(plan, shapes)).values():
            assert all(length > 0 for _, length in lane.path.segments), (seed, lane.token)
            if lane.junction:
                straight_m = math.dist(lane.path.start[:2], lane.path.end[:2])
                assert 1.0 < lane.path.length_m < 1.6 * straight_m, (seed, lane.token)
                assert max(abs(k) for k, _ in lane.path.segments) < 1 / 2.5, (seed, lane.token)


def test_roads_alternate_with_connectors(road_map):
    for lane in road_map.lanes.values():
        assert (lane.road == "") == (lane.turn != "") == (lane.junction != "")
        followers = [road_map.lanes[token] for token in lane.successors]
        assert all(follower.junction for follower in followers if lane.road)
        assert all(follower.junction in ("", lane.junction) for follower in followers if lane.junction)


def test_every_lane_can_be_reached_from_every_street(road_map):
    seen, todo = set(), [next(iter(road_map.lanes))]
    while todo:
        token = todo.pop()
        if token not in seen:
            seen.add(token)
            todo += road_map.lanes[token].successors
    assert {road_map.lanes[token].road for token in seen} == {*road_map.roads, ""}


def test_lanes_lie_on_drivable_ground_and_on_their_road(road_map):
    for lane in road_map.lanes.values():
        assert lane.polygon.is_valid
        assert is_inside(lane.polygon, road_map.drivable), lane.token
        if lane.road:
            assert is_inside(lane.polygon, road_map.roads[lane.road].polygon), lane.token


def test_lanes_are_as_wide_as_the_town_has_them(road_map):
    for lane in road_map.lanes.values():
        if lane.road:
            assert lane.width_m == STYLES[road_map.town].lane_m
            assert lane.polygon.area == pytest.approx(lane.width_m * lane.path.length_m, rel=2e-3)


def test_lanes_of_a_road_lie_side_by_side(road_map):
    lanes = [lane for lane in road_map.lanes.values() if lane.road]
    for one, other in combinations(lanes, 2):
        if one.road == other.road:
            assert one.polygon.intersection(other.polygon).area < 1e-6, (one.token, other.token)


def test_traffic_keeps_right(road_map):
    for divider in road_map.dividers.values():
        for lane in road_map.lanes.values():
            if divider.token in (lane.left_divider, lane.right_divider):
                middle = lane.path.poses(np.array([lane.path.length_m / 2]))[0]
                nearest = divider.line.interpolate(divider.line.project(Point(middle[:2])))
                left_m = np.cos(middle[2]) * (nearest.y - middle[1]) - np.sin(middle[2]) * (nearest.x - middle[0])
                side = 1 if divider.token == lane.left_divider else -1
                assert left_m == pytest.approx(side * lane.width_m / 2, abs=0.01), (lane.token, divider.token)
                assert divider.road == lane.road


def test_connectors_stay_on_their_junction_and_the_roads(road_map):
    roads = unary_union([area.polygon for area in road_map.roads.values()])
    grounds = {token: area.polygon.union(roads) for token, area in road_map.junctions.items()}
    for lane in road_map.lanes.values():
        if lane.junction:
            assert is_inside(lane.polygon, grounds[lane.junction]), lane.token


def test_roads_and_junctions_do_not_overlap(road_map):
    areas = [*road_map.roads.values(), *road_map.junctions.values()]
    for one, other in combinations(areas, 2):
        assert one.polygon.intersection(other.polygon).area < 0.01, (one.token, other.token)


def test_paint_is_on_its_road(road_map):
    for thing in (*road_map.crosswalks.values(), *road_map.stop_lines.values()):
        assert is_inside(thing.polygon, road_map.roads[thing.road].polygon), thing.token
    bars = unary_union([stop.polygon for stop in road_map.stop_lines.values()])
    for divider in road_map.dividers.values():
        assert is_inside(divider.line, road_map.roads[divider.road].polygon), divider.token
        assert divider.line.intersection(bars).length < 0.2, divider.token


def test_a_crosswalk_of_three_metres_cuts_its_road_in_two(road_map):
    for crosswalk in road_map.crosswalks.values():
        rest = road_map.roads[crosswalk.road].polygon.difference(crosswalk.polygon.buffer(SLACK_M))
        assert len(rest.geoms) == 2, crosswalk.token
        for lane in road_map.lanes.values():
            if lane.road == crosswalk.road:
                meets = LineString(lane.path.sampled(0.5)[:, :2]).intersection(crosswalk.polygon)
                assert meets.length == pytest.approx(3.0, abs=0.3), crosswalk.token


def test_a_stop_line_lies_across_the_ends_of_its_lanes(road_map):
    for stop in road_map.stop_lines.values():
        for token in stop.lanes:
            lane = road_map.lanes[token]
            meets = LineString(lane.path.sampled(0.5)[:, :2]).intersection(stop.polygon)
            assert meets.length == pytest.approx(0.4, abs=0.1), token
            assert math.dist(meets.centroid.coords[0], lane.path.end[:2]) < 6.0, token
    stopping = {token for stop in road_map.stop_lines.values() for token in stop.lanes}
    assert stopping == {lane.token for lane in road_map.lanes.values() if lane.road}


def test_lights_stand_beside_their_lanes_and_face_the_traffic(road_map):
    assert road_map.traffic_lights
    for light in road_map.traffic_lights.values():
        assert road_map.drivable.distance(Point(light.xyz_m[:2])) == pytest.approx(0.6, abs=0.05)
        for token in light.lanes:
            x, y, yaw = road_map.lanes[token].path.end
            assert math.cos(light.yaw_rad - yaw) < -0.99
            assert math.dist(light.xyz_m[:2], (x, y)) < 22
            assert {road_map.lanes[after].junction for after in road_map.lanes[token].successors} == {light.junction}


def test_walkways_run_along_the_road_but_not_on_it(road_map):
    walkways = unary_union([area.polygon for area in road_map.walkways.values()])
    assert walkways.buffer(-0.06).intersection(road_map.drivable).area == 0
    assert walkways.within(road_map.drivable.buffer(WALKWAY_M + 0.06))
    for island in road_map.islands.values():
        assert walkways.intersection(island.polygon).area < 1e-6
        assert road_map.drivable.intersection(island.polygon).area < 1e-6
    beside = road_map.roads[f"{road_map.town}-s00-road"].polygon.buffer(1.3).difference(road_map.drivable.buffer(0.1))
    assert beside.difference(walkways).area < 0.1 * beside.area


def test_car_parks_can_be_driven_to(road_map):
    assert any(token.endswith("car-park") for token in road_map.car_parks)
    assert any(token.endswith("parking-left") for token in road_map.car_parks)
    assert len(road_map.drivable.geoms) == 1
    for area in road_map.car_parks.values():
        assert is_inside(area.polygon, road_map.drivable), area.token
    for token in road_map.car_parks:
        if token.endswith("car-park"):
            driveway = road_map.car_parks[token.replace("car-park", "driveway")].polygon
            road = road_map.roads[token.replace("car-park", "road")].polygon
            assert driveway.intersects(road)
            assert driveway.intersects(road_map.car_parks[token].polygon)


def test_no_crosswalk_leads_into_a_driveway(road_map):
    for token, area in road_map.car_parks.items():
        if token.endswith("driveway"):
            assert all(walk.polygon.distance(area.polygon) > 1.0 for walk in road_map.crosswalks.values()), token


def test_parked_cars_leave_the_lanes_free(road_map):
    lanes = unary_union([lane.polygon for lane in road_map.lanes.values() if lane.road])
    for area in road_map.car_parks.values():
        assert area.polygon.intersection(lanes).area < 1e-6, area.token


def test_everything_is_on_the_canvas(road_map):
    things = [area.polygon for area in (*road_map.walkways.values(), *road_map.roads.values())]
    assert unary_union([road_map.drivable, *things]).within(box(0, 0, *road_map.size_m))


def test_a_town_has_all_kinds_of_streets_and_junctions(road_map):
    plan = plan_town(road_map.town, 0)
    counts = [sorted(c) for c in ((street.lanes_ab, street.lanes_ba) for street in plan.streets)]
    assert {low for low, _ in counts} >= {0, 1, 2}  # one-way streets among them
    assert {high for _, high in counts} == {1, 2, 3}
    kinds = {node.kind for node in plan.nodes}
    assert {"roundabout", "signals", "yield"} <= kinds
    assert {len(approaches(plan, node)) for node in range(len(plan.nodes))} >= {3, 4}
    assert {lane.turn for lane in road_map.lanes.values()} == {"", "straight", "left", "right", "ring"}
    assert {stop.cue for stop in road_map.stop_lines.values()} >= {"TRAFFIC_LIGHT", "YIELD"}
    assert road_map.islands


def test_the_towns_differ_in_style():
    a, b = (build_town(town, 0) for town in TOWNS)
    centres = [{(d.colour, d.dashed) for d in m.dividers.values() if d.separates == "directions"} for m in (a, b)]
    assert centres[0].isdisjoint(centres[1] - {("white", False)})
    assert max(lane.width_m for lane in b.lanes.values() if lane.road) < min(
        lane.width_m for lane in a.lanes.values() if lane.road
    )
    bends = [sum(abs(k) * s for k, s in m.lanes[f"{m.town}-s00-ab0"].path.segments) for m in (a, b)]
    assert bends[0] < 1e-6 < bends[1]  # town A is a grid


def test_the_seed_decides_the_map():
    first, other = build_town("minicity-b", 0), build_town("minicity-b", 1)
    again = build_town.__wrapped__("minicity-b", 0)  # not from the cache
    assert again is not first
    assert again == first
    assert first.lanes != other.lanes
    assert first.drivable != other.drivable
    wears = [{token: walk.wear for token, walk in road_map.crosswalks.items()} for road_map in (first, other)]
    assert wears[0].keys() == wears[1].keys()
    assert wears[0] != wears[1]


def test_an_unknown_town_is_refused():
    with pytest.raises(ValueError, match="minicity-a, minicity-b"):
        plan_town("minicity-c", 0)
