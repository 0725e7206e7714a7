"""Rays against scenery and things together, and the ground under them."""

from __future__ import annotations

import numpy as np
import pytest

from avjepa.city.materials import Ground, Material, label_of
from avjepa.city.world import SCENERY, load_town
from tests.city.flat_world import EGO_XY, at, cube, flat_town, make_world, pose

WALL = (cube((1.0, 30.0, 6.0), material=Material.WALL).moved(pose(at(40, 0))), "static.manmade")


def rays(world, directions, height_m=2.0, **more):
    directions = np.atleast_2d(np.asarray(directions, float))
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.tile([*EGO_XY, height_m], (len(directions), 1))
    return world.cast(origins, directions, **more)


def test_ground_wall_and_sky():
    hits = rays(make_world(flat_town(WALL)), [[1, 0, -0.5], [1, 0, 0], [0, 0, 1], [1, 0, 0.1]])
    np.testing.assert_allclose(hits.distance_m, [2 * np.sqrt(5), 39.5, np.inf, 39.5 * np.sqrt(1.01)], rtol=1e-5)
    assert hits.material[[0, 1]].tolist() == [Material.GROUND, Material.WALL]
    assert hits.label[[0, 1, 2]].tolist() == [label_of("flat.driveable_surface"), label_of("static.manmade"), 0]
    assert hits.any.tolist() == [True, True, False, True]
    assert (hits.thing == SCENERY).all()
    np.testing.assert_allclose(hits.xyz[0], [EGO_XY[0] + 4, EGO_XY[1], 0], atol=1e-4)
    np.testing.assert_allclose(hits.normal[[0, 1]], [[0, 0, 1], [-1, 0, 0]], atol=1e-6)  # towards the ray's origin


@pytest.mark.parametrize("is_parked", [True, False])
def test_a_thing_before_the_wall_is_met_first_whether_it_may_move_or_not(is_parked):
    state = at(20, 0, 0.3)
    standing = pose(state)[None] if is_parked else None
    world = make_world(flat_town(WALL), (cube((2, 2, 3), (9, 8, 7)), "vehicle.truck"), standing=standing)
    world.place(np.full((1, 4), np.nan) if is_parked else state[None])
    hits = rays(world, [[1, 0, 0], [1, 0.5, 0], [1, 0.2, 0]])
    assert hits.thing.tolist() == [0, SCENERY, SCENERY]
    assert hits.label[0] == label_of("vehicle.truck")
    assert hits.distance_m[0] == pytest.approx(20 - 1 / np.cos(0.3), abs=1e-4)
    assert world.colours[hits.face[0]].tolist() == [9, 8, 7]
    np.testing.assert_allclose(hits.normal[0], [-np.cos(0.3), -np.sin(0.3), 0], atol=1e-5)


def test_a_thing_behind_the_wall_is_hidden():
    world = make_world(flat_town(WALL), (cube((2, 2, 3)), "vehicle.truck"))
    world.place(at(50, 0)[None])
    hits = rays(world, [[1, 0, 0]])
    assert hits.thing[0] == SCENERY
    assert hits.distance_m[0] == pytest.approx(39.5, abs=1e-4)


def test_normals_point_towards_the_origin_of_the_ray_on_back_faces_too():
    world = make_world(flat_town(WALL))
    origin = np.array([[*at(40, 0)[:2], 2.0]])
    for direction in ([1, 0, 0], [-1, 0, 0], [0, 0, 1]):
        hits = world.cast(origin, np.array([direction], float))
        np.testing.assert_allclose(hits.normal[0], -np.array(direction), atol=1e-6)


def test_things_keep_their_numbers_when_parked_and_moving_ones_alternate():
    states = np.stack([at(10, -6), at(10, 0), at(10, 6), at(10, 12)])
    standing = np.stack([pose(s) for s in states])
    standing[[0, 2]] = np.nan
    categories = ("vehicle.car", "vehicle.bus.rigid", "human.pedestrian.adult", "vehicle.truck")
    things = [(cube((2, 2, 3), (number, 0, 0)), category) for number, category in enumerate(categories)]
    world = make_world(flat_town(), *things, standing=standing)
    world.place(np.where(np.isnan(standing[:, :1, 0]), states, np.nan))
    hits = rays(world, [[10, y, 0] for y in (-6, 0, 6, 12)])
    assert hits.thing.tolist() == [0, 1, 2, 3]
    assert hits.label.tolist() == [label_of(category) for category in categories]
    assert world.colours[hits.face][:, 0].tolist() == [0, 1, 2, 3]


