"""The surveyed ground in colours: what cameras and LiDAR say of its brightness, and what stands on it.

Pictures are (..., 3) uint8 RGB. What stands is green, since changes are drawn in orange and blue.
"""

from __future__ import annotations

import numpy as np

from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.tiles import Layers

AROUND_EGO_M, CELL_M = 25.6, 0.2


def camera_picture(sums: Layers) -> np.ndarray:
    """Brightness of the ground beside its surroundings, in cameras; sums (C, ...) of a mosaic by layer."""
    weight = sums["paint"][0]
    contrast = np.where(weight > 0, sums["paint"][1] / np.maximum(weight, 1e-6), 0)
    return _with_what_stands(np.where(weight > 0, np.clip(70 + 140 * contrast, 0, 255), 0), sums)


def lidar_picture(sums: Layers) -> np.ndarray:
    """Mean LiDAR intensity of the ground, its square root, since roads are dark; sums as of :func:`camera_picture`."""
    returns, intensities, _ = sums["ground"]
    return _with_what_stands(255 * np.sqrt(np.clip(intensities / np.maximum(returns, 1), 0, 1)), sums)


def pictures_around(mosaic: Mosaic, global_T_ego: np.ndarray) -> dict[str, np.ndarray]:
    """The ground around the car by sensor, (Y, X, 3) in [0, 1] in the ego frame, of all that the drives of a mosaic saw."""
    places_m = np.arange(-AROUND_EGO_M + CELL_M / 2, AROUND_EGO_M, CELL_M)
    xy_ego = np.stack(np.meshgrid(places_m, places_m), -1)  # (Y, X, 2)
    xy_map = xy_ego @ global_T_ego[:2, :2].T + global_T_ego[:2, 3]
    sums, _ = mosaic.sample(xy_map.reshape(-1, 2))
    sums = {name: layer.reshape(-1, *xy_ego.shape[:2]) for name, layer in sums.items()}
    return {"cameras": camera_picture(sums) / 255, "lidar": lidar_picture(sums) / 255}


def _with_what_stands(grey: np.ndarray, sums: Layers) -> np.ndarray:
    """Brighter green the more keyframes met something there."""
    grey, stands = grey.astype(np.uint8), np.clip(60 * sums["stands"][1], 0, 255).astype(np.uint8)
    return np.stack([grey, np.maximum(grey, stands), grey], -1)
