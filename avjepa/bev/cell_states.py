"""Occupied / observed free / unobserved BEV cells from LiDAR rays alone: what masks, losses and probe targets are built on.

No label is read. A cell is OCCUPIED when a return lies on something that stands on the ground, FREE when a return lies on
its ground or a ray crosses it low enough that something standing there would have stopped it, and else UNOBSERVED.
Letters: see conventions.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.camera import in_image, project
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import invert, transform_points
from avjepa.sensors.sample import FrameBatch

OBSTACLE_HEIGHT_M = (0.4, 3.0)  # above the local ground: more than a kerb, less than a bridge or a tree's crown
CLEAR_HEIGHT_M = 1.0  # above the ego plane: a ray lower than this would have hit a car or a pedestrian
GROUND_CELL_M = 3.2
GROUND_QUANTILE = 0.05  # not the minimum: multipath returns lie below the road
AZIMUTHS = 720  # polar bins of half a degree; an HDL-32E fires every third of a degree


def cell_states(frames: FrameBatch, grid: BEVGrid) -> torch.Tensor:
    """State of every BEV cell (M, Y, X), uint8: conventions.UNOBSERVED, FREE or OCCUPIED.

    Rays are those of the keyframe's own sweep; older sweeps add occupied cells only. A frame without LiDAR cannot tell
    occupied from free: its cells on the ground inside some camera's view count as FREE, the others as UNOBSERVED.
    """
    lidar_states = lidar_cell_states(frames, grid)
    if bool(frames.lidar_present.all()):
        return lidar_states
    camera_states = torch.where(camera_view(frames, grid), FREE, UNOBSERVED).to(torch.uint8)
    return torch.where(frames.lidar_present[:, None, None], lidar_states, camera_states)


def lidar_cell_states(frames: FrameBatch, grid: BEVGrid) -> torch.Tensor:
    """Cell states (M, Y, X), uint8, from LiDAR only; frames without returns are UNOBSERVED throughout."""
    height_m = height_above_ground(frames, grid)
    low, high = OBSTACLE_HEIGHT_M
    occupied = _any_point(frames, grid, (height_m >= low) & (height_m <= high))
    ground_hit = _any_point(frames, grid, height_m < low)
    observed = ground_hit | cells_crossed_by_rays(frames, grid)

    states = torch.full_like(occupied, UNOBSERVED, dtype=torch.uint8)
    states[observed] = FREE
    states[occupied] = OCCUPIED
    return states


def height_above_ground(frames: FrameBatch, grid: BEVGrid) -> torch.Tensor:
    """Height in metres (P,) of every point above the local ground: a low quantile of z in 3.2 m cells, the lowest of the 3 x 3
    around the point (a cell that holds only a wall has no ground of its own).
    """
    points, frame = frames.points, frames.point_frame
    if not len(points):
        return points.new_zeros(0)
    lower = points.new_tensor([grid.x_range_m[0], grid.y_range_m[0]])
    columns, rows = (math.ceil((upper - lower_) / GROUND_CELL_M) for lower_, upper in (grid.x_range_m, grid.y_range_m))
    column_row = ((points[:, :2] - lower) / GROUND_CELL_M).floor().long()
    column_row = column_row.clamp(
        min=points.new_zeros(2).long(), max=torch.tensor([columns - 1, rows - 1], device=points.device)
    )
    cell = (frame * rows + column_row[:, 1]) * columns + column_row[:, 0]  # (P,)

    # Quantile per cell: order points by (cell, z) and read the right rank of each run.
    order = torch.argsort(points[:, 2], stable=True)
    order = order[torch.argsort(cell[order], stable=True)]
    used, count = torch.unique_consecutive(cell[order], return_counts=True)
    rank = count.cumsum(0) - count + (GROUND_QUANTILE * count).long()
    ground = points.new_full((frames.num_frames * rows * columns,), torch.inf)
    ground[used] = points[order[rank], 2]

    ground = ground.view(frames.num_frames, 1, rows, columns)
    ground = -F.max_pool2d(-ground, 3, stride=1, padding=1)
    return points[:, 2] - ground.reshape(-1)[cell]


def tallest_returns(frames: FrameBatch, grid: BEVGrid) -> torch.Tensor:
    """Height in metres (M, Y, X) above the local ground of the highest return of each cell; 0 where there is none."""
    height_m = height_above_ground(frames, grid).clamp(min=0)
    bev_index, inside = grid.bev_index(frames.points[:, :3])
    tallest = height_m.new_zeros(frames.num_frames, grid.shape_yx[0] * grid.shape_yx[1])
    place = frames.point_frame[inside] * tallest.shape[1] + bev_index[inside]
    tallest.view(-1).scatter_reduce_(0, place, height_m[inside], "amax")
    return tallest.view(-1, *grid.shape_yx)


def cells_crossed_by_rays(frames: FrameBatch, grid: BEVGrid) -> torch.Tensor:
    """Cells (M, Y, X), bool, that a ray of the keyframe's sweep crosses below CLEAR_HEIGHT_M on its way to its return.

    In polar coordinates about the LiDAR each ray covers one interval of range in one azimuth bin; all intervals are
    marked at once by +1 at their start, -1 behind their end, and a running sum along the range.
    """
    own = frames.points[:, 4] == 0
    frame = frames.point_frame[own]
    offset = frames.points[own, :3] - frames.lidar_origin[frame]  # (R, 3)
    range_m = offset[:, :2].norm(dim=-1).clamp(min=1e-3)
    bin_m = grid.cell_m / 2
    reach_m = math.hypot(grid.x_range_m[1] - grid.x_range_m[0], grid.y_range_m[1] - grid.y_range_m[0])
    bins = math.ceil(reach_m / bin_m) + 1

    # The ray is low from where it falls below CLEAR_HEIGHT_M (never, if it does not) up to its return.
    drop_m = frames.lidar_origin[frame, 2] - CLEAR_HEIGHT_M
    slope = -offset[:, 2] / range_m
    low_from_m = torch.where(drop_m > 0, drop_m / slope.clamp(min=1e-6), 0.0)
    start = (low_from_m / bin_m).clamp(max=bins - 1).ceil().long()
    end = (range_m / bin_m).clamp(max=bins - 1).floor().long()
    falls_low = (end >= start) & ((drop_m <= 0) | (slope > 0))

    ray = frame * AZIMUTHS + _azimuth_bin(offset[:, :2])
    crossings = offset.new_zeros(frames.num_frames * AZIMUTHS, bins + 1)
    ones = falls_low.to(crossings)
    crossings.view(-1).index_add_(0, ray * (bins + 1) + start, ones)
    crossings.view(-1).index_add_(0, ray * (bins + 1) + end + 1, -ones)
    crossed = (crossings.cumsum(1) > 0.5)[:, :bins]  # (M * AZIMUTHS, bins)

    # A cell is crossed when one of five places in it is.
    quarter = grid.cell_m / 4
    places = offset.new_tensor(
        [[0, 0], [-quarter, -quarter], [-quarter, quarter], [quarter, -quarter], [quarter, quarter]]
    )
    xy = grid.cell_centres(offset.device)[None, :, :, None] + places - frames.lidar_origin[:, None, None, None, :2]
    place_bin = (xy.norm(dim=-1) / bin_m).floor().long().clamp(max=bins - 1)  # (M, Y, X, 5)
    first_ray = torch.arange(frames.num_frames, device=offset.device)[:, None, None, None] * AZIMUTHS
    return crossed[first_ray + _azimuth_bin(xy), place_bin].any(-1)


def camera_view(frames: FrameBatch, grid: BEVGrid) -> torch.Tensor:
    """Cells (M, Y, X), bool, whose centre on the ego plane (z = 0) lies inside the image of a present camera."""
    centres = F.pad(grid.cell_centres(frames.images.device).view(-1, 2), (0, 1))  # (Y * X, 3)
    xyz_cam = transform_points(invert(frames.bev_T_cam), centres.expand(*frames.bev_T_cam.shape[:2], -1, -1))
    uv_px, depth_m = project(frames.pix_T_cam, xyz_cam)  # (M, N, Y * X, ...)
    seen = in_image(uv_px, depth_m, *frames.images.shape[-2:]) & frames.camera_present[..., None]
    return seen.any(1).view(-1, *grid.shape_yx)


def _any_point(frames: FrameBatch, grid: BEVGrid, chosen: torch.Tensor) -> torch.Tensor:
    """(M, Y, X), bool: a chosen point (P,) lies in the cell."""
    bev_index, inside = grid.bev_index(frames.points[:, :3])
    hit = torch.zeros(frames.num_frames, grid.shape_yx[0] * grid.shape_yx[1], dtype=torch.bool, device=chosen.device)
    use = chosen & inside
    hit[frames.point_frame[use], bev_index[use]] = True
    return hit.view(-1, *grid.shape_yx)


def _azimuth_bin(xy: torch.Tensor) -> torch.Tensor:
    """Azimuth bin (...) in [0, AZIMUTHS) of directions (..., 2)."""
    turn = torch.atan2(xy[..., 1], xy[..., 0]) / (2 * math.pi) + 0.5
    return (turn * AZIMUTHS).floor().long().clamp(0, AZIMUTHS - 1)
