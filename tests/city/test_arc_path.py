"""Paths of arcs against plane geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avjepa.city.arc_path import ArcPath, biarc, join, line

POSE = st.tuples(st.floats(-60, 60), st.floats(-60, 60), st.floats(-math.pi, math.pi))
SEGMENTS = st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(0.5, 20)), min_size=1, max_size=4).map(tuple)
FEW = settings(max_examples=30)
PATHS = st.builds(ArcPath, POSE, SEGMENTS)


def assert_same_pose(pose, expected, abs_m=1e-6):
    assert pose[:2] == pytest.approx(expected[:2], abs=abs_m)
    assert math.remainder(pose[2] - expected[2], 2 * math.pi) == pytest.approx(0, abs=1e-6)


def walked(path: ArcPath, steps: int = 20000) -> np.ndarray:
    """The path's end by many small straight steps, without its own formulas."""
    x, y, yaw = path.start
    for curvature, length in path.segments:
        yaws = yaw + curvature * (np.arange(steps) + 0.5) * length / steps
        x, y, yaw = x + np.cos(yaws).mean() * length, y + np.sin(yaws).mean() * length, yaw + curvature * length
    return np.array([x, y, yaw])


@FEW
@given(PATHS)
def test_the_end_is_where_small_steps_lead(path):
    assert_same_pose(path.end, walked(path, 2000), abs_m=1e-4)


def test_a_quarter_circle():
    path = ArcPath((0, 0, 0), ((0.1, 5 * math.pi),))
    assert_same_pose(path.end, (10, 10, math.pi / 2))
    assert path.length_m == pytest.approx(5 * math.pi)


def test_lines_and_arcs_go_on_straight_beyond_their_ends():
    poses = ArcPath((0, 0, 0), ((0.1, 5 * math.pi),)).poses(np.array([-3, 5 * math.pi + 4]))
    np.testing.assert_allclose(poses, [[-3, 0, 0], [10, 14, math.pi / 2]], atol=1e-9)


@FEW
@given(
    st.tuples(st.floats(0.5, 80), st.floats(-math.pi, math.pi)), st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), POSE
)  # the tangents may not both point away from the other end: then the way there is no simple curve
def test_a_biarc_reaches_its_end_pose(chord, out_rad, in_rad, start):
    distance, direction = chord
    start = (*start[:2], direction + out_rad)
    end = (start[0] + distance * math.cos(direction), start[1] + distance * math.sin(direction), direction + in_rad)
    path = biarc(start, end)
    assert_same_pose(path.start, start)
    assert_same_pose(path.end, end)
    assert path.length_m >= distance - 1e-9
    assert path.length_m < math.pi * distance
    assert all(length > 0 for _, length in path.segments)


def test_a_biarc_between_facing_poses_of_one_circle_is_that_circle():
    path = biarc((10, 0, math.pi / 2), (0, 10, math.pi))
    assert [curvature for curvature, _ in path.segments] == pytest.approx([0.1, 0.1])
    assert path.length_m == pytest.approx(5 * math.pi)


@FEW
@given(PATHS, st.floats(-9, 9))
def test_an_offset_path_keeps_its_distance(path, left_m):
    s_m = np.linspace(0, 1, 30)
    middle, side = path.poses(s_m * path.length_m), path.offset(left_m)
    bounds = np.cumsum([0] + [length for _, length in path.segments])
    side_bounds = np.cumsum([0] + [length for _, length in side.segments])
    poses = side.poses(np.interp(s_m * path.length_m, bounds, side_bounds))
    normal = np.stack([-np.sin(middle[:, 2]), np.cos(middle[:, 2])], 1)
    np.testing.assert_allclose(poses[:, :2], middle[:, :2] + left_m * normal, atol=1e-6)
    turned = sum(curvature * length for curvature, length in path.segments)
    assert side.length_m == pytest.approx(path.length_m - left_m * turned, abs=1e-6)


@pytest.mark.parametrize(("curvature", "left_m"), [(0.1, 10.0), (0.1, 12.0), (-0.1, -10.5)])
def test_an_offset_beyond_the_centre_of_an_arc_is_refused(curvature, left_m):
    path = ArcPath((0, 0, 0), ((0.0, 5.0), (curvature, 4.0)))
    with pytest.raises(ValueError, match="tighter than the offset"):
        path.offset(left_m)
    path.offset(-left_m)


@FEW
@given(PATHS, st.floats(0, 1), st.floats(0, 1))
def test_a_part_runs_along_the_whole(path, begin, end):
    begin, end = sorted((begin * path.length_m, end * path.length_m))
    if end - begin < 0.01:
        return
    part = path.part(begin, end)
    assert part.length_m == pytest.approx(end - begin, abs=1e-5)
    s_m = np.linspace(0, part.length_m, 9)
    np.testing.assert_allclose(part.poses(s_m), path.poses(begin + s_m), atol=1e-5)


@FEW
@given(PATHS, st.floats(0.01, 0.99))
def test_two_parts_join_to_the_whole(path, share):
    cut = share * path.length_m
    whole = join(path.part(0, cut), path.part(cut, path.length_m))
    assert whole.length_m == pytest.approx(path.length_m, abs=1e-5)
    assert_same_pose(whole.end, path.end, abs_m=1e-4)


@FEW
@given(PATHS)
def test_a_reversed_path_runs_back(path):
    s_m = np.linspace(0, path.length_m, 9)
    back = path.reversed().poses(path.length_m - s_m)
    np.testing.assert_allclose(back[:, :2], path.poses(s_m)[:, :2], atol=1e-6)
    np.testing.assert_allclose(np.exp(1j * back[:, 2]), -np.exp(1j * path.poses(s_m)[:, 2]), atol=1e-6)
    assert path.reversed().length_m == pytest.approx(path.length_m)


@FEW
@given(PATHS, st.floats(0.3, 3))
def test_samples_are_near_each_other_and_reach_both_ends(path, step_m):
    samples = path.sampled(step_m)
    assert np.hypot(*np.diff(samples[:, :2], axis=0).T).max() <= step_m + 1e-9
    np.testing.assert_allclose(samples[0], path.start, atol=1e-9)
    np.testing.assert_allclose(samples[-1], path.end, atol=1e-9)


def test_a_straight_line():
    path = line((1, 2), (4, 6))
    assert path.length_m == 5
    assert_same_pose(path.end, (4, 6, math.atan2(4, 3)))
