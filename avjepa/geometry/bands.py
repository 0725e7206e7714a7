"""Bands along a path or a line, of which moved lines and kerbs are made.

Poses are (k, 3): x_m, y_m, yaw_rad in the map frame; offsets are metres to the left.
"""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon

TAPER_M = 5.0  # over which a moved line or kerb returns to where it was


def line_poses(line: LineString, s_m: np.ndarray) -> np.ndarray:
    """Poses (k, 3) along a polyline at arc lengths within it."""
    # Within the line: shapely counts negative arc lengths from its end.
    at_m = [np.clip(s_m + step, 0.0, line.length) for step in (-0.25, 0.0, 0.25)]
    xy = [shapely.get_coordinates(shapely.line_interpolate_point(line, s)) for s in at_m]
    dx, dy = (xy[2] - xy[0]).T
    return np.column_stack([xy[1], np.arctan2(dy, dx)])


def shifted(poses: np.ndarray, left_m: np.ndarray | float) -> np.ndarray:
    """Points (k, 2) to the left of poses (k, 3)."""
    x, y, yaw = poses.T
    return np.column_stack([x - left_m * np.sin(yaw), y + left_m * np.cos(yaw)])


def band(poses: np.ndarray, from_m: np.ndarray | float, to_m: np.ndarray | float) -> Polygon:
    """The area between two offsets of poses (k, 3)."""
    return Polygon(np.concatenate([shifted(poses, from_m), shifted(poses, to_m)[::-1]]))


def ramp(s_m: np.ndarray, begin_m: float, end_m: float, taper_m: float = TAPER_M) -> np.ndarray:
    """Share (k,) of a sideways move: 1 between the tapers, 0 at both ends, negative beyond them.

    Negative, because a band that crosses the old edge cuts it cleanly; one that ends on it leaves slivers.
    """
    return np.minimum(np.minimum(s_m - begin_m, end_m - s_m) / taper_m, 1.0)
