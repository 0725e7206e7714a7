"""Fusion of LiDAR and camera BEV maps; either may be absent for any frame."""

from __future__ import annotations

import torch
from torch import nn


def conv_norm_act(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """3 x 3 convolution, GroupNorm (an EMA teacher copies all of it: no running statistics), GELU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
        nn.GroupNorm(8, out_channels),
        nn.GELU(),
    )


class FuseSensors(nn.Module):
    """Concatenate the maps of both sensors, with a learned token where one is absent, and mix them by two convolutions."""

    def __init__(self, lidar_channels: int, camera_channels: int, out_channels: int) -> None:
        super().__init__()
        self.no_lidar = nn.Parameter(torch.zeros(lidar_channels, 1, 1))
        self.no_camera = nn.Parameter(torch.zeros(camera_channels, 1, 1))
        self.mix = nn.Sequential(
            conv_norm_act(lidar_channels + camera_channels, out_channels),
            conv_norm_act(out_channels, out_channels),
        )

    def forward(
        self,
        lidar_bev: torch.Tensor,
        camera_bev: torch.Tensor,
        lidar_present: torch.Tensor,
        camera_present: torch.Tensor,
    ) -> torch.Tensor:
        """Fuse (M, C_lidar, Y, X) and (M, C_camera, Y, X) into (M, C, Y, X); the flags are (M,) bool."""
        lidar_bev = torch.where(lidar_present[:, None, None, None], lidar_bev, self.no_lidar.to(lidar_bev.dtype))
        camera_bev = torch.where(camera_present[:, None, None, None], camera_bev, self.no_camera.to(camera_bev.dtype))
        return self.mix(torch.cat([lidar_bev, camera_bev], 1))
