import numpy as np
import pytest

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import invert, transform_from_se2, transform_points
from avjepa.probes.forecast_baselines import (
    extrapolate,
    future_T_frames,
    ray_cast_cloud,
    ray_traced_cloud,
    warped_cloud,
    warped_occupancy,
)

FREE = 17
GRID = BEVGrid((-4.0, 4.0), (-4.0, 4.0), (-1.0, 1.0), 1.0, 1.0)  # 8 x 8 x 2 voxels
TIMES_S = np.array([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5])


def line(time_s: float) -> np.ndarray:
    """4 m/s straight ahead."""
    return transform_from_se2(4 * time_s, 0, 0)


def circle(time_s: float) -> np.ndarray:
    """5 m/s on a circle of radius 20 m to the left."""
    yaw_rad = 0.25 * time_s
    return transform_from_se2(20 * np.sin(yaw_rad), 20 * (1 - np.cos(yaw_rad)), yaw_rad)


def drifting(time_s: float) -> np.ndarray:
    """Sideways and backwards while turning right: a circle about (1, 2) in the frame of now."""
    centre = transform_from_se2(1, 2, 0)
    return centre @ transform_from_se2(0, 0, -0.8 * time_s) @ invert(centre)


def poses(path) -> np.ndarray:
    return np.stack([path(time_s) for time_s in TIMES_S])


# --------------------------------------------------------------------------------------------------------------- poses
@pytest.mark.parametrize("path", [line, circle, drifting])
def test_constant_velocity_is_exact_on_lines_and_circles(path):
    true = poses(path)
    assert extrapolate(true[:3], TIMES_S[:3], TIMES_S[3:]) == pytest.approx(true[3:], abs=1e-9)


def test_a_car_that_stands_stays():
    still = np.stack([np.eye(4)] * 2)
    assert (extrapolate(still, np.array([-0.5, 0.0]), np.array([3.0])) == np.eye(4)).all()


def test_only_the_last_step_tells_the_velocity_and_time_steps_may_differ():
    before = np.stack([transform_from_se2(-50, 9, 1), transform_from_se2(-1, 0, 0), np.eye(4)])
    found = extrapolate(before, np.array([-0.7, -0.2, 0.0]), np.array([0.6, 1.0]))
    assert found[:, 0, 3] == pytest.approx([3.0, 5.0], abs=1e-12)


def test_height_and_tilt_are_not_extrapolated():
    before = np.stack([transform_from_se2(-1, 0, 0), np.eye(4)])
    before[0, 2, 3] = -0.3
    found = extrapolate(before, np.array([-0.5, 0.0]), np.array([0.5]))[0]
    assert found == pytest.approx(transform_from_se2(1, 0, 0), abs=1e-12)


def test_pose_sources():
    true = poses(circle)
    true[3:, 0, 3] += 1.0  # the car speeds up: constant velocity does not know
    from_true = future_T_frames(true, TIMES_S, 3, "true")
    assert from_true.shape == (3, 3, 4, 4)
    assert from_true[1, 0] == pytest.approx(invert(true[4]) @ true[0], abs=1e-12)
    predicted = future_T_frames(true, TIMES_S, 3, "constant velocity")
    assert predicted[1, 0] == pytest.approx(invert(circle(1.0)) @ circle(-1.0), abs=1e-9)


def test_true_future_poses_do_not_leak_into_constant_velocity():
    true, hidden = poses(circle), poses(circle)
    hidden[3:] = np.nan
    found = future_T_frames(hidden, TIMES_S, 3, "constant velocity")
    assert (found == future_T_frames(true, TIMES_S, 3, "constant velocity")).all()


@pytest.mark.parametrize(
    ("num_context", "source", "complaint"),
    [(1, "constant velocity", "two context frames"), (3, "odometry", "unknown pose source"), (6, "true", "1 <= T < S")],
)
def test_bad_pose_requests(num_context, source, complaint):
    with pytest.raises(ValueError, match=complaint):
        future_T_frames(poses(line), TIMES_S, num_context, source)


def test_frames_of_one_time_tell_no_velocity():
    with pytest.raises(ValueError, match="time order"):
        extrapolate(poses(line)[:2], np.array([0.0, 0.0]), np.array([1.0]))


# -------------------------------------------------------------------------------------------------------- point clouds
def test_a_still_post_comes_nearer():
    future_T_now = future_T_frames(poses(line), TIMES_S, 3, "true")[:, -1]
    assert warped_cloud(np.array([[10.0, 2.0, 1.0]]), future_T_now[2]) == pytest.approx(np.array([[4.0, 2.0, 1.0]]))


