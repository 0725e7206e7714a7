"""Is the paint of a crosswalk or a stop line where the prior map has it? And where a stop line went that is not.

Two witnesses, each measured against the same road just before and behind the place, where kerbs, dividers, wet asphalt and haze are
the same: cameras see what stands out (the stripes of a crosswalk, the bar of a stop line), LiDAR how much more comes back.

1  stands out  the shape of the paint in the images' contrast, in units of what the road beside shows of such a shape without paint
2  telling     paint would stand out so far, as sharply and in the weather as the cameras saw the place
3  reflects    LiDAR intensity beside that of the road; a shadow or the sun changes nothing of that
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.ndimage import uniform_filter1d
from shapely.affinity import translate
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.geometry.bands import line_poses
from avjepa.mapping.line_reading import LEAST_BAR, PAINT_RIDGE, WORN_RIDGE, mean_across, noise_of
from avjepa.mapping.mosaic import ACROSS_M, ALONG_M, Mosaic, Strip
from avjepa.mapping.reflectance import FRESH, LEAST_RETURNS, PLAIN, REFLECTS

SEEN_WEIGHT = 0.5  # of a cell: one view from 8 m, or three from 16 m, which alone would show no paint
GLIMPSED_WEIGHT = 0.15  # of a cell where LiDAR is a witness, too: one view from 16 m
PAINTED = 0.2  # contrast of a cell that is called painted
EDGE_M = 0.05  # taken off the area: its outline is half paint
BESIDE_M = 0.5  # between the area and the road that it is compared with
SEARCH_M = 7.0  # a stop line that moved is looked for this far along its road
MOVED_M = 1.0  # nearer, it is where it was
HERE_M = 0.4  # how far map and sensors may disagree about a stop line
CLEAR_M = 0.2  # from other paint
SIDES_M = (0.15, 0.55)  # beyond a stop line: the road it is compared with
LEAST_SIGMA = 4.0  # in units of which a stop line stands out of the road
STRIPE_M = 0.55  # width of a crosswalk's stripes and gaps, about
SHARP_SIDES_M = (0.6 * STRIPE_M, 1.4 * STRIPE_M)  # of a stripe: the gaps beside it
SHADING_M = 3.3  # three stripes and gaps: what changes over more is no stripe
LEAST_STRIPED_M = 2.2  # two stripes and gaps
NEARLY_SQUARE = 1.5  # times as long as deep
LEAST_TIMES = 2.5  # as striped as the road beside it
# Paint that is there covers this share of a stop line, of a crosswalk's stripes and gaps; worn paint less.
FULL = {"stop_line": 0.8, "ped_crossing": 0.45}
WORN = 0.5  # share of the full cover
CLEARLY = 2.0  # times the least that is paint
GONE, UNCLEAR = 0.8, 1.2  # what stands out less is no paint: where cameras alone say so, and where LiDAR says so, too


@dataclass(frozen=True)
class AreaReading:
    """What is seen of an area.

    Attributes:
        seen_share: of the area, in [0, 1], by cameras; from afar, too, where LiDAR tells paint from road.
        cover: share of what was seen that is clearly painted, divided by that of fresh paint of this layer: 1 fresh, 0 none; nan if
            unseen. In haze and rain it is less.
        stands_out: of the paint's shape, 1 at the least that is paint; nan where it was not seen.
        telling: paint would stand out so far.
        reflects: mean LiDAR intensity inside beside that of the road before or behind; nan where either has few returns.
        drives: that saw a third of it or more.
    """

    seen_share: float
    cover: float
    stands_out: float
    telling: bool
    reflects: float
    drives: int

    @property
    def can_tell(self) -> bool:
        """The cameras saw its shape, and one of the witnesses would see paint; or LiDAR sees that there is none."""
        if np.isnan(self.stands_out):
            return self.seen_share > 0 and self.reflects < PLAIN
        return self.telling or bool(np.isfinite(self.reflects))

    @property
    def says_gone(self) -> bool:
        """Neither witness sees paint, and one of them would."""
        if self.reflects < PLAIN:
            return self.seen_share > 0 and not self.stands_out >= UNCLEAR
        return self.telling and self.stands_out < GONE and not self.reflects > REFLECTS

    @property
    def says_worn(self) -> bool:
        """Some paint is left: little of it is bright, which haze may do, and LiDAR, or else its shape, does not show it clearly."""
        clear = self.reflects > FRESH if np.isfinite(self.reflects) else self.stands_out > CLEARLY
        return not self.says_gone and self.cover < WORN and not clear


def read_area(mosaic: Mosaic, area: BaseGeometry, layer: str) -> AreaReading:
    """The paint of an area that should be a crosswalk or a stop line."""
    inner = area.buffer(-EDGE_M)
    inside, by_drive, _ = mosaic.in_area(area if inner.is_empty else inner)
    weight, contrast = inside["paint"][0], inside["paint"][1]
    reflects = _reflects(inside["ground"], [mosaic.in_area(side)[0]["ground"] for side in _sides(area)])
    least = SEEN_WEIGHT if np.isnan(reflects) else GLIMPSED_WEIGHT
    seen = weight >= least
    if not seen.any():
        return AreaReading(0.0, np.nan, np.nan, False, reflects, 0)
    cover = float(np.mean(contrast[seen] / weight[seen] > PAINTED)) / FULL[layer]
    drives = int(((by_drive >= least).mean(1) > 1 / 3).sum())
    stands_out, telling = stripes(mosaic, area) if layer == "ped_crossing" else bar(mosaic, area)
    return AreaReading(float(seen.mean()), cover, stands_out, telling, reflects, drives)


def _sides(area: BaseGeometry) -> list[BaseGeometry]:
    """The area, moved off itself along its short side: before it and behind."""
    _, depth_m, across = frame_of(area)
    return [translate(area, *(sign * (depth_m + BESIDE_M) * across)) for sign in (-1, 1)]


def frame_of(area: BaseGeometry, turned: bool = False) -> tuple[LineString, float, np.ndarray]:
    """The line through the middle of an area along its long side, its depth, and the direction (2,) of the depth, to the left.

    Args:
        area: any.
        turned: along its short side instead.
    """
    corners = shapely.get_coordinates(area.minimum_rotated_rectangle)[:4]
    sides = np.roll(corners, -1, 0) - corners
    longest = (int(np.hypot(*sides.T).argmax()) + turned) % 4
    along, short = sides[longest], sides[(longest + 1) % 4]
    start = corners[longest] + short / 2
    unit = along / np.hypot(*along)
    return LineString([start, start + along]), float(np.hypot(*short)), np.array([-unit[1], unit[0]])


def _reflects(inside: np.ndarray, sides: list[np.ndarray]) -> float:
    """Beside the darker side: the other may be a crosswalk."""
    plain = [side[1].sum() / side[0].sum() for side in sides if side[0].sum() >= LEAST_RETURNS and side[1].sum() > 0]
    if inside[0].sum() < LEAST_RETURNS or not plain:
        return np.nan
    return float(inside[1].sum() / inside[0].sum() / min(plain))


def stripes(mosaic: Mosaic, area: BaseGeometry) -> tuple[float, bool]:
    """How far the stripes of a crosswalk stand out of the road before and behind it, and whether they would; nan if unseen.

    Of one that is nearly square, such as half of one, either side may lie across the road.
    """
    axis, depth_m, _ = frame_of(area)
    sides = (False, True) if axis.length < NEARLY_SQUARE * depth_m else (False,)
    return max((_stripes(mosaic, area, turned) for turned in sides), key=lambda one: np.nan_to_num(one[0]))


def _stripes(mosaic: Mosaic, area: BaseGeometry, turned: bool) -> tuple[float, bool]:
    axis, depth_m, across = frame_of(area, turned)
    half_m = max(depth_m / 2 - 2 * EDGE_M, ACROSS_M)
    strip = mosaic.strip(axis, half_m)
    spread = _spread(strip)
    moved = [translate(axis, *(sign * (depth_m + BESIDE_M) * across)) for sign in (-1, 1)]
    beside = [_spread(mosaic.strip(line, half_m)) for line in moved]
    plain = min((value for value in beside if np.isfinite(value)), default=0.0)
    poses = line_poses(axis, strip.s_m)
    poses[:, 2] += np.pi / 2  # stripes lead across the crosswalk's long side
    sharp = 1.0 if mosaic.views is None else float(mosaic.views.ridge_share(poses, STRIPE_M / 2, SHARP_SIDES_M).mean())
    least = max(WORN_RIDGE * sharp, LEAST_TIMES * plain, LEAST_BAR)
    return spread / least, PAINT_RIDGE * sharp >= least


def _spread(strip: Strip) -> float:
    """Contrast of stripes: between the quartiles of what a strip's rows show, so that dividers do not count; nan if unseen."""
    rows = _mean(strip.paint(1))
    known = np.isfinite(rows)
    if known.sum() < LEAST_STRIPED_M / ALONG_M or known.mean() < 0.5:
        return np.nan
    size = round(SHADING_M / ALONG_M)
    share = uniform_filter1d(known.astype(float), size, mode="nearest")
    around = uniform_filter1d(np.where(known, rows, 0.0), size, mode="nearest") / np.maximum(share, 1e-6)
    low, high = np.percentile((rows - around)[known], [25, 75])
    return float(high - low)


