"""Reading a BEV map at the cells of another grid in the same ego frame. Letters: see conventions.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from avjepa.geometry.grid import BEVGrid

Window = tuple[slice, slice]  # rows and columns of BEV cells


def whole(grid: BEVGrid) -> Window:
    """Every cell of a grid."""
    rows, columns = grid.shape_yx
    return slice(0, rows), slice(0, columns)


def central(grid: BEVGrid, half_m: float) -> Window:
    """The cells whose centre is nearer than ``half_m`` to the car, forward and sideways."""
    near = grid.cell_centres().abs() < half_m  # (Y, X, 2)
    rows, columns = near[:, 0, 1].nonzero(), near[0, :, 0].nonzero()
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def resample_bev(bev: torch.Tensor, src: BEVGrid, dst: BEVGrid, window: Window | None = None) -> torch.Tensor:
    """Bilinear values of a map (B, C, Y, X) on grid ``src`` at the cell centres of ``dst``, zero beyond the edges of ``src``.

    Within half a cell of an edge the value is that of the border cell. ``window`` limits the answer to a part of ``dst``.
    """
    if tuple(bev.shape[-2:]) != src.shape_yx:
        raise ValueError(f"want (B, C, {src.shape_yx[0]}, {src.shape_yx[1]}), got {tuple(bev.shape)}")
    window = window or whole(dst)
    if (src.x_range_m, src.y_range_m, src.cell_m) == (dst.x_range_m, dst.y_range_m, dst.cell_m):
        return bev[..., window[0], window[1]]
    xy_m = dst.cell_centres(bev.device)[window]  # (h, w, 2)
    lower = xy_m.new_tensor([src.x_range_m[0], src.y_range_m[0]])
    upper = xy_m.new_tensor([src.x_range_m[1], src.y_range_m[1]])
    inside = ((xy_m >= lower) & (xy_m < upper)).all(-1)
    sample = (2 * (xy_m - lower) / (upper - lower) - 1).to(bev.dtype).expand(len(bev), -1, -1, -1)
    return F.grid_sample(bev, sample, mode="bilinear", padding_mode="border", align_corners=False) * inside


def covered(src: BEVGrid, dst: BEVGrid) -> torch.Tensor:
    """Cells (Y, X) of ``dst``, bool, whose centre lies on ``src``."""
    xy_m = dst.cell_centres()
    (x_low, x_high), (y_low, y_high) = src.x_range_m, src.y_range_m
    x_m, y_m = xy_m.unbind(-1)
    return (x_m >= x_low) & (x_m < x_high) & (y_m >= y_low) & (y_m < y_high)
