"""A LiDAR turn in a flat world, against trigonometry."""

from __future__ import annotations

import numpy as np
import pytest

from avjepa.city.lidar import NOISE_M, RANGE_M, spin
from avjepa.city.materials import CATEGORIES, Ground, Material, label_of
from avjepa.city.rig import BEAMS, COLUMNS, ELEVATION_DEG, LIDAR_XYZ_M, TURN_US
from avjepa.city.world import SCENERY
from avjepa.geometry.rigid import transform_points
from tests.city.flat_world import at, cube, ego_T_lidar, flat_town, make_world, pose, weather

END_US = 500_000
RING = np.tile(np.arange(BEAMS), COLUMNS)


def still(times_s):
    return np.tile(pose(at(0, 0)), (len(np.atleast_1d(times_s)), 1, 1))


def driving(times_s):
    """15 m/s along a left bend of 30 m radius."""
    return np.stack(
        [pose(at(30 * np.sin(0.5 * t), 30 - 30 * np.cos(0.5 * t), 0.5 * t)) for t in np.atleast_1d(times_s)]
    )


def turn(world, states=lambda time_s: np.zeros((0, 4)), ego=still, name="day", seed=0):
    return spin(world, states, ego, ego_T_lidar(), END_US, weather(name), np.random.default_rng(seed))


def returned(sweep):
    return np.any(sweep.points[:, :3] != 0, axis=1)


@pytest.fixture(scope="module")
def empty():
    return turn(make_world(flat_town(ground=Ground.WALKWAY)))


def test_ranges_on_flat_ground_follow_from_height_and_elevation(empty):
    elevation = np.radians(np.linspace(*ELEVATION_DEG, BEAMS))
    distance = np.linalg.norm(empty.points[:, :3], axis=1)
    for ring in range(12):
        found = distance[(RING == ring) & returned(empty)]
        assert len(found) > 0.8 * COLUMNS
        assert found.mean() == pytest.approx(LIDAR_XYZ_M[2] / -np.sin(elevation[ring]), abs=4 * NOISE_M / np.sqrt(900))
        assert found.std() == pytest.approx(NOISE_M, rel=0.15)
    np.testing.assert_allclose(empty.points[returned(empty), 2], -LIDAR_XYZ_M[2], atol=5 * NOISE_M)


