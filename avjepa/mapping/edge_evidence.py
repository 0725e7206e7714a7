"""Does the kerb lie where the prior map's drivable area ends? LiDAR returns of the ground step up there.

Judged on strips along the outline, the road to the left. Where no step is seen nothing is said: there are edges without kerbs. Nor
is anything said of kerbs behind a painted line along the outline: hatched areas end the road before the kerb does; nor where the
kerb may lie in ground that nothing met, and the outline with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.geometry.bands import band, line_poses
from avjepa.mapping.line_reading import SOLID_M, read_line
from avjepa.mapping.mosaic import ACROSS_M, ALONG_M, SEEN_WEIGHT, Mosaic, Strip, stays
from avjepa.mapping.survey import GRID

HALF_WIDTH_M = 5.0  # of the strip
SIDE_M = (0.2, 1.0)  # the heights on each side of an edge are taken from here
REACH_M = 3.5  # a kerb that moved further is another road
HERE_M = 0.6  # how far map and sensors may disagree about one kerb
STEP_M = (0.08, 0.28)  # heights of kerbs
PEAK_M = 0.5  # within which a kerb is the highest step
KNOWN_SHARE = 0.7  # of the ground between the middle of the road and a kerb
ALONG_MEAN_M = 2.0
CLEAR_M = 0.3  # from what stands there
BEHIND_M = 1.5  # behind a kerb the ground stays up; behind a hedge or a wheel it falls again
LEAST_RETURNS = 3
LEAST_SHARE = 0.01  # of a return, the mean of the rows around: less is rounding
LEAST_RUN_M = 5.0
LEAST_KERB_M = 4.5  # of a stretch, along which the kerb was seen
SEEN_SHARE = 0.5  # of the ground between the outline and the kerb, by cameras: behind a fence there may be anything
ROWS_SHARE = 0.65  # of a stretch, in which the kerb was seen: what cars leave between them is less
BEHIND_SHARE = 0.55  # of the ground behind the kerb, by the LiDAR
BEHIND_UNSEEN_SHARE = 0.7  # of the same, where the cameras saw less than their share
DENIED_SHARE = 0.5  # of the rows with a kerb; the others' may lie where the map has it
FALLS = 0.5  # of a step's height: behind a thing the ground falls again by more
GAP_M = 6.0  # of a stretch that was not seen between two that moved


@dataclass(frozen=True)
class EdgeRun:
    """A stretch of the outline whose kerb lies elsewhere.

    Attributes:
        from_m, to_m: arc lengths.
        left_m: (k,) offsets of the kerb to the left, into the road, every ``ALONG_M`` of the stretch.
        step_m: height of the kerb.
        seen_share: of the ground between the outline and the kerb, by cameras.
        kerb_share: of the rows, in which the kerb was seen.
        behind_share: of the ground behind the kerb, by the LiDAR.
        denied_share: of the rows in which the kerb was seen, where it cannot lie where the map has it.
        drives: that saw it.
    """

    from_m: float
    to_m: float
    left_m: np.ndarray
    step_m: float
    seen_share: float
    kerb_share: float
    behind_share: float
    denied_share: float
    drives: int

    @property
    def length_m(self) -> float:
        """Of the stretch."""
        return self.to_m - self.from_m

    @property
    def is_certain(self) -> bool:
        """It is long enough, and enough of it and around it was seen."""
        kerb_m = self.kerb_share * self.length_m
        is_long_enough = self.length_m >= LEAST_RUN_M and self.kerb_share >= ROWS_SHARE and kerb_m >= LEAST_KERB_M
        is_known = is_known_behind(self.behind_share, self.seen_share)
        return is_long_enough and is_known and self.denied_share >= DENIED_SHARE

    @property
    def outwards(self) -> bool:
        """The road is wider than the map says."""
        return float(np.nanmedian(self.left_m)) < 0

    def strip(self, outline: LineString) -> BaseGeometry:
        """What the road won or lost: the area between the outline and the kerb."""
        s_m = self.from_m + ALONG_M * (np.arange(len(self.left_m)) + 0.5)
        area = band(line_poses(outline, np.clip(s_m, 0.3, outline.length - 0.3)), 0.0, self.left_m)
        return area if area.is_valid else shapely.make_valid(area)


def outlines(drivable: BaseGeometry, mosaic: Mosaic) -> Iterator[LineString]:
    """The rings of an area as lines, the area to the left of each, as far as they run through tiles that were seen; those that are
    whole begin where nothing was seen, if there is such a place.
    """
    seen = shapely.union_all([shapely.box(*GRID.bounds_m(tile)) for tile in mosaic.tiles()])
    shapely.prepare(seen)
    for part in shapely.get_parts(drivable):
        if isinstance(part, Polygon) and part.intersects(seen):
            turned = shapely.geometry.polygon.orient(part)
            for ring in (turned.exterior, *turned.interiors):
                if seen.contains(ring):
                    yield _from_unseen(ring, mosaic)
                elif ring.intersects(seen):
                    cut = shapely.intersection(LineString(ring.coords), seen)
                    merged = shapely.line_merge(cut, directed=True) if cut.geom_type == "MultiLineString" else cut
                    yield from (line for line in shapely.get_parts(merged) if isinstance(line, LineString))


def _from_unseen(ring: LineString, mosaic: Mosaic) -> LineString:
    """A closed ring that begins in the middle of its longest stretch of which nothing was seen."""
    xy_m = shapely.get_coordinates(shapely.segmentize(ring, 5.0))[:-1]
    turned_xy_m = np.roll(xy_m, -_middle_of_longest(mosaic.sample(xy_m)[0]["paint"][0] == 0), axis=0)
    return LineString(np.concatenate([turned_xy_m, turned_xy_m[:1]]))


def _middle_of_longest(unseen: np.ndarray) -> int:
    """Index of the middle of the longest run of true along a closed ring; 0 without any."""
    twice = np.concatenate([unseen, unseen]).astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], twice, [0]]))).reshape(-1, 2)
    if not len(edges):
        return 0
    start, end = edges[np.diff(edges, axis=1).argmax()]
    return int((start + end) // 2 % len(unseen))


def judge_edge(strip: Strip) -> list[EdgeRun]:
    """The stretches whose kerb lies elsewhere."""
    step_m = kerb_steps(strip)
    left_m, highest_m = first_kerb(step_m, strip.left_m)
    size = max(3, round(3.0 / ALONG_M))
    known = uniform_filter1d(np.isfinite(left_m).astype(float), size, mode="nearest")
    mean = uniform_filter1d(np.nan_to_num(left_m), size, mode="nearest") / np.maximum(known, 1e-6)
    moved = (np.abs(left_m) > HERE_M) & (np.abs(left_m - mean) < 0.7)  # nan is not
    # Kerbs shine a little, too, and where one has not moved it lies on the outline: it must not speak for what is metres ahead.
    moved &= (left_m > 0) | ~read_line(strip, SOLID_M).clear
    behind = share_behind(np.isfinite(step_m), left_m, strip.left_m)
    denied = is_elsewhere(strip, left_m)
    return [run for run in _runs(moved, left_m, highest_m, behind, denied, strip) if run.is_certain]


def first_kerb(step_m: np.ndarray, left_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first step that whoever leaves the road meets, row by row: offsets (S,) and heights (S,); nan where there is none, or
    where it cannot be known because the ground before it was not seen, or where the ground falls again behind it: a thing.

    Args:
        step_m: (S, O), see :func:`kerb_steps`.
        left_m: (O,), rising.
    """
    columns = np.flatnonzero(np.abs(left_m) <= REACH_M)[::-1]  # from the road outwards
    steps = step_m[:, columns]
    wide = maximum_filter1d(np.nan_to_num(steps, nan=-1.0), round(2 * PEAK_M / ACROSS_M) + 1, axis=1)
    is_kerb = (steps >= STEP_M[0]) & (steps <= STEP_M[1]) & (steps >= wide)
    first = is_kerb.argmax(1)
    rows = np.arange(len(steps))
    known = np.cumsum(np.isfinite(steps), 1)[rows, first] >= KNOWN_SHARE * (first + 1)
    behind = steps < -FALLS * steps[rows, first][:, None]
    behind &= (np.arange(steps.shape[1]) > first[:, None]) & (
        np.arange(steps.shape[1]) <= first[:, None] + round(BEHIND_M / ACROSS_M)
    )
    found = is_kerb.any(1) & known & ~behind.any(1)
    return np.where(found, left_m[columns][first], np.nan), np.where(found, steps[rows, first], np.nan)


