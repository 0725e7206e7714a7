"""Maps that need no encoder: the mean of the training maps, and the nearest training frame's map.

Each is a score (C, Y, X) in [0, 1] in the present ego frame. Where the second knows nothing (no training frame near) it falls back
to the mean map, which knows only that roads lie ahead and behind. Letters: see conventions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from avjepa.geometry.ego_motion import warp_bev
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import invert, se2_from_transform
from avjepa.probes.map_labels import MAP_GRID, planar

# Turning a square map by a quarter of pi costs as much of its area (17 %) as moving a map of 100 m by about 17 m.
METRES_PER_RADIAN = 20.0


def mean_map(truths: Iterable[torch.Tensor]) -> torch.Tensor:
    """Share of training frames (C, Y, X) whose truth, (C, Y, X) bool in its own ego frame, holds in each cell.

    Raises:
        ValueError: there is no frame.
    """
    total, frames = None, 0
    for truth in truths:
        total = truth.float() if total is None else total + truth
        frames += 1
    if total is None:
        raise ValueError("the mean map of no training frame")
    return total / frames


class NearestPoseMap:
    """The truth of the nearest training frame, moved by the exact relative pose: localisation and nothing else.

    Args:
        global_T_ego: (n, 4, 4) poses of the training frames.
        city: (n,) location of each; poses of different locations are never compared.
        truth_of: truth (C, Y, X) bool of training frame i in its own ego frame.
        mean: (C, Y, X), what is answered where the moved map does not reach, and in a location without training frames.
    """

    def __init__(
        self,
        global_T_ego: np.ndarray,
        city: Iterable[str],
        truth_of: Callable[[int], torch.Tensor],
        mean: torch.Tensor,
        grid: BEVGrid = MAP_GRID,
    ) -> None:
        self.global_T_ego = np.stack([planar(pose) for pose in global_T_ego])
        self.city = np.array(list(city))
        self.truth_of = truth_of
        self.mean = mean
        self.grid = grid
        if len(self.city) != len(self.global_T_ego):
            raise ValueError(f"want a city for each of {len(self.global_T_ego)} poses, got {len(self.city)}")

    def __call__(self, global_T_ego: np.ndarray, city: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Score (C, Y, X) at a pose, and where it comes from the training frame rather than from the mean map (Y, X), bool."""
        nearest = self.nearest(global_T_ego, city)
        if nearest is None:
            return self.mean, torch.zeros(self.grid.shape_yx, dtype=torch.bool)
        now_T_train = invert(planar(global_T_ego)) @ self.global_T_ego[nearest]
        moved, known = warp_bev(
            self.truth_of(nearest).float()[None], torch.from_numpy(now_T_train).float()[None], self.grid
        )
        return torch.where(known[0], moved[0].clamp(0, 1), self.mean), known[0, 0]

    def nearest(self, global_T_ego: np.ndarray, city: str) -> int | None:
        """The training frame of that city with the least distance plus METRES_PER_RADIAN times the turn; None if none."""
        candidates = np.flatnonzero(self.city == city)
        if not len(candidates):
            return None
        dx_m, dy_m, turn_rad = se2_from_transform(invert(planar(global_T_ego)) @ self.global_T_ego[candidates])
        cost_m = np.hypot(dx_m, dy_m) + METRES_PER_RADIAN * np.abs(turn_rad)
        return int(candidates[cost_m.argmin()])
