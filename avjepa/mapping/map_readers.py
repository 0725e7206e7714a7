"""One reader for every map file."""

from __future__ import annotations

import logging
from pathlib import Path

from avjepa.errors import DataError
from avjepa.mapping.expansion_maps import read_expansion
from avjepa.mapping.frames import MapFrame, frame_of_city
from avjepa.mapping.geojson_maps import read_geojson_map
from avjepa.mapping.map_report import MapReport
from avjepa.mapping.mask_maps import Bounds, read_mask_map
from avjepa.mapping.vector_map import ElementMap

log = logging.getLogger("avjepa")


def read_map(path: Path, frame: MapFrame | None = None, window_m: Bounds | None = None) -> tuple[ElementMap, MapReport]:
    """Read ``*.json`` as a nuScenes map expansion, ``*.geojson`` as GeoJSON, ``*.png`` as a nuScenes drivable-area mask; what was
    mended or left out is logged.

    Args:
        path: the file.
        frame: of the wanted city; None takes the city that the file names (an expansion by its file name, a mask by the tables).
        window_m: (west, south, east, north) of the part of a mask to read, in metres of the map; other maps are read whole.

    Raises:
        DataError: another kind of file, or a map that cannot be used; see :func:`read_expansion`, :func:`read_geojson_map` and
            :func:`read_mask_map`.
        ConfigError: ``frame`` is None and the origin of the file's city is not known.
    """
    if path.suffix == ".geojson":
        elements, report = read_geojson_map(path, frame)
    elif path.suffix == ".json":
        elements, report = read_expansion(path, frame or frame_of_city(path.stem))
    elif path.suffix == ".png":
        elements, report = read_mask_map(path, frame, window_m)
    else:
        raise DataError(
            f"{path}: want a map expansion (.json), a GeoJSON map (.geojson) or a drivable-area mask (.png)"
        )
    for line in report.lines():
        log.warning("%s", line)
    return elements, report