def test_ray_casting_sees_what_any_context_frame_saw():
    """A wall seen only two frames ago, then 7.5 m ahead; the car has come 4 m nearer since, and comes 2 more."""
    y, z = np.meshgrid(np.arange(-3.9, 4, 0.2), np.arange(-0.9, 1, 0.2))
    wall = np.stack([np.full(y.size, 7.5), y.ravel(), z.ravel()], -1)
    nothing = np.zeros((0, 3))
    future_T_frame = future_T_frames(poses(line), TIMES_S, 3, "true")[0]
    directions = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [-1.0, 0, 0]])
    origin = np.array([-2.5, 0.5, -0.5])
    seen = ray_cast_cloud([wall, nothing, nothing], future_T_frame, GRID, origin, directions)
    assert np.floor(seen[:2, 0] - 1e-6).tolist() == [1, 1]
    assert seen[1, 1] == pytest.approx(0.5 + (seen[1, 0] + 2.5) * 0.75, abs=1e-5)
    assert seen[2] == pytest.approx([-4.0, 0.5, -0.5], abs=1e-5)  # nothing there: the edge of the grid


def test_ray_tracing_takes_the_point_nearest_in_angle_of_any_context_frame():
    past, present = np.array([[12.0, 0.5, 0.0]]), np.array([[9.0, -1.0, 0.0], [5.0, 4.0, 0.0]])
    future_T_frame = np.stack([invert(transform_from_se2(4, 0, 0)), invert(transform_from_se2(2, 0, 0))])
    directions = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.995, 0.0998749, 0.0]])
    origin = np.array([1.0, -1.0, 0.0])
    traced = ray_traced_cloud([past, present], future_T_frame, origin, directions)
    # past is now at (8, 0.5), present at (7, -1) and (3, 4)
    ranges_m = np.array([6.0, np.hypot(2, 5), 6.0])
    assert traced == pytest.approx(origin + directions * ranges_m[:, None], abs=1e-6)
    towards_past = np.array([[7.0, 1.5, 0.0]]) / np.hypot(7, 1.5)
    traced = ray_traced_cloud([past, present], future_T_frame, origin, towards_past)
    assert traced == pytest.approx(np.array([[8.0, 0.5, 0.0]]), abs=1e-6)


def test_nothing_seen_traces_no_ray():
    with pytest.raises(ValueError, match="from the origin"):
        ray_traced_cloud([np.zeros((0, 3))], np.eye(4)[None], np.zeros(3), np.array([[1.0, 0, 0]]))


# ----------------------------------------------------------------------------------------------------------- occupancy
def volume(**voxels) -> np.ndarray:
    """Free but for the named voxels, each ((x, y, z), class)."""
    grid = np.full((8, 8, 2), FREE, dtype=np.uint8)
    for index, kind in voxels.values():
        grid[index] = kind
    return grid


def test_warping_by_whole_voxels():
    present = volume(post=((6, 3, 0), 15), behind=((0, 0, 1), 4))
    moved = warped_occupancy(present, invert(transform_from_se2(2, 1, 0)), GRID, FREE)
    assert (moved == volume(post=((4, 2, 0), 15))).all()  # the other one left the volume; what enters is free
    assert moved.dtype == np.uint8


def test_warping_by_a_quarter_turn():
    """The car turns left: what was ahead is now to its right."""
    present = volume(post=((7, 4, 1), 15))
    moved = warped_occupancy(present, invert(transform_from_se2(0, 0, np.pi / 2)), GRID, FREE)
    assert (moved == volume(post=((4, 0, 1), 15))).all()


def test_warping_by_nothing_changes_nothing():
    present = np.random.default_rng(0).integers(0, 18, (8, 8, 2)).astype(np.uint8)
    assert (warped_occupancy(present, np.eye(4), GRID, FREE) == present).all()


def test_warping_takes_the_nearest_voxel_centre():
    rng = np.random.default_rng(1)
    present = rng.integers(0, 18, (8, 8, 2)).astype(np.uint8)
    future_T_now = transform_from_se2(1.3, -0.8, 0.4)
    future_T_now[2, 3] = 0.6
    moved = warped_occupancy(present, future_T_now, GRID, FREE)
    for x, y, z in rng.integers(0, (8, 8, 2), (60, 3)):
        centre_future = np.array([[x - 3.5, y - 3.5, z - 0.5]])
        i, j, k = np.floor(transform_points(invert(future_T_now), centre_future)[0] + [4, 4, 1]).astype(int)
        inside = 0 <= i < 8 and 0 <= j < 8 and 0 <= k < 2
        assert moved[x, y, z] == (present[i, j, k] if inside else FREE)


def test_a_volume_of_another_shape():
    with pytest.raises(ValueError, match="8, 8, 2"):
        warped_occupancy(np.zeros((8, 8, 3), dtype=np.uint8), np.eye(4), GRID, FREE)
