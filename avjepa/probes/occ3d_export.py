"""Occupancy of every keyframe of a split, as the files that the benchmarks' evaluators read. Letters: see conventions.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from avjepa.geometry.occ3d import xyz_from_zyx
from avjepa.probes.occ3d_files import write_prediction
from avjepa.probes.study import Row, Study
from avjepa.sensors.nuscenes_dataset import NuScenesClips


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
        keyframes: what to answer, one clip for every keyframe (sensors/repeated_past.py).
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
