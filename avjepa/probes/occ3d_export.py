"""Occupancy of every keyframe of a split, as the files that the benchmarks' evaluators read.

A clip of a study needs all of its context (and its future, where the config asks for one); a submission needs every keyframe.
Letters: see conventions.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from avjepa.geometry.occ3d import xyz_from_zyx
from avjepa.probes.occ3d_files import write_prediction
from avjepa.probes.study import Row, Study
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.nuscenes_index import MAX_GAP_S


@dataclass
class Exported:
    """What became of the keyframes: written now, there already, or unreadable."""

    written: int = 0
    kept: int = 0
    unreadable: int = 0


def export_occupancy(
    study: Study,
    row: Row,
    keyframes: NuScenesClips,
    clips: Iterable[int],
    folder: Path,
    layout: Literal["occ3d", "sparseocc"],
) -> Exported:
    """Write ``<folder>/<sample token>.npz`` of every clip's present keyframe, where it is not there yet.

    Args:
        study: of an occupancy probe.
        row: a trained row of it.
        keyframes: what to answer, see :func:`with_repeated_past`.
        clips: numbers of its clips; iterated once, so that a progress bar can wrap them.
        folder: of the predictions, all of one row.
        layout: see ``occ3d_files.PREDICTION_KEYS``.
    """
    exported, wanted = Exported(), keyframes.present_keyframes()
    for clip in clips:
        token = wanted[clip].token
        if (folder / f"{token}.npz").is_file():
            exported.kept += 1
        elif keyframes[clip].now.token != token:  # the data set gave another clip for one with a corrupt file
            exported.unreadable += 1
        else:
            (logits,) = study.logits(row, keyframes, clip)
            classes = study.probe.answer(logits, None)  # (Z, Y, X)
            write_prediction(folder, token, np.ascontiguousarray(xyz_from_zyx(classes).numpy()), layout)
            exported.written += 1
    return exported


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