def is_elsewhere(strip: Strip, kerb_left_m: np.ndarray) -> np.ndarray:
    """(S,) bool, whether the ground denies that the kerb lies within ``HERE_M`` of the outline.

    Between there and where the kerb was found (S,), ground was met that is as high as behind the kerb, if that lies in the road, or
    as low as the road, if it lies further out.

    The step is as high all over hidden ground, and its kerb anywhere in it. Whoever looks down over a kerb does not see its foot:
    from a height of 1.8 m and 10 m away, 0.8 m of the road are hidden behind one of 0.15 m.
    """
    returns, heights = _bare_ground(strip)
    high_m, low_m = _sides(returns, heights)
    kerb = np.abs(strip.left_m - np.nan_to_num(kerb_left_m)[:, None]).argmin(1)
    rows = np.arange(len(kerb))
    between_m = (high_m[rows, kerb] + low_m[rows, kerb])[:, None] / 2
    is_high = heights > between_m * returns
    inwards = kerb_left_m[:, None] > 0
    ahead_m = np.where(inwards, strip.left_m, -strip.left_m)
    on_the_way = (ahead_m >= HERE_M) & (ahead_m <= np.abs(kerb_left_m)[:, None])  # none of a row without a kerb
    return ((returns > LEAST_SHARE) & on_the_way & (is_high == inwards)).any(1)


