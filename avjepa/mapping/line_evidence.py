"""Does a painted line lie where the prior map has it, and does it look as the map says? Judged on the strip along the line.

1  ridges    paint is brighter, or yellower, than what lies to both sides of it; shadows and kerbs are not
2  bar       how strong ridges are beside the line, where there is no paint as a rule, and how sharply the cameras saw the place
3  where     for every stretch of one dash and one gap: paint on the line, paint beside it, which LiDAR does not deny, or none
4  look      colour of what is painted, and how much of the length is
5  runs      rows in a row that say the same, long enough to be believed
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from avjepa.mapping.mosaic import ACROSS_M, ALONG_M, LINE_M, SIDES_M, Strip
from avjepa.mapping.reflectance import PLAIN, line_reflects
from avjepa.mapping.vector_map import MapElement

Finding = Literal["gone", "moved", "colour", "dashing"]

HALF_WIDTH_M = 2.2  # of the strip
HERE_M = 0.35  # how far map and sensors may disagree about one line
ASIDE_M = (0.4, 1.5)  # where a line that was moved may be; the next line of the road is further away
PEAK_M = 0.2  # within which paint is the strongest ridge
PERIOD_M = 9.0  # of dashes in most countries' towns, and at most
SOLID_M = 3.0  # within which a solid line shows paint, worn or not: moves of one are seen to be short
DASH_M = 2.5
YELLOW_AS_BRIGHT = 2.0  # yellow paint is little brighter than asphalt, but yellower
PAINT_RIDGE = 0.10  # of nearly all paint that is seen sharply, times brighter than the ground; worn paint is less
WORN_RIDGE = 0.05  # what is less is no paint, however even the ground is
LEAST_SIGMA = 4.0  # 19 of 20 places of plain road are below
LEAST_BAR = 0.01  # also of ground without any noise
GONE = 0.7  # of the bar: below it there is no paint
SEEN_SHARE = 0.6
TWO_DASHES_M = 8.0  # one dash alone shows itself along less
ONE_DASH_M = 5.0  # along so much even one alone is believed, if it is plain paint along half of that
PLAIN_BARS = 3.0  # strength of plain paint
LEAST_DASH_M = 1.0  # paint along less is noise
DASHED_SHARE, SOLID_SHARE = 0.6, 0.75  # of a period: at most, or at least, so much is painted
PARALLEL_M = 0.25  # a line that moved is as far aside at both ends; other paint comes nearer by more
LEAST_RUN_M = {"gone": 12.0, "moved": 8.0, "colour": 6.0, "dashing": 9.0}


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
        )


@dataclass(frozen=True)
class LineReading:
    """What a strip says of a line, row by row (S,).

    Attributes:
        seen: enough of the row's surroundings was seen to judge.
        here, aside: strength of paint on the line and beside it, in units of the bar.
        apart: as here, but not of the paint beside it, whose flank may reach the line.
        here_left_m, aside_left_m: where it lies.
        yellow: of the paint, 0 white to 1 yellow; nan where there is none.
        painted: share of the length around a row that is painted.
        telling: paint would be seen if it were there: the cameras are sharp enough, and the ground is even enough.
        clear: on the line, or reaching there, is paint that is not worn.
    """

    seen: np.ndarray
    here: np.ndarray
    aside: np.ndarray
    apart: np.ndarray
    here_left_m: np.ndarray
    aside_left_m: np.ndarray
    yellow: np.ndarray
    painted: np.ndarray
    telling: np.ndarray
    clear: np.ndarray


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

    A gap between dashes lies where the nearest dash does.
    """
    place = read_line(strip, SOLID_M)
    is_plain = place.aside >= PLAIN_BARS
    # Plain paint may leave a ghost of what it replaced; what is weaker, as a shadow's rim is, does not outweigh paint on the line.
    is_left = place.apart < np.where(is_plain, 0.5 * place.aside, np.minimum(0.5 * place.aside, 1.0))
    dashes = _stretches(place.seen & (place.aside >= 1) & is_left)
    found = sum((dash for dash in dashes if dash.sum() * ALONG_M >= LEAST_DASH_M), np.zeros(len(is_left), bool))
    nearest, near = _nearest(found | (place.here >= 1))
    left_m = place.aside_left_m[nearest]
    # Steadiness is that of the paint beside the line: what is noise there, where paint lies on the line, does not count.
    beside = place.seen & near & found[nearest] & _steady(place.aside_left_m[_nearest(found)[0]])
    place = replace(place, aside_left_m=left_m)
    runs = []
    for run in _runs("moved", beside, (place.aside - place.apart)[nearest], strip, place):
        inside = (strip.s_m > run.from_m) & (strip.s_m < run.to_m)
        shown = inside & found
        furthest_m = np.abs(left_m[shown]).max(initial=0.0)
        # A dash at either end may lie where the line leaves the map's, or returns to it: the furthest alone may be enough.
        dashes = [dash for dash in _stretches(shown) if np.abs(left_m[dash]).max() == furthest_m]
        # Where a move begins and ends the line runs over to it: what lies level between is enough, if it is plain and long.
        level = _stretches(shown & is_plain & (np.abs(left_m - run.left_m) <= PARALLEL_M / 2))
        level = [rows for rows in level if rows.sum() * ALONG_M >= TWO_DASHES_M]
        is_believed = any(_is_believed(rows, found, is_plain, left_m) for rows in (inside, *dashes, *level))
        if is_believed and not _is_light(strip, inside, run.left_m):
            runs.append(run)
    return beside, runs


