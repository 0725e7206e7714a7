"""Occupancy probe: what stands in each BEV cell now, seen or not, from a frozen embedding.

Targets come from LiDAR rays of all keyframes of a clip, so no label is needed: a cell observed now has its present state; a
cell not observed now has the state that most of the other keyframes saw there. Letters: see conventions.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from avjepa.bev.cell_states import cell_states
from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.sensors.sample import ClipBatch


@dataclass(frozen=True)
class OccupancyTargets:
    """Targets and strata of clips, all (B, Y, X) bool, in the present ego frame.

    Attributes:
        occupied: the answer.
        known: the answer is known.
        hidden: known, but not observed by the present keyframe.
        never_seen: known, but not observed by any context keyframe: only the future tells.
    """

    occupied: torch.Tensor
    known: torch.Tensor
    hidden: torch.Tensor
    never_seen: torch.Tensor

    @classmethod
    def joined(cls, parts: list[OccupancyTargets]) -> OccupancyTargets:
        """Targets of several batches, one after another."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def occupancy_targets(clips: ClipBatch, grid: BEVGrid) -> OccupancyTargets:
    """Occupancy now, from the rays of every keyframe of each clip moved into the present ego frame.

    Cells not observed now take the majority of the other keyframes, so that a car that passes later leaves no trace; a
    tie is unknown.
    """
    states = cell_states(clips.all_in_now(), grid).unflatten(0, clips.shape)  # (B, S, Y, X)
    now = states[:, clips.num_context - 1]
    observed_now = now != UNOBSERVED
    occupied_votes, free_votes = (states == OCCUPIED).sum(1), (states == FREE).sum(1)
    known = observed_now | (occupied_votes != free_votes)
    return OccupancyTargets(
        occupied=torch.where(observed_now, now == OCCUPIED, occupied_votes > free_votes),
        known=known,
        hidden=known & ~observed_now,
        never_seen=known & (states[:, : clips.num_context] == UNOBSERVED).all(1),
    )
