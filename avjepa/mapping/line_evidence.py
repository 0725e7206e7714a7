"""Does a painted line lie where the prior map has it, and does it look as the map says? Judged on the strip along the line.

1  reading   paint on the line and beside it, its colour and dashes, row by row (line_reading.py)
2  where     paint on the line, none, or beside it: seen along enough, or seen by cameras and LiDAR alike
3  runs      rows in a row that say the same, long enough to be believed
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import uniform_filter1d

from avjepa.mapping.line_reading import PERIOD_M, PLAIN_BARS, SOLID_M, LineReading, read_line
from avjepa.mapping.mosaic import ACROSS_M, ALONG_M, Strip
from avjepa.mapping.reflectance import PLAIN, REFLECTS, line_reflects
from avjepa.mapping.vector_map import MapElement

Finding = Literal["gone", "moved", "colour", "dashing"]

GONE = 0.7  # of the bar: below it there is no paint
TWO_DASHES_M = 8.0  # one dash alone shows itself along less
ONE_DASH_M = 5.0  # along so much even one alone is believed, if it is plain paint along half of that
LEAST_DASH_M = 1.0  # paint along less is noise
DASHED_SHARE, SOLID_SHARE = 0.6, 0.75  # of a period: at most, or at least, so much is painted
PARALLEL_M = 0.25  # a line that moved is as far aside at both ends; other paint comes nearer by more
MOST_SLOPE = 0.25  # of a line that runs over to where it moved
LEAST_LEVEL_M = 8.0  # of a run of paint aside that cameras alone see
LEAST_RUN_M = {"gone": 12.0, "moved": 5.0, "colour": 6.0, "dashing": 9.0}


@dataclass(frozen=True)
class LineRun:
    """A stretch of a line that is not as the map says.

    Attributes:
        finding: what is different.
        from_m, to_m: arc lengths on the line.
        left_m: offset of the paint to the left; 0 for what did not move.
        colour, dashed: as seen; "" and None where it was not judged.
        strength: how sure, in units of the noise or of the bar, at least 0.
        seen_share: of the stretch, in [0, 1].
        drives: that saw it.
        reflects: LiDAR intensity of what moved beside that of the road; nan where that was not seen, or nothing moved.
    """

    finding: Finding
    from_m: float
    to_m: float
    left_m: float
    colour: str
    dashed: bool | None
    strength: float
    seen_share: float
    drives: int
    reflects: float = np.nan

    @property
    def length_m(self) -> float:
        """Of the stretch."""
        return self.to_m - self.from_m

    def joined(self, later: LineRun) -> LineRun:
        """This run and a later one of the same finding as one."""
        share = self.length_m / (self.length_m + later.length_m)
        return replace(
            self,
            to_m=later.to_m,
            strength=share * self.strength + (1 - share) * later.strength,
            seen_share=share * self.seen_share + (1 - share) * later.seen_share,
            drives=max(self.drives, later.drives),
            reflects=float(np.fmax(self.reflects, later.reflects)),
        )


def judge_line(element: MapElement, strip: Strip) -> list[LineRun]:
    """The stretches of a divider that are not as the map says, strongest finding first where they overlap."""
    if len(strip.s_m) < 3:
        return []
    reading = read_line(strip)
    on_line = reading.seen & (reading.here >= 1)
    beside, moved_runs = _moved(strip)
    gone = reading.seen & reading.telling & (reading.here < GONE) & ~beside
    findings: list[tuple[Finding, np.ndarray, np.ndarray]] = [("gone", gone, 1 - reading.here)]
    if element.colour:
        was_yellow = element.colour == "yellow"
        nearest, near = _nearest(np.isfinite(reading.yellow))
        yellow = np.where(near, reading.yellow[nearest], np.nan)
        other = yellow < 0.35 if was_yellow else yellow > 0.65
        findings.append(("colour", on_line & other, np.abs(yellow - was_yellow)))
    if element.dashed is not None:
        other = reading.painted > SOLID_SHARE if element.dashed else reading.painted < DASHED_SHARE
        findings.append(("dashing", on_line & other, np.abs(reading.painted - (0.35 if element.dashed else 1.0))))
    return moved_runs + [run for finding, *rows in findings for run in _runs(finding, *rows, strip, reading)]


def _nearest(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S,) the nearest row that is known, for each row, and whether it lies within half a period: a gap is as its dashes are."""
    rows, places = np.arange(len(known)), np.flatnonzero(known)
    if not len(places):
        return rows, known
    after = np.searchsorted(places, rows).clip(1, max(1, len(places) - 1))
    before, after = places[after - 1], places[np.minimum(after, len(places) - 1)]
    nearest = np.where(rows - before <= after - rows, before, after)
    return nearest, np.abs(nearest - rows) * ALONG_M <= PERIOD_M / 2


