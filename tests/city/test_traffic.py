"""Drivers: following, stopping, waiting for each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avjepa.city.lane_graph import ALL_RED_S, CLEARANCE_M, GREEN_S, build_lane_graph
from avjepa.city.roads import build_town
from avjepa.city.traffic import MAX_ACCELERATION, STANDSTILL_M, STEP_S, Traffic, Vehicle
from tests.city.hand_made import make_road_map

BAR_M = 74.5  # arc length of the stop bar of west-in-0


def hand_made_graph():
    """The hand-made junction; whoever leaves the town comes in again."""
    road_map = make_road_map()
    lanes = {t: replace(lane, successors=lane.successors or ("east-in",)) for t, lane in road_map.lanes.items()}
    return build_lane_graph(replace(road_map, lanes=lanes))


@pytest.fixture(scope="module")
def graph():
    return hand_made_graph()


def vehicle(lane, s_m, speed_mps=8.0, wishes=(), length_m=4.8, **more):
    return Vehicle("car", length_m, 1.0, 0.0, [lane], s_m, speed_mps, list(wishes), **more)


def start(graph, *vehicles, time_s=0.0):
    return Traffic(graph, list(vehicles), np.random.default_rng(0), time_s)


def run(traffic, seconds, busy=frozenset()):
    """Step on, and yield after every step."""
    for _ in range(round(seconds / STEP_S)):
        traffic.step(set(busy))
        yield


def front(vehicle):
    return vehicle.s_m + vehicle.length_m / 2


def test_the_graph_of_the_hand_made_town(graph):
    assert graph.stops_m["west-in-0"] == pytest.approx(BAR_M)
    assert graph.crossings["west-in-0"] == ((pytest.approx(76.0), "zebra"),)
    assert graph.crossings["west-out"] == ((pytest.approx(1.0), "zebra"),)
    assert graph.conflicts["left"] == {"back"}
    assert graph.conflicts["ahead"] == {"merge"}
    assert graph.conflicts["right"] == {"back"}
    assert graph.rules["left"] == "signals"
    assert graph.rules["right"] == "yield"
    np.testing.assert_allclose(graph.pose("west-in-0", 30.1), [40.1, 58.25, 0])
    np.testing.assert_allclose(graph.pose("west-in-0", 1e9)[:1], [90.25], atol=0.26)


def test_a_signal_is_green_for_its_time_and_never_with_the_crossing_one():
    road_map = build_town("minicity-b", 0)
    graph = build_lane_graph(road_map)
    times = np.arange(0, 100, 0.5)
    assert len(graph.green_phase) >= 6
    for light in road_map.traffic_lights.values():
        for other in road_map.traffic_lights.values():
            if light.junction == other.junction and abs(np.sin(light.yaw_rad - other.yaw_rad)) > 0.8:
                greens = [[graph.is_green(one.lanes[0], t) for t in times] for one in (light, other)]
                assert not np.logical_and(*greens).any()
                assert np.mean(greens, 1) == pytest.approx(GREEN_S / (GREEN_S + ALL_RED_S) / 2, abs=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_a_follower_stops_behind_a_standing_leader(graph, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(1.8, 12, 2)
    leader = vehicle("west-in-0", BAR_M - 1 - lengths[0] / 2, 0.0, length_m=lengths[0])
    follower = vehicle("west-in-0", rng.uniform(0, 25), rng.uniform(0, 12), length_m=lengths[1])
    traffic = start(graph, leader, follower)
    gaps = []
    for _ in run(traffic, 60, {"zebra"}):  # somebody stays on the crosswalk before the leader
        gaps.append(leader.s_m - follower.s_m - lengths.sum() / 2)
    assert min(gaps) > 0.8 * STANDSTILL_M
    assert gaps[-1] == pytest.approx(STANDSTILL_M, abs=0.3)
    assert follower.speed_mps < 0.1


def test_a_free_driver_reaches_the_limit_and_keeps_it(graph):
    driver = vehicle("east-in", 0.0, 0.0)
    traffic, speeds = start(graph, driver), []
    for _ in run(traffic, 7):
        speeds.append(driver.speed_mps)
    assert max(np.diff(speeds)) <= MAX_ACCELERATION * STEP_S + 1e-9
    slow = vehicle("east-in", 0.0, 0.0, max_speed_mps=4.0)
    for _ in run(start(graph, slow), 10):
        assert slow.speed_mps <= 4.0
    assert slow.speed_mps > 3.8
    assert speeds[-1] > 6


@pytest.mark.parametrize("seed", range(5))
def test_a_vehicle_stops_at_the_bar_of_a_red_signal_and_goes_at_green(graph, seed):
    rng = np.random.default_rng(seed)
    driver = vehicle("west-in-0", rng.uniform(0, 40), rng.uniform(0, 12), ["ahead"])
    traffic = start(graph, driver, time_s=GREEN_S)
    for _ in run(traffic, GREEN_S + 2 * ALL_RED_S - 0.2):
        assert front(driver) < BAR_M
    assert driver.speed_mps < 0.1
    assert front(driver) == pytest.approx(BAR_M, abs=1.0)
    for _ in run(traffic, 8):
        pass
    assert driver.route[0] != "west-in-0"


def test_a_vehicle_passes_a_green_signal_without_stopping(graph):
    driver = vehicle("west-in-0", 20.0, 10.0, ["ahead"])
    assert min(driver.speed_mps for _ in run(start(graph, driver), 7)) > 7
    assert driver.route[0] == "ahead"


def test_who_was_held_up_at_green_does_not_go_at_red(graph):
    driver = vehicle("west-in-0", 40.0, 8.0, ["ahead"])
    traffic = start(graph, driver)
    for _ in run(traffic, GREEN_S + 0.5, {"zebra"}):
        pass
    for _ in run(traffic, GREEN_S + 2 * ALL_RED_S - 1):
        assert front(driver) < BAR_M
    for _ in run(traffic, 8):
        pass
    assert driver.route[0] != "west-in-0"


def test_a_vehicle_waits_before_a_crosswalk_with_people_and_goes_on_after_them(graph):
    driver = vehicle("east-in", 30.0, 8.0)  # the crosswalk lies behind the junction, at its exit
    traffic = start(graph, driver)
    for _ in run(traffic, 25, {"zebra"}):
        assert driver.route[0] != "west-out"
    assert driver.route[0] == "back"
    assert 0 < graph.lengths_m["back"] + 1.0 - front(driver) < 2.5
    for _ in run(traffic, 10):
        pass
    assert driver.route[0] == "west-out"


def test_who_cannot_stop_any_more_drives_on(graph):
    driver = vehicle("back", 14.0, 9.0)  # 4.6 m before the crosswalk
    traffic = start(graph, driver)
    speeds = [driver.speed_mps for _ in run(traffic, 3, {"zebra"})]
    assert min(speeds) > 7


def test_a_braking_driver_stays_within_what_brakes_can_do(graph):
    driver = vehicle("west-in-0", 55.0, 12.0)
    speeds = [12.0] + [driver.speed_mps for _ in run(start(graph, driver, time_s=GREEN_S), 5)]
    assert min(np.diff(speeds)) >= -6.0 * STEP_S - 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_crossing_vehicles_use_the_junction_one_after_the_other(graph, seed):
    rng = np.random.default_rng(seed)
    vehicles = [
        vehicle("west-in-0", rng.uniform(30, 50), 8.0, ["left"]),
        vehicle("east-in", rng.uniform(10, 50), 8.0),
        vehicle("north-in", rng.uniform(5, 25), 6.0),
        vehicle("east-in", 0.0, 8.0),
    ]
    traffic, used = start(graph, *vehicles), set()
    for _ in run(traffic, 45):
        inside = {v.route[0] for v in vehicles if graph.is_connector[v.route[0]]}
        used |= inside
        assert not any(graph.conflicts[way] & inside for way in inside)
    assert used >= {"left", "back", "right"}


def test_who_turns_left_gets_a_turn_although_the_oncoming_stream_never_ends(graph):
    round_m = np.arange(0, 180, 20.0)  # along the lane from the east, the junction and the lane to the west, and again
    places = [(lane, s - first) for s in round_m for lane, first in (("east-in", 0), ("back", 80), ("west-out", 100))]
    stream = [vehicle(lane, s, 7.0) for lane, s in places if 0 <= s < graph.lengths_m[lane]]
    driver = vehicle("west-in-0", BAR_M - 5.0, 0.0, ["left"])
    traffic = start(graph, driver, *stream, time_s=GREEN_S)
    for _ in run(traffic, 60):
        if driver.route[0] == "north-out":
            return
    raise AssertionError("waits for ever")


def test_a_junction_is_kept_until_the_rear_of_a_long_vehicle_has_left(graph):
    bus, kept = vehicle("west-in-0", 60.0, 6.0, ["left"], length_m=12.0), []
    for _ in run(start(graph, bus), 9):
        if bus.route[0] == "north-out":
            kept.append((bus.s_m < 6.0, "left" in bus.claims))
    assert {is_inside for is_inside, _ in kept} == {True, False}
    assert all(is_inside == has_claim for is_inside, has_claim in kept)


@pytest.mark.parametrize("is_full", [True, False])
def test_nobody_enters_a_junction_without_room_behind_it(graph, is_full):
    blocker = vehicle("north-out", 5.0 if is_full else 30.0, 0.0, max_speed_mps=0.0)
    driver, place = vehicle("west-in-0", 60.0, 6.0, ["left"]), blocker.s_m
    for _ in run(start(graph, driver, blocker), 8):
        blocker.s_m, blocker.speed_mps = place, 0.0
    assert (driver.route[0] == "west-in-0") == is_full


def test_who_is_on_the_roundabout_goes_first():
    graph = build_lane_graph(build_town("minicity-b", 0))
    entry = next(token for token in graph.tables if "-entry" in token)
    lane = next(token for token, following in graph.successors.items() if entry in following)
    for piece, from_m in graph.watched[entry][:2]:
        for s_m, goes in ((from_m + 3.0, False), (None, True)):
            driver = vehicle(lane, graph.stops_m[lane] - 12.0, 6.0, length_m=4.0)
            others = [] if goes else [vehicle(piece, s_m, 0.0)]
            traffic = start(graph, driver, *others)
            for _ in run(traffic, 6):
                for other in others:
                    other.route[0], other.s_m, other.speed_mps = piece, s_m, 0.0
            assert (driver.route[0] != lane) == goes, piece


def test_a_leader_that_turns_off_is_seen_until_its_rear_has_left(graph):
    """A long bus waits on its turn to the left; who goes straight on from the same lane must not drive into its rear."""
    bus = vehicle("left", 4.0, 0.0, length_m=12.0, max_speed_mps=0.0)
    driver = vehicle("west-in-0", 40.0, 8.0, ["ahead"])
    traffic = start(graph, bus, driver)
    for _ in run(traffic, 8):
        bus.s_m, bus.speed_mps = 4.0, 0.0
        assert front(driver) < graph.lengths_m["west-in-0"] + bus.s_m - bus.length_m / 2 or driver.route[0] != "ahead"
    assert driver.route[0] == "west-in-0"


def test_ways_that_part_or_join_are_beside_each_other_only_near_that_point():
    graph = build_lane_graph(build_town("minicity-a", 0))
    checked = 0
    for token, found in graph.beside.items():
        for begin_m, end_m, other, shift_m in found:
            s_m = np.linspace(begin_m + 0.3, end_m - 0.3, 5)
            here = np.array([graph.pose(token, s)[:2] for s in s_m])
            distance = np.linalg.norm(here[:, None] - graph.tables[other][None, :, :2], axis=2).min(1)
            assert distance.max() < CLEARANCE_M + 0.3, (token, other)
            is_start, is_end = begin_m == 0 and shift_m == 0, end_m == graph.lengths_m[token]
            assert is_start or is_end, (token, other)
            checked += 1
    assert checked > 50
