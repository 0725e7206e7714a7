"""When a change could first be believed: the drives again, part after part, until the evidence so far is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.mapping.candidates import Candidate
from avjepa.mapping.ground_view import REACH_M
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.sightings import utc
from avjepa.mapping.survey import PART_KEYFRAMES, SurveyedDrive

Judge = Callable[[Mosaic], Iterator[Candidate]]


def first_confirmed(
    candidate: Candidate,
    judge: Judge,
    log_odds: float,
    surveys: Sequence[Path],
    drives: Sequence[SurveyedDrive],
) -> datetime | None:
    """Time of the last keyframe of the first part with which the same candidate reaches ``log_odds``, UTC; None if none does.

    Only parts from which the place was within reach are looked at, in the order of time over all drives.

    Args:
        candidate: as all parts show it.
        judge: finds the candidates of its element again.
        log_odds: from which it is believed.
        surveys, drives: folders, and what they hold.
    """
    shape = candidate.old if candidate.new is None else candidate.new
    parts = sorted(
        (drive.frames[last].timestamp_us, number, last // PART_KEYFRAMES)
        for number, drive in enumerate(drives)
        for last in _ends_in_reach(drive, shape)
    )
    upto = [0] * len(drives)
    for timestamp_us, number, part in parts:
        upto[number] = part + 1
        seen = [i for i, count in enumerate(upto) if count]
        mosaic = Mosaic([surveys[i] for i in seen], [upto[i] for i in seen])
        for again in judge(mosaic):
            same = (again.layer, again.kind, again.element_id) == (
                candidate.layer,
                candidate.kind,
                candidate.element_id,
            )
            where = again.old if again.new is None else again.new
            if same and again.log_odds >= log_odds and where.distance(shape) < 2.0:
                return utc(timestamp_us)
    return None


def _ends_in_reach(drive: SurveyedDrive, shape: BaseGeometry) -> list[int]:
    """Last keyframes of the parts of a drive with a keyframe that was near the shape."""
    near = np.flatnonzero(shapely.distance(shapely.points(drive.xy_m), shape) < REACH_M)
    last = {int(part) * PART_KEYFRAMES + PART_KEYFRAMES - 1 for part in near // PART_KEYFRAMES}
    return sorted(min(end, len(drive.frames) - 1) for end in last)
