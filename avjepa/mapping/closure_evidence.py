"""Is a lane closed? Barriers that stand across it, twice, with nothing driven through between them.

What stands is what LiDAR meets above the ground in several keyframes; a barrier is as wide as most of a lane and thin along it,
while a vehicle that waits there is seen from its side, too, by whoever passes it. Far away LiDAR returns lie apart and come in few
keyframes: a barrier that was seen but once counts if a row of cones leads to it from one that was seen well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_closing, find_objects, label
from shapely.geometry import LineString

from avjepa.mapping.mosaic import ACROSS_M, ALONG_M, Strip

HALF_WIDTH_M = 1.6  # of the strip: within the narrowest lanes
LEAST_KEYFRAMES = 3
APART_COLUMNS = 4  # between returns of one thing, across the lane: what a LiDAR's beams leave at 15 m
LEAST_CONES = 2
CONE_M = 0.6  # at most, along and across
CONE_KEYFRAMES = 2  # what moves is not at the same place twice
ACROSS_SHARE = 0.45  # of the strip's width that a barrier takes
THIN_M = 1.5  # most of a barrier along the lane; a car is longer
APART_M = (8.0, 40.0)
FREE_SHARE = 0.75  # of the strip between the barriers that nothing stands on


@dataclass(frozen=True)
class Closure:
    """A stretch of a lane between two barriers.

    Attributes:
        from_m, to_m: arc lengths on its centre line.
        seen_share: of the stretch, by any sensor.
        drives: that saw it.
        keyframes: that met the barriers, the lesser number of the two.
    """

    from_m: float
    to_m: float
    seen_share: float
    drives: int
    keyframes: int


def judge_closure(strip: Strip) -> Closure | None:
    """The longest closed stretch of a lane, from the strip along its centre line."""
    keyframes = strip.sums["stands"][1]  # (S, O)
    stands = keyframes >= LEAST_KEYFRAMES
    barriers, cones = _things(keyframes)
    best = None
    for i, first in enumerate(barriers):
        for last in barriers[i + 1 :]:
            length_m = (last[1] - first[0]) * ALONG_M
            between = stands[first[1] : last[0]]
            row = [cone for cone in cones if first[1] <= cone < last[0]]
            seen = sorted((first[2], last[2]))
            well_seen = seen[0] >= LEAST_KEYFRAMES or (seen[1] >= LEAST_KEYFRAMES and len(row) >= LEAST_CONES)
            free = not len(between) or between.mean() <= 1 - FREE_SHARE
            if not (well_seen and free and APART_M[0] <= length_m <= APART_M[1]):
                continue
            closure = Closure(
                float(strip.s_m[first[0]]),
                float(strip.s_m[last[1] - 1]),
                float(strip.seen[first[0] : last[1]].mean()),
                int(strip.drives[first[0] : last[1]].max()),
                int(min(first[2], last[2])),
            )
            if best is None or closure.to_m - closure.from_m > best.to_m - best.from_m:
                best = closure
    return best


def _things(keyframes: np.ndarray) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Barriers, as rows (start, end) of what stands across the strip and is thin, and the keyframes that saw it; and rows of cones.

    Args:
        keyframes: (S, O) in how many of them something stood in a cell.
    """
    met = keyframes > 0
    closed = binary_closing(np.pad(met, APART_COLUMNS), np.ones((1, APART_COLUMNS + 1)))
    things, _ = label(
        closed[APART_COLUMNS:-APART_COLUMNS, APART_COLUMNS:-APART_COLUMNS] | met, structure=np.ones((3, 3))
    )
    barriers, cones = [], []
    for number, (rows, columns) in enumerate(find_objects(things), start=1):
        seen = int(keyframes[rows, columns][things[rows, columns] == number].max())
        along_m, across_m = (rows.stop - rows.start) * ALONG_M, (columns.stop - columns.start) * ACROSS_M
        if along_m <= THIN_M and across_m >= ACROSS_SHARE * keyframes.shape[1] * ACROSS_M:
            barriers.append((rows.start, rows.stop, seen))
        elif max(along_m, across_m) <= CONE_M and seen >= CONE_KEYFRAMES:
            cones.append(rows.start)
    return sorted(barriers), cones


def lane_line(centre_line: LineString | None) -> LineString | None:
    """The centre line of a lane that is long enough to be closed."""
    return centre_line if centre_line is not None and centre_line.length > APART_M[0] + 2 else None
