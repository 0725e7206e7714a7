"""Drivable area as LiDAR returns show it, against the prior's: a baseline without learning, for kerbs that moved.

Flat returns at the road's height outside the prior's drivable area are new road; flat returns at a kerb's height inside it are road
that is gone. Cars, people and slopes that are seen as neither say nothing. Parking places, driveways and level verges, which maps
may leave out, are its false alarms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.errors import DataError
from avjepa.mapping.baselines.ground_raster import CELL_M, LOW, RAISED, GroundRaster
from avjepa.mapping.baselines.sights import sight_of, utc
from avjepa.mapping.changes import MapChange, change_id_of
from avjepa.mapping.drive_paths import DrivePath
from avjepa.mapping.vector_map import ElementMap, MapElement

LAYER = "drivable_area"
EDGE_M = CELL_M  # of the prior's outline: cells there are cut by it
GAP_CELLS = 2  # between parts of one area
CONFIRMED_M2, CANDIDATE_M2 = 2.0, 1.0
BESIDE_M = 1.5  # new road that near to the prior's is its edge that moved
WHOLE = 0.8  # of an element gone: all of it is


def drivable_elements(prior: ElementMap) -> list[MapElement]:
    """The drivable area of a prior.

    Raises:
        DataError: it has none.
    """
    elements = prior.layer(LAYER)
    if not elements:
        raise DataError(
            f"the map of {prior.frame.name} has no {LAYER}, with which LiDAR ground is compared; name another map"
        )
    return elements


def drivable_changes(
    elements: Sequence[MapElement], raster: GroundRaster, paths: Sequence[DrivePath]
) -> list[MapChange]:
    """Areas where the returns contradict the prior, of 1 m2 or more (candidates) and of 2 m2 or more (confirmed).

    The confidence is the share of an area's returns that lie at the height that contradicts; it is not calibrated.

    Args:
        elements: the drivable area, see :func:`drivable_elements`.
        raster: of the returns of all drives.
        paths: of these drives.
    """
    mapped = shapely.union_all([element.geometry for element in elements])
    x_m, y_m = np.moveaxis(raster.centres_m, -1, 0)
    outside = ~_contains(mapped.buffer(EDGE_M), x_m, y_m)
    inside = _contains(mapped.buffer(-EDGE_M), x_m, y_m)
    changes = []
    for kind, contradicts, is_new in ((LOW, outside, True), (RAISED, inside, False)):
        cells = raster.is_ground(kind) & contradicts
        labels, count = ndimage.label(ndimage.binary_dilation(cells, iterations=GAP_CELLS))
        for number in range(1, count + 1):
            change = _change(raster, cells & (labels == number), kind, is_new, elements, paths)
            changes += [] if change is None else [change]
    return list({change.change_id: change for change in changes}.values())


def _contains(shape: BaseGeometry, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    shapely.prepare(shape)
    return shapely.contains_xy(shape, x_m, y_m)


def _change(
    raster: GroundRaster,
    cells: np.ndarray,
    kind: int,
    is_new: bool,
    elements: Sequence[MapElement],
    paths: Sequence[DrivePath],
) -> MapChange | None:
    if cells.sum() * CELL_M**2 < CANDIDATE_M2:
        return None
    shape = _polygon(raster, cells)
    sight = sight_of(shape, paths)
    if sight is None:
        return None
    element = min(elements, key=lambda element: element.geometry.distance(shape))
    change = _atomic(shape, element, is_new)
    returns = raster.counts[:, cells].sum(1)
    known_us, bar = np.sort(raster.known_us[cells]), int(np.ceil(CONFIRMED_M2 / CELL_M**2))
    confirmed = len(known_us) >= bar
    element_id = None if change == "insertion" else element.token
    return MapChange(
        change_id=change_id_of(LAYER, change, element_id, shape),
        element_id=element_id,
        layer=LAYER,
        atomic_change=change,
        status="confirmed" if confirmed else "candidate",
        confidence=float(returns[kind] / returns.sum()),
        n_traversals=sight.n_traversals,
        n_frames=sight.n_frames,
        first_seen=sight.first_seen,
        last_seen=sight.last_seen,
        observed_fraction=1.0,
        old_geometry=None if is_new else shape,
        new_geometry=shape if is_new else None,
        description=f"{shape.area:.0f} m2 of {'road that the map lacks' if is_new else 'raised ground where the map has road'}",
        evidence=sight.evidence,
        # Clipped: a sweep may see a place from a little nearer than the keyframe that it belongs to.
        confirmed_seen=min(max(utc(known_us[bar - 1]), sight.first_seen), sight.last_seen) if confirmed else None,
    )


def _atomic(shape: BaseGeometry, element: MapElement, is_new: bool) -> str:
    if is_new:
        return "geometry" if element.geometry.distance(shape) <= BESIDE_M else "insertion"
    gone = element.geometry.intersection(shape).area > WHOLE * element.geometry.buffer(-EDGE_M).area
    return "deletion" if gone else "geometry"


def _polygon(raster: GroundRaster, cells: np.ndarray) -> Polygon | MultiPolygon:
    """The outline of cells (Y, X)."""
    row, column = np.nonzero(cells)
    x_m, y_m = raster.lower_m[0] + column * CELL_M, raster.lower_m[1] + row * CELL_M
    grid_m = CELL_M / 8  # corners that meet are the same to the last bit
    return shapely.union_all(shapely.box(x_m, y_m, x_m + CELL_M, y_m + CELL_M), grid_size=grid_m)
