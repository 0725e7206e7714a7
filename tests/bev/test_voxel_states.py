from dataclasses import replace

import numpy as np
import torch

from avjepa.bev.voxel_states import crossed_voxels, voxel_states
from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from tests.bev.scenes import lidar_frames

GRID = BEVGrid((0.0, 8.0), (-1.0, 1.0), (0.0, 2.0), 1.0, 1.0)


def frames_of(*clouds: list[tuple[float, float, float]]):
    """Frames with these returns of a LiDAR at (0.2, 0.5, 1.5)."""
    frames = lidar_frames([torch.tensor(cloud, dtype=torch.float32).reshape(-1, 3) for cloud in clouds])
    return replace(frames, lidar_origin=torch.tensor([0.2, 0.5, 1.5]).expand(len(clouds), 3).contiguous())


def test_one_ray_by_hand():
    """Straight ahead: all voxels before the return are free, those behind and below are not known."""
    states = voxel_states(frames_of([(5.5, 0.5, 1.5)], [], [(2.2, 0.5, 0.5)]), GRID)
    assert states.shape == (3, 2, 2, 8)
    row = [FREE, FREE, FREE, FREE, FREE, OCCUPIED, UNOBSERVED, UNOBSERVED]
    assert states[0, 1, 1].tolist() == row
    assert (states[0] != UNOBSERVED).sum() == 6  # nothing but these
    assert (states[1] == UNOBSERVED).all()  # nothing was measured
    # From (0.2, z 1.5) down to (2.2, z 0.5), 2.24 m, read at 0.5 and 1 m: at (0.65, z 1.28) and (1.09, z 1.05).
    assert states[2, 1, 1].tolist() == [FREE, FREE, *[UNOBSERVED] * 6]
    assert states[2, 0, 1].tolist() == [UNOBSERVED, UNOBSERVED, OCCUPIED, *[UNOBSERVED] * 5]


def test_a_return_outweighs_a_ray_and_older_sweeps_have_no_rays():
    frames = frames_of([(7.5, 0.5, 1.5), (3.5, 0.5, 1.5)])
    assert voxel_states(frames, GRID)[0, 1, 1].tolist() == [*[FREE] * 3, OCCUPIED, *[FREE] * 3, OCCUPIED]
    points = frames.points.clone()
    points[0, 4] = 0.05  # the farther return is of an older sweep
    older = voxel_states(replace(frames, points=points), GRID)[0, 1, 1]
    assert older.tolist() == [*[FREE] * 3, OCCUPIED, *[UNOBSERVED] * 3, OCCUPIED]


def test_crossed_voxels_against_a_plain_walk():
    generator = torch.Generator().manual_seed(0)
    grid = BEVGrid((-4.0, 4.0), (-4.0, 4.0), (-1.0, 3.0), 0.4, 0.4)
    origins = torch.tensor([[0.3, -0.2, 1.0], [-1.0, 0.7, 0.6]])
    ray_frame = torch.randint(2, (120,), generator=generator).sort().values
    ends = origins[ray_frame] + 12 * (torch.rand(120, 3, generator=generator) - 0.5)
    wanted = torch.zeros(2, *grid.shape_zyx, dtype=torch.bool)
    for frame, end in zip(ray_frame.tolist(), ends, strict=True):
        origin = origins[frame]
        length = float((end - origin).norm())
        for distance in np.arange(0.2, length - 0.4, 0.2):
            index, inside = grid.cell_index(origin + (end - origin) / length * distance)
            if inside:
                wanted[(frame, *index.tolist())] = True
    got = crossed_voxels(origins[ray_frame], ends, ray_frame, 2, grid)
    assert (got != wanted).sum() <= 4  # float32 against float64, at faces
    assert wanted.flatten(1).sum(1).min() > 200
