"""Where the targets come from: an exponential moving average of the encoder (default), or the encoder itself (ablations)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from avjepa.bev.encoder import BEVEncoder, BEVMaps
from avjepa.sensors.sample import FrameBatch


class EMATarget(nn.Module):
    """Teacher = moving average of the encoder, seeing the full, unmasked scene. It never receives a gradient.

    The momentum rises linearly from ``momentum_start`` to 1 over training (I-JEPA, sec. 3). A short schedule needs a fast
    teacher: at .9996 it would hardly move in a thousand steps.
    """

    def __init__(self, momentum_start: float = 0.996) -> None:
        super().__init__()
        if not 0 <= momentum_start <= 1:
            raise ValueError(f"momentum_start must lie in [0, 1], got {momentum_start}")
        self.momentum_start = momentum_start
        self.teacher: BEVEncoder | None = None

    def attach(self, encoder: BEVEncoder) -> None:
        """Start the teacher as a copy of ``encoder``."""
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)

    @torch.no_grad()
    def forward(self, encoder: BEVEncoder, frames: FrameBatch) -> BEVMaps:
        """Raw targets of M frames."""
        return self.teacher(frames)

    def momentum(self, progress: float) -> float:
        """EMA momentum at ``progress`` in [0, 1] of training."""
        return self.momentum_start + (1 - self.momentum_start) * progress

    @torch.no_grad()
    def update(self, encoder: BEVEncoder, progress: float) -> None:
        """Teacher <- m * teacher + (1 - m) * encoder for parameters; buffers are copied."""
        momentum = self.momentum(progress)
        for slow, fast in zip(self.teacher.parameters(), encoder.parameters(), strict=True):
            slow.mul_(momentum).add_(fast.detach(), alpha=1 - momentum)
        for slow, fast in zip(self.teacher.buffers(), encoder.buffers(), strict=True):
            slow.copy_(fast)


class SharedTarget(nn.Module):
    """Targets from the encoder that is being trained. Without a stop-gradient and without a regulariser this collapses; it
    is here for objectives that need no teacher (SIGReg, VICReg) and to show that the alarm works.
    """

    def __init__(self, stop_gradient: bool) -> None:
        super().__init__()
        self.stop_gradient = stop_gradient

    def attach(self, encoder: BEVEncoder) -> None:
        """Nothing to copy."""

    def forward(self, encoder: BEVEncoder, frames: FrameBatch) -> BEVMaps:
        """Raw targets of M frames."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.stop_gradient):
            return encoder(frames)

    def update(self, encoder: BEVEncoder, progress: float) -> None:
        """Nothing to update."""


def normalised(z: torch.Tensor) -> torch.Tensor:
    """LayerNorm over the channels of every cell, without affine (I-JEPA's targets), in float32: (M, C, Y, X)."""
    return F.layer_norm(z.float().movedim(1, -1), z.shape[1:2]).movedim(-1, 1)
