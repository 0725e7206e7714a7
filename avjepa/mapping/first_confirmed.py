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
from avjepa.mapping.sharpness import Views
from avjepa.mapping.sightings import utc
from avjepa.mapping.survey import PART_KEYFRAMES, SurveyedDrive

Judge = Callable[[Mosaic], Iterator[Candidate]]
LogOddsAt = Callable[[Candidate, int], float]


def first_confirmed(
    candidate: Candidate,
    judge: Judge,
    log_odds: float,
    surveys: Sequence[Path],
    drives: Sequence[SurveyedDrive],
    views: Views | None = None,
    log_odds_at: LogOddsAt = lambda again, _: again.log_odds,
) -> datetime | None:
    """When the same candidate first reaches ``log_odds``, UTC; None if it never does.

    Parts from which the place was within reach are looked at in the order of time over all drives; the time is that of the last
    such keyframe of the part. Each part is read once, however many come after it.

    Args:
        candidate: as all parts show it.
        judge: finds the candidates of its element again.
        log_odds: from which it is believed.
        surveys, drives: folders, and what they hold.
        views: the cameras of all drives.
        log_odds_at: of a candidate that was judged again, of all evidence up to a time, us; its own by default.
    """
    shape = candidate.old if candidate.new is None else candidate.new
    parts = sorted(
        (drive.frames[last].timestamp_us, number, last // PART_KEYFRAMES)
        for number, drive in enumerate(drives)
        for last in _ends_in_reach(drive, shape)
    )
    passing = sorted({number for _, number, _ in parts})
    mosaic = Mosaic([surveys[number] for number in passing], [0] * len(passing), views)
    for timestamp_us, number, part in parts:
        mosaic.go_on(passing.index(number), part + 1)
        for again in judge(mosaic):
            same = (again.layer, again.kind, again.element_id) == (
                candidate.layer,
                candidate.kind,
                candidate.element_id,
            )
            where = again.old if again.new is None else again.new
            if same and log_odds_at(again, timestamp_us) >= log_odds and where.distance(shape) < 2.0:
                return utc(timestamp_us)
    return None


def _ends_in_reach(drive: SurveyedDrive, shape: BaseGeometry) -> list[int]:
    """The last keyframe of each part of a drive from which the shape was within reach."""
    near = np.flatnonzero(shapely.distance(shapely.points(drive.xy_m), shape) < REACH_M)
    return [int(near[near // PART_KEYFRAMES == part].max()) for part in np.unique(near // PART_KEYFRAMES)]
