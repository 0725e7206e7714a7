import math

import numpy as np
import pytest
import torch

from avjepa.geometry.occ3d import CLASS_NAMES, FREE, SHAPE_XYZ, UNKNOWN
from avjepa.geometry.rigid import transform_from_se2
from avjepa.probes.metrics.ray_iou import RayIoU, cast_semantic_rays, ray_directions, ray_origins

CAR, TRUCK, MANMADE = (CLASS_NAMES.index(name) for name in ("car", "truck", "manmade"))
ORIGIN = np.array([[0.3, 0.1, 1.84]])
VOXEL_M, LOWER_M = 0.4, np.array([-40.0, -40.0, -1.0])


def empty() -> np.ndarray:
    return np.full(SHAPE_XYZ, FREE, dtype=np.uint8)


def wall(voxel_x: int, kind: int) -> np.ndarray:
    """A wall across the whole grid, one voxel thick."""
    volume = empty()
    volume[voxel_x] = kind
    return volume


def wall_depth_m(voxel_x: int) -> np.ndarray:
    """(14040,) from ORIGIN to where each ray leaves the voxel of that wall which it enters; inf: it misses the wall.

    In closed form: the point on the wall's front names the voxel, the nearest of the voxel's three far faces the depth.
    """
    directions = ray_directions().double().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        front_m = (LOWER_M[0] + voxel_x * VOXEL_M - ORIGIN[0, 0]) / directions[:, 0]
        voxel = np.floor((ORIGIN + front_m[:, None] * directions - LOWER_M) / VOXEL_M)
        voxel[:, 0] = voxel_x
        far_faces = LOWER_M + (voxel + (directions > 0)) * VOXEL_M
        depth_m = np.where(directions == 0, np.inf, (far_faces - ORIGIN) / directions).min(1)
    meets = (front_m > 0) & ((voxel >= 0) & (voxel < SHAPE_XYZ)).all(1)
    return np.where(meets, depth_m, np.inf)


def test_rays_are_those_of_sparseocc():
    directions = ray_directions().double()
    assert directions.shape == (39 * 360, 3) == (14040, 3)
    pitch_deg = np.degrees(np.arcsin(directions[::360, 2]))
    np.testing.assert_allclose(pitch_deg[:10], [-math.degrees(math.atan(1 / k)) for k in range(1, 11)], atol=1e-5)
    np.testing.assert_allclose(np.diff(pitch_deg[9:]), pitch_deg[9] - pitch_deg[8], atol=1e-5)
    assert math.radians(pitch_deg[-2]) < 0.21 <= math.radians(pitch_deg[-1])
    assert directions[90].tolist() == pytest.approx(
        [0.0, math.sqrt(0.5), -math.sqrt(0.5)], abs=1e-7
    )  # azimuth 90: left
    np.testing.assert_allclose(directions.norm(dim=1), 1, atol=1e-7)


def test_depth_is_where_the_ray_leaves_the_first_occupied_voxel():
    label, depth_m = cast_semantic_rays(
        torch.from_numpy(np.stack([wall(125, CAR), empty()])), torch.from_numpy(ORIGIN), ray_directions()
    )
    expected_m = wall_depth_m(125)
    meets = np.isfinite(expected_m)
    assert meets.sum() > 1000
    np.testing.assert_array_equal(label[0], np.where(meets, CAR, FREE))
    np.testing.assert_allclose(depth_m[0][meets], expected_m[meets], rtol=1e-4)
    # Without a hit: free, and the distance to the grid's side; straight down at 45 degrees that is its floor.
    assert (label[1] == FREE).all()
    assert depth_m[1, 0].item() == pytest.approx((1.84 + 1.0) * math.sqrt(2), abs=1e-5)


def test_walls_at_several_depths_by_hand():
    """The guess is k voxels behind: a ray matches when k voxels along it are shorter than the threshold."""
    metric = RayIoU()
    true_m, guess_m = wall_depth_m(125), wall_depth_m(129)
    metric.add(wall(129, CAR), wall(125, CAR), ORIGIN)
    found = metric.scores()
    kept, guessed = np.isfinite(true_m), np.isfinite(true_m) & np.isfinite(guess_m)
    assert found.rays == kept.sum()
    error_m = np.abs(guess_m[guessed] - true_m[guessed])
    for number, threshold_m in enumerate((1.0, 2.0, 4.0)):
        matched = metric.matched[number, CAR]
        assert matched == pytest.approx((error_m < threshold_m).sum(), abs=3)  # float32 decides some of 5,000 rays
        assert found.iou["car"][number] == pytest.approx(matched / (kept.sum() + guessed.sum() - matched), abs=1e-6)
        assert found.rayiou_at[threshold_m] == found.iou["car"][number]
    assert 0 <= found.rayiou_at[1.0] < found.rayiou_at[2.0] < found.rayiou_at[4.0] < 1  # 1.6 m behind
    assert found.rayiou == pytest.approx(np.mean(list(found.rayiou_at.values())), abs=1e-12)


