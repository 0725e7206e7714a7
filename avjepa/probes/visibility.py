"""Cleaning a map by visibility: a point that other scans see through was not there for good. Removal without learning.

After Removert (Kim & Kim, IROS 2020): range images of every scan at several resolutions; a map point well in front of what
a scan measured in its direction is in the scan's way. Removert looks at the nearest map point of each pixel, takes points
out scan by scan, finest pixels first, and gives back what coarser pixels do not confirm. Here all points are judged at
once, a point goes only if every resolution agrees, and how many scans must agree is a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avjepa.probes.scans import Scan


@dataclass(frozen=True)
class VisibilityCheck:
    """Settings of the check.

    Attributes:
        pixels_deg: (azimuth, elevation) of a pixel for each resolution. The elevation must not be below the spacing of
            the LiDAR's beams, or most pixels are empty; the HDL-32E's is 1.33.
        least_gap_m, relative_gap: a scan sees through a point if it measures more than
            ``max(least_gap_m, relative_gap * range)`` beyond it; 0.05 is Removert's share.
        least_scans: how many scans must see through a point; Removert takes one.
        reach_m: a scan says nothing of points further away.
    """

    pixels_deg: tuple[tuple[float, float], ...] = ((1.0, 1.35), (1.5, 2.7))
    least_gap_m: float = 0.3
    relative_gap: float = 0.05
    least_scans: int = 2
    reach_m: float = 50.0

    def __post_init__(self) -> None:
        if not self.pixels_deg or min(min(pixel) for pixel in self.pixels_deg) <= 0 or self.least_scans < 1:
            raise ValueError(f"want pixels of a positive size and at least one scan, got {self}")


def seen_through(xyz_map: np.ndarray, scans: Sequence[Scan], check: VisibilityCheck) -> np.ndarray:
    """(P,) bool: enough of the scans see through the point.

    Args:
        xyz_map: (P, 3), in the frame of the scans; a point's own scan may be among them, it does not see through it.
        scans: all that were taken.
        check: settings.
    """
    return votes_against(xyz_map, scans, check) >= check.least_scans


def votes_against(xyz_map: np.ndarray, scans: Sequence[Scan], check: VisibilityCheck) -> np.ndarray:
    """How many of the scans see through each point, (P,) int32; arguments as of seen_through."""
    votes = np.zeros(len(xyz_map), dtype=np.int32)
    for scan in scans:
        lidar_T_map = np.linalg.inv(scan.map_T_lidar).astype(np.float32)
        xyz_lidar = xyz_map.astype(np.float32) @ lidar_T_map[:3, :3].T + lidar_T_map[:3, 3]
        near = np.flatnonzero((xyz_lidar**2).sum(1) < check.reach_m**2)
        votes[near] += _sees_through(_directions(scan.xyz_lidar), _directions(xyz_lidar[near]), check)
    return votes


def _sees_through(scan: _Directions, points: _Directions, check: VisibilityCheck) -> np.ndarray:
    """(P,) bool: one scan sees through the point at every resolution."""
    limit_m = points.range_m + np.maximum(check.least_gap_m, check.relative_gap * points.range_m)
    through = np.ones(len(limit_m), dtype=bool)
    for pixel_deg in check.pixels_deg:
        image = _range_image(scan, pixel_deg)
        through[through] = _nearest_around(image, points.of(through), pixel_deg) > limit_m[through]
    return through


@dataclass(frozen=True)
class _Directions:
    """Spherical coordinates of P points about a LiDAR."""

    range_m: np.ndarray
    azimuth_deg: np.ndarray  # [0, 360]
    elevation_deg: np.ndarray  # [0, 180] from straight down

    def of(self, chosen: np.ndarray) -> _Directions:
        return _Directions(self.range_m[chosen], self.azimuth_deg[chosen], self.elevation_deg[chosen])


def _directions(xyz_lidar: np.ndarray) -> _Directions:
    x, y, z = xyz_lidar.T
    range_m = np.sqrt(x * x + y * y + z * z)
    azimuth_deg = np.degrees(np.arctan2(y, x)) + 180
    return _Directions(range_m, azimuth_deg, np.degrees(np.arctan2(z, np.hypot(x, y))) + 90)


def _range_image(scan: _Directions, pixel_deg: tuple[float, float]) -> np.ndarray:
    """Nearest return (rows, columns) of each pixel; inf where there is none."""
    columns, rows = int(np.ceil(360 / pixel_deg[0])), int(np.ceil(180 / pixel_deg[1])) + 1
    column = (scan.azimuth_deg / pixel_deg[0]).astype(np.int64) % columns
    row = (scan.elevation_deg / pixel_deg[1]).astype(np.int64)
    image = np.full(rows * columns, np.inf, dtype=np.float32)
    np.minimum.at(image, row * columns + column, scan.range_m)
    return image.reshape(rows, columns)


def _nearest_around(image: np.ndarray, points: _Directions, pixel_deg: tuple[float, float]) -> np.ndarray:
    """Nearest return (P,) in the pixel of each point and the three that are next to it; -inf where that pixel is empty.

    One pixel alone would not do: on the road a pixel covers metres, and the scan's one return in it may lie well beyond a
    point that is road as well. The beam below, which is nearer, tells.
    """
    rows, columns = image.shape
    column, row = points.azimuth_deg / pixel_deg[0], points.elevation_deg / pixel_deg[1]
    own_column, own_row = column.astype(np.int64), row.astype(np.int64)
    side_column = np.where(column - own_column < 0.5, own_column - 1, own_column + 1) % columns
    side_row = np.where(row - own_row < 0.5, own_row - 1, own_row + 1).clip(0, rows - 1)
    own_column %= columns
    own = image[own_row, own_column]
    nearest = np.minimum(own, image[own_row, side_column])
    nearest = np.minimum(nearest, image[side_row, own_column])
    nearest = np.minimum(nearest, image[side_row, side_column])
    return np.where(np.isfinite(own), nearest, -np.inf)
