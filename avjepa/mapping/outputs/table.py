"""``changes.csv``: one change a line, for spreadsheets. Shapes as WKT in metres of the map, the middle as WGS84 degrees."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from avjepa.errors import DataError
from avjepa.files import replacing
from avjepa.mapping.changes import ChangeReport, MapChange
from avjepa.mapping.outputs.fields import change_fields, change_of_fields

COLUMNS = (
    *(
        "change_id",
        "status",
        "confidence",
        "atomic_change",
        "layer",
        "description",
        "element_id",
        "world_change",
        "map_edit",
    ),
    *("old_marking", "new_marking", "longitude_deg", "latitude_deg", "hausdorff_m", "position_sigma_m"),
    *("n_traversals", "n_frames", "first_seen", "last_seen", "confirmed_seen", "observed_fraction"),
    *("decision", "note", "reviewed", "old_wkt_m", "new_wkt_m", "evidence"),
)
MAY_BE_EMPTY = (
    "element_id",
    "hausdorff_m",
    "position_sigma_m",
    "first_seen",
    "last_seen",
    "confirmed_seen",
    "reviewed",
)
# A spreadsheet takes a cell that begins so for a formula, and a name from a map or a note could hold one.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def write_csv(path: Path, report: ChangeReport) -> None:
    r"""Write the changes of a report; :func:`read_csv` gives them back. Text that could be a formula gets a ``'`` in front.

    Lone surrogates, which JSON can hold and UTF-8 cannot, are written as their escapes, such as ``\ud800``.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(_row(change, report) for change in report.changes)


def read_csv(path: Path) -> tuple[MapChange, ...]:
    """Read changes.

    Raises:
        DataError: missing, or no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(_change(row) for row in csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name a table of map changes") from error
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error, shapely.errors.ShapelyError) as error:
        raise DataError(f"{path}: not a table of map changes ({error}); write it again") from error


def _row(change: MapChange, report: ChangeReport) -> dict[str, Any]:
    fields = change_fields(change)
    review, evidence = fields.pop("review"), fields.pop("evidence")
    middle = np.array([[change.geometry.centroid.x, change.geometry.centroid.y]])
    longitude_deg, latitude_deg = report.frame.to_wgs84(middle)[0]
    row = (
        fields
        | review
        | {
            "longitude_deg": round(float(longitude_deg), 9),
            "latitude_deg": round(float(latitude_deg), 9),
            "old_wkt_m": _wkt(change.old_geometry),
            "new_wkt_m": _wkt(change.new_geometry),
            "evidence": json.dumps(evidence),
        }
    )
    return {name: _plain(value) if isinstance(value, str) else value for name, value in row.items()}


def _change(row: dict[str, str]) -> MapChange:
    cells = {name: row[name].removeprefix("'") for name in COLUMNS}
    fields: dict[str, Any] = {
        name: None if name in MAY_BE_EMPTY and value == "" else value for name, value in cells.items()
    }
    fields["review"] = {name: fields[name] for name in ("decision", "note", "reviewed")}
    fields["evidence"] = json.loads(cells["evidence"])
    shapes = [shapely.from_wkt(cells[name]) if cells[name] else None for name in ("old_wkt_m", "new_wkt_m")]
    return change_of_fields(fields, *shapes)


def _wkt(shape: shapely.Geometry | None) -> str:
    return "" if shape is None else shapely.to_wkt(shape, rounding_precision=-1)


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
