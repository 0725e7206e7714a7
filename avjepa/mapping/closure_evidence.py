"""Is a lane closed? Barriers that stand across it, twice, with nothing driven through between them.

What stands is what LiDAR meets above the ground in several keyframes; a barrier is as wide as most of a lane and thin along it,
while a vehicle that waits there is seen from its side, too, by whoever passes it. Far away LiDAR returns lie apart and come in few
keyframes: a barrier that was seen but once, or only from beyond the cameras' reach, where nobody passes, counts if a row of cones
leads to it from one that was seen well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_closing, find_objects, label
from scipy.spatial import cKDTree
from shapely.geometry import LineString

from avjepa.geometry.bands import line_poses
from avjepa.mapping.mosaic import ACROSS_M, ALONG_M, Mosaic, Strip

HALF_WIDTH_M = 1.6  # of the strip: within the narrowest lanes
LEAST_KEYFRAMES = 3
APART_COLUMNS = 4  # between returns of one thing, across the lane: what a LiDAR's beams leave at 15 m
LEAST_CONES = 2
CONE_M = 0.6  # at most, along and across
STILL_KEYFRAMES = 2  # what moves is not at the same place twice
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
        keyframes: that met the barriers within the cameras' reach, the lesser number of the two.
    """

    from_m: float
    to_m: float
    seen_share: float
    drives: int
    keyframes: int


def judge_closure(mosaic: Mosaic, line: LineString) -> Closure | None:
    """The longest closed stretch of a lane of a centre line."""
    strip = mosaic.strip(line, HALF_WIDTH_M)
    keyframes, far = _standing_along(mosaic, line, strip)
    stands = keyframes >= LEAST_KEYFRAMES
    barriers, cones = _things(keyframes, far)
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


def _standing_along(mosaic: Mosaic, line: LineString, strip: Strip) -> tuple[np.ndarray, np.ndarray]:
    """In how many keyframes something stood in a cell of the strip, within the cameras' reach and further away; (S, O) each."""
    xy_m, *counts = mosaic.standing(line.buffer(HALF_WIDTH_M, cap_style="flat"))
    poses = line_poses(line, strip.s_m)
    row = cKDTree(poses[:, :2]).query(xy_m)[1]
    (dx_m, dy_m), yaw = (xy_m - poses[row, :2]).T, poses[row, 2]
    left_m = dy_m * np.cos(yaw) - dx_m * np.sin(yaw)
    column = np.clip(np.round((left_m - strip.left_m[0]) / ACROSS_M), 0, len(strip.left_m) - 1).astype(int)
    grids = np.zeros((2, len(strip.s_m), len(strip.left_m)))
    for grid, count in zip(grids, counts, strict=True):
        np.maximum.at(grid, (row, column), count)
    return grids[0], grids[1]


def _things(keyframes: np.ndarray, far: np.ndarray) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Barriers, as rows (start, end) of what stands across the strip and is thin, and the keyframes that saw it; and rows of cones.

    Args:
        keyframes: (S, O) in how many of them something stood in a cell within the cameras' reach.
        far: (S, O) in how many more it was met from further away. They add to what was met; they do not see a barrier well.
    """
    met = keyframes + far > 0
    closed = binary_closing(np.pad(met, APART_COLUMNS), np.ones((1, APART_COLUMNS + 1)))
    things, _ = label(
        closed[APART_COLUMNS:-APART_COLUMNS, APART_COLUMNS:-APART_COLUMNS] | met, structure=np.ones((3, 3))
    )
    barriers, cones = [], []
    for number, (rows, columns) in enumerate(find_objects(things), start=1):
        own = things[rows, columns] == number
        seen, is_still = (count[rows, columns][own].max() for count in (keyframes, keyframes + far >= STILL_KEYFRAMES))
        along_m, across_m = (rows.stop - rows.start) * ALONG_M, (columns.stop - columns.start) * ACROSS_M
        if along_m <= THIN_M and across_m >= ACROSS_SHARE * keyframes.shape[1] * ACROSS_M:
            if seen or is_still:
                barriers.append((rows.start, rows.stop, int(seen)))
        elif max(along_m, across_m) <= CONE_M and is_still:
            cones.append(rows.start)
    return sorted(barriers), cones


def lane_line(centre_line: LineString | None) -> LineString | None:
    """The centre line of a lane that is long enough to be closed."""
    return centre_line if centre_line is not None and centre_line.length > APART_M[0] + 2 else None
