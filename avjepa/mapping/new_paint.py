"""Crosswalks that the prior map lacks: stripes on the road where it has none.

1  reflects   where LiDAR returns of the road, away from paint that the map knows, are stronger than the road's elsewhere:
stripes and gaps together; sun and shadow change nothing of it
2  regions    connected places of that kind, of a crosswalk's size; known lines lie under a crosswalk that is on both sides of them,
and parked cars' strips beside the lanes may be part of it, but bays of a car park are none
3  stripes    the cameras see some of it brighter, and some not, unlike the road before and behind
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from scipy.ndimage import label
from shapely.affinity import scale
from shapely.geometry import MultiPoint, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.mapping.area_evidence import FULL, AreaReading, frame_of, read_area
from avjepa.mapping.mosaic import Mosaic, stays
from avjepa.mapping.survey import GRID
from avjepa.mapping.tiles import Tile

MARGIN_M = 12.0  # around a tile, so that a crosswalk is whole in one of them
AROUND_M = 0.7  # over which returns are counted together
LEAST_RETURNS = 4
LEAST_TIMES = 1.7  # as strong as the road's
CLEAR_M = 0.6  # from what stands on the road: barriers reflect more than paint
LEAST_SEEN = 0.5  # of a crosswalk, by cameras: as much of one that the map has is enough to judge it
CLOSE_M = 0.8  # gaps between scan lines
ACROSS_LINE_M = 2.0  # what is left out around a line, and as much as its paint may reflect beyond
BORDER_M = 0.2  # of what is looked at: strong returns may end before it
DEPTH_M = (2.0, 7.0)  # of crosswalks, along the traffic
WIDTH_M = (3.0, 40.0)
PAINTED = (
    0.12,
    0.85,
)  # share of a crosswalk: stripes and gaps, worn or wet or not; a bay of other asphalt has next to none
HIDDEN_M = 4.0  # between two pieces of one
ON_LINE_SHARE = 0.7
LEAST_ON_ROAD = 0.5  # of a crosswalk: the rest may lie where cars park


@dataclass(frozen=True)
class MappedGround:
    """What the prior map has where a crosswalk may be.

    Attributes:
        road: drivable area.
        lines: around painted lines.
        known: around other paint.
        parking: where cars park.
    """

    road: BaseGeometry
    lines: BaseGeometry
    known: BaseGeometry
    parking: BaseGeometry


@dataclass(frozen=True)
class NewCrosswalk:
    """A place that looks like a crosswalk: its outline and what is seen of it."""

    area: Polygon
    reading: AreaReading


def new_crosswalks(mosaic: Mosaic, tile: Tile, ground: MappedGround) -> list[NewCrosswalk]:
    """Crosswalks whose centre lies in a tile.

    Args:
        mosaic: of the ground.
        tile: where to look.
        ground: what the prior map has there.
    """
    bounds = around(tile)
    here = shapely.box(*bounds)
    free = shapely.intersection(ground.road, here).difference(ground.known)
    if free.is_empty:
        return []
    sums, corner = mosaic.window(bounds)
    shape = sums["paint"].shape[1:]
    parking = _inside(shapely.intersection(free, ground.parking), corner, shape)
    lines = _inside(shapely.intersection(free, ground.lines), corner, shape)
    wanted = _inside(free, corner, shape) & ~lines
    clear = ~_grown(stays(sums), CLEAR_M)
    strong = strong_returns(sums["ground"], wanted & clear)
    strong |= _grown(lines, BORDER_M) & _closed(strong, ACROSS_LINE_M)
    regions, count = label(strong)
    found = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(regions == number)
        area = _outline(corner + (np.column_stack([columns, rows]) + 0.5) * GRID.cell_m)
        if area is None or not shapely.box(*GRID.bounds_m(tile)).contains(area.centroid):
            continue
        reading = read_area(mosaic, area, "ped_crossing")
        painted = reading.cover * FULL["ped_crossing"]
        is_striped = reading.stands_out >= 1 and PAINTED[0] <= painted < PAINTED[1]
        on_road = 1 - parking[rows, columns].mean() >= LEAST_ON_ROAD
        if on_road and reading.seen_share >= LEAST_SEEN and is_striped:
            found.append(NewCrosswalk(area, reading))
    return found


def goes_on(crosswalk: Polygon, piece: Polygon) -> bool:
    """Another crosswalk lies on the line of the first across its road, no further than something may hide."""
    axis, depth_m, _ = frame_of(crosswalk)
    line = scale(axis, 9, 9).buffer(depth_m / 2, cap_style="flat")
    return crosswalk.distance(piece) <= HIDDEN_M and piece.intersection(line).area >= ON_LINE_SHARE * piece.area


def around(tile: Tile) -> tuple[float, float, float, float]:
    """x_min, y_min, x_max, y_max of a tile and its margin."""
    x0, y0, x1, y1 = GRID.bounds_m(tile)
    return x0 - MARGIN_M, y0 - MARGIN_M, x1 + MARGIN_M, y1 + MARGIN_M


def strong_returns(ground: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(Y, X) bool: wanted cells whose surroundings reflect more than the road does.

    Args:
        ground: (3, Y, X) number of returns of the ground, and their summed intensity and height.
        wanted: (Y, X) bool, the road.
    """
    size = (round(2 * AROUND_M / GRID.cell_m),) * 2
    returns, intensity = (cv2.boxFilter(np.where(wanted, x, 0), -1, size, normalize=False) for x in ground[:2])
    known = wanted & (returns >= LEAST_RETURNS)
    mean = intensity / np.maximum(returns, 1)
    if not known.any():
        return known
    strong = known & (mean > LEAST_TIMES * np.median(mean[known]))
    return _closed(strong, CLOSE_M)


