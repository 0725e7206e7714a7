"""``changes.geojson``: a report by RFC 7946: WGS84, longitude before latitude, outer rings counter-clockwise, bbox, no crs.

A feature's geometry is where to look: the new geometry, or the old one of what is gone (``geometry_is`` says which). The old
geometry, where there is one, is a property too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.errors import DataError
from avjepa.files import replacing
from avjepa.geometry.geojson import from_geojson, to_geojson
from avjepa.mapping.changes import ChangeReport, MapChange
from avjepa.mapping.frames import MapFrame
from avjepa.mapping.outputs.fields import change_fields, change_of_fields, report_fields, report_of_fields
from avjepa.mapping.outputs.local_json import load_json

DECIMALS = 9  # 0.1 mm; RFC 7946 asks for no more than the data have, and what is read back should be what was written


def write_changes_geojson(path: Path, report: ChangeReport) -> None:
    """Write a report; :func:`read_changes_geojson` gives it back with shapes that differ by less than a millimetre."""
    features = [_feature(change, report.frame) for change in report.changes]
    collection: dict[str, Any] = {"type": "FeatureCollection"}
    if features:
        bounds = shapely.total_bounds([report.frame.shape_to_wgs84(change.geometry) for change in report.changes])
        collection["bbox"] = [round(float(degrees), DECIMALS) for degrees in bounds]
    collection |= {"features": features, "report": report_fields(report)}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(collection, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_changes_geojson(path: Path) -> ChangeReport:
    """Read a report.

    Raises:
        DataError: missing, not JSON, or no report.
    """
    collection = load_json(path, "a report of map changes")
    try:
        report = report_of_fields(collection["report"], [])
        changes = [_change(feature, report.frame) for feature in collection["features"]]
        return report_of_fields(collection["report"], changes)
    except KeyError as error:
        raise DataError(f"{path}: no field {error}; write the report again") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a report of map changes ({error}); write it again") from error


def _feature(change: MapChange, frame: MapFrame) -> dict[str, Any]:
    is_old = change.new_geometry is None
    properties = change_fields(change) | {
        "geometry_is": "old" if is_old else "new",
        "old_geometry": _degrees(change.old_geometry, frame),
    }
    return {
        "type": "Feature",
        "id": change.change_id,
        "geometry": _degrees(change.geometry, frame),
        "properties": properties,
    }


def _change(feature: dict[str, Any], frame: MapFrame) -> MapChange:
    properties = feature["properties"]
    old, shown = from_geojson(properties["old_geometry"]), from_geojson(feature["geometry"])
    new = None if properties["geometry_is"] == "old" else shown
    sides = [None if shape is None else frame.shape_to_map(shape) for shape in (old, new)]
    return change_of_fields(properties, *sides)


def _degrees(shape: BaseGeometry | None, frame: MapFrame) -> dict[str, Any] | None:
    if shape is None:
        return None
    return to_geojson(shapely.transform(frame.shape_to_wgs84(shape), lambda degrees: degrees.round(DECIMALS)))
