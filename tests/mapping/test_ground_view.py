"""What one keyframe sees of the ground: cameras that look at a painted plane, and LiDAR returns of a plane with things on it."""

import numpy as np
import pytest

from avjepa.geometry.camera import project, unproject
from avjepa.geometry.rigid import invert, transform_from_se2, transform_points
from avjepa.mapping.ground_surface import ground_surface
from avjepa.mapping.ground_view import FAR_M, OWN_CAR, REACH_M, SHARP_M, Camera, view_ground
from tests.toy_drive import camera_calibration

SIZE = (640, 360)
POSE = transform_from_se2(312.34, 905.68, 0.6)
ASPHALT, WHITE, YELLOW = (0.3, 0.3, 0.3), (0.6, 0.6, 0.6), (0.4, 0.35, 0.1)


def plane(half_m=25.0, step_m=0.5, slope=0.0):
    """Returns (P, 4) of a ground that rises along x."""
    x_m, y_m = (axis.ravel() for axis in np.meshgrid(*[np.arange(-half_m, half_m, step_m) + step_m / 2] * 2))
    return np.column_stack([x_m, y_m, slope * x_m, np.full(len(x_m), 0.1)])


def thing(x_m, y_m, heights_m, intensity=0.5):
    """Returns of a pole."""
    return np.array([[x_m, y_m, z_m, intensity] for z_m in heights_m])


def wall(x_m, from_m, to_m):
    return np.concatenate([thing(x_m, y_m, np.arange(0.4, 2.0, 0.2)) for y_m in np.arange(from_m, to_m, 0.05)])


def camera(colour_of, channel="CAM_FRONT", map_T_ego=POSE, size=SIZE):
    """A camera that sees ``colour_of`` positions (n, 2) of the map on the plane through the wheels; the sky is light."""
    pix_T_cam, ego_T_cam = camera_calibration(channel, size)
    v, u = np.mgrid[: size[1], : size[0]]
    rays = unproject(pix_T_cam, np.stack([u, v], -1).reshape(-1, 2).astype(float), np.ones(u.size))
    ends = transform_points(ego_T_cam, rays)
    centre = ego_T_cam[:3, 3]
    down = centre[2] - ends[:, 2]
    reach = np.where(down > 1e-3, centre[2] / np.maximum(down, 1e-3), 0)
    xy_map = transform_points(map_T_ego, centre + reach[:, None] * (ends - centre))[:, :2]
    image = np.where((reach > 0)[:, None], colour_of(xy_map), 0.8).reshape(size[1], size[0], 3)
    return Camera(np.round(255 * image).astype(np.uint8), pix_T_cam, ego_T_cam)


def patch(x_m, y_m, side_m=0.8, colour=WHITE, map_T_ego=POSE):
    """A square of paint on asphalt, placed and turned with the car."""

    def colour_of(xy_map):
        xyz = np.column_stack([xy_map, np.zeros(len(xy_map))])
        xy_ego = transform_points(invert(map_T_ego), xyz)[:, :2]
        inside = (np.abs(xy_ego - [x_m, y_m]) < side_m / 2).all(1)
        return np.where(inside[:, None], colour, ASPHALT)

    return colour_of


def even(level):
    return lambda xy_map: np.full((len(xy_map), 3), level)


def in_ego(xy_map, map_T_ego=POSE):
    return transform_points(invert(map_T_ego), np.column_stack([xy_map, np.zeros(len(xy_map))]))[:, :2]


# ------------------------------------------------------------------------------------------------------------- ground
@pytest.mark.parametrize("slope", [0.0, 0.04, -0.05])
def test_a_plane_comes_back(slope):
    xy_m = np.random.default_rng(0).uniform(-REACH_M, REACH_M, (200, 2))
    height_m = ground_surface(plane(40, slope=slope)[:, :3]).at(xy_m)
    assert np.abs(height_m - slope * xy_m[:, 0]).max() < 0.02 + abs(slope)  # the lowest of a cell of 1 m