def test_a_perfect_guess_is_one_and_a_wrong_class_counts():
    metric = RayIoU()
    metric.add(wall(125, CAR), wall(125, CAR), ORIGIN)
    assert metric.scores().rayiou == 1
    metric, half = RayIoU(), wall(125, CAR)
    half[:, 100:][half[:, 100:] == CAR] = TRUCK
    metric.add(half, wall(125, CAR), ORIGIN)
    found = metric.scores()
    assert found.iou["truck"] == (0, 0, 0)  # absent from the truth, yet predicted: it counts
    assert 0.4 < found.iou["car"][0] < 0.6
    assert found.rayiou == pytest.approx(found.iou["car"][0] / 2, abs=1e-12)
    assert math.isnan(found.iou["bus"][0])
    assert "truck" in found.absent
    assert "car" not in found.absent


def test_what_is_predicted_on_free_rays_costs_nothing():
    truth, guess = wall(125, CAR), wall(125, CAR)
    guess[60:70] = MANMADE  # behind the sensor, where the truth is free
    metric = RayIoU()
    metric.add(guess, truth, ORIGIN)
    assert metric.scores().rayiou == 1
    assert math.isnan(metric.scores().iou["manmade"][0])


def test_a_missed_wall_costs_recall_only():
    metric = RayIoU()
    metric.add(wall(125, CAR), wall(125, CAR), ORIGIN)
    metric.add(empty(), wall(125, CAR), ORIGIN)
    assert metric.scores().rayiou == pytest.approx(1 / 2, abs=1e-12)
    assert metric.scores().frames == 2


def test_parts_add_up_and_origins_are_counted_each():
    rng = np.random.default_rng(0)
    frames = [
        (wall(120 + k, CAR), wall(120, CAR), ORIGIN + rng.normal(size=(k + 1, 3)) * [3, 3, 0.3]) for k in range(2)
    ]
    whole, parts = RayIoU(), [RayIoU() for _ in frames]
    for frame, part in zip(frames, parts, strict=True):
        whole.add(*frame)
        part.add(*frame)
    assert (parts[0] + parts[1]).scores().iou["car"] == whole.scores().iou["car"]
    each = RayIoU()
    for origin in frames[1][2]:
        each.add(*frames[1][:2], origin[None])
    np.testing.assert_array_equal(each.matched, parts[1].matched)
    np.testing.assert_array_equal(each.true, parts[1].true)


def test_origins_are_the_scenes_lidar_positions_in_this_ego_frame():
    """100 keyframes a metre apart on a road that points north-east; the LiDAR looks to the right."""
    steps = np.arange(100)
    global_T_egos = np.stack(
        [transform_from_se2(500 + k * math.sqrt(0.5), k * math.sqrt(0.5), math.pi / 4) for k in steps]
    )
    ego_T_lidar = transform_from_se2(0.9, 0.0, -math.pi / 2)
    ego_T_lidar[2, 3] = 1.84
    global_T_lidars = global_T_egos @ ego_T_lidar

    few = ray_origins(global_T_lidars[:5], ego_T_lidar, 2)
    np.testing.assert_allclose(few, [[k - 2 + 0.9, 0, 1.84] for k in range(5)], atol=1e-4)

    # |x| < 39 keeps -39 + 0.9 .. 38 + 0.9, 78 of them; 8 evenly, rounded: 0, 11, 22, 33, 44, 55, 66, 77.
    many = ray_origins(global_T_lidars, ego_T_lidar, 50)
    np.testing.assert_allclose(many[:, 0], -39 + 0.9 + np.arange(0, 78, 11), atol=1e-4)
    # Of 77 the places are rounded: 0, 10.9, 21.7, 32.6, 43.4, 54.3, 65.1, 76.
    rounded = ray_origins(global_T_lidars, ego_T_lidar, 62)
    np.testing.assert_allclose(rounded[:, 0], -39 + 0.9 + np.array([0, 11, 22, 33, 43, 54, 65, 76]), atol=1e-4)


def test_outside_the_grid_rays_are_free_or_come_in():
    full = torch.full((1, *SHAPE_XYZ), CAR, dtype=torch.uint8)
    up_and_down = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    label, depth_m = cast_semantic_rays(full, torch.tensor([[0.1, 0.1, -3.0]], dtype=torch.float64), up_and_down)
    assert label[0].tolist() == [CAR, FREE]
    assert depth_m[0, 0].item() == pytest.approx(2.4, abs=1e-5)


def test_rays_that_meet_a_voxel_without_truth_first_are_left_out():
    """A wall, with nothing known before its left half: only rays to the right are counted, and none is wrong."""
    whole, half_known = RayIoU(), RayIoU()
    truth = wall(125, CAR)
    whole.add(truth, truth, ORIGIN)
    truth = truth.copy()
    truth[115:120, 100:] = UNKNOWN
    filled = wall(125, CAR)
    filled[116, 100:] = TRUCK  # nobody knows better
    half_known.add(filled, truth, ORIGIN)
    assert half_known.scores().rayiou == 1
    assert 0.4 * whole.true.sum() < half_known.true.sum() < 0.6 * whole.true.sum()
    assert half_known.predicted[TRUCK] == 0


def test_what_does_not_fit_is_refused():
    metric = RayIoU()
    with pytest.raises(ValueError, match=r"in \(200, 200, 16\), got"):
        metric.add(empty()[:-1], empty(), ORIGIN)
    with pytest.raises(ValueError, match=r"want classes 0\.\.17"):
        metric.add(np.full(SHAPE_XYZ, 255), empty(), ORIGIN)
    with pytest.raises(ValueError, match="not finite"):
        metric.add(empty(), empty(), ORIGIN * np.nan)
    assert math.isnan(metric.scores().rayiou)