@dataclass(frozen=True)
class Bars:
    """Places (O,) along a road, each as a stop line of one shape would lie there.

    Attributes:
        left_m: offsets from the stop line of the map.
        stands_out: brighter than the road on both sides along most of its length, in units of the least that is paint; nan unseen.
        telling: paint would be as bright.
        reflects: times what the brighter side of it does; nan where there are few returns.
    """

    left_m: np.ndarray
    stands_out: np.ndarray
    telling: bool
    reflects: np.ndarray

    @property
    def paint(self) -> np.ndarray:
        """(O,) what either witness says, 1 at the least that is paint, 0 where neither can tell."""
        return np.fmax(np.fmax(self.stands_out, self.reflects / REFLECTS), 0.0)


def bar(mosaic: Mosaic, area: BaseGeometry) -> tuple[float, bool]:
    """How far a stop line stands out of the road on both sides of it, and whether it would; nan if unseen."""
    bars = bars_along(mosaic, area)
    here = bars.stands_out[np.abs(bars.left_m) <= HERE_M]
    known = np.isfinite(here)
    return (float(here[known].max()), bars.telling) if known.mean() >= 0.5 else (np.nan, False)


def bars_along(mosaic: Mosaic, area: BaseGeometry) -> Bars:
    """Where along its road a stop line may lie. Its shape is moved as it is: over 7 m roads hardly bend."""
    axis, depth_m, _ = frame_of(area)
    half_m = depth_m / 2
    strip = mosaic.strip(axis, SEARCH_M + half_m + SIDES_M[1])
    contrast = strip.paint(1)
    ridges = _over_sides(contrast, half_m, np.subtract)
    along = np.where(np.isfinite(ridges).mean(0) >= 0.5, _median(ridges), np.nan)
    sharp = 1.0
    if mosaic.views is not None:
        sides_m = (half_m + SIDES_M[0], half_m + SIDES_M[1])
        sharp = float(mosaic.views.ridge_share(line_poses(axis, strip.s_m), half_m, sides_m).mean())
    away = along[np.abs(strip.left_m) > HERE_M + depth_m]
    least = max(WORN_RIDGE * sharp, LEAST_SIGMA * noise_of(away), LEAST_BAR)
    returns, intensity = (uniform_filter1d(strip.sums["ground"][i].sum(0), _columns(depth_m)) for i in (0, 1))
    enough = returns * _columns(depth_m) >= LEAST_RETURNS
    mean = np.where(enough, intensity / np.maximum(returns, 1e-6), np.nan)[None]
    times = _over_sides(mean, half_m, lambda inside, beside: inside / np.maximum(beside, 1e-6))[0]
    return Bars(strip.left_m, along / least, PAINT_RIDGE * sharp >= least, times)


