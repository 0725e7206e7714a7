"""What moves by rays: a thing that stood in one turn's view and was looked through in others, beside a wall that stays."""

from dataclasses import replace

import numpy as np
import pytest

from avjepa.mapping.drive_turns import MapTurn
from avjepa.mapping.moving_filters import KnownAnswers, NoFilter, RayFilter, RaySettings
from avjepa.probes.scans import DriveScan, Scan

ZERO_M = np.array([1200.0, -300.0, 10.0])
LIDAR_M = np.array([0.0, 0.0, 1.8])


def turn(box_x_m: float | None, keyframe: int = 0) -> tuple[MapTurn, np.ndarray]:
    """A LiDAR that sees ground, a wall at x = 15 m, and perhaps a thing 1.2 m wide and high; and what each return is of."""
    rays = np.stack(np.meshgrid(np.deg2rad(np.arange(-20, 20, 0.5)), np.deg2rad(np.arange(-12, 2, 0.5))), -1).reshape(
        -1, 2
    )
    direction = np.column_stack(
        [np.cos(rays[:, 1]) * np.cos(rays[:, 0]), np.cos(rays[:, 1]) * np.sin(rays[:, 0]), np.sin(rays[:, 1])]
    )
    to_wall = 15.0 / direction[:, 0]
    to_ground = np.where(direction[:, 2] < 0, -LIDAR_M[2] / np.minimum(direction[:, 2], -1e-9), np.inf)
    to_thing = np.full(len(rays), np.inf)
    if box_x_m is not None:
        far = box_x_m / direction[:, 0]
        at = LIDAR_M + direction * far[:, None]
        to_thing[(abs(at[:, 1]) < 0.6) & (at[:, 2] > 0) & (at[:, 2] < 1.2)] = far[
            (abs(at[:, 1]) < 0.6) & (at[:, 2] > 0) & (at[:, 2] < 1.2)
        ]
    distances = np.stack([to_wall, to_ground, to_thing])
    xyz = (LIDAR_M + direction * distances.min(0)[:, None]).astype(np.float32)
    pose = np.eye(4)
    pose[:3, 3] = LIDAR_M
    rows = np.arange(len(xyz))
    scan = DriveScan(Scan(xyz, pose), "x.bin", keyframe, rows, len(xyz), np.zeros(len(xyz), np.float32))
    return MapTurn(scan, ZERO_M, ZERO_M, ""), distances.argmin(0)


def test_a_thing_that_went_away_is_found_and_the_wall_stays(tmp_path):
    rays = RayFilter(tmp_path, RaySettings())
    turns = [turn(8.0), turn(None), turn(None), turn(None)]
    for seen, _ in turns:
        rays.observe(seen)
    seen, kind = turns[0]
    moving, thing = rays.judge(seen), (kind == 2) & (seen.height_m > 0.35)
    assert thing.sum() > 50
    assert moving[thing].mean() > 0.95
    assert moving[kind != 2].mean() < 0.01
    for seen, _ in turns[1:]:
        assert rays.judge(seen).mean() < 0.01


def test_what_always_stands_there_stays(tmp_path):
    rays = RayFilter(tmp_path, RaySettings())
    for _ in range(3):
        rays.observe(turn(8.0)[0])
    assert not rays.judge(turn(8.0)[0]).any()


def test_the_order_of_turns_means_nothing(tmp_path):
    turns = [turn(8.0)[0], turn(10.0)[0], turn(None)[0]]
    answers = []
    for name, order in (("forth", turns), ("back", turns[::-1])):
        rays = RayFilter(tmp_path / name, RaySettings())
        for seen in order:
            rays.observe(seen)
        answers.append([rays.judge(seen) for seen in turns])
    for forth, back in zip(*answers, strict=True):
        np.testing.assert_array_equal(forth, back)
    assert answers[0][0].any()


def test_a_turn_far_away_changes_nothing(tmp_path):
    """Beyond reach a filter has no evidence, and what nobody looked through stays."""
    rays = RayFilter(tmp_path, RaySettings(reach_m=5.0))
    for box_x_m in (8.0, None, None):
        rays.observe(turn(box_x_m)[0])
    assert not rays.judge(turn(8.0)[0]).any()


@pytest.mark.parametrize("keyframe", [3, -1])
def test_known_answers(keyframe):
    """By the keyframe's token; a sweep has none."""
    known = np.array([True, False])
    token = "3a" if keyframe == 3 else ""
    answer = KnownAnswers({"3a": known}).judge(replace(turn(None, keyframe)[0], token=token))
    assert (answer is known) == (keyframe == 3)
    assert (answer is None) == (keyframe == -1)
    assert not NoFilter().judge(turn(8.0)[0]).any()
