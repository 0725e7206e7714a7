"""Meshes of things: they fill their boxes and are made of known materials."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from avjepa.city import actors, scenery, shapes, simulation
from avjepa.city.actors import parked_actors, vehicle_of
from avjepa.city.materials import CATEGORIES, SURFACES, Material
from avjepa.city.shapes import box, joined, pedestrian
from avjepa.city.world import load_town

KINDS = ("car", "truck", "bus", "trailer", "construction", "motorcycle", "bicycle", "motorcycle-alone", "bicycle-alone")
MAKERS = {
    **{kind: (lambda rng, kind=kind: vehicle_of(kind, rng)[2:]) for kind in KINDS},
    "walking": lambda rng: pedestrian(rng, True),
    "standing": lambda rng: pedestrian(rng, False),
    "barrier": lambda rng: shapes.barrier(),
    "cone": lambda rng: shapes.cone(),
}
# nuScenes: width, length, height of a plausible one, in metres
PLAUSIBLE = {
    "car": ((1.6, 2.2), (3.7, 5.5), (1.3, 2.3)),
    "truck": ((2.2, 2.8), (5, 10), (2.5, 4)),
    "bus": ((2.4, 3.1), (9, 13), (2.8, 3.6)),
    "bicycle": ((0.4, 0.8), (1.5, 2), (1.5, 2)),
    "walking": ((0.4, 0.9), (0.4, 1.2), (1.4, 2)),
    "barrier": ((1.5, 2.5), (0.3, 0.8), (0.8, 1.2)),
    "cone": ((0.2, 0.6), (0.2, 0.6), (0.5, 1.1)),
}


@pytest.fixture(params=MAKERS)
def made(request):
    return request.param, [MAKERS[request.param](np.random.default_rng(seed)) for seed in range(12)]


def test_a_thing_fills_its_box(made):
    for shape, (width, length, height) in made[1]:
        np.testing.assert_allclose(shape.vertices.min(0), [-length / 2, -width / 2, 0], atol=1e-5)
        np.testing.assert_allclose(shape.vertices.max(0), [length / 2, width / 2, height], atol=1e-5)


def test_faces_are_valid(made):
    for shape, _ in made[1]:
        assert shape.faces.min() == 0
        assert shape.faces.max() == len(shape.vertices) - 1
        assert len(np.unique(shape.faces)) == len(shape.vertices)  # no vertex makes a box larger than its mesh
        assert len(shape.colours) == len(shape.materials) == len(shape.faces)
        assert set(shape.materials) <= {int(material) for material in SURFACES} - {Material.GROUND}
        corners = shape.vertices[shape.faces]
        doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        assert (doubled > 1e-7).all()
        assert (shape.vertices.dtype, shape.faces.dtype) == (np.float32, np.int32)


def test_things_have_plausible_sizes(made):
    for (low, high), values in zip(
        PLAUSIBLE.get(made[0], ((0.1, 15),) * 3), zip(*(size for _, size in made[1]), strict=True), strict=True
    ):
        assert low <= min(values)
        assert max(values) <= high


def test_things_of_a_kind_differ_and_the_same_seed_makes_the_same(made):
    name, things = made
    again = MAKERS[name](np.random.default_rng(0))
    np.testing.assert_array_equal(again[0].vertices, things[0][0].vertices)
    np.testing.assert_array_equal(again[0].colours, things[0][0].colours)
    if name not in ("barrier", "cone"):
        looks = {(shape.vertices.tobytes(), shape.colours.tobytes()) for shape, _ in things}
        assert len(looks) > 1


@pytest.mark.parametrize("kind", ["car", "truck", "bus"])
def test_vehicles_are_left_right_symmetric_and_show_lamps_before_and_behind(kind):
    shape = vehicle_of(kind, np.random.default_rng(3))[2]
    middles = shape.vertices[shape.faces].mean(1)
    assert middles[shape.materials == Material.LAMP, 0].min() > 0
    assert middles[shape.materials == Material.TAIL_LAMP, 0].max() < 0
    mirrored = shape.vertices * [1, -1, 1]
    distance = np.linalg.norm(mirrored[:, None] - shape.vertices[None], axis=2).min(1)
    assert distance.max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_categories_and_families(kind):
    category, family, _, _ = vehicle_of(kind, np.random.default_rng(0))
    assert category in CATEGORIES
    assert category.split(".")[1] == kind.removesuffix("-alone")
    wheels = kind.startswith(("bicycle", "motorcycle"))
    assert family == (("cycle" if kind.endswith("-alone") else "rider") if wheels else "vehicle")


def test_a_rider_makes_a_bicycle_higher_and_of_cloth():
    alone, ridden = (vehicle_of(kind, np.random.default_rng(0))[2:] for kind in ("bicycle-alone", "bicycle"))
    assert ridden[1][2] > alone[1][2] + 0.5
    assert Material.CLOTH in ridden[0].materials
    assert Material.CLOTH not in alone[0].materials


def test_parked_and_moving_cars_look_alike(monkeypatch):
    """Both come from one generator; only large parked vehicles are cut to the length of their slot."""
    assert simulation.vehicle_of is actors.vehicle_of
    made = []

    def spy(kind, rng):
        made.append(vehicle_of(kind, rng))
        return made[-1]

    monkeypatch.setattr(actors, "vehicle_of", spy)
    parked = parked_actors(load_town("minicity-a", 0), np.random.default_rng(0))
    assert len(parked) == len(made) > 60
    for actor, (category, family, shape, size) in zip(parked, made, strict=True):
        assert (actor.category, actor.family, actor.is_parked) == (category, family, True)
        np.testing.assert_array_equal(actor.shape.colours, shape.colours)
        if category == "vehicle.car":
            assert actor.shape is shape
        assert actor.size_wlh_m[1] <= size[1]
        bounds = actor.shape.vertices.max(0) - actor.shape.vertices.min(0)
        np.testing.assert_allclose(bounds, np.array(actor.size_wlh_m)[[1, 0, 2]], atol=1e-4)


def test_moved_and_joined_shapes():
    turn = trimesh.transformations.rotation_matrix(np.pi / 2, [0, 0, 1])
    turn[:3, 3] = 10, 0, 0
    cube, bar = box((0, 0, 0), (1, 1, 1), (1, 2, 3)), box((0, 0, 0), (4, 1, 1), (4, 5, 6), Material.GLASS)
    both = joined([cube, bar.moved(turn)])
    np.testing.assert_allclose(both.vertices.min(0), [-0.5, -2, -0.5], atol=1e-6)
    np.testing.assert_allclose(both.vertices.max(0), [10.5, 2, 0.5], atol=1e-6)
    assert both.materials.tolist() == [Material.PLAIN] * 12 + [Material.GLASS] * 12
    assert both.colours[12:].tolist() == [[4, 5, 6]] * 12
    assert both.vertices[both.faces[12:]].reshape(-1, 3)[:, 0].min() == pytest.approx(9.5)


@pytest.mark.parametrize("name", ["building", "tree", "shrub", "hedge", "wall", "fence", "lamp_post", "sign"])
def test_scenery_stands_on_the_ground(name):
    rng = np.random.default_rng(1)
    arguments = {"building": (rng, 12, 9, 10, (150, 150, 150), True), "lamp_post": (), "hedge": (rng, 8)}
    arguments |= {"wall": (rng, 8), "fence": (rng, 8)}
    shape = getattr(scenery, name)(*arguments.get(name, (rng,)))
    assert shape.faces.max() == len(shape.vertices) - 1
    assert -0.5 < shape.vertices[:, 2].min() < 0.3
    assert shape.vertices[:, 2].max() > 0.3
    assert {"building": Material.WALL, "tree": Material.FOLIAGE, "sign": Material.REFLECTOR}.get(
        name, shape.materials[0]
    ) in shape.materials
