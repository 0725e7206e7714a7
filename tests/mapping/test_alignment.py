"""Laying one traversal on another: known shifts are found, and nothing is moved without a reason."""

import numpy as np
import pytest

from avjepa.geometry.rigid import transform_from_se2, transform_points
from avjepa.mapping.alignment import LaidStructures, Structure, align
from avjepa.mapping.drive_turns import Drive
from avjepa.sensors.nuscenes_index import load_index


def town(seed: int, across: bool = True) -> np.ndarray:
    """(n, 2): two long walls along x, and house ends across them, each point 3 cm off; far from the map's zero."""
    rng = np.random.default_rng(seed)
    walls = [np.column_stack([rng.uniform(0, 80, 900), np.full(900, y)]) for y in (-9.0, 9.0)]
    for x in range(5, 80, 12) if across else ():
        for low, high in ((-15, -9), (9, 15)):
            walls.append(np.column_stack([np.full(80, float(x)), rng.uniform(low, high, 80)]))
    return np.concatenate(walls) + rng.normal(0, 0.03, (sum(map(len, walls)), 2)) + [1700.0, 900.0]


def carried(xy_m: np.ndarray, map_T_map: np.ndarray) -> np.ndarray:
    return transform_points(map_T_map, np.pad(xy_m, ((0, 0), (0, 1))))[:, :2]


@pytest.mark.parametrize("shift", [(0.5, -0.3, 0.4), (-0.6, 0.5, -0.5), (0.0, 0.25, 0.0)])
def test_a_known_shift_is_found(shift):
    reference, seen = town(0), town(1)
    middle = transform_from_se2(1740, 900, 0)
    off = middle @ transform_from_se2(shift[0], shift[1], np.deg2rad(shift[2])) @ np.linalg.inv(middle)
    found = align(carried(seen, off), reference)
    assert found.applied
    assert found.reason == ""
    assert found.after_m < 0.5 * found.before_m
    left_over = carried(seen, found.map_T_recorded @ off) - seen
    assert np.hypot(*left_over.T).max() < 0.05


def test_good_poses_stay_as_they_are():
    found = align(town(1), town(0))
    assert not found.applied
    assert found.reason == "not significantly better than the recorded poses"
    assert np.hypot(found.dx_m, found.dy_m) < 0.02


def test_a_street_is_not_moved_along_its_walls():
    """Both walls run along x: y and yaw are found, and x is left to the recorded poses."""
    found = align(town(1, across=False) + np.array([0.4, 0.3]), town(0, across=False))
    assert found.applied
    assert found.dy_m == pytest.approx(-0.3, abs=0.03)
    assert abs(found.dx_m) < 0.05


def test_too_large_or_without_overlap():
    middle = transform_from_se2(1740, 900, 0)
    off = middle @ transform_from_se2(0, 0, np.deg2rad(1.5)) @ np.linalg.inv(middle)
    found = align(carried(town(1), off), town(0))
    assert not found.applied
    assert found.reason == "the correction is larger than poses are off"
    assert align(town(1) + np.array([500.0, 0]), town(0)).reason == "too little overlap"
    assert align(town(1), np.zeros((0, 2))).reason == "no overlap"
    assert align(np.zeros((0, 2)), town(0)).record()["before_m"] is None


def test_what_was_laid_keeps_the_first_of_each_cell(tmp_path):
    laid = LaidStructures(tmp_path)
    assert laid.near(np.zeros((1, 2))).shape == (0, 2)
    laid.add(np.array([[0.05, 0.05], [1.01, 1.01], [1900.03, 5.0]]))
    laid.add(np.array([[0.15, 0.15], [-0.05, 0.05]]))
    near = laid.near(np.array([[20.0, 40.0]]))
    assert sorted(near.tolist()) == [pytest.approx(xy) for xy in ([-0.05, 0.05], [0.05, 0.05], [1.01, 1.01])]
    assert laid.near(np.array([[1890.0, 0.0]])) == pytest.approx(np.array([[1900.03, 5.0]]))


def test_only_what_lies_around_a_drive_counts(tmp_path):
    """A town that was laid elsewhere changes nothing; walls on both sides of a tile's border do."""
    seen, laid = town(1) + np.array([0.4, 0.3]), LaidStructures(tmp_path)
    laid.add(town(0))
    alone = align(seen, laid.near(seen))
    laid.add(town(2) + np.array([0.0, 400.0]))
    assert align(seen, laid.near(seen)) == alone
    assert alone.applied
    assert (alone.dx_m, alone.dy_m) == pytest.approx((-0.4, -0.3), abs=0.03)


@pytest.mark.real_data
def test_a_real_drive_is_laid_on_itself(nuscenes_root, tmp_path):
    """Odd keyframes, moved, on even ones: two traversals of one street whose true shift is known."""
    index = load_index(nuscenes_root)
    scene = list(index.scene_name).index("scene-0916")
    drives = [Drive(nuscenes_root, index, scene, np.array([600.0, 1700, 0]), sweeps=False) for _ in range(2)]
    middle = transform_from_se2(670, 1790, 0)
    off = middle @ transform_from_se2(0.35, -0.3, np.deg2rad(0.4)) @ np.linalg.inv(middle)
    drives[1].map_T_recorded = off
    points = []
    for number, drive in enumerate(drives):
        drive.turns = drive.turns[number:24:2]
        structure = Structure(tmp_path / str(number))
        for turn in drive.read():
            structure.add(turn)
        points.append(structure.points())
    found = align(points[1], points[0])
    assert found.applied
    left_over = found.map_T_recorded @ off
    for turn in drives[1].turns:
        ego = turn.global_T_ego[:3, 3]
        assert np.linalg.norm(transform_points(left_over, ego[None])[0] - ego) < 0.1