def _moved(strip: Strip) -> tuple[np.ndarray, list[LineRun]]:
    """(S,) the nearest paint lies beside the line; and the stretches of which that is sure.

    A gap between dashes lies where the nearest dash does. Cameras alone must see much paint, level or plain; where LiDAR sees it,
    too, a dash on the way over to where the line went is enough.
    """
    place = read_line(strip, SOLID_M)
    is_plain = place.aside >= PLAIN_BARS
    # Plain paint may leave a ghost of what it replaced; what is weaker, as a shadow's rim is, does not outweigh paint on the line.
    is_left = place.apart < np.where(is_plain, 0.5 * place.aside, np.minimum(0.5 * place.aside, 1.0))
    dashes = _stretches(place.seen & (place.aside >= 1) & is_left)
    found = sum((dash for dash in dashes if dash.sum() * ALONG_M >= LEAST_DASH_M), np.zeros(len(is_left), bool))
    nearest, near = _nearest(found | (place.here >= 1))
    left_m, strength = place.aside_left_m[nearest], (place.aside - place.apart)[nearest]
    aside = place.seen & near & found[nearest]
    # Steadiness is that of the paint beside the line: what is noise there, where paint lies on the line, does not count.
    beside = aside & _steady(place.aside_left_m[_nearest(found)[0]])
    place = replace(place, aside_left_m=left_m)
    runs = []
    for rows in (beside, aside & (left_m > 0), aside & (left_m < 0)):
        for run in _runs("moved", rows, strength, strip, place):
            inside = (strip.s_m > run.from_m) & (strip.s_m < run.to_m)
            run = replace(run, reflects=_reflects(strip, inside, left_m))
            by_lidar = run.reflects >= REFLECTS and _comes_back(inside & found, place)
            by_cameras = rows is beside and run.length_m >= LEAST_LEVEL_M and not run.reflects < PLAIN
            if by_lidar or (by_cameras and _is_level(run, inside, found, is_plain, left_m)):
                runs.append(run)
    return beside, _longest(runs)


def _comes_back(shown: np.ndarray, place: LineReading) -> bool:
    """Paint beside a line, in rows (S,) bool, leaves the map's line and returns to it as a drawn line does, or ends level.

    What runs away from the line is another one, or a map that is off its place; what lies across its end is no line at all.
    """
    rows = np.flatnonzero(shown)
    if not len(rows):
        return False
    middle_m = np.median(place.aside_left_m[rows])
    on_line = np.flatnonzero(place.here >= 1)
    for end, beyond in ((rows[0], on_line[on_line < rows[0]][-1:]), (rows[-1], on_line[on_line > rows[-1]][:1])):
        left_m, gap_m = place.aside_left_m[end], np.abs(beyond - end) * ALONG_M
        if (gap_m <= PERIOD_M).any():
            run_m = gap_m[0] + SOLID_M  # rows show paint that begins half of SOLID_M further on
            is_as_drawn = abs(left_m) <= MOST_SLOPE * run_m
        else:
            is_as_drawn = abs(left_m - middle_m) <= PARALLEL_M
        if not is_as_drawn:
            return False
    return True


def _is_level(run: LineRun, inside: np.ndarray, found: np.ndarray, is_plain: np.ndarray, left_m: np.ndarray) -> bool:
    """The paint beside a line, or enough of it, lies as far aside everywhere; arrays are (S,)."""
    shown = inside & found
    furthest_m = np.abs(left_m[shown]).max(initial=0.0)
    # A dash at either end may lie where the line leaves the map's, or returns to it: the furthest alone may be enough.
    dashes = [dash for dash in _stretches(shown) if np.abs(left_m[dash]).max() == furthest_m]
    # Where a move begins and ends the line runs over to it: what lies level between is enough, if it is plain and long.
    level = _stretches(shown & is_plain & (np.abs(left_m - run.left_m) <= PARALLEL_M / 2))
    level = [rows for rows in level if rows.sum() * ALONG_M >= TWO_DASHES_M]
    return any(_is_believed(rows, found, is_plain, left_m) for rows in (inside, *dashes, *level))


