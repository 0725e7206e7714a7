"""Shapes as GeoJSON geometry objects (RFC 7946) and back, in whatever coordinates they come."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon, mapping
from shapely.geometry import shape as shape_of
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

GEOMETRY_TYPES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")


def to_geojson(shape: BaseGeometry | None, grid_m: float | None = None) -> dict | None:
    """A geometry object: outer rings run counter-clockwise (RFC 7946, section 3.1.6); None stays None.

    Args:
        shape: what to write.
        grid_m: coordinates are rounded to multiples of it; None writes them as they are.
    """
    if shape is None:
        return None
    if grid_m is not None:
        shape = shapely.set_precision(shape, grid_m)
    return json.loads(json.dumps(mapping(oriented(shape))))  # lists, as a reader would see them


def from_geojson(geometry: Any) -> BaseGeometry | None:
    """A shape in two dimensions; None of null.

    Raises:
        ValueError: no geometry object, a collection, an empty one, or a coordinate is no finite number.
    """
    if geometry is None:
        return None
    if not isinstance(geometry, dict) or geometry.get("type") not in GEOMETRY_TYPES:
        kind = geometry.get("type") if isinstance(geometry, dict) else type(geometry).__name__
        raise ValueError(f"want a geometry of type {', '.join(GEOMETRY_TYPES)}, got {kind}")
    try:
        shape = shapely.force_2d(shape_of(geometry))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, shapely.errors.ShapelyError) as error:
        raise ValueError(f"a {geometry['type']} with bad coordinates ({error})") from error
    if shape.is_empty or not np.isfinite(shapely.get_coordinates(shape)).all():
        raise ValueError(f"a {geometry['type']} that is empty or not finite")
    return shape


def oriented(shape: BaseGeometry) -> BaseGeometry:
    """The shape with outer rings counter-clockwise and holes clockwise."""
    if isinstance(shape, Polygon):
        return orient(shape)
    if isinstance(shape, MultiPolygon):
        return MultiPolygon([orient(part) for part in shape.geoms])
    return shape