def test_a_box_does_not_lift_the_ground():
    """A bus of 10 m by 3 m that hides the ground below it."""
    points = plane(40)[:, :3]
    below = (np.abs(points[:, :2] - [8, 4]) < [5, 1.5]).all(1)
    points[below, 2] = 1.5
    assert np.abs(ground_surface(points).at(np.array([[8.0, 4.0], [4, 4], [8, 6], [0, 0]]))).max() < 0.03


def test_without_returns_the_ground_is_flat():
    assert (ground_surface(np.zeros((0, 3))).at(np.array([[0.0, 0], [30, -30], [90, 0]])) == 0).all()


# ------------------------------------------------------------------------------------------------------------ cameras
@pytest.mark.parametrize(("channel", "x_m", "y_m"), [("CAM_FRONT", 9.0, 1.0), ("CAM_BACK_LEFT", -3.0, 9.0)])
@pytest.mark.parametrize("pose", [np.eye(4), POSE, transform_from_se2(-40.05, 7.3, -2.5)])
def test_paint_lies_where_it_is(channel, x_m, y_m, pose):
    """Its centre within .1 m, its size within .3 m, in the frame of the map, however the car stands."""
    view = view_ground(plane(), [camera(patch(x_m, y_m, map_T_ego=pose), channel, pose)], pose)
    painted = view.contrast > 0.4
    assert painted.sum() > 20
    xy_ego = in_ego(view.cell_xy_m[painted], pose)
    assert xy_ego.mean(0) == pytest.approx([x_m, y_m], abs=0.1)
    assert np.ptp(xy_ego, axis=0) == pytest.approx([0.8, 0.8], abs=0.3)
    assert np.abs(view.contrast[np.abs(in_ego(view.cell_xy_m, pose) - [x_m, y_m]).max(1) > 2.5]).max() < 0.05


def test_paint_on_a_slope_lies_where_it_is():
    """The plane through the wheels would put paint of a road that rises by 5 % a metre too far away."""
    slope_rad = np.arctan(0.05)
    tilt = np.eye(4)  # ego_T_road: the road's plane, about y through the wheels
    tilt[:3, :3] = [[np.cos(slope_rad), 0, -np.sin(slope_rad)], [0, 1, 0], [np.sin(slope_rad), 0, np.cos(slope_rad)]]
    level = camera(patch(10, 0, map_T_ego=np.eye(4)), map_T_ego=np.eye(4))
    tilted = Camera(level.image, level.pix_T_cam, tilt @ level.ego_T_cam)  # it sees the road as if that were level
    view = view_ground(plane(40, slope=0.05), [tilted], np.eye(4))
    found = view.cell_xy_m[view.contrast > 0.4].mean(0)
    assert found == pytest.approx([10 * np.cos(slope_rad), 0], abs=0.2)


def test_yellow_is_told_from_white():
    yellow = view_ground(plane(), [camera(patch(9, 0, colour=YELLOW))], POSE)
    white = view_ground(plane(), [camera(patch(9, 0))], POSE)
    assert yellow.yellow.max() > 0.5
    assert np.abs(white.yellow).max() < 0.05


@pytest.mark.parametrize("level", [0.15, 0.4, 0.8])
def test_an_even_ground_has_no_contrast(level):
    view = view_ground(plane(), [camera(even(level))], POSE)
    assert len(view.contrast) > 1000
    assert np.abs(view.contrast).max() < 0.02
    assert np.abs(view.yellow).max() < 0.02


def test_contrast_is_that_of_the_paint_whatever_the_exposure():
    for exposure in (0.5, 1.0, 1.5):
        shown = patch(9, 0)
        view = view_ground(plane(), [camera(lambda xy, shown=shown, e=exposure: e * shown(xy))], POSE)
        assert np.percentile(view.contrast, 99.9) == pytest.approx(1, abs=0.1)  # .6 beside .3


