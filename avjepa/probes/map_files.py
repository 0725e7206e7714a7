"""The map files of a nuScenes root: map expansion, out-of-date prior map (the generated city's), official drivable-area mask."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from shapely import Polygon

from avjepa.errors import DataError
from avjepa.probes.map_expansion import MapExpansion, polygon_tokens, reading_expansion
from avjepa.probes.map_labels import DIVIDER, DrivableMask, VectorMap
from avjepa.probes.metrics.map_iou import MAP_CLASSES

DIVIDER_LAYERS = ("road_divider", "lane_divider")
MAX_MASK_PIXELS = 2**31  # nuScenes's largest city has 1.2 billion; more is no mask
STRIP_ROWS = 1024

log = logging.getLogger("avjepa")


def load_map(root: str | Path, city: str) -> VectorMap | DrivableMask:
    """The map of a city: six classes from ``maps/expansion/<city>.json``, else drivable area from the official mask.

    Raises:
        DataError: the root has neither, or the file is damaged.
    """
    root = Path(root).expanduser()
    expansion = _inside(root, f"maps/expansion/{city}.json")
    if expansion.is_file():
        return read_vector_map(expansion)
    mask = mask_file(root, city)
    if mask is None or not mask.is_file():
        wanted = expansion if mask is None else f"{expansion} nor {mask}"
        raise DataError(
            f"no map of {city}: want {wanted}; add nuScenes's map expansion 1.3, or make the city with tools/make_city.py"
        )
    log.warning("%s is missing: map truth of %s is drivable_area alone, from %s", expansion, city, mask.name)
    return read_drivable_mask(mask)


def load_prior_map(root: str | Path, city: str) -> VectorMap | None:
    """The out-of-date map of a city, ``maps/prior/<city>.json``; None where the root has none (real nuScenes).

    Raises:
        DataError: the file is damaged.
    """
    path = _inside(Path(root).expanduser(), f"maps/prior/{city}.json")
    return read_vector_map(path) if path.is_file() else None


def read_vector_map(path: Path) -> VectorMap:
    """Read a map expansion of version 1.3.

    Polygons that cross themselves are left out and counted, as the devkit leaves them out.

    Raises:
        DataError: missing, no JSON, a layer or record is missing, or a coordinate is not finite.
    """
    with reading_expansion(path) as expansion:
        areas = {name: _areas(expansion, name) for name in MAP_CLASSES if name != DIVIDER}
        sound = {
            name: np.array([shape for shape in shapes if shape.is_valid], dtype=object)
            for name, shapes in areas.items()
        }
        crossed = sum(map(len, areas.values())) - sum(map(len, sound.values()))
        if crossed:
            log.warning("%s: %d polygons cross themselves and are left out", path, crossed)
        dividers = [
            expansion.line(record["line_token"]) for layer in DIVIDER_LAYERS for record in expansion.records(layer)
        ]
        return VectorMap(sound, np.array([line for line in dividers if line is not None], dtype=object))


def read_drivable_mask(path: Path) -> DrivableMask:
    """Read an official mask: 8-bit grey PNG, 255 where cars may drive, 0.1 m a pixel.

    Raises:
        DataError: missing, truncated, or no such picture.
    """
    with opened_mask(path) as image:
        strips = [
            np.packbits(
                np.asarray(image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height)))) == 255, axis=1
            )
            for top in range(0, image.height, STRIP_ROWS)
        ]
        return DrivableMask(np.concatenate(strips), image.width)


@contextmanager
def opened_mask(path: Path) -> Iterator[PngImageFile]:
    """An official mask as a picture of one byte a pixel; it takes that much memory from the first look at a pixel on.

    Raises:
        DataError: missing, truncated, or no such picture.
    """
    try:
        # Image.open refuses pictures as large as a city, unless something has lifted its limit for the whole process.
        with path.open("rb") as file, PngImageFile(file) as image:
            if image.mode != "L" or image.width * image.height > MAX_MASK_PIXELS:
                raise DataError(f"{path}: {image.mode} {image.width} x {image.height} px; want an 8-bit grey map mask")
            yield image
    except (UnidentifiedImageError, SyntaxError, ValueError, OSError) as error:
        raise DataError(f"{path}: not a readable map mask ({error}); copy it from the data set again") from error


def _areas(expansion: MapExpansion, layer: str) -> list[Polygon]:
    tokens = [token for record in expansion.records(layer) for token in polygon_tokens(record)]
    return [shape for token in tokens if (shape := expansion.polygon(token)) is not None]


def mask_file(root: Path, city: str) -> Path | None:
    """The mask that the table ``map`` gives to the city's logs; None when it names none.

    Raises:
        DataError: the tables are damaged, or name a file outside the root.
    """
    names = (name for name, cities in _masks(root) if city in cities)
    name = next(names, None)
    return None if name is None else _inside(root, name)


def mask_city(path: Path) -> str | None:
    """The city of the mask ``ROOT/maps/<name>.png``, by the tables of its root; None when they do not name it.

    Raises:
        DataError: the tables are damaged, or give the mask to several cities.
    """
    root = path.parent.parent
    cities = {city for name, cities in _masks(root) if root / name == path for city in cities}
    if len(cities) > 1:
        raise DataError(f"{path}: the tables of {root} give it to {', '.join(sorted(cities))}; copy the tables again")
    return next(iter(cities), None)


def _masks(root: Path) -> Iterator[tuple[str, set[str]]]:
    """File names of the masks in the tables of a root, each with the cities of its logs."""
    for tables in sorted(root.glob("v1.0-*")):
        if not (tables / "map.json").is_file():
            continue
        try:
            city_of_log = {log["token"]: log["location"] for log in _table(tables / "log.json")}
            for record in _table(tables / "map.json"):
                tokens = set(record["log_tokens"]) & city_of_log.keys()
                yield record["filename"], {city_of_log[token] for token in tokens}
        except (KeyError, TypeError) as error:
            raise DataError(f"{tables}: log.json or map.json is damaged ({error}); copy the tables again") from error


def _table(path: Path) -> list[dict]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); copy the tables again") from error


def _inside(root: Path, name: str) -> Path:
    """``root / name``, if it stays below the root: city and file names come from tables."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{name}: leaves the data root; the tables of {root} cannot be trusted")
    return path