def kerb_steps(strip: Strip) -> np.ndarray:
    """(S, O) how much higher the ground right of each cell is than left of it, in metres; nan where either is not known."""
    high_m, low_m = _sides(*_bare_ground(strip))
    return high_m - low_m


def _bare_ground(strip: Strip) -> tuple[np.ndarray, np.ndarray]:
    """(S, O) the returns of the bare ground and the sum of their heights, the means of ``ALONG_MEAN_M`` along the outline."""
    returns, _, heights = strip.sums["bare"]
    things = stays(strip.sums).astype(np.uint8)
    clear = maximum_filter1d(things, round(2 * CLEAR_M / ACROSS_M), axis=1) == 0  # wheels are no kerbs
    rows = round(ALONG_MEAN_M / ALONG_M)
    returns, heights = (uniform_filter1d(clear * x, rows, axis=0, mode="nearest") for x in (returns, heights))
    return returns, heights


def _sides(returns: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, O) the mean height of the ground right and left of each cell, nan where it is not known; see :func:`_bare_ground`."""
    per_row = round(ALONG_MEAN_M / ALONG_M)
    low, high = (round(side / ACROSS_M) for side in SIDE_M)

    def mean_of(shifts: range) -> np.ndarray:
        pad = high
        count, total = (np.pad(x, ((0, 0), (pad, pad))) for x in (returns, heights))
        columns = returns.shape[1]
        count = sum(count[:, pad + shift : pad + shift + columns] for shift in shifts)
        total = sum(total[:, pad + shift : pad + shift + columns] for shift in shifts)
        return np.where(count * per_row >= LEAST_RETURNS, total / np.maximum(count, 1e-6), np.nan)

    return mean_of(range(-high, -low + 1)), mean_of(range(low, high + 1))


def share_behind(known: np.ndarray, kerb_left_m: np.ndarray, left_m: np.ndarray) -> np.ndarray:
    """(S,) share of the cells within ``BEHIND_M`` behind the kerb whose step is ``known`` (S, O); nan without a kerb."""
    ahead_m = kerb_left_m[:, None] - left_m
    near = (ahead_m > PEAK_M / 2) & (ahead_m <= BEHIND_M + PEAK_M / 2)
    return np.where(np.isfinite(kerb_left_m), (known & near).sum(1) / np.maximum(near.sum(1), 1), np.nan)


def is_known_behind(behind_share: float, seen_share: float) -> bool:
    """Whether enough of the ground behind a kerb is known: the more, the less cameras saw of the ground before it."""
    return behind_share >= (BEHIND_SHARE if seen_share >= SEEN_SHARE else BEHIND_UNSEEN_SHARE)


def share_seen(left_m: np.ndarray, weight: np.ndarray, columns_m: np.ndarray) -> float:
    """Share of the ground between the outline and the kerb that cameras saw: behind a fence there may be anything.

    Args:
        left_m: (k,) offsets of the kerb.
        weight: (k, O) of the cameras' views of these rows.
        columns_m: (O,) offsets of the columns.
    """
    low, high = np.minimum(left_m, 0)[:, None], np.maximum(left_m, 0)[:, None]
    between = (columns_m >= low) & (columns_m <= high)
    return float((weight[between] >= SEEN_WEIGHT).mean())


def _runs(
    rows: np.ndarray, left_m: np.ndarray, step_m: np.ndarray, behind: np.ndarray, denied: np.ndarray, strip: Strip
) -> list[EdgeRun]:
    bridged, unknown = rows.copy(), ~np.isfinite(left_m)
    gaps = np.flatnonzero(np.diff(np.concatenate([[0], unknown.astype(int), [0]]))).reshape(-1, 2)
    for start, end in gaps:  # a car that was parked there
        if 0 < start and end < len(rows) and rows[start - 1] and rows[end] and (end - start) * ALONG_M <= GAP_M:
            bridged[start:end] = np.sign(left_m[start - 1]) == np.sign(left_m[end])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], bridged.astype(int), [0]])))
    runs = []
    for start, end in edges.reshape(-1, 2):
        kerb_left_m, known = _filled(left_m[start:end]), np.isfinite(left_m[start:end])
        weight = strip.sums["paint"][0][start:end]
        runs.append(
            EdgeRun(
                float(strip.s_m[start] - ALONG_M / 2),
                float(strip.s_m[end - 1] + ALONG_M / 2),
                kerb_left_m,
                float(np.nanmedian(step_m[start:end])),
                share_seen(kerb_left_m[known], weight[known], strip.left_m),
                float(known.mean()),
                float(np.nanmean(behind[start:end])),
                float(denied[start:end][known].mean()),
                int(np.median(strip.drives[start:end])),
            )
        )
    return runs


def _filled(values: np.ndarray) -> np.ndarray:
    """Without gaps: what is not known lies between what is."""
    known = np.isfinite(values)
    return np.interp(np.arange(len(values)), np.flatnonzero(known), values[known])
