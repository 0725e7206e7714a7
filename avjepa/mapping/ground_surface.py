"""Where the ground is under one keyframe, from its LiDAR returns alone. Heights in metres of the ego frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import map_coordinates

CELL_M = 1.0
HALF_M = 40.0  # beyond it the rings of a LiDAR are too far apart to tell a kerb from a slope
SMOOTH_CELLS = 1.5
STEP_MAX_M = 0.3  # a cell's lowest return further above its neighbours' ground is on something
ROUNDS = 3


@dataclass(frozen=True)
class GroundSurface:
    """Ground heights on a square grid around the car.

    Attributes:
        height_m: (n, n) float32 [y, x], smooth, also where nothing was measured.
    """

    height_m: np.ndarray

    def at(self, xy_ego: np.ndarray) -> np.ndarray:
        """Height (P,) at positions (P, 2), bilinear; the border's beyond the grid."""
        column, row = ((np.asarray(xy_ego) + HALF_M) / CELL_M - 0.5).T
        return map_coordinates(self.height_m, [row, column], order=1, mode="nearest")


def ground_surface(xyz_ego: np.ndarray) -> GroundSurface:
    """The ground under returns (P, 3): the lowest of every cell, smoothed, and again without cells that stand on something.

    A flat ground through the wheels (z = 0) counts a little everywhere, so that an empty scan has a ground, too.
    """
    side = round(2 * HALF_M / CELL_M)
    column, row = np.floor((xyz_ego[:, :2] + HALF_M) / CELL_M).astype(np.int64).T
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    lowest_m = np.full(side * side, np.inf, np.float32)
    np.minimum.at(lowest_m, row[inside] * side + column[inside], xyz_ego[inside, 2].astype(np.float32))
    lowest_m = lowest_m.reshape(side, side)
    counted = np.isfinite(lowest_m) & (np.abs(lowest_m) < 3.0)
    height_m = np.zeros_like(lowest_m)
    for round_ in range(ROUNDS):
        step_m = STEP_MAX_M * 2 ** (ROUNDS - 1 - round_)  # a hill must not lose its top before its slope is known
        kept = counted & (lowest_m < height_m + step_m)
        weight = cv2.GaussianBlur(kept.astype(np.float32), (0, 0), SMOOTH_CELLS)
        total = cv2.GaussianBlur(np.where(kept, lowest_m, 0.0).astype(np.float32), (0, 0), SMOOTH_CELLS)
        height_m = total / (weight + 1e-3)
    return GroundSurface(height_m.astype(np.float32))
