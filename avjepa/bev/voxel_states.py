"""Occupied / observed free / unobserved voxels from LiDAR rays alone: cell_states.py, height by height.

No label is read. A column of cell_states.py is free when a low ray crosses it, although nobody may have looked at what hangs above;
here every voxel answers for itself. Letters: see conventions.py.
"""

from __future__ import annotations

import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.sensors.sample import FrameBatch


def voxel_states(frames: FrameBatch, grid: BEVGrid) -> torch.Tensor:
    """State of every voxel (M, Z, Y, X), uint8: conventions.UNOBSERVED, FREE or OCCUPIED.

    OCCUPIED holds a return of any sweep. FREE holds none, and a ray of the keyframe's own sweep crosses it. All else, and every
    voxel of a frame without LiDAR, is UNOBSERVED.
    """
    own = frames.points[:, 4] == 0
    ray_frame, ends = frames.point_frame[own], frames.points[own, :3]
    crossed = crossed_voxels(frames.lidar_origin[ray_frame], ends, ray_frame, frames.num_frames, grid)
    states = torch.where(crossed, FREE, UNOBSERVED).to(torch.uint8)
    index_zyx, inside = grid.cell_index(frames.points[:, :3])
    states[(frames.point_frame[inside], *index_zyx[inside].unbind(-1))] = OCCUPIED
    return states


def crossed_voxels(
    origins: torch.Tensor, ends: torch.Tensor, ray_frame: torch.Tensor, num_frames: int, grid: BEVGrid
) -> torch.Tensor:
    """Voxels (M, Z, Y, X), bool, that rays from ``origins`` (R, 3) to ``ends`` (R, 3) of frames ``ray_frame`` (R,) cross.

    A ray is read every half edge of a voxel, the shortest edge, and not in the last edge before its return: there is the surface,
    and thin things before it.
    """
    size_z, size_y, size_x = grid.shape_zyx
    voxels = size_z * size_y * size_x
    crossed = torch.zeros(num_frames * voxels + 1, dtype=torch.bool, device=ends.device)  # the last: outside
    if not len(ends):
        return crossed[:-1].view(num_frames, *grid.shape_zyx)  # of a LiDAR that may not even have a place
    edge_m = min(grid.cell_m, grid.cell_z_m)
    length_m = (ends - origins).norm(dim=1)
    unit = (ends - origins) / length_m[:, None].clamp(min=1e-6)
    bounds = origins.new_tensor([grid.x_range_m, grid.y_range_m, grid.z_range_m])  # (3, 2)

    # A ray is read to its last edge, or to where it leaves the grid for good: the farther of two walls, on the first axis.
    walls_m = (bounds - origins[..., None]) / torch.where(unit == 0, 1e-12, unit)[..., None]  # (R, 3, 2)
    leaves_m = walls_m.amax(2).amin(1) + edge_m
    reach_m, order = torch.minimum(length_m - edge_m, leaves_m).nan_to_num(0.0).sort(descending=True)
    origins, unit = origins[order].T.contiguous(), unit[order].T.contiguous()  # (3, R)
    first_voxel = ray_frame[order] * voxels

    # The rays that reach farthest come first. As grid.cell_index(), axis by axis: this is the costliest step of grounding.
    lower, cell = bounds[:, :1], origins.new_tensor([[grid.cell_m], [grid.cell_m], [grid.cell_z_m]])
    size_xyz = origins.new_tensor([[size_x], [size_y], [size_z]])
    distances_m = torch.arange(edge_m / 2, max(float(reach_m[0]), edge_m / 2), edge_m / 2)
    reaching = torch.searchsorted(-reach_m.cpu(), -distances_m)
    for distance_m, rays in zip(distances_m.tolist(), reaching.tolist(), strict=True):
        index = (origins[:, :rays] + unit[:, :rays] * distance_m).sub_(lower).div_(cell).floor_()
        inside = ((index >= 0) & (index < size_xyz)).all(0)
        x, y, z = index.long()
        crossed[torch.where(inside, first_voxel[:rays] + (z * size_y + y) * size_x + x, num_frames * voxels)] = True
    return crossed[:-1].view(num_frames, *grid.shape_zyx)
