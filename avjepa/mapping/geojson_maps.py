"""Vector maps as GeoJSON: our own, those of other makers in WGS84 (RFC 7946), and ScenarioNet's exports of nuScenes.

Coordinates are metres where the file's ``frame`` member says so (:meth:`avjepa.mapping.frames.MapFrame.contract`), else degrees,
as RFC 7946 wants; a file without a frame whose coordinates cannot be degrees is taken to be in metres of the wanted city. The
``crs`` member of older files (GeoJSON 2008) may name WGS84 alone.
A feature's layer is its property ``layer``, or follows from its property ``type`` by ScenarioNet's names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.errors import ConfigError, DataError
from avjepa.files import replacing
from avjepa.geometry.geojson import from_geojson, to_geojson
from avjepa.mapping.expansion_maps import linked
from avjepa.mapping.frames import MapFrame, frame_of_city, frame_of_contract
from avjepa.mapping.map_report import (
    BAD,
    DOUBLE,
    FAR,
    GUESSED_FRAME,
    LEADS_NOWHERE,
    OTHER_KIND,
    UNKNOWN,
    MapReport,
    sound_shape,
)
from avjepa.mapping.vector_map import COLOURS, LAYERS, ElementMap, MapElement, fits_layer

# ScenarioNet (converter/nuscenes) writes the outline of the drivable area as solid white lines of these names, each lane divider as
# a broken white and each road divider as a solid yellow line. So its types say what a line is, and nothing of its paint.
OUTLINE_PREFIX = "boundary_"
SCENARIONET_LAYERS = {
    "ROAD_LINE_BROKEN_SINGLE_WHITE": "lane_divider",
    "ROAD_LINE_SOLID_SINGLE_WHITE": "lane_divider",
    "ROAD_LINE_SOLID_DOUBLE_WHITE": "lane_divider",
    "ROAD_LINE_BROKEN_SINGLE_YELLOW": "road_divider",
    "ROAD_LINE_SOLID_SINGLE_YELLOW": "road_divider",
    "ROAD_LINE_SOLID_DOUBLE_YELLOW": "road_divider",
    "ROAD_EDGE_BOUNDARY": "road_edge",
    "BOUNDARY_LINE": "road_edge",
    "CROSSWALK": "ped_crossing",
    "BOUNDARY_SIDEWALK": "walkway",
}
SCENARIONET_LANES = ("LANE_SURFACE_STREET", "LANE_SURFACE_UNSTRUCTURE")
FIELDS = ("colour", "dashed", "subtype", "wear", "height_m")
# How files name WGS84: urn:ogc:def:crs:OGC:1.3:CRS84, EPSG:4326 and the like. GeoJSON puts longitude first under any of them.
WGS84_NAMES = ("CRS84", "CRS84H", "4326", "4979", "WGS84", "WGS 84")
FAR_M = 1e5  # from a city's origin: its map ends long before

Place = Callable[[BaseGeometry], BaseGeometry]


def read_geojson_map(path: Path, frame: MapFrame | None) -> tuple[ElementMap, MapReport]:
    """Read a map.

    Args:
        path: the file.
        frame: the wanted city's; None takes that which the file names.

    Raises:
        DataError: missing, no GeoJSON, another city or one that is farther than 100 km, another CRS than WGS84, no frame to be
            found, no element, or more than a fifth cannot be read.
    """
    report = MapReport(path, "GeoJSON")
    collection = load_collection(path)
    _check_crs(path, collection)
    features = list(_identified(collection["features"], report))
    frame, place = _placing(path, collection, frame, [shape for _, _, shape in features], report)
    placed = [(token, feature, place(shape)) for token, feature, shape in features]
    elements: dict[str, MapElement] = {}
    for token, feature, shape in _near(path, frame, placed, report):
        element = _element(token, feature, shape, place, report)
        if element is None:
            continue
        if token not in elements:
            elements[token] = element
        elif (joined := _joined(elements[token], element)) is not None:
            elements[token] = joined
        else:
            report.lost.setdefault(DOUBLE, []).append(token)
    report.finish(len(elements))
    return ElementMap(frame, linked(_entered(elements, features, report), report)), report


def write_geojson_map(path: Path, elements: ElementMap) -> None:
    """Write a map in metres of its frame; :func:`read_geojson_map` gives the same map back, to the last digit."""
    collection = {
        "type": "FeatureCollection",
        "frame": elements.frame.contract(),
        "features": [element_feature(element) for element in elements.elements.values()],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(collection, allow_nan=False) + "\n", encoding="utf-8")


def element_feature(element: MapElement) -> dict[str, Any]:
    """A map element as a GeoJSON feature in metres of the map; :func:`feature_element` reads it."""
    properties: dict[str, Any] = {"layer": element.layer}
    properties |= {name: value for name in FIELDS if (value := getattr(element, name)) not in ("", None)}
    if element.successors:
        properties["successors"] = list(element.successors)
    feature = {
        "type": "Feature",
        "id": element.token,
        "geometry": json.loads(shapely.to_geojson(element.geometry)),  # as it is: outlines keep their order
        "properties": properties,
    }
    return feature if element.centre_line is None else feature | {"centre_line": to_geojson(element.centre_line)}


def feature_element(token: str, feature: dict[str, Any], shape: BaseGeometry, place: Place) -> MapElement:
    """A map element of a feature with a known layer, its shape in metres of the map.

    Raises:
        ValueError: a property has a value that the element cannot have.
    """
    properties = feature["properties"]
    colour, dashed, wear = properties.get("colour", ""), properties.get("dashed"), properties.get("wear")
    height_m, centre_line = properties.get("height_m"), from_geojson(feature.get("centre_line"))
    successors = properties.get("successors", [])
    if colour not in ("", *COLOURS) or dashed not in (None, True, False) or not isinstance(successors, list):
        raise ValueError(f"{token}: a colour, dashing or list of successors that is none")
    return MapElement(
        token=token,
        layer=properties["layer"],
        geometry=shape,
        centre_line=None if centre_line is None else shapely.remove_repeated_points(place(centre_line)),
        successors=tuple(map(str, successors)),
        colour=colour,
        dashed=dashed,
        subtype=str(properties.get("subtype", "")),
        wear=None if wear is None else float(wear),
        height_m=None if height_m is None else float(height_m),
    )


def load_collection(path: Path) -> dict[str, Any]:
    """The JSON of a FeatureCollection.

    Raises:
        DataError: missing, or something else.
    """
    try:
        collection = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name another file") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); export it again") from error
    if not isinstance(collection, dict) or not isinstance(collection.get("features"), list):
        raise DataError(f"{path}: not a GeoJSON FeatureCollection; export it as one")
    return collection


def _identified(features: list[Any], report: MapReport) -> Iterator[tuple[str, dict[str, Any], BaseGeometry]]:
    """Features with their tokens and shapes as written; broken ones go into the report."""
    for number, feature in enumerate(features):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if not isinstance(properties, dict):
            report.lost.setdefault(BAD, []).append(f"feature {number}")
            continue
        names = (feature.get("id"), properties.get("id"), properties.get("token"), f"feature {number}")
        token = next(str(name) for name in names if name not in (None, ""))  # 0 is a name
        try:
            shape = from_geojson(feature.get("geometry"))
        except ValueError:
            shape = None
        if shape is None:
            report.lost.setdefault(BAD, []).append(token)
        else:
            yield token, feature, shape


def _placing(
    path: Path, collection: dict[str, Any], frame: MapFrame | None, shapes: list[BaseGeometry], report: MapReport
) -> tuple[MapFrame, Place]:
    """The frame of the map, and what takes shapes of the file into it."""
    contract = collection.get("frame")
    properties = contract.get("properties") if isinstance(contract, dict) else None
    in_degrees = contract is None or (isinstance(properties, dict) and properties.get("unit") == "degree")
    try:
        if contract is not None:
            named = frame_of_city(properties["name"]) if in_degrees else frame_of_contract(contract)
            if frame is not None and frame != named:
                raise DataError(f"{path}: a map of {named.name}, but {frame.name} is wanted; name that city's map")
            frame = named
    except (ValueError, KeyError, ConfigError) as error:
        raise DataError(f"{path}: its frame cannot be used ({error})") from error
    if frame is None:
        raise DataError(f"{path}: does not say where it lies; name its city, or add a frame member")
    if not in_degrees:
        return frame, lambda shape: shape
    furthest = np.abs(shapely.get_coordinates(shapely.GeometryCollection(shapes))).max(axis=0, initial=0.0)
    if (furthest <= [180.0, 90.0]).all():
        return frame, frame.shape_to_map
    if contract is not None:
        raise DataError(f"{path}: says degrees, but has coordinates beyond 180 and 90; export it again")
    report.notes.append(f"{GUESSED_FRAME} {frame.name}")
    return frame, lambda shape: shape


def _check_crs(path: Path, collection: dict[str, Any]) -> None:
    crs = collection.get("crs")
    if crs is None:
        return
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = str(properties.get("name", "")) if isinstance(properties, dict) else ""
    if name.replace("/", ":").rpartition(":")[2].upper() not in WGS84_NAMES:
        raise DataError(f"{path}: its crs member names {name or crs!r}, not WGS84; export the map in EPSG:4326")


def _near(
    path: Path, frame: MapFrame, placed: list[tuple[str, dict[str, Any], BaseGeometry]], report: MapReport
) -> Iterator[tuple[str, dict[str, Any], BaseGeometry]]:
    """Features whose shapes, in metres of the map, may lie in the city; others go into the report."""
    far_m = [float(np.hypot(*shapely.get_coordinates(shape).T).max()) for _, _, shape in placed]
    if placed and min(far_m) > FAR_M:
        raise DataError(
            f"{path}: lies {min(far_m) / 1e3:.0f} km or more from {frame.name}; name its own city, or export it in WGS84"
        )
    for item, distance_m in zip(placed, far_m, strict=True):
        if distance_m > FAR_M:
            report.lost.setdefault(FAR, []).append(item[0])
        else:
            yield item


def _element(
    token: str, feature: dict[str, Any], shape: BaseGeometry, place: Place, report: MapReport
) -> MapElement | None:
    properties = feature["properties"]
    if properties.get("layer") not in LAYERS:
        properties = _scenarionet(token, properties, shape)
        if properties is None:
            report.ignored.setdefault(UNKNOWN, []).append(token)
            return None
    if not fits_layer(shape, properties["layer"]):
        report.lost.setdefault(OTHER_KIND, []).append(token)
        return None
    sound = sound_shape(shape, token, report)
    if sound is None:
        return None
    try:
        element = feature_element(token, feature | {"properties": properties}, sound, place)
    except (ValueError, TypeError):
        report.lost.setdefault(BAD, []).append(token)
        return None
    is_centre = element.layer == "lane_connector" and "layer" not in feature["properties"]
    return replace(element, centre_line=element.geometry) if is_centre else element


def _scenarionet(token: str, properties: dict[str, Any], shape: BaseGeometry) -> dict[str, Any] | None:
    """Our properties of a ScenarioNet feature; None of a type that it does not have."""
    kind = str(properties.get("type", ""))
    if kind in SCENARIONET_LANES:
        # The centre line of every lane; nuScenes has polygons for lanes alone, not for connectors.
        layer = "lane" if shape.area > 0 else "lane_connector"
        return {"layer": layer, "subtype": kind, "successors": properties.get("exit_lanes") or []}
    if kind not in SCENARIONET_LAYERS:
        return None
    if token.startswith(OUTLINE_PREFIX):
        return {"layer": "road_edge"}
    return {"layer": SCENARIONET_LAYERS[kind], "subtype": kind}


def _joined(first: MapElement, second: MapElement) -> MapElement | None:
    """One lane of a polygon and a centre line that share a token; None where they are something else."""
    area, line = (first, second) if first.layer == "lane" else (second, first)
    if (area.layer, line.layer) != ("lane", "lane_connector") or line.geometry != line.centre_line:
        return None
    successors = tuple(dict.fromkeys(first.successors + second.successors))
    return replace(area, centre_line=line.centre_line, successors=successors)


def _entered(
    elements: dict[str, MapElement], features: list[tuple[str, dict[str, Any], BaseGeometry]], report: MapReport
) -> dict[str, MapElement]:
    """The elements, each also leading to those that say of themselves (ScenarioNet's ``entry_lanes``) that it leads there."""
    following: dict[str, list[str]] = {}
    for token, feature, _ in features:
        entries = feature["properties"].get("entry_lanes")
        for entry in map(str, entries if isinstance(entries, list) else ()):
            if entry in elements and token in elements:
                following.setdefault(entry, []).append(token)
            elif token in elements:
                report.mended.setdefault(LEADS_NOWHERE, []).append(token)
    return {
        token: replace(x, successors=tuple(dict.fromkeys((*x.successors, *following.get(token, ())))))
        for token, x in elements.items()
    }
