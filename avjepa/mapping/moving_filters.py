"""What moves in the turns of several drives, so that a static map can do without it.

A filter first observes every turn, then judges each: two passes over the drives with one turn in memory at a time. What a filter
keeps in between grows with the area, not with the turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from avjepa.bev.voxel_states import crossed_voxels
from avjepa.geometry.grid import BEVGrid
from avjepa.mapping.drive_turns import MapTurn
from avjepa.mapping.voxel_tiles import VoxelSums
from avjepa.probes.dufomap_baseline import DufomapSettings, DufomapSpace


class MovingFilter(Protocol):
    """Says which returns move."""

    def observe(self, turn: MapTurn) -> None:
        """Learn from a turn."""

    def judge(self, turn: MapTurn) -> np.ndarray | None:
        """(P,) bool, after all turns were observed; None for a turn about which the filter knows nothing."""


class NoFilter:
    """Everything stays."""

    def observe(self, turn: MapTurn) -> None:
        """Nothing to learn."""

    def judge(self, turn: MapTurn) -> np.ndarray:
        """(P,) bool."""
        return np.zeros(len(turn.xyz_map), dtype=bool)


@dataclass(frozen=True)
class RaySettings:
    """Settings of :class:`RayFilter`.

    Attributes:
        voxel_m: edge of a voxel.
        reach_m: rays say nothing of voxels further from the LiDAR in x or y; whole voxels.
        below_m, above_m: nor of voxels so far below or above the LiDAR.
        hit, miss: log-odds of a turn with a return in the voxel, and of one that looked through it.
        ground_m: returns lower than this above their local ground stay; rays graze the ground.
    """

    voxel_m: float = 0.2
    reach_m: float = 40.0
    below_m: float = 3.0
    above_m: float = 3.0
    hit: float = 0.2
    miss: float = -0.4
    ground_m: float = 0.3


class RayFilter:
    """A return moves if its voxel was looked through rather than hit, over all turns of all drives.

    Log-odds as in OctoMap (Hornung et al., Autonomous Robots 2013, section 3.3), summed and thus in any order. A turn looks through
    a voxel if a ray crosses it on its way to its return and none of the turn's returns lies in the 27 voxels around: what is
    there would be crossed at its rim by rays that pass or graze it.

    Args:
        folder: working storage.
        settings: of the filter.
    """

    def __init__(self, folder: Path, settings: RaySettings) -> None:
        self.settings = settings
        self.evidence = VoxelSums(folder, settings.voxel_m, channels=2)  # turns that hit, turns that looked through

    def observe(self, turn: MapTurn) -> None:
        """Add what a turn hit and looked through."""
        zero, hit, through = _hit_and_crossed(turn, self.settings)
        for seen, values in ((hit, (1.0, 0.0)), (through, (0.0, 1.0))):
            voxels = seen.nonzero().flip(1).numpy() + zero
            self.evidence.add(voxels, np.broadcast_to(np.float32(values), (len(voxels), 2)))

    def judge(self, turn: MapTurn) -> np.ndarray:
        """(P,) bool."""
        hits, misses = self.evidence.read(self.evidence.voxels_of(turn.xyz_map)).T
        seen_through = hits * self.settings.hit + misses * self.settings.miss < 0
        return seen_through & (turn.height_m >= self.settings.ground_m)


class DufomapFilter:
    """DUFOMap, which is an optional package; see probes/dufomap_baseline.py.

    Raises:
        ConfigError: the package is not installed.
    """

    def __init__(self, settings: DufomapSettings) -> None:
        self.space = DufomapSpace(settings)

    def observe(self, turn: MapTurn) -> None:
        """Integrate a turn."""
        self.space.observe(turn.drive_scan.scan)

    def judge(self, turn: MapTurn) -> np.ndarray:
        """(P,) bool."""
        return self.space.dynamic(turn.drive_scan.scan)


class KnownAnswers:
    """What another method, such as a trained probe, said of keyframes before.

    Args:
        moving: by keyframe's token, (P,) bool of the returns that scans.py keeps.
    """

    def __init__(self, moving: dict[str, np.ndarray]) -> None:
        self.moving = moving

    def observe(self, turn: MapTurn) -> None:
        """Nothing to learn."""

    def judge(self, turn: MapTurn) -> np.ndarray | None:
        """(P,) bool; None for sweeps and for keyframes that the method left out."""
        return self.moving.get(turn.token)


def _hit_and_crossed(turn: MapTurn, settings: RaySettings) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Voxel (3,) where the volumes begin, and (Z, Y, X) bool: holds a return; is looked through."""
    edge_m = settings.voxel_m
    middle = np.floor(turn.lidar_m / edge_m).astype(np.int64)
    across, below, above = (round(m / edge_m) for m in (settings.reach_m, settings.below_m, settings.above_m))
    x_m = (-across * edge_m, across * edge_m)
    grid = BEVGrid(x_m, x_m, (-below * edge_m, above * edge_m), edge_m, edge_m)
    ends = torch.from_numpy((turn.xyz_map - middle * edge_m).astype(np.float32))
    origin = torch.from_numpy((turn.lidar_m - middle * edge_m).astype(np.float32)).expand_as(ends)
    (crossed,) = crossed_voxels(origin, ends, torch.zeros(len(ends), dtype=torch.long), 1, grid)
    hit = torch.zeros_like(crossed)
    index_zyx, inside = grid.cell_index(ends)
    hit[tuple(index_zyx[inside].unbind(-1))] = True
    return middle - [across, across, below], hit, crossed & ~_with_neighbours(hit)


def _with_neighbours(voxels: torch.Tensor) -> torch.Tensor:
    """(Z, Y, X) bool: the voxel or one of the 26 around it is set."""
    for axis in range(3):
        grown, size = voxels.clone(), voxels.shape[axis] - 1
        grown.narrow(axis, 1, size).logical_or_(voxels.narrow(axis, 0, size))
        grown.narrow(axis, 0, size).logical_or_(voxels.narrow(axis, 1, size))
        voxels = grown
    return voxels
