"""Pictures of a flat world: what appears where, how far it is, and how bright."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avjepa.city.cameras import photograph
from avjepa.city.materials import Ground
from avjepa.city.rig import make_rig
from avjepa.city.world import SCENERY
from avjepa.conventions import CAMERAS
from avjepa.geometry.camera import project, unproject
from avjepa.geometry.rigid import invert, transform_points
from tests.city.flat_world import at, cube, flat_town, make_world, pose, weather

SIZE_PX = (120, 214)
RIG = {camera.channel: camera for camera in make_rig(SIZE_PX, np.random.default_rng(0))}
TOWN_T_EGO = pose(at(0, 0, 0.4))


def take(world, channel="CAM_FRONT", name="overcast", seed=0, town_T_ego=TOWN_T_EGO):
    return photograph(world, RIG[channel], town_T_ego, weather(name), np.random.default_rng(seed))


def in_front(channel, distance_m, size, colour, material=2):
    """A box before a camera: a world with it, and its corners in the camera's frame."""
    look = TOWN_T_EGO @ RIG[channel].ego_T_sensor
    place = look[:3, 3] + distance_m * look[:3, 2]
    state = np.array([place[0], place[1], 0.0, 0.7])
    world = make_world(flat_town(ground=Ground.WALKWAY), (cube(size, colour, material), "vehicle.car"))
    world.place(state[None])
    corners = np.stack(np.meshgrid(*([-0.5, 0.5], [-0.5, 0.5], [0, 1])), -1).reshape(-1, 3) * size
    xyz_cam = transform_points(invert(look), transform_points(pose(state), corners))
    return world, xyz_cam


@pytest.mark.parametrize("channel", CAMERAS)
def test_a_red_box_appears_at_its_projected_pixels(channel):
    world, corners = in_front(channel, 9.0, (1.5, 1.5, 2.5), (220, 20, 20))
    image, _, things = take(world, channel)
    uv, _ = project(RIG[channel].pix_T_cam, corners)
    rows, columns = np.nonzero(things == 0)
    np.testing.assert_allclose([columns.min(), rows.min()], uv.min(0), atol=1.0)
    np.testing.assert_allclose([columns.max(), rows.max()], uv.max(0), atol=1.0)
    middle = np.round(uv.mean(0)).astype(int)
    red, green, blue = image[middle[1], middle[0]].astype(int)
    assert red > 2 * max(green, blue)
    away = image[things == SCENERY].astype(int)
    assert not (away[:, 0] > 2 * away[:, 1:].max(1)).mean() > 0.01


def test_images_are_of_the_right_shape_and_kind():
    image, distance, things = take(make_world(flat_town()))
    assert (image.shape, image.dtype) == ((*SIZE_PX, 3), np.uint8)
    assert (distance.shape, distance.dtype) == (SIZE_PX, np.float32)
    assert (things == SCENERY).all()


def test_distances_run_along_the_rays():
    camera = RIG["CAM_BACK_LEFT"]
    _, distance, _ = take(make_world(flat_town()), "CAM_BACK_LEFT")
    v, u = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]]
    rays = unproject(camera.pix_T_cam, np.stack([u, v], -1).reshape(-1, 2).astype(float), np.ones(u.size))
    town_T_cam = TOWN_T_EGO @ camera.ego_T_sensor
    rays = rays @ town_T_cam[:3, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    expected = np.where(rays[:, 2] < 0, -town_T_cam[2, 3] / rays[:, 2], np.inf).reshape(SIZE_PX)
    near = expected < 60
    assert 0.1 < near.mean() < 0.6
    np.testing.assert_allclose(distance[near], expected[near], rtol=1e-3)
    assert np.isinf(distance[expected == np.inf]).all()


def test_nearer_things_hide_farther_ones():
    world = make_world(
        flat_town(), *[(cube((2, 2, 3), colour), "vehicle.car") for colour in ((0, 200, 0), (0, 0, 200))]
    )
    ahead = np.array([np.cos(0.4), np.sin(0.4)])
    world.place(np.stack([at(*(12 * ahead), 0.4), at(*(20 * ahead), 0.4)]))
    assert set(np.unique(take(world)[2])) == {SCENERY, 0}
    world.place(np.stack([at(*(30 * ahead), 0.4), at(*(20 * ahead), 0.4)]))
    assert set(np.unique(take(world)[2])) == {SCENERY, 1}


def test_the_brightness_of_a_picture_follows_the_weather():
    world, _ = in_front("CAM_FRONT", 15.0, (2, 2, 2), (90, 90, 200))
    mean = {name: take(world, name=name)[0].mean() for name in ("day", "overcast", "rain", "dusk", "night")}
    assert mean["night"] < 0.5 * min(mean["day"], mean["overcast"], mean["rain"])
    assert min(mean.values()) > 5
    assert max(mean.values()) < 230


def test_the_same_rng_gives_the_same_picture_and_noise_differs():
    world, _ = in_front("CAM_FRONT", 15.0, (2, 2, 2), (90, 90, 200))
    one, again, other = (take(world, name="rain", seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.3


def test_a_box_throws_a_shadow_away_from_the_sun():
    day = weather("day")
    world = make_world(flat_town(ground=Ground.WALKWAY), (cube((2, 2, 3)), "vehicle.car"))
    ahead = np.array([np.cos(0.4), np.sin(0.4)])
    world.place(np.full((1, 4), np.nan))
    clear, distance, _ = take(world, name="day", seed=5)
    world.place(at(*(10 * ahead))[None])
    image, _, things = take(world, name="day", seed=5)
    v, u = np.nonzero((things == SCENERY) & (distance < 40))
    town_T_cam = TOWN_T_EGO @ RIG["CAM_FRONT"].ego_T_sensor
    rays = unproject(RIG["CAM_FRONT"].pix_T_cam, np.stack([u, v], 1).astype(float), np.ones(len(u)))
    rays = rays @ town_T_cam[:3, :3].T
    spots = town_T_cam[:3, 3] - rays * town_T_cam[2, 3] / rays[:, 2:]
    towards = spots[:, None] + np.linspace(0, 6, 61)[None, :, None] * day.sun - [*at(*(10 * ahead))[:2], 0]
    deep = ((np.abs(towards[..., :2]) < 0.6).all(2) & (towards[..., 2] > 0) & (towards[..., 2] < 2.6)).any(1)
    free = ~((np.abs(towards[..., :2]) < 1.6).all(2) & (towards[..., 2] < 3.4)).any(1)
    ratio = image[v, u].mean(1) / clear[v, u].mean(1)
    assert deep.sum() > 10
    assert np.median(ratio[deep]) < 0.75
    assert np.median(ratio[free]) == pytest.approx(1, abs=0.02)


def test_fog_takes_the_colour_from_far_things():
    world, _ = in_front("CAM_FRONT", 40.0, (6, 6, 6), (220, 20, 20))
    clear = weather("overcast")
    pictures = []
    for air in (clear, replace(clear, visibility_m=60.0)):
        image, _, things = photograph(world, RIG["CAM_FRONT"], TOWN_T_EGO, air, np.random.default_rng(0))
        red, green, _ = image[things == 0].mean(0)
        pictures.append(red / green)
    assert pictures[0] > 2
    assert pictures[1] < 0.6 * pictures[0]
