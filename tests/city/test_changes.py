from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, shape

from avjepa.city.change_edits import footprint
from avjepa.city.changes import STEPS, apply_edits, edits_to_geojson, plan_changes, write_geojson
from avjepa.city.roads import build_town
from avjepa.conventions import ATOMIC_CHANGES
from avjepa.geometry.map_edit import Place
from tests.city.change_streets import PLACES, change_streets

WORLD = change_streets()
LAYERS = [field.name for field in fields(WORLD) if isinstance(getattr(WORLD, field.name), dict)]
SEEDS = range(6)
PLANS = {
    (seed, share): plan_changes(WORLD, PLACES, np.random.default_rng(seed), share)
    for seed in SEEDS
    for share in (0.6, 1.0)
}


@pytest.fixture(params=PLANS, ids=lambda key: f"seed{key[0]}-share{key[1]}")
def plan(request):
    return PLANS[request.param]


def edits_of(step: str):
    """(plan, edit) of all plans."""
    return [(plan, edit) for plan in PLANS.values() for edit in plan.edits if edit.step == step]


def differing(one, other) -> dict[str, set[str]]:
    """Tokens of the elements of ``one`` that ``other`` lacks or has otherwise, by layer."""
    maps = {layer: (getattr(one, layer), getattr(other, layer)) for layer in LAYERS}
    return {layer: {t for t, element in a.items() if b.get(t) != element} for layer, (a, b) in maps.items()}


# ---------------------------------------------------------------------------------------------------- the whole plan
def test_edits_lie_in_their_places_and_apart(plan):
    discs = {place.name: place.disc for place in PLACES}
    for number, edit in enumerate(plan.edits):
        assert edit.geometry.is_valid
        assert edit.geometry.within(discs[edit.place])
        for other in plan.edits[:number]:
            assert edit.geometry.distance(other.geometry) > 7.9
            tokens = {*edit.world_tokens, *edit.prior_tokens}
            assert not tokens & {*other.world_tokens, *other.prior_tokens}
    assert len({edit.token for edit in plan.edits}) == len(plan.edits)


@pytest.mark.parametrize(("seed", "share"), PLANS)
def test_changed_places_get_two_to_four_edits_and_the_others_none(seed: int, share: float):
    plan = PLANS[seed, share]
    counts = Counter(edit.place for edit in plan.edits)
    assert set(counts) == set(plan.changed_places)
    assert len(plan.changed_places) == round(share * len(PLACES))
    assert set(plan.changed_places) | set(plan.unchanged_places) == {place.name for place in PLACES}
    assert not set(plan.changed_places) & set(plan.unchanged_places)
    assert all(2 <= count <= 4 for count in counts.values())


def test_prior_differs_from_the_world_in_the_listed_elements_only(plan):
    for one, other, side in ((WORLD, plan.prior, "world_elements"), (plan.prior, WORLD, "prior_elements")):
        listed = {layer: set() for layer in LAYERS}
        for edit in plan.edits:
            for layer, element in getattr(edit, side):
                listed[layer].add(element.token)
                assert getattr(one, layer)[element.token] == element
        assert differing(one, other) == listed
    assert plan.prior.town == WORLD.town
    assert plan.prior.traffic_lights == WORLD.traffic_lights
    strips = [edit.geometry for edit in plan.edits if edit.layer == "drivable_area"]
    changed = plan.prior.drivable.symmetric_difference(WORLD.drivable)
    assert changed.symmetric_difference(shapely.union_all(strips)).area < 1e-6


def test_applying_the_edits_gives_the_world(plan):
    again = apply_edits(plan.prior, plan.edits)
    assert again.drivable.symmetric_difference(WORLD.drivable).area < 1e-6
    assert len(again.drivable.geoms) == len(plan.prior.drivable.geoms) == 1
    assert replace(again, drivable=WORLD.drivable) == WORLD


