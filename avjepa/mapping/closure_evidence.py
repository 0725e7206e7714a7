"""Is a lane closed? Barriers that stand across it, twice, with nothing driven through between them.

What stands is what LiDAR meets above the ground in several keyframes at the same cell; a barrier is as wide as most of a lane and
thin along it, while a vehicle that waits there is seen from its side, too, by whoever passes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label
from shapely.geometry import LineString

from avjepa.mapping.mosaic import ACROSS_M, ALONG_M, Strip

HALF_WIDTH_M = 1.6  # of the strip: within the narrowest lanes
LEAST_KEYFRAMES = 3
ACROSS_SHARE = 0.45  # of the strip's width that a barrier takes
THIN_M = 1.5  # most of a barrier along the lane; a car is longer
APART_M = (8.0, 40.0)
FREE_SHARE = 0.75  # of the strip between the barriers that nothing stands on


@dataclass(frozen=True)
class Closure:
    """A stretch of a lane between two barriers.

    Attributes:
        from_m, to_m: arc lengths on its centre line.
        seen_share: of the stretch, by cameras.
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
    barriers = [(start, end, count) for start, end, count in _across(stands, keyframes)]
    best = None
    for i, first in enumerate(barriers):
        for last in barriers[i + 1 :]:
            length_m = (last[1] - first[0]) * ALONG_M
            between = stands[first[1] : last[0]]
            if not APART_M[0] <= length_m <= APART_M[1] or (len(between) and between.mean() > 1 - FREE_SHARE):
                continue
            closure = Closure(
                float(strip.s_m[first[0]]),
                float(strip.s_m[last[1] - 1]),
                float((strip.sums["paint"][0][first[0] : last[1]] > 0).mean()),
                int(strip.drives[first[0] : last[1]].max()),
                int(min(first[2], last[2])),
            )
            if best is None or closure.to_m - closure.from_m > best.to_m - best.from_m:
                best = closure
    return best


def _across(stands: np.ndarray, keyframes: np.ndarray) -> list[tuple[int, int, int]]:
    """Rows (start, end) of what stands across the strip and is thin, and the keyframes that saw it."""
    things, count = label(stands, structure=np.ones((3, 3)))
    found = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(things == number)
        along_m, across_m = np.ptp(rows) * ALONG_M, len(np.unique(columns)) * ACROSS_M
        if along_m <= THIN_M and across_m >= ACROSS_SHARE * stands.shape[1] * ACROSS_M:
            found.append((int(rows.min()), int(rows.max()) + 1, int(keyframes[things == number].max())))
    return sorted(found)


def lane_line(centre_line: LineString | None) -> LineString | None:
    """The centre line of a lane that is long enough to be closed."""
    return centre_line if centre_line is not None and centre_line.length > APART_M[0] + 2 else None