def _is_believed(rows: np.ndarray, found: np.ndarray, is_plain: np.ndarray, left_m: np.ndarray) -> bool:
    """The paint beside a line, in rows (S,) bool, is as far aside everywhere, and long or plain enough."""
    shown_m, plain_m = (some.sum() * ALONG_M for some in (rows & found, rows & found & is_plain))
    low_m, high_m = np.percentile(left_m[rows], (10, 90))
    is_shown = shown_m >= TWO_DASHES_M or (shown_m >= ONE_DASH_M and plain_m >= 0.5 * shown_m)
    return bool(is_shown and high_m - low_m <= PARALLEL_M)


def _is_light(strip: Strip, rows: np.ndarray, left_m: float) -> bool:
    """What cameras take for paint aside, in rows (S,) bool, plainly is none to the LiDAR; False where it met too little to tell.

    In the sun beside a shadow the ground is brighter than the mean of both, the more the nearer: its rim looks like a line.
    """
    at = read_line(strip, ALONG_M)
    there = rows & (np.abs(at.aside_left_m - left_m) <= PARALLEL_M)
    half = 0.5 * at.aside[there].max(initial=0.0)  # is left where a dash ends
    shown = there & (at.aside >= max(1.0, half))
    return line_reflects(strip.sums["ground"][:, shown], strip.left_m - round(left_m, 1)) < PLAIN


def _stretches(rows: np.ndarray) -> list[np.ndarray]:
    """Each stretch of rows (S,) bool that follow one another, as (S,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rows.astype(int), [0]]))).reshape(-1, 2)
    numbers = np.arange(len(rows))
    return [(numbers >= start) & (numbers < end) for start, end in edges]


def read_line(strip: Strip, around_m: float = PERIOD_M) -> LineReading:
    """Ridges of a strip, row by row; paint ``around_m`` along the line around a row counts as its own."""
    contrast, yellow = strip.paint(1), strip.paint(2)
    known = np.isfinite(contrast)
    bright_ridge = np.where(known, ridge(contrast), np.nan)
    yellow_ridge = np.where(known, ridge(yellow), np.nan)
    paint = np.clip(bright_ridge, 0, 1.0) + YELLOW_AS_BRIGHT * np.clip(yellow_ridge, 0, 0.5)
    seen = _seen(known, strip.left_m)
    dash = _mean_along(paint, DASH_M)  # (S, O)
    centre = np.abs(strip.left_m) <= HERE_M
    aside = (np.abs(strip.left_m) >= ASIDE_M[0]) & (np.abs(strip.left_m) <= ASIDE_M[1])
    away = np.abs(strip.left_m) > HERE_M
    noise = max(LEAST_SIGMA * noise_of(dash[:, away]), LEAST_BAR)
    bar = np.maximum(WORN_RIDGE * strip.sharp, noise)  # (S,)
    rows, around = round(PERIOD_M / ALONG_M), round(around_m / ALONG_M)
    strongest = maximum_filter1d(_peaks(dash), around, axis=0) / bar[:, None]  # (S, O)
    clear = maximum_filter1d(np.nan_to_num(dash), around, axis=0)[:, centre].max(1) >= max(PAINT_RIDGE, noise)

    def best(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        which = np.flatnonzero(columns)[strongest[:, columns].argmax(1)]
        return strongest[np.arange(len(which)), which], strip.left_m[which]

    here, here_left_m = best(centre)
    beside, beside_left_m = best(aside)
    own_flank = np.abs(strip.left_m - beside_left_m[:, None]) <= PEAK_M + 1e-6
    apart = np.where(centre & ~own_flank, strongest, 0.0).max(1)
    column = np.round((here_left_m - strip.left_m[0]) / ACROSS_M).astype(int)
    row = np.arange(len(column))
    drift = np.arange(
        -round(PEAK_M / ACROSS_M), round(PEAK_M / ACROSS_M) + 1
    )  # poses differ by so much from place to place
    columns = np.clip(column[:, None] + drift, 0, paint.shape[1] - 1)
    on_line = _most(_mean_along(paint, 1.0)[row[:, None], columns])
    is_painted = np.nan_to_num(on_line) > 0.5 * bar * here
    tinge = np.clip(YELLOW_AS_BRIGHT * yellow_ridge[row, column], 0, None)
    full = np.clip(bright_ridge[row, column], 0, None) + tinge
    weight = is_painted & np.isfinite(full)
    window = max(3, round(6.0 / ALONG_M))
    total = uniform_filter1d(np.where(weight, full, 0), window)
    yellowness = np.where(
        total > 0.05 * bar, uniform_filter1d(np.where(weight, tinge, 0), window) / np.maximum(total, 1e-6), np.nan
    )
    finite = np.isfinite(on_line).astype(float)
    share = _around(is_painted * finite, rows) / np.maximum(_around(finite, rows), 1e-6)
    telling = PAINT_RIDGE * strip.sharp >= bar
    return LineReading(seen, here, beside, apart, here_left_m, beside_left_m, yellowness, share, telling, clear)


def ridge(value: np.ndarray) -> np.ndarray:
    """(S, O) by how much a line's width around a cell exceeds the higher of both sides, so that steps are no ridges."""
    line = mean_across(value, -LINE_M, LINE_M)
    left, right = mean_across(value, *SIDES_M), mean_across(value, -SIDES_M[1], -SIDES_M[0])
    return line - np.fmax(left, right)


