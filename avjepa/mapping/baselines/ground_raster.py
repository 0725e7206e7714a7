"""Where LiDAR returns lie flat at the height of the road, and where at the height of a kerb, drive after drive on the map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avjepa.geometry.rigid import transform_points
from avjepa.probes.scans import DriveScan, read_drive
from avjepa.sensors.nuscenes_index import NuScenesIndex

CELL_M = 0.4
REACH_M = 16.0  # further off, a tilt of the car by a third of a degree is as high as a kerb
LOW_M = 0.06  # within it of the road's height: road
RAISED_M = (0.09, 0.3)  # above the road: walkway, island
TRACK_M = (12.0, 1.0)  # ahead or behind, and to a side: returns there are the road that is driven
TRACK_HEIGHT_M = 0.3
MIN_RETURNS = 5
MIN_SHARE = 0.8  # of a cell's returns at one height
LOW, RAISED, ABOVE = range(3)


@dataclass
class GroundRaster:
    """Returns by height, on the cells of a map. Rows grow with y, columns with x.

    Attributes:
        lower_m: (2,) x, y of the raster's corner, in metres of the map.
        counts: (3, Y, X) returns that are LOW, RAISED, ABOVE (or below).
        known_us: (Y, X) LiDAR time of the keyframe at which the cell had five returns; 0 where it has fewer.
    """

    lower_m: np.ndarray
    counts: np.ndarray
    known_us: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.known_us = np.zeros(self.counts.shape[1:], dtype=np.int64)

    @classmethod
    def around(cls, xy_m: np.ndarray) -> GroundRaster:
        """An empty raster that holds everything in reach of positions (n, 2)."""
        lower_m = np.floor((xy_m.min(0) - REACH_M) / CELL_M) * CELL_M
        columns, rows = np.ceil((xy_m.max(0) + REACH_M - lower_m) / CELL_M).astype(int)
        return cls(lower_m, np.zeros((3, rows, columns), dtype=np.int64))

    @property
    def centres_m(self) -> np.ndarray:
        """(Y, X, 2) middles of the cells, in metres of the map."""
        y, x = np.indices(self.known_us.shape)
        return self.lower_m + (np.stack([x, y], axis=-1) + 0.5) * CELL_M

    def add(self, xyz_m: np.ndarray, height_m: np.ndarray, time_us: int) -> None:
        """Add returns (P, 3) in metres of the map, with their heights (P,) above the road."""
        column, row = np.floor((xyz_m[:, :2] - self.lower_m) / CELL_M).astype(int).T
        kind = np.full(len(xyz_m), ABOVE)
        kind[np.abs(height_m) < LOW_M] = LOW
        kind[(height_m > RAISED_M[0]) & (height_m < RAISED_M[1])] = RAISED
        rows, columns = self.known_us.shape
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        np.add.at(self.counts, (kind[inside], row[inside], column[inside]), 1)
        self.known_us[(self.known_us == 0) & (self.counts.sum(0) >= MIN_RETURNS)] = time_us

    def share(self, kind: int) -> np.ndarray:
        """(Y, X) share of the cell's returns that are of a kind; 0 where there are fewer than five."""
        total = self.counts.sum(0)
        return np.where(total >= MIN_RETURNS, self.counts[kind] / np.maximum(total, 1), 0.0)

    def is_ground(self, kind: int) -> np.ndarray:
        """(Y, X) bool: flat ground, LOW or RAISED. What cars or people stood on is neither."""
        return self.share(kind) >= MIN_SHARE


def accumulate_ground(root: Path, index: NuScenesIndex, scenes: Sequence[int], raster: GroundRaster) -> None:
    """Add every LiDAR turn, sweeps included, of some scenes (numbers in the index) to a raster.

    Raises:
        DataError: no LiDAR file of a scene can be read.
    """
    for scene in scenes:
        drive = read_drive(root, index, scene, reach_m=REACH_M)
        ego_T_lidar = index.ego_T_lidar[np.flatnonzero((index.scene == scene) & index.usable())[0]]
        for turn, time_us in zip(drive.turns, _keyframe_times(drive.turns, index.timestamp_us), strict=True):
            xyz_global = transform_points(drive.global_T_map, turn.scan.xyz_map.astype(np.float64))
            raster.add(xyz_global, road_height(turn.scan.xyz_lidar, ego_T_lidar), time_us)


def road_height(xyz_lidar: np.ndarray, ego_T_lidar: np.ndarray) -> np.ndarray:
    """(P,) height of returns (P, 3) above the road: above the plane of the car's wheels, moved to the returns on its track."""
    x_ego, y_ego, z_ego = transform_points(ego_T_lidar, xyz_lidar.astype(np.float64)).T
    on_track = (np.abs(x_ego) < TRACK_M[0]) & (np.abs(y_ego) < TRACK_M[1]) & (np.abs(z_ego) < TRACK_HEIGHT_M)
    return z_ego - (np.median(z_ego[on_track]) if on_track.any() else 0.0)


def _keyframe_times(turns: Sequence[DriveScan], timestamp_us: np.ndarray) -> list[int]:
    """LiDAR time of the keyframe that each turn belongs to: its own, or for a sweep the one that follows."""
    times, time_us = [], 0
    for turn in reversed(turns):
        time_us = int(timestamp_us[turn.keyframe]) if turn.keyframe >= 0 else time_us
        times.append(time_us)
    return times[::-1]
