"""Stop lines that the prior map lacks: a bar across a lane, near its end, where the map has none.

Each lane's end is looked at as if a stop line of the map lay there (area_evidence.bars_along): the one place where cameras see
a bar stand out of the road, and LiDAR meets more light than before and behind it. Where stripes begin at a bar, it is the edge of a
crosswalk.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.geometry.bands import band, line_poses
from avjepa.mapping.area_evidence import MOVED_M, SEARCH_M, bars_along, frame_of, stripes
from avjepa.mapping.mosaic import Mosaic, stays
from avjepa.mapping.reflectance import REFLECTS

BAR_M = 0.4  # depth of a stop line
BESIDE_M = 0.3  # of a lane that its stop line may leave free on either side
JOINED_M = 1.0  # between bars of neighbouring lanes that are one stop line
STRIPES_M = (0.5, 3.0)  # from a crosswalk's edge
STANDS_SHARE = 0.1  # of a bar: barriers stand across lanes, too, and reflect


def bar_of_lane(mosaic: Mosaic, centre_line: LineString, width_m: float, taken: BaseGeometry) -> Polygon | None:
    """The only bar across the last metres of a lane; None where there is none, where there are several, or where paint is known.

    Args:
        mosaic: of the ground.
        centre_line: of the lane, in driving direction.
        width_m: of the lane.
        taken: where a bar is none, or is known.
    """
    if centre_line.length < 2 * SEARCH_M or width_m < 4 * BESIDE_M:
        return None
    middle_m, half_m = centre_line.length - SEARCH_M, width_m / 2 - BESIDE_M
    poses = line_poses(centre_line, np.array([middle_m - BAR_M / 2, middle_m + BAR_M / 2]))
    area = band(poses, -half_m, half_m)
    bars = bars_along(mosaic, area)
    is_bar = (bars.stands_out >= 1) & (bars.reflects >= REFLECTS) & (np.abs(bars.left_m) <= SEARCH_M)  # nan is none
    if not is_bar.any() or np.ptp(bars.left_m[is_bar]) > MOVED_M:
        return None
    best = np.argmax(np.where(is_bar, bars.stands_out, 0.0))
    _, _, across = frame_of(area)
    found = translate(area, *(bars.left_m[best] * across))
    if found.intersects(taken) or stays(mosaic.in_area(found)[0]).mean() > STANDS_SHARE:
        return None
    sides = [
        shapely.union_all([translate(found, *(sign * at_m * across)) for at_m in STRIPES_M]).convex_hull
        for sign in (-1, 1)
    ]
    striped = any(stripes(mosaic, side)[0] >= 1 for side in sides if not side.intersects(taken))
    return None if striped else found


def as_stop_lines(bars: Iterable[Polygon]) -> list[Polygon]:
    """Bars of lanes beside each other as one stop line each."""
    joined = shapely.union_all([bar.buffer(JOINED_M / 2) for bar in bars])
    return [part.buffer(-JOINED_M / 2).minimum_rotated_rectangle for part in shapely.get_parts(joined)]
