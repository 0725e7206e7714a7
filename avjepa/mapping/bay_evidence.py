"""Is a bay of the prior map's outline there? A bay leaves the edge of the road abruptly, and comes back to it as abruptly.

Between two of its corners an outline leaves their chord so: away from the road (the map has a bay), or into it (the map has
pavement, which a bay of the world replaces). Where the LiDAR's kerb runs along the chord, the one is gone and the other is new. A
kerb that moved leaves slowly: it is edge_evidence.py's, as is a kerb that is anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import substring

from avjepa.mapping.edge_evidence import (
    HALF_WIDTH_M,
    ROWS_SHARE,
    first_kerb,
    is_known_behind,
    kerb_steps,
    share_behind,
    share_seen,
)
from avjepa.mapping.line_reading import SOLID_M, read_line
from avjepa.mapping.mosaic import Mosaic

DETAIL_M = 0.3  # outlines of masks are jagged by so much
LENGTH_M = (6.0, 25.0)  # from a parked car with its tapers to a bus stop
DEPTH_M = (1.8, 4.0)  # from a parked car to a bus, and what a jagged outline adds
LONGEST_M = LENGTH_M[1] + 2 * DEPTH_M[1]  # along the outline
STEEP_M = 2.25  # within which a bay has most of its depth: with a taper of 1.5 m in 1.05, of 5 m (a moved kerb) in 3.5
MOST = 0.7  # of the depth
BESIDE_M = 2.0  # before and behind a bay the outline goes on along its chord
ASTRAY_M = 1.0  # and may bend away from it by so much there: roads curve
DENSE_M = 0.25
NEAR_SHARE = 1 / 3  # of the depth, by which a kerb along the chord may leave it: then the bay's own outline is further
PAINTED_SHARE = 0.5  # of the outline of a piece of pavement: painted, it is a hatched area, whose kerb is elsewhere


@dataclass(frozen=True)
class Bay:
    """A bay of an outline that the kerb does not follow.

    Attributes:
        area: between the outline and the chord, in metres of the map.
        is_new: the world has a bay and the outline a piece of pavement; otherwise the outline's bay is gone.
        depth_m, length_m: of the outline's shape.
        seen_share: of the bay's ground, by cameras, in the rows whose kerb runs along the chord.
        drives: that saw it.
    """

    area: BaseGeometry
    is_new: bool
    depth_m: float
    length_m: float
    seen_share: float
    drives: int


@dataclass(frozen=True)
class BayShape:
    """Where an outline has the shape of a bay.

    Attributes:
        from_m, to_m: arc lengths of its ends.
        left_m: its depth to the left of its chord, into the road.
        astray_m: how far the outline beside it bends away from the chord.
    """

    from_m: float
    to_m: float
    left_m: float
    astray_m: float


def judge_bays(mosaic: Mosaic, outline: LineString) -> Iterator[Bay]:
    """The bays of an outline, the road to its left, whose kerb runs along their chord."""
    outline = outline.simplify(DETAIL_M)
    for shape in bay_shapes(outline):
        path = substring(outline, shape.from_m, shape.to_m)
        chord = LineString([path.coords[0], path.coords[-1]])
        strip = mosaic.strip(chord, HALF_WIDTH_M)
        step_m = kerb_steps(strip)
        left_m, _ = first_kerb(step_m, strip.left_m)
        along = np.abs(left_m) <= NEAR_SHARE * abs(shape.left_m)  # nan is not
        if along.mean() < ROWS_SHARE:
            continue
        is_new = shape.left_m > 0
        if is_new and read_line(mosaic.strip(path, HALF_WIDTH_M), SOLID_M).clear.mean() >= PAINTED_SHARE:
            continue
        between_m = np.full(along.sum(), shape.left_m)
        seen = share_seen(between_m, strip.sums["paint"][0][along], strip.left_m)
        behind = float(share_behind(np.isfinite(step_m), left_m, strip.left_m)[along].mean())
        if is_known_behind(behind, seen):
            area = shapely.make_valid(Polygon(path.coords))
            yield Bay(area, is_new, abs(shape.left_m), chord.length, seen, int(np.median(strip.drives)))


def bay_shapes(outline: LineString) -> list[BayShape]:
    """Where an outline has the shape of a bay, each place once: of several chords the one along which the outline goes on best.

    Args:
        outline: in metres of the map, the road to its left; every corner counts: simplified, if it is jagged.
    """
    corners_m = np.cumsum(np.linalg.norm(np.diff(shapely.get_coordinates(outline), axis=0), axis=1))[:-1]
    s_m = np.union1d(np.arange(0.0, outline.length, DENSE_M), corners_m)
    xy_m = shapely.get_coordinates(shapely.line_interpolate_point(outline, s_m))
    corners = np.searchsorted(s_m, corners_m)
    found = [
        _shape_between(s_m, xy_m, begin, end)
        for begin in corners
        for end in corners[(s_m[corners] - s_m[begin] >= LENGTH_M[0]) & (s_m[corners] - s_m[begin] <= LONGEST_M)]
    ]
    kept: list[BayShape] = []
    for shape in sorted(filter(None, found), key=lambda shape: shape.astray_m):
        if all(shape.from_m >= other.to_m or shape.to_m <= other.from_m for other in kept):
            kept.append(shape)
    return kept


def _shape_between(s_m: np.ndarray, xy_m: np.ndarray, begin: int, end: int) -> BayShape | None:
    """The bay between two points of an outline, if it is one.

    Args:
        s_m: (n,) arc lengths of the outline's points.
        xy_m: (n, 2) these.
        begin, end: numbers of the two.
    """
    ahead_m = xy_m[end] - xy_m[begin]
    length_m = float(np.linalg.norm(ahead_m))
    if not LENGTH_M[0] <= length_m <= LENGTH_M[1]:
        return None
    ahead = ahead_m / length_m
    first, last = np.searchsorted(s_m, [s_m[begin] - BESIDE_M, s_m[end] + BESIDE_M])
    along_m, left_m = ((xy_m[first : last + 1] - xy_m[begin]) @ np.array([ahead, [-ahead[1], ahead[0]]]).T).T
    inside = np.zeros(len(along_m), bool)
    inside[begin - first : end - first + 1] = True
    middle = inside & (along_m >= STEEP_M) & (along_m <= length_m - STEEP_M)
    astray_m = float(np.abs(left_m[~inside]).max(initial=0.0))
    goes_on = astray_m <= ASTRAY_M and bool(((along_m < 0) | (along_m > length_m))[~inside].all())
    if not (goes_on and middle.any()):
        return None
    depth_m = float(np.median(left_m[middle]))
    deep = DEPTH_M[0] <= abs(depth_m) <= DEPTH_M[1] and bool((left_m[middle] / depth_m >= MOST).all())
    one_side = bool((left_m[inside] * np.sign(depth_m) >= -DETAIL_M).all())
    straight = bool(((along_m >= -ASTRAY_M) & (along_m <= length_m + ASTRAY_M))[inside].all())
    is_bay = deep and one_side and straight
    return BayShape(float(s_m[begin]), float(s_m[end]), depth_m, astray_m) if is_bay else None
