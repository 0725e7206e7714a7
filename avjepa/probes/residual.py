"""What the present shows and the past did not expect: the residual between the static scene that past embeddings predict and
the present embedding, cell by cell. Letters: see conventions.py.

    past frames, each embedded alone in the present ego frame -> their mean where observed -> static scene
    present embedding - static scene -> residual, zero where the past or the present does not observe the cell
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from avjepa.bev.cell_states import lidar_cell_states
from avjepa.conventions import OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.jepa.target_encoder import normalised
from avjepa.jepa.world_model import BEVWorldModel, normalise_each
from avjepa.probes.baselines import raw_features
from avjepa.sensors.sample import ClipBatch


@dataclass(frozen=True)
class ResidualView:
    """One item a clip: the present and its residual against the past; without a past, of one frame, the residual is zero.

    Attributes:
        norm_only: give the residual's norm alone, one channel, which needs no label to be a score of motion.
    """

    norm_only: bool = False

    def embed(self, jepa: BEVWorldModel, clips: ClipBatch) -> torch.Tensor:
        """State, present embedding and residual, all normalised; the residual's norm; where it is known: (B, 3 C + 2, Y, X)."""
        clips = jepa.known(clips)
        frames = clips.context_in_now()
        z = jepa.encoder(frames).z.unflatten(0, (clips.shape[0], clips.num_context))  # (B, T, C, Y, X)
        observed = _states(clips, jepa.encoder.grid) != UNOBSERVED
        residual, known = static_residual(z, observed)
        norm = residual.norm(dim=1, keepdim=True) / residual.shape[1] ** 0.5
        if self.norm_only:
            return norm
        return torch.cat(
            [
                normalised(jepa.temporal(*(x[:, -jepa.temporal.num_context :] for x in (z, observed)))),
                normalised(z[:, -1]),
                residual,
                norm,
                known.to(norm),
            ],
            1,
        )

    def raw(self, clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
        """LiDAR channels of the context, and by how much occupancy changed since each past frame: (B, T * 6 + T - 1, Y, X)."""
        change = occupancy_change(_states(clips, grid))
        if self.norm_only:
            return change.abs().sum(1, keepdim=True) / max(1, change.shape[1])
        return torch.cat([raw_features(clips, grid), change], 1)


def static_residual(z: torch.Tensor, observed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Present embedding minus the static scene that the past predicts.

    Args:
        z: (B, T, C, Y, X), each frame embedded alone, all in the present ego frame, the last one the present.
        observed: (B, T, Y, X) bool.

    Returns:
        The residual (B, C, Y, X) of normalised embeddings, and where it is known (B, 1, Y, X), bool: the present and a past
        frame observe the cell. Elsewhere it is zero: what comes into view is new, but need not move.
    """
    each = normalise_each(z)
    past = observed[:, :-1, None].to(each)  # (B, T - 1, 1, Y, X)
    static = normalised((each[:, :-1] * past).sum(1) / past.sum(1).clamp(min=1))
    known = observed[:, -1:] & observed[:, :-1].any(1, keepdim=True)
    return (each[:, -1] - static) * known, known


def occupancy_change(states: torch.Tensor) -> torch.Tensor:
    """Occupied now less occupied then (B, T - 1, Y, X), of states (B, T, Y, X); 0 unless both frames observe the cell."""
    occupied, observed = (states == OCCUPIED).float(), states != UNOBSERVED
    return (occupied[:, -1:] - occupied[:, :-1]) * (observed[:, -1:] & observed[:, :-1])


def _states(clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
    """Cell states (B, T, Y, X) of the context in the present ego frame."""
    return lidar_cell_states(clips.context_in_now(), grid).unflatten(0, (clips.shape[0], -1))
