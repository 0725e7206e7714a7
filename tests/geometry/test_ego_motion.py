import numpy as np
import pytest
import torch

from avjepa.geometry.ego_motion import motion_vector, warp_bev
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import invert, transform_from_se2, transform_points

GRID = BEVGrid((-6.4, 6.4), (-6.4, 6.4), (-2.0, 2.0), 0.8, 4.0)


def motion(dx_m: float, dy_m: float, dyaw_rad: float) -> torch.Tensor:
    return torch.from_numpy(transform_from_se2(dx_m, dy_m, dyaw_rad)).float()[None]


def test_whole_cells_are_copied():
    bev = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    warped, overlap = warp_bev(bev, motion(1.6, -0.8, 0), GRID)
    torch.testing.assert_close(warped[..., :-1, 2:], bev[..., 1:, :-2], atol=1e-5, rtol=0)
    assert overlap[0, 0, :-1, 2:].all()
    assert not overlap[0, 0, -1].any()
    assert not overlap[0, 0, :, :2].any()
    assert not warped[~overlap.expand_as(warped)].any()


def test_quarter_turn_carries_plus_x_to_plus_y():
    bev = torch.zeros(1, 1, 16, 16)
    bev[0, 0, 8, 14] = 1  # at +x
    warped, overlap = warp_bev(bev, motion(0, 0, np.pi / 2), GRID)
    peak = divmod(int(warped.argmax()), 16)
    assert peak == (14, 7)  # at +y; the cell centre (0.4, 5.2) m became (-0.4, 5.2)
    assert overlap.all()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(quarters):
    bev = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    warped, overlap = warp_bev(bev, motion(0, 0, quarters * np.pi / 2), GRID)
    # Rows grow with y and columns with x, so a turn from x to y is a turn from columns to rows.
    torch.testing.assert_close(warped, torch.rot90(bev, quarters, (3, 2)), atol=1e-5, rtol=0)
    assert overlap.all()


def test_turn_and_shift_cell_by_cell():
    generator = torch.Generator().manual_seed(1)
    bev = torch.randn(1, 2, 16, 16, generator=generator)
    dst_T_src = transform_from_se2(0.9, -0.35, 0.4)
    warped, overlap = warp_bev(bev, torch.from_numpy(dst_T_src).float()[None], GRID)
    centres = GRID.cell_centres().double().numpy()
    counted = 0
    for row in range(16):
        for column in range(16):
            x_dst, y_dst = centres[row, column]
            x_src, y_src, _ = transform_points(invert(dst_T_src), np.array([[x_dst, y_dst, 0.0]]))[0]
            u, v = (x_src + 6.4) / 0.8 - 0.5, (y_src + 6.4) / 0.8 - 0.5
            inside = 0 <= u <= 15 and 0 <= v <= 15
            if min(abs(u), abs(u - 15), abs(v), abs(v - 15)) < 1e-3:
                continue  # on the border of the overlap, where float32 may decide either way
            assert bool(overlap[0, 0, row, column]) == inside
            if inside:
                i, j = min(int(v), 14), min(int(u), 14)
                a, b = v - i, u - j
                expected = (
                    (1 - a) * (1 - b) * bev[0, :, i, j]
                    + (1 - a) * b * bev[0, :, i, j + 1]
                    + a * (1 - b) * bev[0, :, i + 1, j]
                    + a * b * bev[0, :, i + 1, j + 1]
                )
                torch.testing.assert_close(warped[0, :, row, column], expected, atol=2e-3, rtol=0)
                counted += 1
    assert counted > 150


def test_points_and_maps_move_alike():
    """A point's cell in the warped map is the cell of the moved point."""
    dst_T_src = transform_from_se2(2.0, 1.0, 0.7)
    xyz_src = np.array([[1.3, -2.1, 0.0]])
    bev = torch.zeros(1, 1, *GRID.shape_yx)
    _, row, column = GRID.cell_index(torch.from_numpy(xyz_src[0]))[0].tolist()
    bev[0, 0, row, column] = 1
    centre = np.append(GRID.cell_centres()[row, column].numpy(), 0.0)[None]
    warped, _ = warp_bev(bev, torch.from_numpy(dst_T_src).float()[None], GRID)
    peak_row, peak_column = divmod(int(warped.argmax()), GRID.shape_yx[1])
    moved = transform_points(dst_T_src, centre)[0, :2]
    assert np.abs(GRID.cell_centres()[peak_row, peak_column].numpy() - moved).max() <= 0.4 + 1e-6


def test_motion_vector_is_the_vehicle_seen_from_the_source():
    global_T_now, global_T_next = (
        transform_from_se2(5, 5, 0.2),
        transform_from_se2(5, 5, 0.2) @ transform_from_se2(3, 0.5, 0.1),
    )
    next_T_now = torch.from_numpy(invert(global_T_next) @ global_T_now).float()[None]
    vector = motion_vector(next_T_now, torch.tensor([0.5]))
    torch.testing.assert_close(vector, torch.tensor([[3.0, 0.5, 0.1, 0.5]]), atol=1e-5, rtol=0)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 2, 8, 16\)"):
        warp_bev(torch.zeros(1, 2, 8, 16), motion(0, 0, 0), GRID)
