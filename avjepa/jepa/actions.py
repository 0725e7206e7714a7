"""Future embeddings under a candidate ego trajectory: what the world would look like from there. Letters: see conventions.py."""

from __future__ import annotations

import torch

from avjepa.jepa.model import BEVJEPA


def predict_under(
    jepa: BEVJEPA, state: torch.Tensor, frame_T_now: torch.Tensor, dt_s: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predict where the car would be, and when, on K poses of a candidate trajectory for each of B scenes.

    Each pose is predicted from the present on its own, in one step, so that K need not be the number of trained horizons and
    the poses need no order. The scene is encoded once for any number of trajectories.

    Args:
        jepa: the world model.
        state: (B, C, Y, X), the scene now, in the present ego frame: the first result of ``jepa.encode_context(clips)``.
        frame_T_now: (B, K, 4, 4), from the present ego frame to the ego frame of each pose; a pose of the car in the present
            ego frame is ``now_T_frame``, so give its inverse. ``clips.frame_T_now()`` is the trajectory that was driven.
        dt_s: (B, K), seconds from now to each pose.

    Returns:
        Raw embeddings (B, K, C, Y, X), each in the ego frame of its pose (``normalise_each`` makes them comparable with
        targets), and the cells (B, K, Y, X), bool, that the present map covers.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    batch, poses = frame_T_now.shape[:2]
    if state.ndim != 4 or frame_T_now.shape != (len(state), poses, 4, 4) or dt_s.shape != (len(state), poses):
        shapes = [tuple(x.shape) for x in (state, frame_T_now, dt_s)]
        raise ValueError(f"want (B, C, Y, X), (B, K, 4, 4) and (B, K), got {shapes[0]}, {shapes[1]} and {shapes[2]}")
    raw, overlap = jepa.predictor(state.repeat_interleave(poses, 0), frame_T_now.flatten(0, 1), dt_s.flatten())
    return raw.unflatten(0, (batch, poses)), overlap[:, 0].unflatten(0, (batch, poses))