def _is_believed(rows: np.ndarray, found: np.ndarray, is_plain: np.ndarray, left_m: np.ndarray) -> bool:
    """The paint beside a line, in rows (S,) bool, is as far aside everywhere, and long or plain enough."""
    shown_m, plain_m = (some.sum() * ALONG_M for some in (rows & found, rows & found & is_plain))
    low_m, high_m = np.percentile(left_m[rows], (10, 90))
    is_shown = shown_m >= TWO_DASHES_M or (shown_m >= ONE_DASH_M and plain_m >= 0.5 * shown_m)
    return bool(is_shown and high_m - low_m <= PARALLEL_M)


def _reflects(strip: Strip, rows: np.ndarray, left_m: np.ndarray) -> float:
    """What LiDAR says of paint that cameras see ``left_m`` (S,) aside, in rows (S,) bool: as :func:`line_reflects`.

    In the sun beside a shadow the ground is brighter than the mean of both, the more the nearer: its rim looks like a line, but
    reflects as the road does.
    """
    at = read_line(strip, ALONG_M)
    there = rows & (np.abs(at.aside_left_m - left_m) <= PARALLEL_M)
    half = 0.5 * at.aside[there].max(initial=0.0)  # is left where a dash ends
    shown = np.flatnonzero(there & (at.aside >= max(1.0, half)))
    columns = np.round(left_m[shown] / ACROSS_M).astype(int)
    ground = [np.roll(strip.sums["ground"][:, row], -column, -1) for row, column in zip(shown, columns, strict=True)]
    return line_reflects(np.stack(ground, 1), strip.left_m) if ground else np.nan


def _longest(runs: list[LineRun]) -> list[LineRun]:
    """Runs without those that overlap a longer one."""
    kept: list[LineRun] = []
    for run in sorted(runs, key=lambda run: -run.length_m):
        if all(run.from_m >= other.to_m or run.to_m <= other.from_m for other in kept):
            kept.append(run)
    return sorted(kept, key=lambda run: run.from_m)


def _stretches(rows: np.ndarray) -> list[np.ndarray]:
    """Each stretch of rows (S,) bool that follow one another, as (S,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rows.astype(int), [0]]))).reshape(-1, 2)
    numbers = np.arange(len(rows))
    return [(numbers >= start) & (numbers < end) for start, end in edges]


def _steady(left_m: np.ndarray) -> np.ndarray:
    """(S,) rows whose offset is about that of the rows around."""
    size = max(3, round(4.0 / ALONG_M))
    mean = uniform_filter1d(left_m, size, mode="nearest")
    spread = uniform_filter1d((left_m - mean) ** 2, size, mode="nearest")
    return spread < 0.3**2


def _runs(
    finding: Finding, rows: np.ndarray, strength: np.ndarray, strip: Strip, reading: LineReading
) -> list[LineRun]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rows.astype(int), [0]])))
    runs = []
    for start, end in edges.reshape(-1, 2):
        if (end - start) * ALONG_M < LEAST_RUN_M[finding]:
            continue
        inside = slice(start, end)
        moved = finding == "moved"
        yellow = np.nanmean(reading.yellow[inside]) if np.isfinite(reading.yellow[inside]).any() else np.nan
        runs.append(
            LineRun(
                finding,
                float(strip.s_m[start] - ALONG_M / 2),
                float(strip.s_m[end - 1] + ALONG_M / 2),
                float(np.median(reading.aside_left_m[inside])) if moved else 0.0,
                "" if not np.isfinite(yellow) else "yellow" if yellow > 0.5 else "white",
                None if finding in ("gone", "moved") else bool(reading.painted[inside].mean() < 0.65),
                float(np.nanmean(strength[inside])),
                float(reading.seen[inside].mean()),
                int(np.median(strip.drives[inside])),
            )
        )
    return runs
