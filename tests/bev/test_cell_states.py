import math
from dataclasses import replace

import pytest
import torch

from avjepa.bev.cell_states import CLEAR_HEIGHT_M, camera_view, cell_states, cells_crossed_by_rays, lidar_cell_states
from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from tests.bev.scenes import ground, lidar_frames, looking, post

GRID = BEVGrid((-6.4, 6.4), (-6.4, 6.4), (-3.0, 5.0), 0.8, 8.0)


def state_at(states: torch.Tensor, x: float, y: float, frame: int = 0) -> int:
    (_, row, column), inside = GRID.cell_index(torch.tensor([x, y, 0.0]))
    assert inside
    return int(states[frame, row, column])


def test_what_stands_is_occupied_and_what_lies_is_free():
    cloud = torch.cat([ground(), post(4.0, 0.4), torch.tensor([[0.4, 4.0, 0.15]])])  # a post, and a kerb
    states = lidar_cell_states(lidar_frames([cloud]), GRID)
    assert state_at(states, 4.0, 0.4) == OCCUPIED
    assert state_at(states, 0.4, 4.0) == FREE
    assert int((states == OCCUPIED).sum()) == 1


def test_a_crown_overhead_is_not_an_obstacle():
    cloud = torch.cat([ground(), post(4.0, 0.4, low_m=3.3, high_m=4.5)])
    assert state_at(lidar_cell_states(lidar_frames([cloud]), GRID), 4.0, 0.4) == FREE


def test_sloped_ground_is_not_an_obstacle():
    cloud = torch.cat([ground(height=lambda x, y: 0.05 * x), post(4.0, 0.4, low_m=0.3)])
    states = lidar_cell_states(lidar_frames([cloud]), GRID)
    assert int((states == OCCUPIED).sum()) == 1


def test_a_return_below_the_road_does_not_lift_the_road():
    cloud = torch.cat([ground(0.2), torch.tensor([[2.0, 2.0, -2.5], [-3.0, 1.0, -2.0]])])
    assert int((lidar_cell_states(lidar_frames([cloud]), GRID) == OCCUPIED).sum()) == 0


def test_a_wall_casts_a_shadow():
    wall = torch.cat([post(3.2, float(y), 0.05, 2.5, 20) for y in torch.arange(-2.0, 2.01, 0.05)])
    near_ground = ground(0.2, 2.8)
    states = lidar_cell_states(lidar_frames([torch.cat([near_ground, wall])]), GRID)
    assert state_at(states, 3.3, 0.4) == OCCUPIED
    assert state_at(states, 2.0, 0.4) == FREE
    assert state_at(states, 5.2, 0.4) == UNOBSERVED  # behind the wall
    assert state_at(states, -5.2, 0.4) == UNOBSERVED  # nothing was fired there


def test_rays_clear_the_cells_they_cross_low_enough():
    # A fan as dense as a real scan: one ray every fifth of a degree.
    angle = torch.arange(-math.pi, math.pi, math.radians(0.2))
    crossed = cells_crossed_by_rays(
        lidar_frames([torch.stack([6 * angle.cos(), 6 * angle.sin(), 0 * angle + 0.3], -1)]), GRID
    )[0]
    low_from_m = 6.0 * (1.8 - CLEAR_HEIGHT_M) / (1.8 - 0.3)  # where the rays fall below the clear height
    range_m = GRID.cell_centres().norm(dim=-1)
    assert crossed[(range_m > low_from_m + 0.2) & (range_m < 6.0)].all()
    assert not crossed[(range_m < low_from_m - 0.6) | (range_m > 6.9)].any()


def test_rays_that_never_fall_low_clear_nothing():
    assert not cells_crossed_by_rays(lidar_frames([[(6.0, 0.0, 1.9), (0.0, 6.0, 1.2)]]), GRID).any()