def _grown(cells: np.ndarray, by_m: float) -> np.ndarray:
    """(Y, X) bool: the cells and what is nearer to them."""
    return cv2.dilate(cells.astype(np.uint8), np.ones((2 * round(by_m / GRID.cell_m) + 1,) * 2)).astype(bool)


def _closed(cells: np.ndarray, gap_m: float) -> np.ndarray:
    """(Y, X) bool: the cells, and gaps between them that are not wider."""
    kernel = np.ones((2 * round(gap_m / 2 / GRID.cell_m) + 1,) * 2, np.uint8)  # odd: an even one shifts by a cell
    return cv2.morphologyEx(cells.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)


def _outline(xy_m: np.ndarray) -> Polygon | None:
    """The rectangle around painted cells (n, 2), without stray ones; None of another size than a crosswalk's."""
    centre = np.median(xy_m, 0)
    _, _, axes = np.linalg.svd(xy_m - centre, full_matrices=False)
    along = (xy_m - centre) @ axes.T
    low, high = np.percentile(along, 2, axis=0), np.percentile(along, 98, axis=0)
    kept = xy_m[((along >= low) & (along <= high)).all(1)]
    if len(kept) < 10:
        return None
    area = MultiPoint(kept).minimum_rotated_rectangle
    if not isinstance(area, Polygon):
        return None
    corners = shapely.get_coordinates(area)[:3]
    depth_m, width_m = sorted(np.hypot(*np.diff(corners, axis=0).T))
    fits = DEPTH_M[0] <= depth_m <= DEPTH_M[1] and WIDTH_M[0] <= width_m <= WIDTH_M[1]
    return area if fits else None


def _inside(area: BaseGeometry, corner: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(Y, X) bool: the cell's centre lies in the area."""
    mask = np.zeros(shape, np.uint8)
    for part in shapely.get_parts(area):
        if isinstance(part, Polygon) and not part.is_empty:
            rings = [part.exterior, *part.interiors]
            contours = [
                np.round(((shapely.get_coordinates(ring) - corner) / GRID.cell_m - 0.5) * 16).astype(np.int32)
                for ring in rings
            ]
            cv2.fillPoly(mask, contours, 1, shift=4)
    return mask.astype(bool)
