"""Context over time, and the prediction of masked and future BEV maps: warp by ego-motion, then add a learned residual.

Letters: see conventions.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avjepa.bev.fuse import conv_norm_act
from avjepa.geometry.ego_motion import motion_vector, warp_bev
from avjepa.geometry.grid import BEVGrid

# Brings (dx, dy, dyaw, dt) of a two-second step at city speed to order one: 10 m, 10 m, half a radian, 2 s.
MOTION_SCALE = (0.1, 0.1, 2.0, 0.5)


class TemporalContext(nn.Module):
    """State of the scene now: in each cell the newest embedding that observed it, plus a residual read from all T context frames
    (zero at the start).

    All frames are in the present ego frame, so a static thing is at the same cell in each and a mover is not. What the present
    does not see is remembered from the first step on; the residual need not learn to carry it.
    """

    def __init__(self, channels: int, num_context: int) -> None:
        super().__init__()
        self.num_context = num_context
        self.mix = nn.Sequential(
            conv_norm_act(channels * num_context, channels),
            conv_norm_act(channels, channels, dilation=2),
        )
        self.residual = zero_initialised(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, z: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """State (B, C, Y, X).

        Args:
            z: (B, T, C, Y, X) context embeddings, the last of them the present.
            observed: (B, T, Y, X) bool, cells that each frame observed.
        """
        return newest_observed(z, observed) + self.residual(self.mix(z.flatten(1, 2)))


def newest_observed(z: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """The newest of T embeddings (B, T, C, Y, X) that observed each cell (B, T, Y, X); where none did, the present one."""
    newest = z[:, -1]
    is_found = observed[:, -1]
    for z_frame, is_observed in zip(z[:, :-1].flip(1).unbind(1), observed[:, :-1].flip(1).unbind(1), strict=True):
        newest = torch.where((is_observed & ~is_found)[:, None], z_frame, newest)
        is_found = is_found | is_observed
    return newest


class WarpPredictor(nn.Module):
    """Predicts the BEV embedding of another moment: ``warp(state) + residual(warp(state), motion)``, the residual zero at
    the start, so that training begins at persistence-by-warp. A present masked cell is the case of no motion.
    """

    def __init__(
        self, grid: BEVGrid, channels: int, hidden_channels: int, dilations: tuple[int, ...] = (1, 2, 4, 1)
    ) -> None:
        super().__init__()
        self.grid = grid
        self.enter = nn.Conv2d(channels + 1, hidden_channels, 1)
        self.blocks = nn.ModuleList(FiLMBlock(hidden_channels, dilation) for dilation in dilations)
        self.motion = nn.Sequential(
            nn.Linear(4, hidden_channels), nn.GELU(), nn.Linear(hidden_channels, hidden_channels), nn.GELU()
        )
        self.residual = zero_initialised(nn.Conv2d(hidden_channels, channels, 3, padding=1))
        self.register_buffer("motion_scale", torch.tensor(MOTION_SCALE), persistent=False)

    def forward(
        self, state: torch.Tensor, dst_T_src: torch.Tensor, dt_s: torch.Tensor, code: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Prediction (B, C, Y, X) in frame dst, and the overlap (B, 1, Y, X) of both frames' maps.

        Args:
            state: (B, C, Y, X) in frame src.
            dst_T_src: (B, 4, 4), the true or a candidate ego-motion.
            dt_s: (B,), seconds from src to dst.
            code: (B, hidden channels), which of several futures; None for the one that is expected.
        """
        warped, overlap = warp_bev(state, dst_T_src, self.grid)
        motion = self.motion(motion_vector(dst_T_src, dt_s) * self.motion_scale)
        if code is not None:
            motion = motion + code
        x = self.enter(torch.cat([warped, overlap.to(warped.dtype)], 1))
        for block in self.blocks:
            x = block(x, motion)
        return warped + self.residual(x), overlap


class FiLMBlock(nn.Module):
    """Residual block whose features are scaled and shifted by the motion (FiLM, Perez et al. 2018)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.film = nn.Linear(channels, 2 * channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        """(B, C, Y, X) given motion features (B, C)."""
        scale, shift = self.film(motion)[..., None, None].chunk(2, 1)
        h = F.gelu(self.norm(x) * (1 + scale) + shift)
        return x + self.out(F.gelu(self.conv(h)))


def zero_initialised(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weight and bias zero, so that the branch it closes starts as nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
