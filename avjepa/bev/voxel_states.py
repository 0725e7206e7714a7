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
    crossed = torch.zeros(num_frames, *grid.shape_zyx, dtype=torch.bool, device=ends.device)
    if not len(ends):
        return crossed  # of a LiDAR that may not even have a place
    edge_m = min(grid.cell_m, grid.cell_z_m)
    length_m, order = (ends - origins).norm(dim=1).sort(descending=True)
    origins, ray_frame = origins[order], ray_frame[order]
    unit = (ends[order] - origins) / length_m[:, None].clamp(min=1e-6)
    corners = origins.new_tensor([grid.x_range_m, grid.y_range_m, grid.z_range_m])  # (3, 2)
    reach_m = float((corners - origins[..., None]).abs().amax((0, 2)).norm())
    for distance_m in torch.arange(edge_m / 2, reach_m, edge_m / 2).tolist():
        longer = int((length_m > distance_m + edge_m).sum())  # the longest come first
        if not longer:
            break
        index_zyx, inside = grid.cell_index(origins[:longer] + unit[:longer] * distance_m)
        crossed[(ray_frame[:longer][inside], *index_zyx[inside].unbind(-1))] = True
    return crossed
