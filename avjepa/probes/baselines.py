"""What is known without learning: the raw input as features, and answers copied from it. Letters: see conventions.py."""

from __future__ import annotations

import torch

from avjepa.bev.cell_states import cell_states
from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.ego_motion import warp_bev
from avjepa.geometry.grid import BEVGrid
from avjepa.sensors.sample import ClipBatch

RAW_CHANNELS_PER_FRAME = 6


def raw_features(clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
    """LiDAR of the context as BEV channels (B, T * 6, Y, X), in the present ego frame.

    Per frame: log of the number of returns, highest and lowest return (in units of 2 m), and the three cell states.
    """
    frames = clips.context_in_now()
    rows, columns = grid.shape_yx
    bev_index, inside = grid.bev_index(frames.points[:, :3])
    cell = (frames.point_frame * rows * columns + bev_index)[inside]
    z = frames.points[inside, 2] / 2
    flat = z.new_zeros(frames.num_frames * rows * columns)
    log_count = flat.index_add(0, cell, torch.ones_like(z)).log1p()
    highest = flat.scatter_reduce(0, cell, z, "amax", include_self=False)
    lowest = flat.scatter_reduce(0, cell, z, "amin", include_self=False)
    returns = torch.stack([log_count, highest, lowest], 1).view(-1, rows, columns, 3).movedim(-1, 1)
    states = cell_states(frames, grid)
    one_hot = torch.stack([states == state for state in (UNOBSERVED, FREE, OCCUPIED)], 1).to(returns)
    return torch.cat([returns, one_hot], 1).view(clips.shape[0], -1, rows, columns)


def future_raw_features(clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
    """:func:`raw_features` moved by the ego-motion into each future ego frame, with the overlap and the time in seconds:
    (B * F, T * 6 + 2, Y, X).
    """
    frame_T_now = clips.frame_T_now()[:, 1:]  # (B, F, 4, 4)
    horizons = frame_T_now.shape[1]
    raw = raw_features(clips, grid).repeat_interleave(horizons, 0)
    warped, overlap = warp_bev(raw, frame_T_now.flatten(0, 1), grid)
    time_s = clips.time_s[:, clips.num_context :].reshape(-1, 1, 1, 1).expand_as(overlap)
    return torch.cat([warped, overlap.to(warped), time_s.to(warped)], 1)


def last_seen(clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
    """Score of occupied (B, Y, X): the cell's state when the context last observed it; one half where it never did."""
    states = cell_states(clips.context_in_now(), grid).unflatten(0, (clips.shape[0], -1))
    score = torch.full(states[:, 0].shape, 0.5, device=states.device)
    for state in states.unbind(1):
        score = torch.where(state == UNOBSERVED, score, (state == OCCUPIED).to(score))
    return score
