"""Label-free evidence of movers: cells whose occupancy is another than the ego-motion explains. Letters: see conventions.py."""

from __future__ import annotations

import torch

from avjepa.conventions import FREE, OCCUPIED
from avjepa.geometry.ego_motion import warp_bev
from avjepa.geometry.grid import BEVGrid
from avjepa.sensors.sample import ClipBatch


def changed_cells(states: torch.Tensor, clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
    """Cells (B, F, Y, X), bool, seen both now and at the future time whose occupancy differs from the warped present.

    Args:
        states: (B, 1 + F, Y, X) cell states of the present and the future frames, each in its own ego frame.
        clips: whose ego-motion it is.
        grid: of the maps.
    """
    frame_T_now = clips.frame_T_now()[:, 1:]
    batch, horizons = frame_T_now.shape[:2]
    if not horizons:
        return torch.zeros_like(states[:, 1:], dtype=torch.bool)
    now = torch.stack([states[:, 0] == OCCUPIED, states[:, 0] == FREE], 1).float()  # (B, 2, Y, X)
    warped, _ = warp_bev(now.repeat_interleave(horizons, 0), frame_T_now.flatten(0, 1), grid)
    was_occupied, was_free = (warped > 0.9).unflatten(0, (batch, horizons)).unbind(2)
    then = states[:, 1:]
    return (was_free & (then == OCCUPIED)) | (was_occupied & (then == FREE))
