"""How far a fleet drives until a change is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.mapping.drive_paths import SIGHT_M, DrivePath


@dataclass(frozen=True)
class DetectionDistance:
    """Metres from the first sight of a change until it was confirmed, of all drives together.

    Attributes:
        driven_m: all metres driven in between, wherever; negative where it was confirmed before it came within 20 m.
        in_sight_m: only those within 20 m of the change.
    """

    driven_m: float
    in_sight_m: float


def detection_distance(
    shape: BaseGeometry, confirmed_seen: datetime, paths: Sequence[DrivePath]
) -> DetectionDistance | None:
    """From the first keyframe within 20 m of a change to the frame with which it was confirmed.

    Both odometers run at once for all drives (drives may overlap in time) and stand still between drives. Between keyframes they
    run evenly.

    Args:
        shape: of the known change.
        confirmed_seen: as :class:`avjepa.mapping.changes.MapChange` has it.
        paths: of the drives that were looked at.

    Returns:
        None where no keyframe came within 20 m.
    """
    sights_us = [path.timestamp_us[path.distances_m(shape) < SIGHT_M] for path in paths]
    first_us = min((times[0] for times in sights_us if len(times)), default=None)
    if first_us is None:
        return None
    confirmed_us = confirmed_seen.timestamp() * 1e6
    zone = shape.buffer(SIGHT_M, quad_segs=32)
    driven_m = sum(
        _metres(path.timestamp_us, path.steps_m, confirmed_us) - _metres(path.timestamp_us, path.steps_m, first_us)
        for path in paths
    )
    in_sight_m = 0.0
    for path in paths:
        steps_m = shapely.length(shapely.intersection(path.segments, zone))
        in_sight_m += _metres(path.timestamp_us, steps_m, confirmed_us)
        in_sight_m -= _metres(path.timestamp_us, steps_m, first_us)
    return DetectionDistance(driven_m, in_sight_m)


def _metres(timestamp_us: np.ndarray, steps_m: np.ndarray, time_us: float) -> float:
    """Odometer of one drive at a time: 0 before it begins, its whole length after its end."""
    return float(np.interp(time_us, timestamp_us, np.concatenate([[0.0], np.cumsum(steps_m)])))
