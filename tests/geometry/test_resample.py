import pytest
import torch

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.resample import central, covered, resample_bev, whole

COARSE = BEVGrid((-4.0, 4.0), (-2.0, 2.0), (0.0, 1.0), 1.0, 1.0)
FINE = BEVGrid((-6.0, 6.0), (-3.0, 3.0), (0.0, 1.0), 0.5, 1.0)


def ramp(grid: BEVGrid, x: float, y: float) -> torch.Tensor:
    """A linear map (1, 1, Y, X): bilinear reading must be exact between cell centres."""
    centres = grid.cell_centres()
    return (1.0 + x * centres[..., 0] + y * centres[..., 1])[None, None]


def test_a_linear_map_is_read_exactly_between_cell_centres():
    got = resample_bev(ramp(COARSE, 2.0, -3.0), COARSE, FINE)
    xy = FINE.cell_centres()
    between = (xy[..., 0].abs() <= 3.5) & (xy[..., 1].abs() <= 1.5)
    assert between.sum() > 50
    torch.testing.assert_close(got[0, 0][between], ramp(FINE, 2.0, -3.0)[0, 0][between])


def test_beyond_the_edges_is_nothing_and_near_them_the_border():
    got = resample_bev(torch.ones(1, 1, 4, 8), COARSE, FINE)[0, 0]
    assert torch.equal(got > 0, covered(COARSE, FINE))
    assert torch.equal(got[covered(COARSE, FINE)], torch.ones(int(covered(COARSE, FINE).sum())))
    assert covered(COARSE, FINE).sum() == (8 / 0.5) * (4 / 0.5)


def test_a_window_is_a_part_of_the_whole():
    bev = torch.rand(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    window = slice(2, 7), slice(5, 20)
    assert torch.equal(resample_bev(bev, COARSE, FINE, window), resample_bev(bev, COARSE, FINE)[..., 2:7, 5:20])
    assert whole(FINE) == (slice(0, 12), slice(0, 24))


def test_the_same_cells_are_not_touched():
    bev = torch.rand(1, 2, 4, 8)
    taller = BEVGrid((-4.0, 4.0), (-2.0, 2.0), (0.0, 3.0), 1.0, 0.5)
    assert torch.equal(resample_bev(bev, COARSE, taller), bev)


def test_central_cells_by_their_centres():
    assert central(FINE, 2.0) == (slice(2, 10), slice(8, 16))
    assert central(FINE, 2.3) == (slice(1, 11), slice(7, 17))  # centres at 2.25 m
    shifted = BEVGrid((-2.0, 6.0), (-3.0, 3.0), (0.0, 1.0), 0.5, 1.0)
    assert central(shifted, 1.0) == (slice(4, 8), slice(2, 6))
    assert central(FINE, 100.0) == whole(FINE)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"\(1, 2, 8, 4\)"):
        resample_bev(torch.zeros(1, 2, 8, 4), COARSE, FINE)
