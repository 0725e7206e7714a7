"""Occupancy of hand-placed boxes, and what the sensors see of it."""

from __future__ import annotations

import numpy as np
import pytest

from avjepa.city.cameras import photograph
from avjepa.city.lidar import spin
from avjepa.city.materials import CATEGORIES, Ground, Material, ground_labels, label_of
from avjepa.city.occupancy import (
    FREE,
    LOWER_M,
    OCC3D_OF_LABEL,
    SAMPLE_M,
    SHAPE,
    VOXEL_M,
    OccupancyTruth,
    sample_surfaces,
)
from avjepa.city.rig import COLUMNS, make_rig
from avjepa.geometry.rigid import transform_points
from tests.city.flat_world import at, cube, ego_T_lidar, flat_town, make_world, pose, weather

RIG = make_rig((120, 214), np.random.default_rng(0))
TOWN_T_EGO = pose(at(0, 0, 0.3))
GROUND_LAYER = 2  # 1 m below the ego lies the floor of the grid, so z = 0 is in the third layer
DRIVEABLE, CAR, TRUCK, MANMADE, SIDEWALK, OTHER_FLAT, TERRAIN, PERSON = 11, 4, 10, 15, 13, 12, 14, 7


def truth_of(world, *categories):
    return OccupancyTruth(world, RIG, np.array([label_of(c) for c in categories], int), np.random.default_rng(0))


def cells(lower, upper):
    """Mask of the voxels whose middles lie between two corners in the ego frame."""
    middles = [LOWER_M[i] + (np.arange(SHAPE[i]) + 0.5) * VOXEL_M for i in range(3)]
    x, y, z = ((middle > low) & (middle < high) for middle, low, high in zip(middles, lower, upper, strict=True))
    return x[:, None, None] & y[None, :, None] & z[None, None, :]


def voxel(xyz):
    return tuple(np.floor((np.asarray(xyz) - LOWER_M) / VOXEL_M).astype(int))


def labels_with(size, x_m, y_m, category="vehicle.car", turn_rad=0.0):
    """Labels of a flat world with one box at a place of the ego frame, parallel to it but for a turn."""
    world = make_world(flat_town(), (cube(size), category))
    state = np.array([*transform_points(TOWN_T_EGO, np.array([[x_m, y_m, 0.0]]))[0, :2], 0, 0.3 + turn_rad])
    return truth_of(world, category).labels(TOWN_T_EGO, pose(state)[None])


def test_classes_are_those_of_occ3d():
    assert OCC3D_OF_LABEL[CATEGORIES.index("vehicle.car")] == CAR
    assert OCC3D_OF_LABEL[CATEGORIES.index("flat.driveable_surface")] == DRIVEABLE
    assert OCC3D_OF_LABEL[CATEGORIES.index("static.vegetation")] == 16
    assert OCC3D_OF_LABEL[CATEGORIES.index("animal")] == 0
    assert OCC3D_OF_LABEL.max() == 16 < FREE
    assert OCC3D_OF_LABEL[ground_labels()[[Ground.GRASS, Ground.ISLAND, Ground.WALKWAY]]].tolist() == [
        TERRAIN,
        OTHER_FLAT,
        SIDEWALK,
    ]


def test_a_flat_world_is_one_layer_of_ground():
    grid = truth_of(make_world(flat_town())).labels(TOWN_T_EGO, np.zeros((0, 4, 4)))
    assert (grid.shape, grid.dtype) == (SHAPE, np.uint8)
    assert (grid[:, :, GROUND_LAYER] == DRIVEABLE).all()
    assert (np.delete(grid, GROUND_LAYER, axis=2) == FREE).all()