def searched_share(mosaic: Mosaic, area: Polygon) -> float:
    """Of the places along its road where a stop line may have moved to, in [0, 1]: cameras saw the ground there."""
    bars = bars_along(mosaic, area)
    return float(np.isfinite(bars.stands_out[np.abs(bars.left_m) <= SEARCH_M]).mean())


def _over_sides(value: np.ndarray, half_m: float, compare) -> np.ndarray:
    """(S, O) the mean of a bar's width around each cell, compared with the higher of both sides."""
    near, far = half_m + SIDES_M[0], half_m + SIDES_M[1]
    beside = np.fmax(mean_across(value, near, far), mean_across(value, -far, -near))
    return compare(mean_across(value, -half_m, half_m), beside)


def _mean(value: np.ndarray) -> np.ndarray:
    """(S,) of the known cells of each row; nan where fewer than half are."""
    known = np.isfinite(value)
    mean = np.where(known, value, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    return np.where(known.mean(1) >= 0.5, mean, np.nan)


def _median(value: np.ndarray) -> np.ndarray:
    """(O,) of the known rows; nan where none is."""
    filled = np.ma.masked_invalid(value)
    return np.ma.median(filled, axis=0).filled(np.nan)


def _columns(width_m: float) -> int:
    return max(1, round(width_m / ACROSS_M))


def moved_stop_line(mosaic: Mosaic, area: Polygon, taken: BaseGeometry) -> tuple[Polygon, float] | None:
    """Where the paint of a stop line lies that is not where the map has it, and how clearly that is seen, in [0, 1].

    Args:
        mosaic: of the ground.
        area: of the stop line in the prior map.
        taken: paint of other elements, which is no stop line.

    Returns:
        None where no place along its road looks like it.
    """
    bars = bars_along(mosaic, area)
    _, _, across = frame_of(area)
    paint = np.where((np.abs(bars.left_m) >= MOVED_M) & (np.abs(bars.left_m) <= SEARCH_M), bars.paint, 0.0)
    for column in np.argsort(-paint, kind="stable"):
        if paint[column] < 1:
            return None
        moved = translate(area, *(bars.left_m[column] * across))
        if not moved.distance(taken) < CLEAR_M:  # nan of nothing
            return moved, float(min(1.0, paint[column] / CLEARLY))
    return None