def test_unchanged_places_are_the_same_in_both(plan):
    kept = shapely.union_all([place.disc for place in PLACES if place.name in plan.unchanged_places])
    assert_same_within(kept, plan.prior)
    for lane in WORLD.lanes.values():
        if lane.polygon.intersects(kept):
            assert plan.prior.lanes[lane.token].successors == lane.successors
    assert not any(
        lane.polygon.intersects(kept) for token, lane in plan.prior.lanes.items() if token not in WORLD.lanes
    )


def test_nothing_moves_outside_the_places(plan):
    discs = shapely.union_all([place.disc for place in PLACES])
    assert_same_within(shapely.box(-50, -50, 500, 500).difference(discs), plan.prior)


def assert_same_within(region, prior) -> None:
    """All shapes, paint and centre lines of the prior are those of the world in a region."""
    for lane in WORLD.lanes.values():
        if lane.token in prior.lanes and lane != (old := prior.lanes[lane.token]):
            assert lane.polygon.symmetric_difference(old.polygon).intersection(region).area < 1e-6
            middle, old_middle = (LineString(x.path.sampled(0.1)[:, :2]) for x in (lane, old))
            assert old_middle.difference(middle.buffer(1e-3)).intersection(region).length < 1e-6
    for layer in ("crosswalks", "stop_lines", "roads", "walkways", "car_parks"):
        one, other = ([x.polygon for x in getattr(m, layer).values()] for m in (WORLD, prior))
        changed = shapely.union_all(one).symmetric_difference(shapely.union_all(other))
        assert changed.intersection(region).area < 1e-6
    assert WORLD.drivable.symmetric_difference(prior.drivable).intersection(region).area < 1e-6
    for look in {(d.colour, d.dashed, d.separates) for m in (WORLD, prior) for d in m.dividers.values()}:
        one, other = (
            shapely.union_all([d.line for d in m.dividers.values() if (d.colour, d.dashed, d.separates) == look])
            for m in (WORLD, prior)
        )
        assert one.difference(other.buffer(1e-6)).intersection(region).length < 1e-6
        assert other.difference(one.buffer(1e-6)).intersection(region).length < 1e-6


