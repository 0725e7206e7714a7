"""What a change record says of who saw a place, from ego positions alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.mapping.changes import Evidence
from avjepa.mapping.drive_paths import SIGHT_M, DrivePath

KEPT = 3  # frames named as evidence: the nearest
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Sight:
    """Keyframes within 20 m of a place; fields as :class:`avjepa.mapping.changes.MapChange` names them."""

    n_traversals: int
    n_frames: int
    first_seen: datetime
    last_seen: datetime
    evidence: tuple[Evidence, ...]


def sight_of(shape: BaseGeometry, paths: Sequence[DrivePath]) -> Sight | None:
    """Who came within 20 m of a shape; None where nobody did."""
    seen = []
    drives = 0
    for path in paths:
        distances_m = path.distances_m(shape)
        near = np.flatnonzero(distances_m < SIGHT_M)
        drives += len(near) > 0
        seen += [(float(distances_m[i]), int(path.timestamp_us[i]), path.tokens[i], path.scene) for i in near]
    if not seen:
        return None
    times = [time_us for _, time_us, _, _ in seen]
    evidence = [
        Evidence(token, scene, utc(time_us), distance_m=metres) for metres, time_us, token, scene in sorted(seen)[:KEPT]
    ]
    return Sight(drives, len(seen), utc(min(times)), utc(max(times)), tuple(evidence))


def utc(time_us: int) -> datetime:
    """A time of nuScenes's tables, exactly."""
    return EPOCH + timedelta(microseconds=int(time_us))


def seen_part(shape: BaseGeometry, region: BaseGeometry) -> BaseGeometry | None:
    """The part of a shape in a region, an area of an area and a line of a line; None where there is none."""
    parts = shapely.get_parts(shapely.intersection(shape, region))
    same = parts[(shapely.get_dimensions(parts) == shapely.get_dimensions(shape)) & ~shapely.is_empty(parts)]
    return shapely.union_all(same) if len(same) else None