def test_a_thing_moves_between_the_first_and_the_last_ray():
    world = make_world(flat_town(), (cube((2, 2, 3)), "vehicle.car"))
    world.place(at(10, 0)[None], at(14, 0)[None])
    hits = rays(world, [[1, 0, 0]] * 3, share=np.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(hits.distance_m, [9, 10, 13], atol=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_blocked_equals_a_cast_to_a_far_light(seed):
    rng = np.random.default_rng(seed)
    states = np.stack([at(*rng.uniform(-20, 20, 2), rng.uniform(0, 6)) for _ in range(8)])
    world = make_world(flat_town(WALL), *[(cube((4, 2, 2)), "vehicle.car")] * 8)
    world.place(states)
    points = np.column_stack([EGO_XY + rng.uniform(-45, 45, (2000, 2)), np.full(2000, 0.02)])
    sun = np.array([0.7, 0.2, 0.4]) / np.linalg.norm([0.7, 0.2, 0.4])
    expected = world.cast(points, np.tile(sun, (2000, 1))).any
    assert 0.02 < expected.mean() < 0.5
    np.testing.assert_array_equal(world.blocked(points, sun), expected)


def test_ground_is_looked_up_by_floor_and_outside_is_grass():
    raster = np.full((4000, 4000), Ground.ASPHALT, np.uint8)
    raster[2000, 2003] = Ground.YELLOW  # 0.3 to 0.4 m right of, and 0 to 0.1 m above, EGO_XY
    world = make_world(flat_town(raster=raster))
    xy = EGO_XY + np.array([[0.301, 0.001], [0.399, 0.099], [0.401, 0.05], [0.35, -0.01]])
    assert world.ground_at(xy).tolist() == [Ground.YELLOW, Ground.YELLOW, Ground.ASPHALT, Ground.ASPHALT]
    assert world.ground_at(np.array([[-1.0, 5.0], [5.0, 401.0]])).tolist() == [Ground.GRASS, Ground.GRASS]
    hits = world.cast(np.array([[*xy[0], 3.0], [*xy[2], 3.0]]), np.tile([0, 0, -1.0], (2, 1)))
    assert hits.ground.tolist() == [Ground.YELLOW, Ground.ASPHALT]


def test_above_meets_the_ceiling_of_a_building():
    world = make_world(flat_town(WALL))
    distance, material = world.above(np.array([[*at(40, 0)[:2], 0.5], [*at(30, 0)[:2], 0.5]]))
    assert distance[0] == pytest.approx(5.5, abs=1e-4)
    assert material.tolist() == [Material.WALL, Material.GROUND]


def test_scenery_beyond_all_sensors_is_left_out():
    far = (cube((2, 2, 3)).moved(pose(at(160, 0))), "static.manmade")
    world = make_world(flat_town(WALL, far))
    assert len(world.fixed_surfaces()[1]) == len(WALL[0].faces)


def test_a_whole_town_has_a_label_on_every_face_and_is_kept():
    town = load_town("minicity-a", 0)
    assert load_town("minicity-a", 0) is town
    faces = town.scenery
    assert len(faces.labels) == len(faces.things) == len(faces.shape.faces)
    standing = faces.shape.materials != Material.GROUND
    names = {label_of(name) for name in ("static.manmade", "static.vegetation")}
    assert set(faces.labels[standing]) == names
    assert (faces.things == SCENERY).all()
    world = make_world(town)
    xy = np.array(next(iter(town.road_map.walkways.values())).polygon.representative_point().coords[0])
    down = world.cast(np.array([[*xy, 0.4]]), np.array([[0, 0, -1.0]]))
    assert down.label[0] == label_of("flat.sidewalk")
    assert down.distance_m[0] == pytest.approx(0.25, abs=1e-3)