def test_a_ray_march_agrees():
    """Against marching each ray in steps of 5 cm: the polar bins decide within half a cell and half a degree, so cells whose
    surroundings are all crossed, or all not, must agree.
    """
    angle = torch.arange(-math.pi, math.pi, math.radians(0.1))
    range_m = 4 + 1.5 * (3 * angle).sin()  # neighbouring rays end at similar ranges, as in a real scan
    hits = torch.stack([range_m * angle.cos(), range_m * angle.sin(), 0.2 + 0.1 * angle.cos()], -1)
    crossed = cells_crossed_by_rays(lidar_frames([hits]), GRID)[0]

    origin = torch.tensor([0.0, 0.0, 1.8])
    share = torch.arange(0, 1, 0.01)[:, None, None]
    places = (origin + share * (hits - origin)).view(-1, 3)
    places = places[places[:, 2] < CLEAR_HEIGHT_M]
    flat, inside = GRID.bev_index(places)
    marched = torch.zeros(16 * 16, dtype=torch.bool)
    marched[flat[inside]] = True
    marched = marched.view(16, 16)
    neighbours = torch.nn.functional.avg_pool2d(marched.float()[None], 3, 1, 1, count_include_pad=False)[0]
    sure = (neighbours == 0) | (neighbours == 1)
    assert int(sure.sum()) > 60
    assert torch.equal(crossed[sure], marched[sure])
    assert (crossed == marched).float().mean() > 0.93


def test_whole_cell_moves_shift_the_states():
    cloud = torch.cat([ground(0.37, 3.0), post(2.1, 0.5), post(-1.5, -2.1)])
    frames = lidar_frames([cloud])
    shift = torch.tensor([1.6, -0.8, 0.0])
    moved = replace(
        frames,
        points=torch.cat([frames.points[:, :3] + shift, frames.points[:, 3:]], 1),
        lidar_origin=frames.lidar_origin + shift,
    )
    states, again = lidar_cell_states(frames, GRID)[0], lidar_cell_states(moved, GRID)[0]
    # Away from the border, and from the lattice of 3.2 m ground cells, which matters only where the ground is not flat.
    assert torch.equal(again[1:-2, 3:-1], states[2:-1, 1:-3])


def test_older_sweeps_add_things_but_no_rays():
    frames = lidar_frames([post(4.0, 0.4)])
    old = replace(frames, points=torch.cat([frames.points[:, :4], torch.full((10, 1), 0.1)], 1))
    assert not cells_crossed_by_rays(old, GRID).any()
    cloud = torch.cat([ground(), post(4.0, 0.4)])
    frames = lidar_frames([cloud])
    frames.points[-10:, 4] = 0.1
    assert state_at(lidar_cell_states(frames, GRID), 4.0, 0.4) == OCCUPIED


def test_empty_frames_are_unobserved():
    states = lidar_cell_states(lidar_frames([post(4.0, 0.4), torch.zeros(0, 3)]), GRID)
    assert not states[1].any()
    assert not lidar_cell_states(lidar_frames([torch.zeros(0, 3)]), GRID).any()


def test_without_lidar_the_cameras_tell_what_is_in_view():
    frames = lidar_frames([torch.zeros(0, 3), ground()], cameras=2)
    frames = replace(
        frames,
        lidar_present=torch.tensor([False, True]),
        bev_T_cam=torch.stack([looking(0.0), looking(math.pi)]).expand(2, 2, 4, 4),
        camera_present=torch.tensor([[True, False], [True, True]]),
    )
    states = cell_states(frames, GRID)
    assert state_at(states, 5.2, 0.4) == FREE
    assert state_at(states, -5.2, 0.4) == UNOBSERVED  # the camera that looks back is absent
    assert state_at(states, 0.4, 5.2) == UNOBSERVED  # no camera looks there
    assert (states[0] != OCCUPIED).all()
    assert torch.equal(states[1], lidar_cell_states(frames, GRID)[1])
    assert camera_view(frames, GRID)[1, 8, 1]


@pytest.mark.real_data
def test_real_scan_looks_like_a_street(nuscenes_root):
    from avjepa.sensors.collate import collate_clips
    from avjepa.sensors.nuscenes_dataset import NuScenesClips

    grid = BEVGrid((-25.6, 25.6), (-25.6, 25.6), (-5.0, 3.0), 0.8, 8.0)
    dataset = NuScenesClips(nuscenes_root, ("scene-0916",), (0,), (1,), (32, 64), cameras=())
    states = cell_states(collate_clips([dataset[5]]).context_in_now(), grid)[0]
    share = [float((states == state).float().mean()) for state in (UNOBSERVED, FREE, OCCUPIED)]
    assert 0.2 < share[0] < 0.7
    assert 0.25 < share[1] < 0.7
    assert 0.03 < share[2] < 0.25
    centre = states[27:37, 34:42]  # the road just ahead of the car
    assert (centre == FREE).float().mean() > 0.8
