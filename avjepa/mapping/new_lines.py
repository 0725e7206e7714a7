"""Painted lines that the prior map lacks: paint along the road where it has no line.

1  guides     the middles of lanes, and dividers where no lane is: the road's direction is known from the prior alone
2  windows    the strip along a guide, judged at several offsets as if a known line lay there (line_reading.read_line)
3  runs       plain paint, away from all that the map knows, as far aside of the guide for two dashes and two gaps or more
4  paint      no kerb, and nothing that stays: LiDAR meets no step there, and more light comes back than from beside it
5  lines      pieces that several guides tell of one line, as one
6  trust      where the map's own lines show no paint, it is off its place, or unpainted: then no line of the world is called new

Where the prior has neither lanes nor dividers nothing is looked for, and the paint of ways through junctions is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from avjepa.geometry.bands import line_poses, shifted
from avjepa.mapping.edge_evidence import STEP_M, kerb_steps
from avjepa.mapping.line_evidence import PARALLEL_M
from avjepa.mapping.line_reading import ASIDE_M, HALF_WIDTH_M, HERE_M, PERIOD_M, SOLID_M, read_line
from avjepa.mapping.mosaic import ALONG_M, Mosaic, Strip, stays
from avjepa.mapping.reflectance import REFLECTS, line_reflects

REACH_M = 2.4  # beside a guide: half a lane and more
WINDOW_M = 1.6  # half the width of what is read at once: as far as a line's rivals lie
STEP_ACROSS_M = 0.6  # from window to window; each has lines within HERE_M of its middle
KNOWN_LINE_M = ASIDE_M[1] + HERE_M  # nearer to a line of the map it is that one, moved
LEAST_BARS = 1.5  # strength of paint: dashes of one drive are hardly more, and LiDAR has to say the same
LEAST_LENGTH_M = 2 * PERIOD_M
MOST_GAP_M = PERIOD_M  # between places that show paint
GOES_ON_M = 25.0  # beside one guide, between stretches of one line
CLEAR_M = 0.5  # from what stands
ONE_LINE_M = 0.8  # across the line, between pieces of one; the next line of the road is further away
DASHED_SHARE = 0.65  # that is painted: less is dashed
POINTS_M = 2.0  # between points of a line that was found
LEAST_SHOWN = 0.5  # of the map's lines


@dataclass(frozen=True)
class NewLine:
    """A line that the map lacks.

    Attributes:
        line: where it is.
        strength: of its paint, in units of the least that is paint.
        reflects: LiDAR intensity beside that of the brighter side.
        seen_share: of its length, in [0, 1].
        colour, dashed: as seen; "" where the colour cannot be told.
        drives: that saw it.
    """

    line: LineString
    strength: float
    reflects: float
    seen_share: float
    colour: str
    dashed: bool
    drives: int


def guides_of(lanes: Sequence[LineString], dividers: Sequence[BaseGeometry]) -> list[LineString]:
    """Lines along which others may lead: the middles of lanes, and dividers as far as no lane leads beside them."""
    beside = shapely.union_all([lane.buffer(REACH_M, cap_style="flat") for lane in lanes])
    rest = shapely.get_parts([line.difference(beside) for line in dividers])
    return [line for line in (*lanes, *rest) if line.length >= LEAST_LENGTH_M]


def new_lines(mosaic: Mosaic, guide: LineString, free: BaseGeometry, covered: BaseGeometry) -> list[NewLine]:
    """Lines beside a guide.

    Args:
        mosaic: of the ground.
        guide: along which lines lead.
        free: where a new line may lie.
        covered: areas of paint, whose stretches of the guide are left out as if it went on behind them at once.
    """
    strip = mosaic.strip(guide, REACH_M + WINDOW_M)
    poses = line_poses(guide, strip.s_m)
    kept = (strip.sums["paint"][0] > 0).any(1) & ~shapely.contains_xy(covered, *poses[:, :2].T)
    strip, poses = strip.rows(kept), poses[kept]
    if len(poses) * ALONG_M < LEAST_LENGTH_M:
        return []
    places: list[tuple[float, np.ndarray]] = []
    for middle_m in np.arange(-REACH_M, REACH_M + 0.01, STEP_ACROSS_M):
        for left_m, rows in _stretches(_window(strip, middle_m), poses, middle_m, free):
            for number, (other_m, other_rows) in enumerate(places):
                if abs(other_m - left_m) <= PARALLEL_M and _gap(rows, other_rows) * ALONG_M <= GOES_ON_M:
                    places[number] = other_m, rows | other_rows
                    break
            else:
                places.append((left_m, rows))
    found = (_judged(strip, poses, left_m, rows) for left_m, rows in places)
    return [one for one in found if one is not None]


def _window(strip: Strip, middle_m: float) -> Strip:
    """The columns around an offset, as the strip along a line there."""
    columns = np.abs(strip.left_m - middle_m) <= WINDOW_M + 1e-6
    sums = {name: total[:, :, columns] for name, total in strip.sums.items()}
    return replace(strip, left_m=strip.left_m[columns] - middle_m, sums=sums)


def _stretches(
    window: Strip, poses: np.ndarray, middle_m: float, free: BaseGeometry
) -> Iterator[tuple[float, np.ndarray]]:
    """Stretches that show paint at one offset, without long gaps, and long enough: the offset, and which rows (S,) show it."""
    place = read_line(window, SOLID_M)
    shown = place.seen & (place.here >= LEAST_BARS)
    shown &= ~stays(window.sums)[:, np.abs(window.left_m) <= CLEAR_M].any(1)
    left_m = middle_m + place.here_left_m
    shown[shown] = shapely.contains_xy(free, *shifted(poses[shown], left_m[shown]).T)
    rows = np.flatnonzero(shown)
    ends = (np.diff(rows) * ALONG_M > MOST_GAP_M) | (np.abs(np.diff(left_m[rows])) > PARALLEL_M)
    for part in np.split(rows, np.flatnonzero(ends) + 1):
        if not len(part) or (part[-1] - part[0]) * ALONG_M < LEAST_LENGTH_M:
            continue
        low_m, high_m = np.percentile(left_m[part], (10, 90))
        if high_m - low_m <= PARALLEL_M:
            yield float(np.median(left_m[part])), np.isin(np.arange(len(shown)), part)


def _gap(a: np.ndarray, b: np.ndarray) -> int:
    """Rows between two stretches (S,); less than 0 where they overlap."""
    (first_a, last_a), (first_b, last_b) = (np.flatnonzero(rows)[[0, -1]] for rows in (a, b))
    return int(max(first_a - last_b, first_b - last_a))


def _judged(strip: Strip, poses: np.ndarray, left_m: float, shown: np.ndarray) -> NewLine | None:
    """What lies at an offset, where rows (S,) show it; None if it is a kerb, or if LiDAR does not show paint."""
    rows = np.arange(len(shown))
    first, last = rows[shown][[0, -1]]
    inside = (rows >= first) & (rows <= last)
    middle_m = round(left_m, 1)  # of a column
    window = _window(strip.rows(inside), middle_m)
    dashes = shown[inside] & (read_line(window, ALONG_M).here >= LEAST_BARS)
    reflects = line_reflects(window.sums["ground"][:, dashes], window.left_m)
    if not reflects >= REFLECTS or _step_m(window) >= STEP_M[0]:  # nan is not
        return None
    reading = read_line(window)
    yellow = reading.yellow[np.isfinite(reading.yellow)]
    ends = round(SOLID_M / 2 / ALONG_M)  # rows show what lies so far ahead
    points = np.append(np.arange(first + ends, last - ends, round(POINTS_M / ALONG_M)), last - ends)
    return NewLine(
        LineString(shifted(poses[points], middle_m)),
        float(np.median(reading.here)),
        reflects,
        float(reading.seen.mean()),
        "" if not len(yellow) else "yellow" if yellow.mean() > 0.5 else "white",
        bool(reading.painted[reading.seen].mean() < DASHED_SHARE),
        int(np.median(window.drives)),
    )


def _step_m(window: Strip) -> float:
    """Height of the highest step along the line; 0 where none is known."""
    steps_m = np.ma.masked_invalid(kerb_steps(window)[:, np.abs(window.left_m) <= HERE_M])
    return float(np.ma.abs(np.ma.median(steps_m, axis=0)).filled(0.0).max())


def lines_lie_as_mapped(mosaic: Mosaic, dividers: Iterable[BaseGeometry]) -> bool:
    """Whether painted lines of the map show what is asked of new ones along half of what was seen of them, or more."""
    seen = shown = 0
    for line in shapely.get_parts(list(dividers)):
        reading = read_line(mosaic.strip(line, HALF_WIDTH_M))
        seen += reading.seen.sum()
        shown += (reading.seen & (reading.here >= LEAST_BARS)).sum()
    return bool(shown >= LEAST_SHOWN * seen)


def as_one(lines: Iterable[NewLine]) -> list[NewLine]:
    """Pieces that several guides tell of one line, as one: the longest, and what goes on before and behind it."""
    whole: list[NewLine] = []
    for piece in sorted(lines, key=lambda one: -one.line.length):
        for number, other in enumerate(whole):
            joined = _joined(other.line, piece.line)
            if joined is not None:
                whole[number] = replace(other, line=joined)
                break
        else:
            whole.append(piece)
    return whole


def _joined(line: LineString, piece: LineString) -> LineString | None:
    """A line and a piece that lies on it, or goes on at one of its ends; None of a piece of another line."""
    xy_m, more_xy_m = shapely.get_coordinates(line), shapely.get_coordinates(piece)
    if np.dot(xy_m[-1] - xy_m[0], more_xy_m[-1] - more_xy_m[0]) < 0:
        more_xy_m = more_xy_m[::-1]
    points = shapely.points(more_xy_m)
    at_m, apart_m = shapely.line_locate_point(line, points), shapely.distance(line, points)
    beside = (at_m > 0) & (at_m < line.length)
    before, behind = ((at_m <= 0) & (apart_m > ONE_LINE_M), (at_m >= line.length) & (apart_m > ONE_LINE_M))
    if beside.any():
        is_same = apart_m[beside].max() <= ONE_LINE_M
    elif behind.any():
        is_same = not before.any() and _goes_on(xy_m, more_xy_m[0])
    else:
        is_same = _goes_on(xy_m[::-1], more_xy_m[-1])
    return LineString([*more_xy_m[before], *xy_m, *more_xy_m[behind]]) if is_same else None


def _goes_on(xy_m: np.ndarray, to_xy_m: np.ndarray) -> bool:
    """Whether a point lies straight on from the end of a line (k, 2), and near."""
    ahead = xy_m[-1] - xy_m[max(-4, -len(xy_m))]
    ahead /= np.hypot(*ahead)
    step_m = to_xy_m - xy_m[-1]
    return bool(np.dot(ahead, step_m) <= MOST_GAP_M and abs(ahead[0] * step_m[1] - ahead[1] * step_m[0]) <= ONE_LINE_M)