def test_columns_run_clockwise_from_the_left_and_rings_upwards(empty):
    assert empty.points.shape == (COLUMNS * BEAMS, 5)
    assert (empty.points[:, 4] == RING).all()
    near = np.flatnonzero((RING == 0) & returned(empty))
    azimuth = np.arctan2(empty.points[near, 1], empty.points[near, 0])  # x right, y ahead: the left is at pi
    clockwise = (np.pi - azimuth) % (2 * np.pi)
    clockwise[clockwise > 2 * np.pi - 0.001] -= 2 * np.pi
    np.testing.assert_allclose(clockwise, 2 * np.pi * (near // BEAMS) / COLUMNS, atol=1e-4)
    heights = empty.points[:, 2] / np.linalg.norm(empty.points[:, :2], axis=1).clip(1e-9)
    assert (np.diff(heights.reshape(COLUMNS, BEAMS)[:, :12].mean(0)) > 0).all()


def test_the_first_column_is_the_oldest_and_the_last_is_the_end(empty):
    age = empty.age_s.reshape(COLUMNS, BEAMS)
    assert (age == age[:, :1]).all()
    assert (np.diff(age[:, 0]) < 0).all()
    assert age[-1, 0] == 0
    assert age[0, 0] == pytest.approx(TURN_US * 1e-6 * (1 - 1 / COLUMNS), abs=1e-6)


def test_rays_that_do_not_come_back_are_kept_at_the_origin(empty):
    lost = ~returned(empty)
    assert (empty.points[lost, :3] == 0).all()
    assert (empty.labels[lost] == CATEGORIES.index("noise")).all()
    assert (empty.labels[~lost] == label_of("flat.sidewalk")).all()
    assert (empty.things == SCENERY).all()
    sky = RING >= 24  # these beams point upwards
    assert lost[sky].all()
    assert np.isinf(empty.seen_m.reshape(-1)[sky]).all()
    assert (empty.seen_m.reshape(-1)[lost & (RING < 10)] == 0).all()
    distance = np.linalg.norm(empty.points[~lost, :3], axis=1)
    np.testing.assert_allclose(empty.seen_m.reshape(-1)[~lost], distance, atol=5 * NOISE_M)


def test_a_few_rays_are_lost_at_random_and_more_in_the_rain(empty):
    near = RING < 8
    shares = [(~returned(empty))[near].mean()]
    shares.append((~returned(turn(make_world(flat_town(ground=Ground.WALKWAY)), name="rain")))[near].mean())
    assert 0.002 < shares[0] < 0.06
    assert shares[1] > shares[0]


def test_wet_asphalt_is_seen_less_far_than_dry():
    world = make_world(flat_town())
    reach = {name: np.linalg.norm(turn(world, name=name).points[:, :3], axis=1).max() for name in ("day", "rain")}
    assert 20 < reach["rain"] < reach["day"] < RANGE_M[1]


def test_intensity_tells_paint_from_asphalt_and_counts_whole_numbers():
    bright, dark = (turn(make_world(flat_town(ground=ground))).points for ground in (Ground.WHITE, Ground.ASPHALT))
    near = RING < 6
    assert bright[near, 3].mean() > 3 * dark[near, 3].mean()
    assert (bright[:, 3] == np.round(bright[:, 3])).all()
    assert bright[:, 3].min() >= 0
    assert bright[:, 3].max() <= 255


def test_the_same_rng_gives_the_same_turn():
    world = make_world(flat_town())
    one, again, other = (turn(world, seed=seed) for seed in (3, 3, 4))
    assert one.points.tobytes() == again.points.tobytes()
    assert one.points.tobytes() != other.points.tobytes()


DIRECTIONS = np.radians(np.arange(5, 360, 24))
POLES = [(12 * np.cos(a), 12 * np.sin(a)) for a in DIRECTIONS]


def test_standing_poles_come_out_where_they_stand_although_the_ego_drives_and_turns():
    shape = cube((0.5, 0.5, 4.0), material=Material.REFLECTOR)
    start = driving(END_US * 1e-6)[0][:2, 3]
    poles = [start + p for p in POLES]
    standing = np.stack([pose(np.array([*p, 0, 0])) for p in poles])
    world = make_world(flat_town(), *[(shape, "movable_object.barrier")] * len(poles), standing=standing)
    nothing = np.full((len(poles), 4), np.nan)
    sweep = turn(world, lambda time_s: nothing, driving)
    town_T_lidar = driving(END_US * 1e-6)[0] @ ego_T_lidar()
    seen = 0
    for number, pole in enumerate(poles):
        xyz = transform_points(town_T_lidar, sweep.points[sweep.things == number, :3].astype(float))
        seen += len(xyz) > 3
        np.testing.assert_allclose(np.abs(xyz[:, :2] - pole).max(1), 0.25, atol=5 * NOISE_M)  # on a side of it
        assert (xyz[:, 2] > -0.1).all()
        assert (xyz[:, 2] < 4.1).all()
    assert seen == len(poles)


@pytest.mark.parametrize(("side", "age_s"), [(1, 0.075), (-1, 0.025)])
def test_a_ray_leaves_from_where_the_sensor_was(side, age_s):
    """Towards a wall across the way, 30 m from the sensor when the turn ends."""
    wall = (
        cube((0.4, 90.0, 9.0), material=Material.REFLECTOR).moved(pose(at(side * 30.2 + LIDAR_XYZ_M[0], 0))),
        "static.manmade",
    )

    def straight(times_s):
        return np.stack([pose(at(20.0 * (t - END_US * 1e-6), 0)) for t in np.atleast_1d(times_s)])

    sweep = turn(make_world(flat_town(wall)), ego=straight)
    column = round((1 - age_s / 0.1) * COLUMNS)
    level = np.argmin(np.abs(np.linspace(*ELEVATION_DEG, BEAMS)))
    assert sweep.seen_m[column, level] == pytest.approx(30 + side * 20.0 * age_s, abs=0.03)


@pytest.mark.parametrize(("direction", "share"), [(0.0, 0.25), (-np.pi / 2, 0.5), (np.pi, 0.75)])
def test_a_moving_box_is_where_it_was_when_the_beam_met_it(direction, share):
    """Its points lie behind its place at the end of the turn by speed times age."""
    shape, speed = cube((2.0, 2.0, 2.5), material=Material.REFLECTOR), np.array([9.0, 6.0])
    middle = 14 * np.array([np.cos(direction), np.sin(direction)])
    end_s = END_US * 1e-6

    def states(time_s):
        return at(*(middle + speed * (time_s - end_s)))[None]

    sweep = turn(make_world(flat_town(), (shape, "vehicle.car")), states)
    on_it = sweep.things == 0
    assert on_it.sum() > 30
    assert (sweep.labels[on_it] == label_of("vehicle.car")).all()
    assert sweep.age_s[on_it].mean() == pytest.approx(0.1 * (1 - share), abs=0.006)
    town_T_lidar = still(0)[0] @ ego_T_lidar()
    xyz = transform_points(town_T_lidar, sweep.points[on_it, :3].astype(float))
    then = at(*middle)[:2] - speed * sweep.age_s[on_it, None]
    np.testing.assert_allclose(np.abs(xyz[:, :2] - then).max(1).clip(0.8), 1.0, atol=0.11)
    late = np.abs(xyz[:, :2] - at(*middle)[:2]).max(1)
    assert np.abs(late - 1.0).max() > 0.15  # without the shift they would not fit


def test_points_are_in_the_frame_of_the_sensor_at_the_end_of_the_turn():
    wall = (cube((0.4, 40.0, 3.0), material=Material.REFLECTOR).moved(pose(at(35, 0))), "static.manmade")
    sweep = turn(make_world(flat_town(wall)), ego=driving)
    town_T_lidar = driving(END_US * 1e-6)[0] @ ego_T_lidar()
    on_wall = sweep.labels == label_of("static.manmade")
    xyz = transform_points(town_T_lidar, sweep.points[on_wall, :3].astype(float))
    assert on_wall.sum() > 300
    assert np.median(np.abs(xyz[:, 0] - at(34.8, 0)[0])) < 0.03
    naive = transform_points(driving(END_US * 1e-6 - 0.1)[0] @ ego_T_lidar(), sweep.points[on_wall, :3].astype(float))
    assert np.median(np.abs(naive[:, 0] - at(34.8, 0)[0])) > 0.5


def test_things_too_near_and_too_far_return_nothing():
    walls = [
        (cube((0.4, 60.0, 20.0), material=Material.REFLECTOR).moved(pose(at(x, 0))), "static.manmade") for x in (101.5,)
    ]
    near = (
        cube((0.05, 0.4, 2.5), material=Material.REFLECTOR).moved(pose(at(LIDAR_XYZ_M[0] - 0.3, 0))),
        "static.other",
    )
    sweep = turn(make_world(flat_town(*walls, near)))
    assert not np.isin(sweep.labels, (label_of("static.manmade"), label_of("static.other"))).any()
    assert (np.linalg.norm(sweep.points[returned(sweep), :3], axis=1) < RANGE_M[1] + 0.1).all()