def test_every_lane_of_the_prior_leads_to_lanes_it_has(plan):
    for lane in plan.prior.lanes.values():
        assert set(lane.successors) <= set(plan.prior.lanes)
        assert {lane.left_divider, lane.right_divider} - {""} <= set(plan.prior.dividers)
        for token in lane.successors:
            np.testing.assert_allclose(lane.path.end[:2], plan.prior.lanes[token].path.start[:2], atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_occurs_once_before_any_occurs_twice_where_all_fit(seed: int):
    everywhere = [Place(f"town-{number}", (200.0, 210.0), 260.0) for number in range(3)]
    kinds = [edit.kind for edit in plan_changes(WORLD, everywhere, np.random.default_rng(seed), 1.0).edits]
    assert sorted(kinds[: len(ATOMIC_CHANGES)]) == sorted(ATOMIC_CHANGES)
    assert {edit.kind for edit in PLANS[seed, 1.0].edits} == set(ATOMIC_CHANGES)


def test_every_step_occurs():
    assert {edit.step for plan in PLANS.values() for edit in plan.edits} == {step.__name__ for step in STEPS}
    for step, kind in STEPS.items():
        assert {edit.kind for _, edit in edits_of(step.__name__)} == {kind}


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    again = plan_changes(WORLD, PLACES, np.random.default_rng(0), 0.6)
    assert again == PLANS[0, 0.6]
    assert again.edits != PLANS[1, 0.6].edits


def test_no_share_no_change():
    plan = plan_changes(WORLD, PLACES, np.random.default_rng(0), 0.0)
    assert plan.prior == WORLD
    assert plan.edits == plan.changed_places == plan.closed_lanes == ()


@pytest.mark.parametrize(
    ("places", "share", "message"),
    [
        (PLACES, 1.5, "share in"),
        ((PLACES[0], PLACES[0]), 0.5, "different names"),
        ((PLACES[0], Place("field", (60.0, 220.0), 30.0)), 1.0, "no room for 2 edits in ..field"),
    ],
)
def test_impossible_wishes_are_refused(places, share: float, message: str):
    with pytest.raises(ValueError, match=message):
        plan_changes(WORLD, places, np.random.default_rng(0), share)


# -------------------------------------------------------------------------------------------------------- single steps
def test_moved_dividers_take_their_lanes_along():
    for plan, edit in edits_of("divider_moved"):
        assert 0.5 <= edit.world_geometry.hausdorff_distance(edit.prior_geometry) <= 1.0 + 1e-6
        divider, *lanes = edit.world_tokens
        old = [plan.prior.lanes[token] for token in lanes]
        new = [WORLD.lanes[token] for token in lanes]
        overlaps = [side[0].polygon.intersection(side[1].polygon).area for side in (old, new)]
        assert overlaps[0] < overlaps[1] + 1e-6
        both = [shapely.union_all([lane.polygon for lane in side]) for side in (old, new)]
        assert both[0].symmetric_difference(both[1]).area < 0.05  # gaps between the world's lanes in a bend
        line = plan.prior.dividers[divider].line
        assert line.length > WORLD.dividers[divider].line.length - 1
        for was, lane in zip(old, new, strict=True):
            middle = LineString(was.path.sampled(0.5)[:, :2])
            assert middle.distance(line) > 1.2
            assert middle.within(was.polygon.buffer(1e-3))
            assert 0.24 < middle.hausdorff_distance(LineString(lane.path.sampled(0.5)[:, :2])) < 0.51
            np.testing.assert_allclose(was.path.end[:2], lane.path.end[:2], atol=1e-6)


def test_moved_stop_lines_stay_on_their_road_and_off_crosswalks():
    for plan, edit in edits_of("stop_line_moved"):
        (token,) = edit.world_tokens
        old, new = plan.prior.stop_lines[token], WORLD.stop_lines[token]
        assert 1.9 < old.polygon.centroid.distance(new.polygon.centroid) < 5.001
        assert old.polygon.area == pytest.approx(new.polygon.area)
        assert old.polygon.difference(WORLD.drivable).area < 1e-6
        assert not any(old.polygon.intersects(crosswalk.polygon) for crosswalk in WORLD.crosswalks.values())


def test_moved_kerbs_move_road_walkway_and_parking_together():
    directions = set()
    for plan, edit in edits_of("drivable_edge_moved"):
        wider = edit.prior_geometry is not None
        directions.add(wider)
        layers = {layer: element.token for layer, element in edit.world_elements}
        road, walkway = (getattr(plan.prior, layer)[layers[layer]].polygon for layer in ("roads", "walkways"))
        overlap = WORLD.roads[layers["roads"]].polygon.intersection(WORLD.walkways[layers["walkways"]].polygon).area
        assert road.intersection(walkway).area < overlap + 1e-6
        assert road.difference(plan.prior.drivable).area < 1e-6
        grown_m2 = road.area - WORLD.roads[layers["roads"]].polygon.area
        assert grown_m2 == pytest.approx(edit.geometry.area * (1 if wider else -1))
        assert not edit.geometry.buffer(-0.7).is_empty  # at least 1.4 m wide
        assert edit.geometry.buffer(-1.6).is_empty
        lanes = [lane.polygon for lane in WORLD.lanes.values() if lane.road]
        assert edit.geometry.intersection(shapely.union_all(lanes)).area < 1e-6
        for park in plan.prior.car_parks.values():
            assert park.polygon.difference(plan.prior.drivable).area < 1e-6
    assert directions == {True, False}


def test_crosswalks_that_are_gone_lay_on_plain_road():
    for _, edit in edits_of("crosswalk_gone"):
        assert edit.geometry.difference(WORLD.drivable).area < 1e-6
        assert all(edit.geometry.distance(crosswalk.polygon) > 15 for crosswalk in WORLD.crosswalks.values())


def test_repainted_dividers_keep_their_line():
    for step, same in (("divider_dashing", "colour"), ("divider_colour", "dashed")):
        for plan, edit in edits_of(step):
            world = WORLD.dividers[edit.world_tokens[0]]
            old, *rest = (plan.prior.dividers[token] for token in edit.prior_tokens)
            assert getattr(old, same) == getattr(world, same)
            assert (old.dashed, old.colour) != (world.dashed, world.colour)
            assert all((piece.dashed, piece.colour) == (world.dashed, world.colour) for piece in rest)
            assert sum(piece.line.length for piece in (old, *rest)) == pytest.approx(world.line.length)
            assert old.line.equals(edit.geometry)


def test_closed_lanes_exist_and_leave_a_lane_beside_them(plan):
    closures = [edit for edit in plan.edits if edit.step == "lane_closed"]
    assert plan.closed_lanes == tuple(edit.world_tokens[0] for edit in closures)
    for edit in closures:
        lane = WORLD.lanes[edit.world_tokens[0]]
        assert edit.world_geometry.difference(lane.polygon).area < 0.05
        beside = {lane.left_divider, lane.right_divider} - {""}
        assert any(WORLD.dividers[token].separates == "lanes" for token in beside)


def test_ways_through_junctions_come_and_go():
    for plan, edit in edits_of("connector_new"):
        lane, way = edit.world_tokens
        assert way not in plan.prior.lanes
        assert way not in plan.prior.lanes[lane].successors
        assert plan.prior.lanes[lane].successors
    for plan, edit in edits_of("connector_gone"):
        lane, way = edit.prior_tokens
        assert way not in WORLD.lanes
        assert plan.prior.lanes[way].turn in ("left", "right", "straight")
        assert plan.prior.lanes[way].polygon.difference(WORLD.drivable).area < 1.0
        assert way in plan.prior.lanes[lane].successors


# ------------------------------------------------------------------------------------------------------------- GeoJSON
def test_geojson_tells_where_to_look_and_where_nothing_changed(plan):
    collection = json.loads(json.dumps(edits_to_geojson(WORLD.town, plan.edits, PLACES)))
    assert collection["type"] == "FeatureCollection"
    assert collection["frame"]["properties"]["name"] == "change-streets"
    features = {
        kind: [f for f in collection["features"] if f["properties"]["feature"] == kind] for kind in ("edit", "place")
    }
    assert len(features["edit"]) == len(plan.edits)
    for feature, edit in zip(features["edit"], plan.edits, strict=True):
        for member in ("geometry", "world_geometry", "prior_geometry"):
            geometry = getattr(edit, member)
            assert (feature[member] is None) == (geometry is None)
            if geometry is not None:
                assert shape(feature[member]).is_valid
                read = shape(feature[member])
                assert read.buffer(2e-3).covers(geometry)
                assert geometry.buffer(2e-3).covers(read)
        assert feature["properties"]["kind"] == edit.kind
        assert tuple(feature["properties"]["world_tokens"]) == edit.world_tokens
    changed = {f["properties"]["place"] for f in features["place"] if f["properties"]["changed"]}
    assert changed == set(plan.changed_places)
    assert {f["properties"]["place"] for f in features["place"]} - changed == set(plan.unchanged_places)


def test_geojson_files_are_the_same_bytes_each_time(tmp_path):
    for name in ("one", "two"):
        plan = plan_changes(WORLD, PLACES, np.random.default_rng(3), 0.6)
        write_geojson(tmp_path / name, WORLD.town, plan.edits, PLACES)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# ------------------------------------------------------------------------------------------------------ generated towns
@pytest.mark.parametrize("town", ["minicity-a", "minicity-b"])
def test_generated_towns_change_and_come_back(town: str):
    world = build_town(town, 0)
    middles = {token: area.polygon.centroid for token, area in world.roads.items()}
    places = [Place(token, (middle.x, middle.y), 60.0) for token, middle in middles.items()]
    plan = plan_changes(world, places, np.random.default_rng(1), 0.7)
    assert {edit.kind for edit in plan.edits} == set(ATOMIC_CHANGES)
    again = apply_edits(plan.prior, plan.edits)
    assert again.drivable.symmetric_difference(world.drivable).area < 1e-6
    assert replace(again, drivable=world.drivable) == world
    assert all(edit.geometry.is_valid for edit in plan.edits)
    elements = [
        element for layer in LAYERS if layer != "traffic_lights" for element in getattr(plan.prior, layer).values()
    ]
    assert all(footprint(element).is_valid for element in elements)