@pytest.mark.parametrize("turn_rad", [0.0, np.pi / 2, np.pi])
@pytest.mark.parametrize(
    ("category", "kind", "size", "x_m", "y_m"),
    [
        ("vehicle.car", CAR, (4.0, 2.0, 1.5), 12.0, -3.0),
        ("vehicle.truck", TRUCK, (8.0, 2.4, 3.0), -20.0, 6.0),
        ("human.pedestrian.adult", PERSON, (0.5, 0.5, 1.7), 5.0, 9.0),
    ],
)
def test_a_box_fills_exactly_its_voxels(category, kind, size, x_m, y_m, turn_rad):
    grid = labels_with(size, x_m, y_m, category, turn_rad)
    length, width = size[:2] if np.cos(turn_rad) ** 2 > 0.5 else size[1::-1]
    half = np.array([length, width]) / 2
    low, high = np.array([x_m, y_m]) - half, np.array([x_m, y_m]) + half

    def reached(by_m):
        """Voxels that the box reaches into, by so much on every axis."""
        grown = VOXEL_M / 2 - by_m
        return cells([*(low - grown), -0.2], [*(high + grown), size[2] + grown])

    assert (grid[reached(by_m=0.1)] == kind).mean() > 0.995
    assert reached(by_m=0.1).sum() >= 5
    assert not ((grid == kind) & ~reached(by_m=-0.02)).any()


def test_things_that_are_elsewhere_or_far_leave_no_trace():
    world = make_world(flat_town(), (cube((4, 2, 1.5)), "vehicle.car"), (cube((4, 2, 1.5)), "vehicle.truck"))
    grid = truth_of(world, "vehicle.car", "vehicle.truck").labels(
        TOWN_T_EGO, np.stack([np.full((4, 4), np.nan), pose(at(70, 0))])
    )
    assert set(np.unique(grid)) == {DRIVEABLE, FREE}


def test_buildings_are_solid_up_to_their_roofs():
    house = cube((8.0, 6.0, 3.0), material=Material.WALL).moved(TOWN_T_EGO @ pose(np.array([20.0, 10.0, 0, 0])))
    grid = truth_of(make_world(flat_town((house, "static.manmade")))).labels(TOWN_T_EGO, np.zeros((0, 4, 4)))
    inside = cells([16.5, 7.5, -0.2], [23.5, 12.5, 2.9])
    assert (grid[inside] == MANMADE).all()
    assert inside.sum() > 1000
    outside = cells([16.0 - VOXEL_M, 7.0 - VOXEL_M, -1], [24.0 + VOXEL_M, 13.0 + VOXEL_M, 3.0 + VOXEL_M])
    assert not (grid[~outside] == MANMADE).any()


def test_below_a_canopy_is_free():
    roof = cube((8.0, 8.0, 0.2)).moved(TOWN_T_EGO @ pose(np.array([10.0, 0, 4.0, 0])))
    grid = truth_of(make_world(flat_town((roof, "static.manmade")))).labels(TOWN_T_EGO, np.zeros((0, 4, 4)))
    below = cells([7, -3, 0.25], [13, 3, 3.7])
    assert (grid[below] == FREE).all()
    assert (grid[cells([7, -3, 3.9], [13, 3, 4.3])] == MANMADE).mean() > 0.4


@pytest.mark.parametrize("kind", list(Ground))
def test_ground_classes_come_from_the_raster(kind):
    raster = np.full((4000, 4000), Ground.ASPHALT, np.uint8)
    raster[:, 2000:] = kind  # east of the ego
    grid = truth_of(make_world(flat_town(raster=raster))).labels(pose(at(0, 0)), np.zeros((0, 4, 4)))
    assert (grid[100:, :, GROUND_LAYER] == OCC3D_OF_LABEL[ground_labels()[kind]]).all()
    assert (grid[:100, :, GROUND_LAYER] == DRIVEABLE).all()


def sense(world):
    """Masks (camera, lidar) of a standing ego."""
    pictures = [photograph(world, camera, TOWN_T_EGO, weather(), np.random.default_rng(0))[1] for camera in RIG[1:]]
    truth = truth_of(world)
    still = np.tile(np.eye(4), (len(RIG) - 1, 1, 1))
    camera = truth.mask_camera(pictures, still)
    sweep = spin(
        world,
        lambda time_s: np.zeros((0, 4)),
        lambda times_s: np.tile(TOWN_T_EGO, (len(times_s), 1, 1)),
        ego_T_lidar(),
        100_000,
        weather(),
        np.random.default_rng(0),
    )
    returned = sweep.points[np.any(sweep.points[:, :3] != 0, axis=1), :3].astype(float)
    xyz_ego = transform_points(ego_T_lidar(), returned)
    columns = np.tile(np.eye(4), (COLUMNS, 1, 1))
    return camera, truth.mask_lidar(xyz_ego, sweep.seen_m, columns, ego_T_lidar())


