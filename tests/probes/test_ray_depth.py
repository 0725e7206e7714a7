import numpy as np
import pytest
import torch

from avjepa.geometry.grid import BEVGrid
from avjepa.probes.ray_depth import ray_depths

GRID = BEVGrid((-4.0, 4.0), (-2.0, 2.0), (-1.0, 1.0), 1.0, 0.5)  # 8 x 4 x 4 voxels
CENTRE = torch.tensor([-3.5, 0.5, 0.25])
AHEAD = torch.tensor([[1.0, 0.0, 0.0]])


def occupied(*voxels_xyz) -> torch.Tensor:
    volume = torch.zeros(GRID.shape_zyx, dtype=torch.bool)
    for x, y, z in voxels_xyz:
        volume[z, y, x] = True
    return volume


def test_the_ray_ends_where_it_leaves_the_first_occupied_voxel():
    depths = ray_depths(occupied((5, 2, 2), (7, 2, 2)), GRID, CENTRE, AHEAD)
    assert depths.depth_m.tolist() == [5.5]
    assert depths.hit.tolist() == [True]


def test_without_a_hit_the_ray_ends_at_the_edge_of_the_grid():
    depths = ray_depths(
        occupied((5, 1, 2)), GRID, CENTRE, torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0.6, 0.8]])
    )
    assert depths.depth_m.tolist() == pytest.approx([7.5, 0.5, 0.75, 0.9375], abs=1e-6)
    assert not depths.hit.any()


def test_a_slanted_ray_leaves_over_the_nearest_face():
    direction = torch.tensor([[0.8, -0.6, 0.0]])
    depths = ray_depths(occupied((2, 1, 2)), GRID, CENTRE, direction)
    # voxel x in [-2, -1), y in [-1, 0): left at y = -1 after 1.5 / 0.6 = 2.5, before x = -1 after 2.5 / 0.8
    assert depths.depth_m.tolist() == pytest.approx([2.5], abs=1e-6)


def test_a_lidar_inside_an_occupied_voxel_sees_it():
    assert ray_depths(occupied((0, 2, 2), (3, 2, 2)), GRID, CENTRE, AHEAD).depth_m.tolist() == [0.5]


def test_a_lidar_outside_of_the_grid():
    outside = torch.tensor([-6.0, 0.5, 0.25])
    depths = ray_depths(occupied((3, 2, 2)), GRID, outside, torch.cat([AHEAD, -AHEAD]))
    assert depths.depth_m[0] == 6.0
    assert torch.isnan(depths.depth_m[1])
    assert depths.hit.tolist() == [True, False]


def test_probabilities_are_cut_at_the_threshold():
    probability = torch.zeros(GRID.shape_zyx)
    probability[2, 2, 2], probability[2, 2, 4], probability[2, 2, 6] = 0.3, 0.5, 0.51
    assert ray_depths(probability, GRID, CENTRE, AHEAD).depth_m.tolist() == [6.5]
    assert ray_depths(probability, GRID, CENTRE, AHEAD, threshold=0.2).depth_m.tolist() == [2.5]


def test_a_predicted_sweep_lies_in_occupied_voxels():
    rng = np.random.default_rng(0)
    volume = torch.from_numpy(rng.random(GRID.shape_zyx) < 0.1)
    directions = torch.from_numpy(rng.normal(size=(200, 3)))
    directions = directions / directions.norm(dim=-1, keepdim=True)
    depths = ray_depths(volume, GRID, CENTRE, directions)
    just_before_m = depths.depth_m - 1e-6
    index_zyx, inside = GRID.cell_index(CENTRE.double() + just_before_m[:, None] * directions)
    assert inside[depths.hit].all()
    assert volume[index_zyx[depths.hit].unbind(-1)].all()
    assert depths.hit.any()
    assert not depths.hit.all()


@pytest.mark.parametrize(
    ("occupancy", "direction", "complaint"),
    [
        (occupied(), torch.tensor([[2.0, 0, 0]]), "unit length"),
        (occupied(), torch.tensor([[torch.nan, 0, 0]]), "unit length"),
        (torch.full(GRID.shape_zyx, -3.0), AHEAD, "sigmoid"),
        (torch.full(GRID.shape_zyx, torch.nan), AHEAD, "sigmoid"),
        (torch.zeros(2, 2, 2, dtype=torch.bool), AHEAD, "occupancy must be"),
    ],
)
def test_bad_input(occupancy, direction, complaint):
    with pytest.raises(ValueError, match=complaint):
        ray_depths(occupancy, GRID, CENTRE, direction)
