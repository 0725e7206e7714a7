"""What a strip shows of a painted line, row by row: read this before line_evidence.py, which judges lines by it.

1  ridges    paint is brighter, or yellower, than what lies to both sides of it; shadows and kerbs are not
2  bar       how strong ridges are beside the line, where there is no paint as a rule, and how sharply the cameras saw the place
3  where     for every stretch of one dash and one gap: paint on the line, paint beside it, or none
4  look      colour of what is painted, and how much of the length is
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from avjepa.mapping.mosaic import ACROSS_M, ALONG_M, LINE_M, SIDES_M, Strip

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
SEEN_SHARE = 0.6
PLAIN_BARS = 3.0  # strength of plain paint


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
    is_painted = np.nan_to_num(on_line) > bar * np.minimum(0.5 * here, PLAIN_BARS)
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
