"""Rays against moving things, compared with every triangle tried one by one."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from avjepa.city.movers import Movers
from avjepa.city.shapes import Shape, box, joined
from tests.city.flat_world import pose


def brute_force(corners, origins, directions):
    """Moeller and Trumbore: distance (R,) and triangle (R,) of the first hit of triangles (F, 3, 3)."""
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    best, number = np.full(len(origins), np.inf), np.full(len(origins), -1)
    for i in range(len(corners)):
        h = np.cross(directions, ac[i])
        det = h @ ab[i]
        with np.errstate(divide="ignore", invalid="ignore"):
            s = origins - a[i]
            u = (s * h).sum(1) / det
            q = np.cross(s, ab[i])
            v, t = (directions * q).sum(1) / det, q @ ac[i] / det
        hit = (np.abs(det) > 1e-12) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < best)
        best[hit], number[hit] = t[hit], i
    return best, number


def random_shape(rng):
    """A lump and a plate: not convex, not centred."""
    ball = trimesh.creation.icosphere(subdivisions=1)
    lump = ball.vertices * rng.uniform(0.4, 1.2, (len(ball.vertices), 1)) + [0, 0, 1.4]
    colours = np.zeros((len(ball.faces), 3), np.uint8)
    lump = Shape(lump.astype(np.float32), ball.faces.astype(np.int32), colours, colours[:, 0])
    return joined([lump, box((1.5, 0.2, 0.5), (1.0, 0.1, 1.0), (1, 2, 3))])


def scene(seed, rays=1500):
    rng = np.random.default_rng(seed)
    shapes = [random_shape(rng) for _ in range(6)]
    states = np.column_stack([rng.uniform(-15, 15, (6, 2)), rng.uniform(0, 0.3, 6), rng.uniform(-9, 9, 6)])
    origins = np.tile(np.array([0.0, 0.0, 1.8]), (rays, 1)) + rng.uniform(-0.05, 0.05, (rays, 3))
    target = states[rng.integers(6, size=rays), :3] + rng.normal(0, 0.7, (rays, 3)) + [0, 0, 1]
    directions = target - origins
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return shapes, states, origins.astype(np.float32), directions.astype(np.float32), rng


@pytest.mark.parametrize("seed", range(3))
def test_hits_are_those_of_all_triangles(seed):
    shapes, states, origins, directions, _ = scene(seed)
    movers = Movers(shapes, 100.0)
    movers.place(states, None)
    distance, mover, face, normal = movers.cast(origins, directions, None)
    corners = np.concatenate([s.moved(pose(t)).vertices[s.faces] for s, t in zip(shapes, states, strict=True)])
    expected, triangle = brute_force(corners.astype(float), origins.astype(float), directions.astype(float))
    firsts = np.cumsum([0] + [len(shape.faces) for shape in shapes])
    found = np.where(mover >= 0, firsts[mover] + face, -1)
    agree = found == triangle  # a ray along an edge may go either way
    assert (triangle >= 0).mean() > 0.3
    assert agree.mean() > 0.995
    np.testing.assert_allclose(distance[agree], expected[agree], atol=2e-4)
    truth = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[triangle]
    hit = agree & (triangle >= 0)
    cosine = (truth * normal).sum(1) / np.linalg.norm(truth, axis=1) / np.linalg.norm(normal, axis=1).clip(1e-9)
    np.testing.assert_allclose(np.abs(cosine[hit]), 1, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_ray_meets_things_where_they_are_at_its_own_moment(seed):
    shapes, states, origins, directions, rng = scene(seed, 240)
    later = states + np.column_stack([rng.uniform(-1.5, 1.5, (6, 2)), np.zeros(6), rng.uniform(-0.3, 0.3, 6)])
    movers, still = Movers(shapes, 100.0), Movers(shapes, 100.0)
    movers.place(states, later)
    share = np.repeat(np.linspace(0, 1, 8), 30)
    distance, mover, face, _ = movers.cast(origins, directions, share)
    assert (mover >= 0).mean() > 0.2
    for value in np.unique(share):
        still.place(states + value * (later - states), None)
        rays = share == value
        expected, same_mover, same_face, _ = still.cast(origins[rays], directions[rays], None)
        near = np.isclose(distance[rays], expected, atol=2e-3)
        assert near.mean() > 0.98
        assert (mover[rays] == same_mover).mean() > 0.98
        assert (face[rays] == same_face)[near].mean() > 0.95


def test_a_turn_across_the_back_takes_the_short_way():
    """From just below pi to just above -pi a thing turns a little, not all around."""
    plate = box((0, 0, 1), (6.0, 0.1, 2.0), (1, 2, 3))
    movers = Movers([plate], 50.0)
    movers.place(np.array([[10.0, 0, 0, np.pi / 2 + np.pi - 0.05]]), np.array([[10.0, 0, 0, -np.pi / 2 + 0.05]]))
    origins, directions = (np.tile(np.array(v, np.float32), (4, 1)) for v in ((0, 0, 1), (1, 0, 0)))
    distance, *_ = movers.cast(origins, directions, np.array([0.0, 0.25, 0.5, 1.0]))
    np.testing.assert_allclose(distance, 10 - 0.05, atol=0.01)


def test_hidden_and_far_things_are_not_met():
    plate = box((0, 0, 1), (0.2, 4.0, 2.0), (1, 2, 3))
    movers = Movers([plate, plate], 30.0)
    movers.place(np.array([[np.nan] * 4, [40.0, 0, 0, 0]]), None)
    ray = np.array([[0, 0, 1]], np.float32), np.array([[1, 0, 0]], np.float32)
    distance, mover, *_ = movers.cast(*ray, None)
    assert np.isinf(distance[0])
    assert mover[0] == -1
    movers.place(np.array([[20.0, 0, 0, 0], [25.0, 0, 0, 0]]), None)
    distance, mover, *_ = movers.cast(*ray, None)
    assert distance[0] == pytest.approx(19.9, abs=1e-4)
    assert mover[0] == 0


def test_no_movers_at_all():
    movers = Movers([], 30.0)
    distance, mover, *_ = movers.cast(
        np.zeros((5, 3), np.float32), np.tile(np.eye(3, dtype=np.float32)[0], (5, 1)), None
    )
    assert np.isinf(distance).all()
    assert (mover == -1).all()
    assert not movers.blocked(np.zeros((5, 3), np.float32), np.array([0.0, 0, 1])).any()


@pytest.mark.parametrize("seed", range(3))
def test_blocked_is_a_cast_towards_a_far_light(seed):
    shapes, states, _, _, rng = scene(seed)
    movers = Movers(shapes, 100.0)
    movers.place(states, None)
    spots = states[rng.integers(6, size=900), :2] + rng.uniform(-4, 4, (900, 2))
    points = np.column_stack([spots, np.zeros(900)]).astype(np.float32)
    light = np.array([0.5, -0.3, 0.6]) / np.linalg.norm([0.5, -0.3, 0.6])
    directions = np.tile(light.astype(np.float32), (900, 1))
    distance, *_ = movers.cast(points, directions, None)
    blocked = movers.blocked(points, light)
    assert 40 < blocked.sum() < 800
    np.testing.assert_array_equal(blocked, np.isfinite(distance))
