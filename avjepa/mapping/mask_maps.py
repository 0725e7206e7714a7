"""nuScenes's drivable-area masks as a typed vector map: the pieces of road in a window, along the edges of the pixels.

The pixel (row, column) of ``maps/<hash>.png`` shows the point x = 0.1 column, y = 0.1 (rows - row) of the map, in metres, as
nuscenes-devkit's MapMask reads it; so its edges lie 0.05 m around. Letters: n and m rows and columns of the window, k runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely

from avjepa.errors import DataError
from avjepa.mapping.frames import MapFrame, frame_of_city
from avjepa.mapping.map_report import MapReport
from avjepa.mapping.vector_map import ElementMap, MapElement
from avjepa.probes.map_files import mask_city, opened_mask
from avjepa.probes.map_labels import MASK_PIXEL_M

DRIVABLE = 255
DETAIL_M = 0.1  # outlines are simplified by so much at most
STRIP_LINES = 1024  # looked at together, so that a whole city needs no more memory than its mask

Bounds = tuple[float, float, float, float]


def read_mask_map(
    path: Path, frame: MapFrame | None = None, window_m: Bounds | None = None
) -> tuple[ElementMap, MapReport]:
    """Read the drivable areas of a mask ``ROOT/maps/<name>.png``, whose city the tables of the root name.

    An area that reaches out of the window ends at its border. Elements are named after the upper left pixel of their area.

    Args:
        path: the file; 8-bit grey PNG, 255 where cars may drive.
        frame: of the wanted city; None takes that which the tables name.
        window_m: (west, south, east, north) in metres of the map; None reads all of the mask.

    Raises:
        DataError: no readable mask, no window of it, another city's, of a city that nothing names, or no drivable area in it.
        ConfigError: the origin of its city is not known.
    """
    city = mask_city(path)
    if city is None and frame is None:
        raise DataError(f"{path}: the tables of {path.parent.parent} do not say whose mask it is; name its city")
    if city is not None and frame is not None and city != frame.name:
        raise DataError(f"{path}: the mask of {city}, but {frame.name} is wanted; name that city's map")
    with opened_mask(path) as image:
        rows, columns = image.height, image.width
        left, top, right, bottom = _pixels(path, window_m, rows, columns)
        drivable = np.asarray(image.crop((left, top, right, bottom))) == DRIVABLE
    areas, corners = _areas(drivable)
    to_map = np.array([MASK_PIXEL_M, -MASK_PIXEL_M])
    origin_m = MASK_PIXEL_M * np.array([left - 0.5, rows - top + 0.5])
    areas = shapely.transform(areas, lambda xy: (origin_m + to_map * xy).round(2))
    areas = shapely.simplify(areas, DETAIL_M, preserve_topology=True)
    names = [f"drivable-{left + column}-{top + row}" for row, column in corners]
    elements = [MapElement(name, "drivable_area", area) for name, area in zip(names, areas, strict=True)]
    report = MapReport(path, "drivable-area mask")
    report.finish(len(elements))
    return ElementMap.of(frame or frame_of_city(city), elements), report


def _pixels(path: Path, window_m: Bounds | None, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom edge of the pixels that a window touches; right and bottom are not part of it."""
    if window_m is None:
        return 0, 0, columns, rows
    west, south, east, north = np.array(window_m) / MASK_PIXEL_M
    left, right = np.floor(west + 0.5), np.ceil(east + 0.5)
    top, bottom = np.floor(rows - north + 0.5), np.ceil(rows - south + 0.5)
    (left, right), (top, bottom) = np.clip([left, right], 0, columns), np.clip([top, bottom], 0, rows)
    if not (left < right and top < bottom):  # False for NaN
        raise DataError(
            f"{path}: ({', '.join(f'{side:.0f}' for side in window_m)}) m lies outside the mask, which reaches to "
            f"({columns * MASK_PIXEL_M:.0f}, {rows * MASK_PIXEL_M:.0f}) m; take the mask of the drive's city"
        )
    return int(left), int(top), int(right), int(bottom)


def _areas(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Polygons (a,) around the pixels of ``inside`` (n, m) that join along an edge, in pixel edges (column, row).

    Also their upper left pixels (a, 2) as row, column.
    """
    row, begin, end = _runs(inside).T
    column, first, last = _runs(inside.T).T
    horizontal = np.stack([np.stack([begin, row], -1), np.stack([end, row], -1)], 1)
    vertical = np.stack([np.stack([column, first], -1), np.stack([column, last], -1)], 1)
    # Runs end wherever another one begins, so they bound faces: the areas, and the holes in them, which are none.
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(np.concatenate([horizontal, vertical]))))
    corners = np.zeros((len(faces), 2), np.int64)
    if len(faces):
        xy, face = shapely.get_coordinates(shapely.get_exterior_ring(faces), return_index=True)
        order = np.lexsort((xy[:, 0], xy[:, 1], face))
        _, is_first = np.unique(face[order], return_index=True)
        corners = xy[order][is_first, ::-1].astype(np.int64)
    is_area = inside[corners[:, 0], corners[:, 1]]
    return faces[is_area], corners[is_area]


def _runs(inside: np.ndarray) -> np.ndarray:
    """Straight runs (k, 3) of edges between the rows of (n, m), each with ``inside`` on one side: row edge, from and to column."""
    rows, columns = inside.shape
    runs = []
    for top in range(0, rows + 1, STRIP_LINES):
        bottom = min(top + STRIP_LINES, rows + 1)
        strip = np.zeros(
            (bottom - top + 1, columns + 2), np.int8
        )  # rows top - 1 to bottom - 1, what is outside is not drivable
        first, last = max(top - 1, 0), min(bottom, rows)
        strip[first - top + 1 : last - top + 1, 1:-1] = inside[first:last]
        step = np.diff(strip, axis=0)
        changes = step[:, 1:] != step[:, :-1]
        row, begin = np.nonzero(changes & (step[:, 1:] != 0))
        _, end = np.nonzero(changes & (step[:, :-1] != 0))
        runs.append(np.stack([row + top, begin, end], -1))
    return np.concatenate(runs)