@pytest.fixture(scope="module")
def masks():
    """With a wall 15 m ahead, 20 m wide and 5 m high."""
    wall = cube((0.4, 20.0, 5.0)).moved(TOWN_T_EGO @ pose(np.array([15.0, 0, 0, 0])))
    return sense(make_world(flat_town((wall, "static.manmade"))))


def test_masks_are_true_before_a_wall_and_false_behind_it(masks):
    camera, lidar = masks
    before, behind = cells([6, -2, 0.4], [14, 2, 1.6]), cells([16.5, -4, -0.2], [35, 4, 2.0])
    assert camera[before].all()
    assert lidar[before].mean() > 0.4  # between the beams it sees nothing
    assert not camera[behind].any()
    assert not lidar[behind].any()
    face = cells([14.8, -4, 0.4], [15.2, 4, 1.9])
    assert camera[face].mean() > 0.9
    assert lidar[face].mean() > 0.4


def test_masks_reach_around_the_car_and_no_further_than_the_sensors_look(masks):
    camera, lidar = masks
    for angle in np.radians([60, 120, 180, 240, 300]):
        spot = voxel([12 * np.cos(angle), 12 * np.sin(angle), 1.4])
        assert camera[spot], np.degrees(angle)
    assert not camera[voxel([1.0, 0.2, 5.2])]  # above the car
    assert not lidar[voxel([1.0, 0.2, 5.2])]
    assert not lidar[cells([-40, -40, -1.0], [40, 40, -0.6])].any()  # below the ground
    ring = np.hypot(*np.meshgrid(*[LOWER_M[0] + (np.arange(200) + 0.5) * VOXEL_M] * 2))
    ground = lidar[:, :, GROUND_LAYER]
    assert ground[(ring > 4) & (ring < 8)].mean() > 0.4
    assert ground[ring > 35].mean() < 0.1


def test_a_voxel_with_a_return_is_observed():
    truth = truth_of(make_world(flat_town()))
    nothing = np.zeros((COLUMNS, 32), np.float32)
    points = np.array([[10.0, 3.0, 0.5], [-7.0, 2.0, 1.0], [99.0, 0, 0]])
    mask = truth.mask_lidar(points, nothing, np.tile(np.eye(4), (COLUMNS, 1, 1)), ego_T_lidar())
    assert mask[voxel(points[0])]
    assert mask[voxel(points[1])]
    mask[cells([0, -1, 1], [2, 1, 3])] = False  # around the sensor itself
    assert mask.sum() == 2


def test_samples_cover_their_triangles_without_holes():
    vertices = np.array([[0, 0, 0], [6, 0, 0], [0, 4, 0], [0, 0, 30.0]])
    samples = sample_surfaces(
        vertices, np.array([[0, 1, 2], [0, 1, 3]]), np.array([17, 28]), np.random.default_rng(0), 5.0
    )
    flat = samples.xyz[samples.kind == CAR]
    assert (flat[:, 2] == 0).all()
    assert (flat[:, 0] / 6 + flat[:, 1] / 4 <= 1 + 1e-6).all()
    assert len(flat) == pytest.approx(12 / SAMPLE_M**2, abs=2)
    inside = np.stack(np.meshgrid(np.linspace(0.2, 2.8, 27), np.linspace(0.2, 1.8, 17)), -1).reshape(-1, 1, 2)
    assert np.linalg.norm(inside - flat[None, :, :2], axis=2).min(1).max() < 1.3 * SAMPLE_M
    upright = samples.xyz[samples.kind == MANMADE]
    assert (upright[:, 1] == 0).all()
    assert upright[:, 2].max() < 5.0
    assert len(upright) > 300


def test_the_rng_alone_decides_the_samples():
    world = make_world(flat_town(), (cube((4, 2, 1.5)), "vehicle.car"))
    one, again = (truth_of(world, "vehicle.car").labels(TOWN_T_EGO, pose(at(9, 3, 0.8))[None]) for _ in range(2))
    np.testing.assert_array_equal(one, again)
