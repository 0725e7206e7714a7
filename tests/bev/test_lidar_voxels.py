import math

import pytest
import torch

from avjepa.bev.lidar_voxels import NUM_FEATURES, voxelise_mean
from avjepa.geometry.grid import BEVGrid

GRID = BEVGrid((-4.0, 4.0), (-2.0, 2.0), (-1.0, 1.0), 0.5, 0.5)


def points(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def test_two_points_in_one_voxel():
    voxels = voxelise_mean(
        points((0.1, 0.2, 0.3, 0.5, 0.0), (0.3, 0.4, 0.1, 0.7, 0.2), (-3.9, -1.9, -0.9, 1.0, 0.0)),
        torch.zeros(3).long(),
        GRID,
        1,
    )
    assert voxels.indices.tolist() == [[0, 0, 0, 0], [0, 2, 4, 8]]
    expected = [
        [(0.1 - 0.25) / 0.5, (0.1 - 0.25) / 0.5, (0.1 - 0.25) / 0.5, -0.45, 1.0, 0.0, math.log(2)],
        [(0.2 - 0.25) / 0.5, (0.3 - 0.25) / 0.5, (0.2 - 0.25) / 0.5, 0.1, 0.6, 0.1, math.log(3)],
    ]
    torch.testing.assert_close(voxels.features, torch.tensor(expected), atol=1e-5, rtol=0)


def test_agrees_with_a_loop():
    generator = torch.Generator().manual_seed(0)
    cloud = torch.rand(500, 5, generator=generator) * torch.tensor([9, 5, 3, 1, 0.5]) - torch.tensor(
        [4.5, 2.5, 1.5, 0, 0]
    )
    frame = torch.randint(0, 3, (500,), generator=generator).sort().values
    voxels = voxelise_mean(cloud, frame, GRID, 3)
    members: dict[tuple, list] = {}
    for row, f in zip(cloud, frame, strict=True):
        x, y, z = ((row[:3] - torch.tensor([-4.0, -2.0, -1.0])) / 0.5).floor().int().tolist()
        if 0 <= x < 16 and 0 <= y < 8 and 0 <= z < 4:
            members.setdefault((int(f), z, y, x), []).append(row)
    assert [tuple(i) for i in voxels.indices.tolist()] == sorted(members)
    for index, features in zip(voxels.indices.tolist(), voxels.features, strict=True):
        mean = torch.stack(members[tuple(index)]).mean(0)
        torch.testing.assert_close(features[4:6], mean[3:5])
        assert float(features[6]) == pytest.approx(math.log1p(len(members[tuple(index)])), abs=1e-5)


def test_a_shift_by_whole_voxels_keeps_the_features():
    cloud = points((0.1, 0.2, 0.3, 0.5, 0.0), (-1.2, 0.4, 0.1, 0.7, 0.2))
    still = voxelise_mean(cloud, torch.zeros(2).long(), GRID, 1)
    moved = voxelise_mean(cloud + torch.tensor([1.5, -1.0, 0, 0, 0]), torch.zeros(2).long(), GRID, 1)
    torch.testing.assert_close(moved.features, still.features, atol=1e-5, rtol=0)
    assert torch.equal(moved.indices - still.indices, torch.tensor([[0, 0, -2, 3]] * 2, dtype=torch.int32))


def test_points_outside_or_not_finite_are_left_out():
    voxels = voxelise_mean(
        points((-4.01, 0, 0, 0, 0), (0, 0, 1.0, 0, 0), (float("nan"), 0, 0, 0, 0), (0, 0, 0, 0, 0)),
        torch.zeros(4).long(),
        GRID,
        1,
    )
    assert len(voxels.features) == 1


def test_empty_frames_and_no_points():
    one = voxelise_mean(points((0, 0, 0, 0, 0)), torch.tensor([1]), GRID, 4)
    assert one.num_frames == 4
    assert one.indices[:, 0].tolist() == [1]
    none = voxelise_mean(torch.zeros(0, 5), torch.zeros(0).long(), GRID, 2)
    assert none.features.shape == (0, NUM_FEATURES)


def test_gradient_reaches_every_point():
    cloud = points((0.1, 0.2, 0.3, 0.5, 0.0), (0.3, 0.4, 0.1, 0.7, 0.2)).requires_grad_()
    voxelise_mean(cloud, torch.zeros(2).long(), GRID, 1).features[:, 4].sum().backward()
    torch.testing.assert_close(cloud.grad[:, 3], torch.tensor([0.5, 0.5]))


def test_large_grids_do_not_overflow():
    full = BEVGrid((-51.2, 51.2), (-51.2, 51.2), (-5.0, 3.0), 0.1, 0.2)
    voxels = voxelise_mean(points((51.1, 51.1, 2.9, 0, 0)), torch.tensor([199]), full, 200)  # key beyond 2^31
    assert voxels.indices.tolist() == [[199, 39, 1023, 1023]]
