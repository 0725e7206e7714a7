import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.voxel_traversal import MAX_VOLUMES, cast_rays, first_hits, first_hits_reference

SHAPE = (6, 5, 4)


def volume(*voxels: tuple[int, int, int]) -> torch.Tensor:
    occupied = torch.zeros(1, *SHAPE, dtype=torch.bool)
    for voxel in voxels:
        occupied[(0, *voxel)] = True
    return occupied


def one_ray(occupied, origin, direction):
    hits = first_hits(
        occupied, torch.tensor([origin], dtype=torch.float64), torch.tensor([direction], dtype=torch.float64)
    )
    return tuple(hits.voxel[0, 0].tolist()), hits.entry.item(), hits.leave.item(), hits.hit.item()


@pytest.mark.parametrize(
    ("origin", "direction", "voxel", "entry", "leave", "hit"),
    [
        # Along an axis, forwards and backwards; other components 0.
        ((0.5, 2.5, 1.5), (1.0, 0.0, 0.0), (3, 2, 1), 2.5, 3.5, True),
        ((5.5, 2.5, 1.5), (-1.0, 0.0, 0.0), (3, 2, 1), 1.5, 2.5, True),
        # Twice as long a direction halves the distances.
        ((0.5, 2.5, 1.5), (2.0, 0.0, 0.0), (3, 2, 1), 1.25, 1.75, True),
        # The origin lies in the occupied voxel.
        ((3.25, 2.5, 1.5), (1.0, 0.0, 0.0), (3, 2, 1), 0.0, 0.75, True),
        # Nothing in the way: the last voxel inside, and the distance of leaving the grid.
        ((0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (5, 0, 0), 4.5, 5.5, False),
        ((0.5, 0.5, 3.75), (0.0, 0.0, 1.0), (0, 0, 3), 0.0, 0.25, False),
        # A start on a face is in the voxel above it, whichever way the ray goes, and leaves it at once.
        ((3.0, 2.5, 1.5), (-1.0, 0.0, 0.0), (3, 2, 1), 0.0, 0.0, True),
        ((0.0, 2.5, 1.5), (-1.0, 0.0, 0.0), (0, 2, 1), 0.0, 0.0, False),
        # From outside: distances count from the origin, not from the grid.
        ((-2.0, 2.5, 1.5), (1.0, 0.0, 0.0), (3, 2, 1), 5.0, 6.0, True),
        ((8.0, 2.5, 1.5), (-1.0, 0.0, 0.0), (3, 2, 1), 4.0, 5.0, True),
        ((-0.25, 0.5, 0.5), (1.0, 0.0, 0.0), (5, 0, 0), 5.25, 6.25, False),
        # Slanted, 3-4-5: enters (3, 2, 1) over its lower face of the first axis.
        ((0.0, 0.0, 1.5), (0.8, 0.6, 0.0), (3, 2, 1), 3.75, 5.0, True),
    ],
)
def test_first_hit_by_hand(origin, direction, voxel, entry, leave, hit):
    found = one_ray(volume((3, 2, 1)), origin, direction)
    assert found[0] == voxel
    assert found[1:3] == pytest.approx((entry, leave), abs=1e-12)
    assert found[3] is hit


@pytest.mark.parametrize(
    ("origin", "direction"),
    [
        ((-1.0, 2.5, 1.5), (-1.0, 0.0, 0.0)),  # away from the grid
        ((-1.0, 9.0, 1.5), (1.0, 0.0, 0.0)),  # past it, parallel to it
        ((-1.0, -9.0, 1.5), (1.0, 1.0, 0.0)),  # past its corner
        ((7.0, 2.5, 1.5), (0.0, 0.0, 1.0)),
        ((6.0, 2.5, 1.5), (0.0, 0.0, 1.0)),  # along its upper face, which is not part of it
    ],
)
def test_a_ray_that_never_meets_the_grid_has_no_voxel(origin, direction):
    voxel, entry, leave, hit = one_ray(torch.ones(1, *SHAPE, dtype=torch.bool), origin, direction)
    assert voxel == (-1, -1, -1)
    assert math.isnan(entry)
    assert math.isnan(leave)
    assert hit is False


def test_nearer_voxel_wins_and_rays_do_not_slip_through_corners():
    assert one_ray(volume((2, 2, 1), (4, 2, 1)), (0.5, 2.5, 1.5), (1.0, 0.0, 0.0))[0] == (2, 2, 1)
    # Exactly through the edge between (1, 0) and (0, 1): the later axis goes first, so the ray passes (0, 1).
    passed = one_ray(volume((0, 1, 0)), (0.5, 0.5, 0.5), (1.0, 1.0, 0.0))
    assert passed[0] == (0, 1, 0)
    assert passed[1:3] == (0.5, 0.5)
    assert one_ray(volume((1, 0, 0)), (0.5, 0.5, 0.5), (1.0, 1.0, 0.0))[3] is False


def random_rays(rng: np.random.Generator, shape, rays: int, aligned: bool = False):
    """Occupancy, origins inside, unit directions; ``aligned``: on a quarter grid, so that ties abound."""
    occupied = rng.random(shape) < rng.choice([0.0, 0.02, 0.2])
    origins = rng.random((rays, 3)) * shape
    directions = rng.normal(size=(rays, 3))
    if aligned:
        origins = np.minimum(np.floor(origins * 4) / 4, np.array(shape) - 0.25)
        directions = rng.integers(-2, 3, (rays, 3)).astype(float)
        directions[~directions.any(1)] = 1.0
    return occupied, origins, directions


@given(seed=st.integers(0, 10_000), aligned=st.booleans())
def test_equals_plain_numpy(seed, aligned):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, 3))
    occupied, origins, directions = random_rays(rng, shape, 40, aligned)
    voxel, entry, leave, hit = first_hits_reference(occupied, origins, directions)
    found = first_hits(
        torch.from_numpy(occupied)[None], torch.from_numpy(origins), torch.from_numpy(directions), chunk_rays=17
    )
    np.testing.assert_array_equal(found.voxel[0], voxel)
    np.testing.assert_array_equal(found.entry[0], entry)
    np.testing.assert_array_equal(found.leave[0], leave)
    np.testing.assert_array_equal(found.hit[0], hit)


