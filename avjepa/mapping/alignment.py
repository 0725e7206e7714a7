"""Laying one traversal on another: a small rigid correction (x, y, yaw) of its recorded poses, where that is surely better.

What stands still above the ground is reduced to one point per BEV cell (``Structure``). The correction is the maximum a
posteriori one: point-to-line ICP in the plane (Censi, "An ICP variant using a point-to-line metric", ICRA 2008) with a prior that
recorded poses are good to PRIOR_M and PRIOR_RAD, so that a street whose walls all run one way is not moved along them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from avjepa.geometry.rigid import transform_from_se2
from avjepa.mapping.drive_turns import MapTurn
from avjepa.mapping.voxel_tiles import VoxelSums

CELL_M = 0.2
HEIGHT_M = (0.5, 4.0)  # above the ground: walls, poles, trunks, parked cars
LEAST_TURNS = 2  # what only one turn saw at a place may be moving
NEIGHBOURS = 8  # of a point, which make its line
GATES_M = (1.5, 1.0, 0.7, 0.5, *(0.4,) * 16)  # of the steps: how far a point may lie from its partner
BLOCK_M = 10.0  # residuals of a block are one observation: those of neighbouring points are not independent
LEAST_BLOCKS, LEAST_BLOCK_POINTS = 6, 10
RESIDUAL_M, PRIOR_M, PRIOR_RAD = 0.2, 0.5, np.deg2rad(0.5)
MOST_M, MOST_RAD = 1.0, np.deg2rad(1.0)
LEAST_SIGMAS, LEAST_GAIN = 3.0, 0.1


@dataclass(frozen=True)
class Alignment:
    """What was found.

    Attributes:
        applied: whether the poses are to be corrected.
        reason: why not; empty where they are.
        dx_m, dy_m, dyaw_rad: the correction: turn about ``pivot_m``, then move.
        pivot_m: (x, y) in the map frame, the middle of the overlap.
        before_m, after_m: mean distance of points from the reference, none counting more than the last gate.
        sigmas: the gain over blocks of 10 m in its standard errors.
        blocks: how many of them the traversals share.
    """

    applied: bool
    reason: str
    dx_m: float = 0.0
    dy_m: float = 0.0
    dyaw_rad: float = 0.0
    pivot_m: tuple[float, float] = (0.0, 0.0)
    before_m: float = float("nan")
    after_m: float = float("nan")
    sigmas: float = 0.0
    blocks: int = 0

    @property
    def map_T_recorded(self) -> np.ndarray:
        """(4, 4) correction, whether it is applied or not."""
        middle = transform_from_se2(*self.pivot_m, 0.0)
        move = transform_from_se2(self.dx_m, self.dy_m, self.dyaw_rad)
        return middle @ move @ transform_from_se2(-self.pivot_m[0], -self.pivot_m[1], 0.0)

    def record(self) -> dict[str, Any]:
        """For JSON: numbers that are not there are None."""
        return {key: None if value != value else value for key, value in asdict(self).items()}


class Structure:
    """What stands above the ground, one point per cell.

    Args:
        folder: working storage.
    """

    def __init__(self, folder: Path) -> None:
        # By cell: turns that saw it, and the sum over them of the mean place (x, y) of their returns inside the cell.
        self.cells = VoxelSums(folder, CELL_M, channels=3)

    def add(self, turn: MapTurn) -> None:
        """Add a turn."""
        standing = (turn.height_m > HEIGHT_M[0]) & (turn.height_m < HEIGHT_M[1])
        xy_m = turn.xyz_map[standing, :2]
        cells, cell_of, count = np.unique(
            np.floor(xy_m / CELL_M).astype(np.int64), axis=0, return_inverse=True, return_counts=True
        )
        offset_m = xy_m - np.floor(xy_m / CELL_M) * CELL_M
        means = [np.bincount(cell_of.reshape(-1), axis, len(cells)) / count for axis in offset_m.T]
        self.cells.add(np.pad(cells, ((0, 0), (0, 1))), np.stack([np.ones(len(cells)), *means], 1))

    def points(self, least_turns: int = LEAST_TURNS) -> np.ndarray:
        """(n, 2) in the map frame, of the cells that enough turns saw."""
        parts = [np.zeros((0, 2))]
        for cells, sums in self.cells.tiles():
            often = sums[:, 0] >= least_turns
            parts.append(cells[often, :2] * CELL_M + sums[often, 1:].astype(np.float64) / sums[often, :1])
        return np.concatenate(parts)


class LaidStructures:
    """What has been laid so far: one point per cell, that of the earliest traversal; in tiles on disk.

    Args:
        folder: working storage.
    """

    def __init__(self, folder: Path) -> None:
        self.cells = VoxelSums(folder, CELL_M, channels=3)  # 1, and the point's place (x, y) inside the cell

    def add(self, xy_m: np.ndarray) -> None:
        """Lay a structure (n, 2), map frame."""
        cells, first = np.unique(_cells_of(xy_m), axis=0, return_index=True)
        is_new = self.cells.read(cells)[:, 0] == 0
        cells, xy_m = cells[is_new], xy_m[first[is_new]]
        self.cells.add(cells, np.column_stack([np.ones(len(cells)), xy_m - cells[:, :2] * CELL_M]))

    def near(self, xy_m: np.ndarray) -> np.ndarray:
        """(m, 2) the points in the tiles around positions (n, 2), map frame."""
        tiles = self.cells.tiles(_cells_of(xy_m))
        return np.concatenate([np.zeros((0, 2)), *(cells[:, :2] * CELL_M + sums[:, 1:] for cells, sums in tiles)])


def align(moved_xy_m: np.ndarray, reference_xy_m: np.ndarray) -> Alignment:
    """The correction that lays one traversal's structure (n, 2) on another's (m, 2), both in the map frame."""
    if len(reference_xy_m) < NEIGHBOURS or not len(moved_xy_m):
        return Alignment(False, "no overlap")
    tree = cKDTree(reference_xy_m)
    near = tree.query(moved_xy_m, distance_upper_bound=GATES_M[0])[0] < np.inf
    overlap_xy_m = moved_xy_m[near]
    blocks = _blocks(overlap_xy_m)
    if len(np.unique(blocks[blocks >= 0])) < LEAST_BLOCKS:
        return Alignment(False, "too little overlap", blocks=len(np.unique(blocks[blocks >= 0])))
    pivot_m = overlap_xy_m.mean(0)
    dx_m, dy_m, dyaw_rad = _register(overlap_xy_m - pivot_m, reference_xy_m - pivot_m, int(blocks.max()) + 1)

    shifted_xy_m = _moved(overlap_xy_m - pivot_m, dx_m, dy_m, dyaw_rad) + pivot_m
    before_m, after_m = (np.minimum(tree.query(xy_m)[0], GATES_M[-1]) for xy_m in (overlap_xy_m, shifted_xy_m))
    counted = blocks >= 0
    size = np.bincount(blocks[counted])
    gains_m = np.bincount(blocks[counted], (before_m - after_m)[counted]) / size
    error_m = gains_m.std(ddof=1) / np.sqrt(len(gains_m))
    sigmas = float(gains_m.mean() / error_m) if error_m > 0 else 0.0
    reason = ""
    if np.hypot(dx_m, dy_m) >= MOST_M or abs(dyaw_rad) >= MOST_RAD:
        reason = "the correction is larger than poses are off"
    elif sigmas < LEAST_SIGMAS or after_m.mean() > (1 - LEAST_GAIN) * before_m.mean():
        reason = "not significantly better than the recorded poses"
    return Alignment(
        applied=not reason,
        reason=reason,
        dx_m=float(dx_m),
        dy_m=float(dy_m),
        dyaw_rad=float(dyaw_rad),
        pivot_m=(float(pivot_m[0]), float(pivot_m[1])),
        before_m=float(before_m.mean()),
        after_m=float(after_m.mean()),
        sigmas=sigmas,
        blocks=len(gains_m),
    )


def _register(xy_m: np.ndarray, reference_xy_m: np.ndarray, blocks: int) -> np.ndarray:
    """(dx, dy, dyaw) about the origin by Gauss-Newton steps on point-to-line distances."""
    tree, normals = cKDTree(reference_xy_m), _normals(reference_xy_m)
    # The points of a block are worth one observation of its surface in each direction.
    weight = 2 * blocks / len(xy_m) / RESIDUAL_M**2
    prior = np.array([PRIOR_M, PRIOR_M, PRIOR_RAD]) ** -2.0
    pose = np.zeros(3)
    for gate_m in GATES_M:
        moved = _moved(xy_m, *pose)
        distance_m, partner = tree.query(moved, distance_upper_bound=gate_m)
        there = distance_m < np.inf
        if not there.any():
            break
        moved, partner = moved[there], partner[there]
        normal = normals[partner]
        residual_m = ((reference_xy_m[partner] - moved) * normal).sum(1)
        lever = normal[:, 1] * (moved[:, 0] - pose[0]) - normal[:, 0] * (moved[:, 1] - pose[1])
        jacobian = np.column_stack([normal, lever])
        information = weight * jacobian.T @ jacobian + np.diag(prior)
        pose = pose + np.linalg.solve(information, weight * jacobian.T @ residual_m - prior * pose)
    return pose


def _normals(xy_m: np.ndarray) -> np.ndarray:
    """(n, 2) unit normals of the lines through each point and its neighbours."""
    _, around = cKDTree(xy_m).query(xy_m, k=NEIGHBOURS)
    offset = xy_m[around] - xy_m[around].mean(1, keepdims=True)
    return np.linalg.eigh(np.einsum("nki,nkj->nij", offset, offset))[1][:, :, 0]  # least spread comes first


def _cells_of(xy_m: np.ndarray) -> np.ndarray:
    """(n, 3) cells of positions (n, 2) as voxels of one layer."""
    return np.pad(np.floor(xy_m / CELL_M).astype(np.int64), ((0, 0), (0, 1)))


def _moved(xy_m: np.ndarray, dx_m: float, dy_m: float, dyaw_rad: float) -> np.ndarray:
    cos, sin = np.cos(dyaw_rad), np.sin(dyaw_rad)
    return xy_m @ np.array([[cos, sin], [-sin, cos]]) + [dx_m, dy_m]


def _blocks(xy_m: np.ndarray) -> np.ndarray:
    """Number of each point's block (n,), counted from 0; -1 in blocks of few points."""
    if not len(xy_m):
        return np.zeros(0, np.int64)
    _, block, count = np.unique(np.floor(xy_m / BLOCK_M), axis=0, return_inverse=True, return_counts=True)
    enough = count >= LEAST_BLOCK_POINTS
    number = np.where(enough, np.cumsum(enough) - 1, -1)
    return number[block.reshape(-1)]