def mean_across(value: np.ndarray, low_m: float, high_m: float) -> np.ndarray:
    """(S, O) mean of the columns that lie ``low_m`` to ``high_m`` to the left of each; nan where none is known."""
    low, high = round(low_m / ACROSS_M), round(high_m / ACROSS_M)
    columns = value.shape[1]
    pad = max(abs(low), abs(high))
    padded = np.pad(value, ((0, 0), (pad, pad)), constant_values=np.nan)
    shifts = np.stack([padded[:, pad + shift : pad + shift + columns] for shift in range(low, high + 1)])
    known = np.isfinite(shifts)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, shifts, 0).sum(0) / np.maximum(count, 1), np.nan)


def _mean_along(value: np.ndarray, length_m: float) -> np.ndarray:
    """(S, O) mean of the known rows within a length; nan where fewer than half are known."""
    size = max(1, round(length_m / ALONG_M))
    known = np.isfinite(value)
    share = uniform_filter1d(known.astype(float), size, axis=0, mode="nearest")
    total = uniform_filter1d(np.where(known, value, 0.0), size, axis=0, mode="nearest")
    return np.where(share >= 0.5, total / np.maximum(share, 1e-6), np.nan)


def _most(value: np.ndarray) -> np.ndarray:
    """(S,) the largest of what is known of each row; nan where nothing is."""
    most = np.where(np.isfinite(value), value, -np.inf).max(1)
    return np.where(np.isfinite(most), most, np.nan)


def _peaks(dash: np.ndarray) -> np.ndarray:
    """(S, O) what is no less than its neighbours across, 0 elsewhere: the flank of paint beside the line is not paint on it."""
    known = np.nan_to_num(dash)
    return np.where(known >= maximum_filter1d(known, 2 * round(PEAK_M / ACROSS_M) + 1, axis=1), known, 0.0)


def noise_of(paint: np.ndarray) -> float:
    """How strong what is known of it is, as a rule; 0 where nothing is."""
    paint = paint[np.isfinite(paint)]
    if not len(paint):
        return 0.0
    middle = np.median(paint)
    return float(middle + 1.48 * np.median(np.abs(paint - middle)))


def _seen(known: np.ndarray, left_m: np.ndarray) -> np.ndarray:
    """(S,) enough of the rows around was seen, on the line and where it could have moved to."""
    near = known[:, np.abs(left_m) <= ASIDE_M[1]].mean(1)
    size = round(PERIOD_M / ALONG_M)
    return _around(near, size) >= SEEN_SHARE * _around(np.ones(len(near)), size)


def _around(value: np.ndarray, size: int) -> np.ndarray:
    """(S,) sum over as many rows around each, in shares of them; beyond the line's ends there is nothing."""
    return uniform_filter1d(value, size, mode="constant")


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
