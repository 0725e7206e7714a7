"""``changes_local.json``: a report in metres of the map, with its frame contract. The file that loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import shapely

from avjepa.errors import DataError
from avjepa.files import write_json
from avjepa.geometry.geojson import from_geojson
from avjepa.mapping.changes import ChangeReport
from avjepa.mapping.outputs.fields import change_fields, change_of_fields, report_fields, report_of_fields


def write_local_json(path: Path, report: ChangeReport) -> None:
    """Write a report; :func:`read_local_json` gives the same one back, to the last digit."""
    changes = [
        change_fields(change)
        | {"old_geometry": _exact(change.old_geometry), "new_geometry": _exact(change.new_geometry)}
        for change in report.changes
    ]
    write_json(path, {**report_fields(report), "changes": changes})


def read_local_json(path: Path) -> ChangeReport:
    """Read a report.

    Raises:
        DataError: missing, not JSON, or no report.
    """
    fields = load_json(path, "a report of map changes")
    try:
        changes = [
            change_of_fields(change, from_geojson(change["old_geometry"]), from_geojson(change["new_geometry"]))
            for change in fields["changes"]
        ]
        return report_of_fields(fields, changes)
    except KeyError as error:
        raise DataError(f"{path}: no field {error}; write the report again") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a report of map changes ({error}); write it again") from error


def load_json(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: missing, not JSON, or something else.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name {what}") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged, not JSON ({error}); export {what} again") from error
    if not isinstance(loaded, dict):
        raise DataError(f"{path}: not {what}; name another file")
    return loaded


def _exact(shape: shapely.Geometry | None) -> dict | None:
    return None if shape is None else json.loads(shapely.to_geojson(shape))
