"""Small hand-made FrameBatches for tests of the BEV encoder."""

from __future__ import annotations

import torch

from avjepa.sensors.sample import FrameBatch

LIDAR_ORIGIN = (0.0, 0.0, 1.8)


def lidar_frames(clouds: list[list[tuple[float, ...]]] | list[torch.Tensor], cameras: int = 0) -> FrameBatch:
    """Frames of points (x, y, z), seen from a LiDAR 1.8 m above the ego origin, with black images."""
    points = [torch.as_tensor(cloud, dtype=torch.float32).reshape(-1, 3) for cloud in clouds]
    frames = len(points)
    xyz = torch.cat(points)
    return FrameBatch(
        points=torch.cat([xyz, torch.full((len(xyz), 1), 0.3), torch.zeros(len(xyz), 1)], 1),
        point_frame=torch.arange(frames).repeat_interleave(torch.tensor([len(cloud) for cloud in points])),
        lidar_present=torch.ones(frames, dtype=torch.bool),
        lidar_origin=torch.tensor(LIDAR_ORIGIN).expand(frames, 3),
        images=torch.zeros(frames, cameras, 3, 32, 64, dtype=torch.uint8),
        pix_T_cam=torch.tensor([[40.0, 0, 31.5], [0, 40, 15.5], [0, 0, 1]]).expand(frames, cameras, 3, 3),
        bev_T_cam=looking(0.0).expand(frames, cameras, 4, 4),
        camera_present=torch.ones(frames, cameras, dtype=torch.bool),
    )


def looking(yaw_rad: float) -> torch.Tensor:
    """``bev_T_cam`` (4, 4) of a level camera 1.5 m above the ego origin, looking along ``yaw_rad``."""
    yaw = torch.tensor(yaw_rad)
    bev_T_cam = torch.eye(4)
    turn = torch.tensor([[yaw.cos(), -yaw.sin(), 0], [yaw.sin(), yaw.cos(), 0], [0, 0, 1]])
    bev_T_cam[:3, :3] = turn @ torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    bev_T_cam[2, 3] = 1.5
    return bev_T_cam


def ground(spacing_m: float = 0.4, half_m: float = 6.0, height=lambda x, y: 0.0 * x) -> torch.Tensor:
    """Returns on the ground (P, 3), at every ``spacing_m``."""
    axis = torch.arange(-half_m + spacing_m / 2, half_m, spacing_m)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y, height(x, y)], -1).view(-1, 3)


def post(x: float, y: float, low_m: float = 0.1, high_m: float = 2.0, returns: int = 10) -> torch.Tensor:
    """Returns (returns, 3) one above the other."""
    z = torch.linspace(low_m, high_m, returns)
    return torch.stack([torch.full_like(z, x), torch.full_like(z, y), z], -1)