@pytest.mark.parametrize("outside", [False, True])
def test_equals_the_nearest_box_of_all(outside):
    """Independent of stepping: every occupied voxel is a box, met by its slabs; the nearest entry wins."""
    rng = np.random.default_rng(3)
    occupied, origins, directions = random_rays(rng, (9, 8, 5), 300)
    occupied = rng.random((9, 8, 5)) < 0.05
    if outside:
        origins = origins + np.sign(rng.normal(size=3)) * [12, 0, 0]
        directions = np.array([4.5, 4, 2.5]) + rng.normal(size=(300, 3)) * 2 - origins
    boxes = np.argwhere(occupied)
    faces = np.stack([boxes, boxes + 1])[:, None] - origins[None, :, None]  # (2, R, boxes, 3)
    crossings = np.sort(faces / directions[None, :, None], axis=0)
    enter, leave = crossings[0].max(-1).clip(min=0), crossings[1].min(-1)
    enter = np.where(enter < leave, enter, np.inf)
    nearest = enter.argmin(1)
    rays = np.arange(len(origins))

    found = first_hits(torch.from_numpy(occupied)[None], torch.from_numpy(origins), torch.from_numpy(directions))
    hit = np.isfinite(enter[rays, nearest])
    assert 50 < hit.sum() < 290
    np.testing.assert_array_equal(found.hit[0], hit)
    np.testing.assert_array_equal(found.voxel[0][hit], boxes[nearest][hit])
    np.testing.assert_allclose(found.entry[0][hit], enter[rays, nearest][hit], atol=1e-9)
    np.testing.assert_allclose(found.leave[0][hit], leave[rays, nearest][hit], atol=1e-9)


def test_several_volumes_share_one_walk():
    rng = np.random.default_rng(5)
    _, origins, directions = random_rays(rng, (20, 20, 6), 500)
    rays = torch.from_numpy(origins), torch.from_numpy(directions)
    volumes = torch.from_numpy(rng.random((MAX_VOLUMES, 20, 20, 6)) < 0.03)
    volumes[2] = False
    together = first_hits(volumes, *rays)
    for number in range(MAX_VOLUMES):
        alone = first_hits(volumes[number : number + 1], *rays)
        for name in ("voxel", "entry", "leave", "hit"):
            assert torch.equal(getattr(together, name)[number], getattr(alone, name)[0]), (number, name)
    assert not together.hit[2].any()


def test_no_rays_no_hits():
    hits = first_hits(volume(), torch.zeros(0, 3), torch.zeros(0, 3))
    assert hits.voxel.shape == (1, 0, 3)
    assert hits.leave.shape == (1, 0)


def test_metres_of_a_grid_with_flat_voxels():
    grid = BEVGrid((-4.0, 4.0), (-2.0, 2.0), (-1.0, 1.0), cell_m=0.5, cell_z_m=0.25)
    occupied = torch.zeros(1, *grid.shape_zyx, dtype=torch.bool)
    centre = torch.tensor([2.25, 0.25, 0.375])
    occupied[(0, *grid.cell_index(centre)[0].tolist())] = True
    origins = torch.tensor([[-1.0, 0.25, 0.375], [2.25, 0.25, -0.9], [-1.0, 0.25, 0.375]])
    directions = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.1], [0.0, -1.0, 0.0]])  # any length
    hits = cast_rays(grid, occupied, origins, directions)
    assert hits.hit[0].tolist() == [True, True, False]
    assert hits.voxel[0, 0].tolist() == grid.cell_index(centre)[0].tolist()
    np.testing.assert_allclose(hits.entry[0], [3.0, 0.25 + 0.9, 1.75], atol=1e-6)
    np.testing.assert_allclose(hits.leave[0], [3.5, 0.5 + 0.9, 2.25], atol=1e-6)


def test_what_does_not_fit_is_refused():
    rays = torch.zeros(2, 3), torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"bool \(V <= 7, A, B, C\), got torch.uint8"):
        first_hits(volume().to(torch.uint8), *rays)
    with pytest.raises(ValueError, match=r"got torch.bool \(8, 6, 5, 4\)"):
        first_hits(volume().expand(8, -1, -1, -1), *rays)
    with pytest.raises(ValueError, match=r"rays must be \(R, 3\)"):
        first_hits(volume(), torch.zeros(2, 3), torch.ones(1, 3))
    for origin, direction in ((math.nan, 1.0), (0.0, 0.0), (0.0, math.inf)):
        with pytest.raises(ValueError, match="not finite, or its direction is 0"):
            first_hits(volume(), torch.full((1, 3), origin), torch.full((1, 3), direction))
    grid = BEVGrid((0.0, 4.0), (0.0, 5.0), (0.0, 6.0), 1.0, 1.0)
    with pytest.raises(ValueError, match=r"must be \(V, 6, 5, 4\), got \(1, 4, 5, 6\)"):
        cast_rays(grid, torch.zeros(1, 4, 5, 6, dtype=torch.bool), *rays)
