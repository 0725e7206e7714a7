"""People on foot: where they walk, and when they step onto the road."""

from __future__ import annotations

import numpy as np
import pytest
from shapely import contains_xy, prepare
from shapely.geometry import LineString, Point
from shapely.ops import unary_union

from avjepa.city.lane_graph import build_lane_graph
from avjepa.city.people import KERB_SIDE_M, Crosser, Walker, add_people, walkway_lines
from avjepa.city.roads import build_town
from avjepa.city.traffic import STEP_S, Traffic, Vehicle
from tests.city.test_traffic import hand_made_graph


@pytest.fixture(scope="module")
def graph():
    return hand_made_graph()


@pytest.fixture(scope="module", params=["minicity-a", "minicity-b"])
def town(request):
    road_map = build_town(request.param, 0)
    return road_map, build_lane_graph(road_map)


def test_walkers_stay_on_walkways(town):
    road_map, lane_graph = town
    walkers, _, standing = add_people(road_map, lane_graph, 300, np.random.default_rng(1))
    walkways = unary_union([area.polygon for area in road_map.walkways.values()]).buffer(0.1)
    prepare(walkways)
    assert len(walkers) > 90
    assert len(standing) > 60
    assert contains_xy(walkways, np.array(standing)[:, :2]).all()
    for walker in walkers:
        for _ in range(4):
            walker.s_m += 20.0 * np.sign(walker.pace_mps)
            walker.step()
            assert contains_xy(walkways, *walker.pose()[:2])


@pytest.mark.parametrize("side_m", [*KERB_SIDE_M, 1.2])
def test_lines_along_the_kerbs_lie_on_the_walkways(town, side_m):
    road_map, _ = town
    walkways = unary_union([area.polygon for area in road_map.walkways.values()]).buffer(0.1)
    lines = walkway_lines(road_map, side_m)
    assert sum(line.length for line in lines) > 1000
    for line in lines:
        assert line.is_ring
        assert walkways.covers(line)
        assert road_map.drivable.distance(line) == pytest.approx(side_m, abs=0.02)


@pytest.mark.parametrize("pace_mps", [1.3, -0.9])
def test_a_walker_keeps_pace_faces_its_way_and_starts_the_round_again(pace_mps):
    walker = Walker(LineString([(0, 0), (30, 0), (30, 20), (0, 20), (0, 0)]), 15.0, pace_mps)
    poses = []
    for _ in range(round(100 / abs(pace_mps) / STEP_S)):
        poses.append(walker.pose())
        walker.step()
    poses = np.array(poses)
    steps = np.diff(poses[:, :2], axis=0)
    straight = np.abs(np.diff(np.unwrap(poses[:, 2]))) < 1e-6
    np.testing.assert_allclose(np.hypot(*steps.T)[straight], abs(pace_mps) * STEP_S, atol=1e-6)
    facing = np.stack([np.cos(poses[:-1, 2]), np.sin(poses[:-1, 2])], 1)
    assert ((steps * facing).sum(1)[straight] > 0).all()
    assert np.hypot(*(walker.pose()[i] - poses[0, i] for i in (0, 1))) < 0.2  # once around


def test_crossers_go_from_kerb_to_kerb_along_their_crosswalk(town):
    road_map, lane_graph = town
    _, crossers, _ = add_people(road_map, lane_graph, 200, np.random.default_rng(2))
    traffic = Traffic(lane_graph, [], np.random.default_rng(0), 0.0)
    assert len(crossers) > 30
    lines = {token: LineString(lane.path.sampled(1.0)[:, :2]) for token, lane in road_map.lanes.items()}
    for crosser in crossers:
        polygon = road_map.crosswalks[crosser.crosswalk].polygon
        way = LineString([crosser.start, crosser.end])
        assert polygon.buffer(1.2).covers(way)
        assert way.intersection(polygon).length > way.length - 2.4
        for end in (crosser.start, crosser.end):
            assert not contains_xy(road_map.drivable, *end)
        assert set(crosser.lanes) == {token for token, line in lines.items() if line.intersects(polygon)}
    crosser, on_road, inner = crossers[0], [], road_map.drivable.buffer(-0.5)
    for _ in range(600):
        crosser.step(traffic)
        on_road.append(crosser.is_on_road)
        if crosser.is_on_road:
            assert road_map.crosswalks[crosser.crosswalk].polygon.distance(Point(crosser.pose()[:2])) < 0.8
        else:
            assert not contains_xy(inner, *crosser.pose()[:2])
    assert 0 < sum(on_road) < 600


def crosser_at_the_exit():
    """Ready to cross `west-out`, a metre behind the junction of the hand-made town."""
    return Crosser("zebra", np.array([88.0, 65.0]), np.array([88.0, 52.0]), {"west-out": 1.0}, 1.3, 0.0)


@pytest.mark.parametrize(
    ("lane", "s_m", "speed_mps", "goes"),
    [
        ("east-in", 10.0, 8.0, True),  # far off
        ("back", 6.0, 6.0, False),  # in the junction, on its way here
        ("west-out", 2.0, 5.0, False),  # upon the crosswalk
        ("west-out", 20.0, 8.0, True),  # past it
        ("west-in-0", 40.0, 8.0, True),  # on another lane
    ],
)
def test_people_step_off_the_kerb_only_into_a_gap(graph, lane, s_m, speed_mps, goes):
    driver = Vehicle("car", 4.8, 1.0, 0.0, [lane], s_m, speed_mps)
    traffic = Traffic(graph, [driver], np.random.default_rng(0), 0.0)
    crosser = crosser_at_the_exit()
    crosser.step(traffic)
    assert crosser.is_walking == goes


def test_who_has_waited_long_may_go_before_the_next_person(graph):
    driver = Vehicle("car", 4.8, 1.0, 0.0, ["back"], 17.0, 0.0)  # its front is 1.6 m before the crosswalk
    for stood_s, goes in ((1.0, True), (10.0, False)):
        driver.stood_s = stood_s
        crosser = crosser_at_the_exit()
        crosser.step(Traffic(graph, [driver], np.random.default_rng(0), 0.0))
        assert crosser.is_walking == goes


def test_a_crosser_waits_on_the_other_side_and_comes_back(graph):
    crosser, traffic = crosser_at_the_exit(), Traffic(graph, [], np.random.default_rng(0), 0.0)
    start, ys = crosser.start.copy(), []
    for _ in range(round((2 * 13 / 1.3 + 12.0 + 1) / STEP_S)):
        crosser.step(traffic)
        ys.append(crosser.pose()[1])
    assert min(ys) == pytest.approx(52.0, abs=0.15)
    assert ys.count(52.0) == pytest.approx(12.0 / STEP_S, abs=3)
    assert crosser.pose()[1] == pytest.approx(start[1], abs=0.2)
