"""Drives that take the ways through junctions that the prior lacks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from shapely.geometry import LineString, Point

from avjepa.city import generate
from avjepa.city.actors import Closure
from avjepa.city.changes import plan_changes
from avjepa.city.drives import CitySettings, DrivePlan
from avjepa.city.generate import settings_record, way_of
from avjepa.city.lane_graph import build_lane_graph
from avjepa.city.simulation import simulate
from avjepa.city.world import load_town
from tests.city.change_streets import PLACES, change_streets

SECONDS = 8.0
DEFAULT = CitySettings(4, 3, SECONDS, (32, 64), ("minicity-a",), 0.5, 1.0)
TAKES = CitySettings(4, 3, SECONDS, (32, 64), ("minicity-a",), 0.5, 1.0, drive_new_ways=True)
CHANGES = plan_changes(change_streets(), PLACES, np.random.default_rng(0), 1.0)


@pytest.fixture(scope="module")
def town():
    return load_town("minicity-a", 0)


def way_with(town, rule):
    """A left turn at such a junction, the lane before it, which leads elsewhere, too, and the lane behind it."""
    graph = build_lane_graph(town.road_map)
    lanes = [lane for lane in graph.successors if not graph.is_connector[lane] and len(graph.successors[lane]) > 1]
    ways = ((lane, way) for lane in sorted(lanes) for way in graph.successors[lane])
    before, way = next((lane, way) for lane, way in ways if graph.rules[way] == rule and way.endswith("left"))
    return graph, before, way, graph.successors[way][0]


def drive(town, way, seed=3, closures=()):
    return simulate(town, "minicity-a-s00", SECONDS, closures, np.random.default_rng(seed), way)


def test_a_drive_without_a_way_is_what_it_was(town):
    """Figures of the simulation before there were ways to take."""
    simulation = simulate(town, "minicity-a-s00", 2.0, (), np.random.default_rng(0))
    assert simulation.ego[-1] == pytest.approx([129.3203567698, 167.3073067002, -0.0166684209, 6.3083519182], abs=1e-6)
    assert len(simulation.actors) == 372
    assert sum(actor.track[:, :2].sum() for actor in simulation.actors) == pytest.approx(1126036.574879, abs=1e-3)


@pytest.mark.parametrize("rule", ["signals", "stop"])
def test_the_ego_takes_the_way(town, rule):
    graph, before, way, behind = way_with(town, rule)
    simulation = drive(town, way)
    lines = {token: LineString(graph.tables[token][:, :2]) for token in (before, way, behind)}
    ego = [Point(state[:2]) for state in simulation.ego_states(np.arange(0, SECONDS + 0.1, 0.5))]
    assert lines[before].length - lines[before].project(ego[0]) > 6
    assert lines[behind].project(ego[-1]) > 6
    nearest = [min(lines, key=lambda token: lines[token].distance(point)) for point in ego]
    assert list(dict.fromkeys(nearest)) == [before, way, behind]
    assert max(min(line.distance(point) for line in lines.values()) for point in ego) < 1
    assert drive(town, way).ego.tolist() == simulation.ego.tolist()


def test_signals_are_green_for_whoever_takes_a_way(town):
    """Of both phases: as the town's clock stands, one of them would be red for a whole drive."""
    graph, *_ = way_with(town, "signals")
    lanes = [lane for lane in graph.green_phase if len(graph.successors[lane]) > 1]
    phases = Counter()
    for lane in sorted(lanes):
        phase = graph.green_phase[lane]
        if phases[phase] < 1 and len(graph.successors[lane]) > 1:
            phases[phase] += 1
            rights = [way for way in graph.successors[lane] if not way.endswith("left")]
            ego = drive(town, rights[0]).ego_states(np.array([SECONDS]))[0]
            following = LineString(graph.tables[graph.successors[rights[0]][0]][:, :2])
            assert following.distance(Point(ego[:2])) < 1, lane
    assert phases == {0: 1, 1: 1}


def test_a_way_that_barriers_close_is_left_alone(town):
    graph, _, way, behind = way_with(town, "signals")
    simulation = drive(town, way, closures=(Closure(behind, 10.0, 30.0),))
    line = LineString(graph.tables[behind][:, :2])
    assert min(line.distance(Point(state[:2])) for state in simulation.ego[::5]) > 1.5


# --------------------------------------------------------------------------------------------------------------- the plan
def plan_of(place, number=0):
    return DrivePlan(number, "scene-2001", "minicity-a", place, "train", "clear", "2018-07-02")


def test_drives_of_a_place_take_its_ways_in_turn():
    new = [edit for edit in CHANGES.edits if edit.step == "connector_new"]
    assert new
    for edit in new:
        ways = [other.world_tokens[1] for other in new if other.place == edit.place]
        taken = [way_of(TAKES, plan_of(edit.place, number), CHANGES) for number in range(2 * len(ways))]
        assert taken == 2 * ways
        assert all(way in dict(change_streets().lanes) for way in taken)
        assert way_of(DEFAULT, plan_of(edit.place), CHANGES) == ""
    others = {place.name for place in PLACES} - {edit.place for edit in new}
    assert others
    assert {way_of(TAKES, plan_of(place), CHANGES) for place in others} == {""}


def test_every_drive_is_told_its_way(monkeypatch, tmp_path):
    recorded = []
    monkeypatch.setattr(generate, "_write_maps", lambda *_: None)
    monkeypatch.setattr(generate, "record_drive", lambda *of: recorded.append((of[2].place, of[4])))
    monkeypatch.setattr(generate, "write_fragment", lambda *_: None)
    monkeypatch.setattr(generate, "closures_of", lambda *_: ())
    plans = tuple(plan_of(place.name, number) for number, place in enumerate(PLACES))
    generate._record_all(tmp_path, TAKES, plans, {"minicity-a": CHANGES}, 1, lambda *_: None)
    assert recorded == [(plan.place, way_of(TAKES, plan, CHANGES)) for plan in plans]
    assert any(way for _, way in recorded)


def test_the_record_of_default_settings_is_that_of_older_cities():
    assert settings_record(DEFAULT) == {
        **{"format": 1, "scenes": 4, "seed": 3, "seconds": 8.0, "image_size_px": [32, 64], "towns": ["minicity-a"]},
        **{"revisited_share": 0.5, "changed_share": 1.0},
    }
    assert settings_record(TAKES) == {**settings_record(DEFAULT), "drive_new_ways": True}


def test_where_barriers_close_a_whole_street_the_drive_begins_beside_it(town):
    graph = build_lane_graph(town.road_map)
    street = "minicity-a-s00"
    own = [t for t in graph.tables if t.startswith(f"{street}-") and not graph.is_connector[t]]
    closures = tuple(Closure(token, 20.0, 35.0) for token in own)
    simulation = simulate(town, street, 1.0, closures, np.random.default_rng(0))
    begin = Point(simulation.ego[0][:2])
    lines = {t: LineString(table[:, :2]) for t, table in graph.tables.items() if not graph.is_connector[t]}
    lane = min(lines, key=lambda token: lines[token].distance(begin))
    assert lines[lane].distance(begin) < 1
    assert lane not in own
    assert min(lines[lane].distance(lines[token]) for token in own) < 60
