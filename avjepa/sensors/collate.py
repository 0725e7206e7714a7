"""Clips to one batch of tensors. Letters: see conventions.py."""

from __future__ import annotations

import numpy as np
import torch

from avjepa.geometry.rigid import invert
from avjepa.sensors.sample import Clip, ClipBatch


def collate_clips(clips: list[Clip]) -> ClipBatch:
    """A batch of clips of equal length; relative poses are taken in float64, where map coordinates keep their millimetres.

    Raises:
        ValueError: no clip, or clips of different lengths.
    """
    if len({(len(clip.frames), clip.num_context) for clip in clips}) != 1:
        raise ValueError(f"want clips of one length, got {[(len(clip.frames), clip.num_context) for clip in clips]}")
    frames = [frame for clip in clips for frame in clip.frames]
    shape = (len(clips), len(clips[0].frames))

    def stacked(values: list) -> torch.Tensor:
        return torch.stack([torch.as_tensor(value) for value in values]).unflatten(0, shape)

    now_T_frame = [invert(clip.now.global_T_ego) @ frame.global_T_ego for clip in clips for frame in clip.frames]
    time_s = [(frame.timestamp_us - clip.now.timestamp_us) * 1e-6 for clip in clips for frame in clip.frames]
    counts = torch.tensor([len(frame.points_ego) for frame in frames])
    return ClipBatch(
        points=torch.cat([frame.points_ego for frame in frames]),
        point_frame=torch.arange(len(frames)).repeat_interleave(counts),
        lidar_present=stacked([frame.lidar_present for frame in frames]),
        lidar_origin=stacked([frame.lidar_origin_ego for frame in frames]),
        images=stacked([frame.images for frame in frames]),
        pix_T_cam=stacked([frame.pix_T_cam.astype(np.float32) for frame in frames]),
        ego_T_cam=stacked([frame.ego_T_cam.astype(np.float32) for frame in frames]),
        camera_present=stacked([frame.camera_present for frame in frames]),
        now_T_frame=stacked([matrix.astype(np.float32) for matrix in now_T_frame]),
        time_s=torch.tensor(time_s, dtype=torch.float32).view(shape),
        num_context=clips[0].num_context,
        tokens=tuple(tuple(frame.token for frame in clip.frames) for clip in clips),
        seeds=tuple(clip.seed for clip in clips),
    )
