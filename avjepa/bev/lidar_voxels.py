"""Dynamic mean voxelisation in plain torch: every point counts, no cap on points or voxels. Letters: see conventions.py."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from avjepa.geometry.grid import BEVGrid

# Mean offset to the voxel centre (x, y, z; in voxels), mean height (in units of 2 m), mean intensity, mean age (s), log1p(count).
NUM_FEATURES = 7


@dataclass(frozen=True)
class Voxels:
    """Occupied voxels of M frames.

    Attributes:
        features: (V, NUM_FEATURES) float32.
        indices: (V, 4) int32, (frame, iz, iy, ix), in ascending order.
        num_frames: M; frames without voxels are legal.
    """

    features: torch.Tensor
    indices: torch.Tensor
    num_frames: int


def voxelise_mean(points: torch.Tensor, point_frame: torch.Tensor, grid: BEVGrid, num_frames: int) -> Voxels:
    """Mean features of the points of every occupied voxel.

    Absolute x and y are no features, so a scene moved by whole voxels gives the same features at moved places.

    Args:
        points: (P, 5) columns as in conventions.POINT_COLUMNS, in the ego frame of the grid.
        point_frame: (P,) int64, the frame of each point.
        grid: the voxel grid; points outside it, or not finite, are left out.
        num_frames: M.
    """
    index_zyx, inside = grid.cell_index(points[:, :3])
    points, index_zyx, frame = points[inside], index_zyx[inside], point_frame[inside]
    depth, rows, columns = grid.shape_zyx
    key = ((frame * depth + index_zyx[:, 0]) * rows + index_zyx[:, 1]) * columns + index_zyx[
        :, 2
    ]  # int64: cannot overflow
    key, voxel, count = torch.unique(
        key, return_inverse=True, return_counts=True
    )  # sorted, so the order is reproducible

    lower = points.new_tensor([grid.x_range_m[0], grid.y_range_m[0], grid.z_range_m[0]])
    cell = points.new_tensor([grid.cell_m, grid.cell_m, grid.cell_z_m])
    offset = (points[:, :3] - lower) / cell - index_zyx.flip(-1) - 0.5
    per_point = torch.cat([offset, points[:, 2:3] / 2, points[:, 3:5]], 1)  # (P, 6)
    total = per_point.new_zeros(len(key), per_point.shape[1]).index_add(0, voxel, per_point)
    features = torch.cat([total / count[:, None], count[:, None].to(total).log1p()], 1)
    indices = torch.stack(
        [key // (depth * rows * columns), key // (rows * columns) % depth, key // columns % rows, key % columns], 1
    )
    return Voxels(features, indices.int(), num_frames)
