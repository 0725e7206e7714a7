"""Ego-motion compensation: moving BEV maps from one ego frame to another, and the motion a predictor is told."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import invert, se2_from_transform


def warp_bev(bev_src: torch.Tensor, dst_T_src: torch.Tensor, grid: BEVGrid) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample a BEV map of frame src in frame dst: a parameter-free bilinear warp by the planar part of the motion.

    Args:
        bev_src: (B, C, Y, X) on ``grid`` in frame src.
        dst_T_src: (B, 4, 4).

    Returns:
        The map in frame dst (B, C, Y, X), zero outside the overlap, and the overlap (B, 1, Y, X), bool: cells whose
        centre, seen in frame src, lies between cell centres of ``bev_src`` so that every bilinear tap is inside it.
    """
    rows, columns = grid.shape_yx
    if tuple(bev_src.shape[-2:]) != (rows, columns) or tuple(dst_T_src.shape) != (bev_src.shape[0], 4, 4):
        raise ValueError(
            f"want (B, C, {rows}, {columns}) and (B, 4, 4), got {tuple(bev_src.shape)}, {tuple(dst_T_src.shape)}"
        )
    src_T_dst = invert(dst_T_src)
    xy_dst = grid.cell_centres(bev_src.device)  # (Y, X, 2)
    rotation, shift = src_T_dst[:, None, None, :2, :2], src_T_dst[:, None, None, :2, 3]
    xy_src = (rotation @ xy_dst[None, ..., None])[..., 0] + shift  # (B, Y, X, 2)

    # Fractional cell index of each sample: 0 is the centre of the first cell. Rounded to 1/4096 cell, so that float32 does
    # not push the border cells of a whole-cell motion out of the overlap.
    lower = xy_src.new_tensor([grid.x_range_m[0], grid.y_range_m[0]])
    last = xy_src.new_tensor([columns - 1, rows - 1])
    index = torch.round(((xy_src - lower) / grid.cell_m - 0.5) * 4096) / 4096
    overlap = ((index >= 0) & (index <= last)).all(-1)[:, None]
    sample = (2 * index + 1) / (last + 1) - 1  # grid_sample's coordinates with align_corners=False
    warped = F.grid_sample(
        bev_src, sample.to(bev_src.dtype), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return warped * overlap, overlap


def motion_vector(dst_T_src: torch.Tensor, dt_s: torch.Tensor) -> torch.Tensor:
    """What a predictor is told of a step from src to dst: (dx_m, dy_m, dyaw_rad, dt_s) stacked, (B, 4).

    The motion is that of the vehicle, seen in frame src: the planar part of ``src_T_dst``.
    """
    dx_m, dy_m, dyaw_rad = se2_from_transform(invert(dst_T_src))
    return torch.stack([dx_m, dy_m, dyaw_rad, dt_s.to(dx_m)], -1)