def test_what_stands_hides_the_ground_behind_it():
    """A wall 9 m ahead: the ground before it is seen, that behind it is not, and that beside its shadow is."""
    points = np.concatenate([plane(), wall(9.0, -1.0, 1.0)])
    xy_ego = in_ego(view_ground(points, [camera(even(0.4))], POSE).cell_xy_m)
    middle = np.abs(xy_ego[:, 1]) < 0.5
    assert xy_ego[middle, 0].max() < 9.0
    assert xy_ego[middle, 0].max() > 8.3
    free = in_ego(view_ground(plane(), [camera(even(0.4))], POSE).cell_xy_m)
    assert free[np.abs(free[:, 1]) < 0.5, 0].max() > 17
    assert (xy_ego[np.abs(xy_ego[:, 1]) > 4, 0].max()) > 15


def test_the_own_car_is_not_read():
    """Nothing depends on the lower 11 % of the image; the nearest cell is the one that the row at 88 % shows."""
    clean = camera(patch(9, 0))
    with_bonnet = Camera(clean.image.copy(), clean.pix_T_cam, clean.ego_T_cam)
    with_bonnet.image[-round(0.11 * SIZE[1]) :] = 255
    view, other = (view_ground(plane(), [one], POSE) for one in (clean, with_bonnet))
    np.testing.assert_array_equal(view.contrast, other.contrast)
    xyz_ego = np.column_stack([in_ego(view.cell_xy_m), np.zeros(len(view.cell_xy_m))])
    uv_px, _ = project(clean.pix_T_cam, transform_points(invert(clean.ego_T_cam), xyz_ego))
    assert uv_px[:, 1].max() == pytest.approx((1 - OWN_CAR) * SIZE[1], abs=5)
    assert uv_px[:, 1].max() <= (1 - OWN_CAR) * SIZE[1]


def test_views_from_afar_count_less():
    view = view_ground(plane(), [camera(even(0.4))], POSE)
    centre = camera_calibration("CAM_FRONT", SIZE)[1][:2, 3]
    distance_m = np.hypot(*(in_ego(view.cell_xy_m) - centre).T)
    assert distance_m.max() < REACH_M
    assert view.weight == pytest.approx(1 / (1 + (distance_m / SHARP_M) ** 2), rel=1e-4)


def test_two_cameras_see_a_cell_twice():
    front = camera(even(0.4))
    once, twice = (view_ground(plane(), cameras, POSE) for cameras in ([front], [front, front]))
    assert len(twice.weight) == 2 * len(once.weight)


# -------------------------------------------------------------------------------------------------------------- lidar
def test_returns_are_told_apart():
    """Ground; a pole that stands on it; a bridge above it; what is out of the cameras' reach is kept apart."""
    pole, bridge, far = thing(5, 5, [0.5, 1.0, 2.0]), thing(-6, 3, [4.5], 0.9), thing(FAR_M, 0, [1.0])
    view = view_ground(np.concatenate([plane(40), pole, bridge, far]), [], POSE)
    xy_ego = in_ego(view.return_xy_m)
    assert view.stands.sum() == 3
    assert xy_ego[view.stands] == pytest.approx(np.full((3, 2), 5.0))
    np.testing.assert_array_equal(view.height_m[view.stands], [0.5, 1.0, 2.0])
    neither = ~view.stands & ~view.on_ground
    assert view.intensity[neither] == pytest.approx([0.9])
    assert view.intensity[view.on_ground] == pytest.approx(0.1)
    assert np.hypot(*xy_ego.T).max() < REACH_M
    assert view.far_xy_m.shape == (0, 2)
    assert view.cell_xy_m.shape == (0, 2)
    assert len(view.weight) == len(view.contrast) == len(view.yellow) == 0


def test_what_stands_beyond_the_cameras_reach():
    """A barrier 27 m away is met; the ground around it is not told, nor what hangs above it."""
    barrier, bridge = thing(27, 2, [0.5, 0.9]), thing(24, 0, [5.0])
    view = view_ground(np.concatenate([plane(40), barrier, bridge]), [], POSE)
    assert in_ego(view.far_xy_m) == pytest.approx(np.array([[27.0, 2.0]] * 2))
    assert not view.stands.any()
    assert np.hypot(*in_ego(view.return_xy_m).T).max() < REACH_M < 24 < FAR_M
