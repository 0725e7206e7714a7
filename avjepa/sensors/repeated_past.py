"""Clips of every keyframe, those at a scene's start too.

A clip of a study needs all of its context (and its future, where the config asks for one); a submission or a cleaned map needs
an answer for every keyframe.
"""

from __future__ import annotations

import copy

import numpy as np

from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.nuscenes_index import MAX_GAP_S


def with_repeated_past(keyframes: NuScenesClips, context_offsets: tuple[int, ...]) -> NuScenesClips:
    """One clip for every keyframe; where older ones lack (at the start of a scene, after a gap), the oldest there is stands in.

    Args:
        keyframes: clips of the present keyframe alone.
        context_offsets: those of the study.
    """
    index, present = keyframes.index, keyframes.clips[:, 0]
    older = np.maximum(present - 1, 0)
    step_s = (index.timestamp_us[present] - index.timestamp_us[older]) * 1e-6
    follows = (
        (index.scene[present] == index.scene[older]) & np.isin(older, present) & (step_s > 0) & (step_s <= MAX_GAP_S)
    )
    goes_on = dict(zip(present.tolist(), follows.tolist(), strict=True))
    padded = copy.copy(keyframes)
    padded.clips = np.array([[_back(n, -offset, goes_on) for offset in context_offsets] for n in present.tolist()])
    padded.num_context = len(context_offsets)
    return padded


def _back(keyframe: int, steps: int, goes_on: dict[int, bool]) -> int:
    """The keyframe so many steps before this one, or the oldest on the way that has none before it."""
    while steps and goes_on[keyframe]:
        keyframe, steps = keyframe - 1, steps - 1
    return keyframe
