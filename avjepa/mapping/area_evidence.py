"""Is the paint of a crosswalk or a stop line where the prior map has it? And where a stop line went that is not.

Two witnesses: cameras (how much of the area is brighter than the road) and LiDAR (how much more it reflects than the road around;
a shadow or the sun changes nothing of that).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.mapping.mosaic import Mosaic

SEEN_WEIGHT = 0.5  # of a cell: one view from 8 m, or three from 16 m, which alone would show no paint
PAINTED = 0.2  # contrast of a cell that is called painted
LEAST_RETURNS = 30
EDGE_M = 0.05  # taken off the area: its outline is half paint
RING_M = (0.5, 2.0)  # around the area: the road it is compared with
SEARCH_M = 7.0  # a stop line that moved is looked for this far along its road
MOVED_M = 1.0  # nearer, it is where it was
STEP_M = 0.2
# Paint that is there covers this share of a stop line, of a crosswalk's stripes and gaps; worn paint less.
FULL = {"stop_line": 0.8, "ped_crossing": 0.45}
GONE, WORN = 0.25, 0.5  # shares of the full cover
FRESH = 2.0  # times what the road reflects


@dataclass(frozen=True)
class AreaReading:
    """What is seen of an area.

    Attributes:
        seen_share: of the area, in [0, 1], by cameras.
        cover: painted share of what was seen, divided by that of fresh paint of this layer: 1 fresh, 0 none; nan if unseen.
        reflects: mean LiDAR intensity inside beside that of the road around; nan where either has few returns.
        drives: that saw a third of it or more.
    """

    seen_share: float
    cover: float
    reflects: float
    drives: int

    @property
    def says_gone(self) -> bool:
        """Neither witness sees paint."""
        return self.cover < GONE and not self.reflects > 1.5

    @property
    def says_worn(self) -> bool:
        """Some paint is left, and LiDAR does not see more of it than cameras do."""
        return not self.says_gone and self.cover < WORN and not self.reflects > FRESH


def read_area(mosaic: Mosaic, area: BaseGeometry, layer: str) -> AreaReading:
    """The paint of an area that should be a crosswalk or a stop line."""
    inner = area.buffer(-EDGE_M)
    inside, by_drive, _ = mosaic.in_area(area if inner.is_empty else inner)
    around, _, _ = mosaic.in_area(area.buffer(RING_M[1]).difference(area.buffer(RING_M[0])))
    weight, contrast = inside["paint"][0], inside["paint"][1]
    seen = weight >= SEEN_WEIGHT
    if not seen.any():
        return AreaReading(0.0, np.nan, np.nan, 0)
    cover = float(np.mean(contrast[seen] / weight[seen] > PAINTED)) / FULL[layer]
    drives = int(((by_drive >= SEEN_WEIGHT).mean(1) > 1 / 3).sum())
    return AreaReading(float(seen.mean()), cover, _reflects(inside["ground"], around["ground"]), drives)


def _reflects(inside: np.ndarray, around: np.ndarray) -> float:
    returns = inside[0].sum(), around[0].sum()
    if min(returns) < LEAST_RETURNS or around[1].sum() <= 0:
        return np.nan
    return float((inside[1].sum() / returns[0]) / (around[1].sum() / returns[1]))


def moved_stop_line(mosaic: Mosaic, area: Polygon, taken: BaseGeometry) -> tuple[Polygon, float] | None:
    """Where the paint of a stop line lies that is not where the map has it, and how much of that is painted in [0, 1].

    Args:
        mosaic: of the ground.
        area: of the stop line in the prior map.
        taken: paint of other elements, which is no stop line.

    Returns:
        None where no place along its road looks like it.
    """
    corners = shapely.get_coordinates(area.minimum_rotated_rectangle)[:4]
    sides = np.roll(corners, -1, 0) - corners
    short = sides[int(np.hypot(*sides.T).argmin())]
    along = short / np.hypot(*short)
    best = None
    for distance_m in np.arange(-SEARCH_M, SEARCH_M + STEP_M / 2, STEP_M):
        moved = translate(area, *(distance_m * along))
        if abs(distance_m) < MOVED_M or moved.distance(taken) < STEP_M:
            continue
        reading = read_area(mosaic, moved, "stop_line")
        if reading.seen_share <= 0.5 or not reading.cover > WORN:
            continue
        sides_m = [translate(moved, *(sign * 0.8 * along)) for sign in (-1, 1)]
        beside = max(np.nan_to_num(read_area(mosaic, side, "stop_line").cover) for side in sides_m)
        stands_out = reading.cover - beside
        if stands_out > 0.4 and (best is None or stands_out > best[1]):
            best = (moved, stands_out)
    return None if best is None else (best[0], min(1.0, best[1]))
