"""What a reader had to mend in a map, or leave out: counted and named, and too much of it is an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import shapely
from shapely.geometry import LineString, MultiLineString, MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.errors import DataError

MAX_LOST = 0.2  # of a map's elements; above it, the file rather than some elements is broken
NAMED = 3  # tokens in a message
MENDED = "outline crosses itself, mended"
DANGLING = "names nodes or shapes that are not there"
EMPTY = "has no shape"
BAD = "has a shape that cannot be read"
BAD_RECORD = "has no token, or names no shape"
DOUBLE = "has the id of an earlier element"
LEADS_NOWHERE = "leads to elements that are not there, or comes from such, those links removed"
NO_CENTRE = "has a centre line that cannot be read, left without"
NO_PAINT = "has paint that cannot be read, left without"
NO_LINKS = "has successors that cannot be read, left without"
OTHER_KIND = "has a line where its layer wants an area, or the other way round"
FAR = "lies farther from the city's origin than any city reaches"
UNKNOWN = "is of a kind that this reader does not know"
GUESSED_FRAME = "coordinates beyond degrees in a file without a frame, taken as metres of"


@dataclass
class MapReport:
    """Filled while a map is read.

    Attributes:
        path: the file.
        kind: what it is, in words.
        kept: elements kept.
        mended: reason -> tokens of elements that were kept after a repair.
        lost: reason -> tokens of elements that were left out.
        ignored: reason -> tokens of things that no map of ours holds.
        notes: other remarks.
    """

    path: Path
    kind: str = ""
    kept: int = 0
    mended: dict[str, list[str]] = field(default_factory=dict)
    lost: dict[str, list[str]] = field(default_factory=dict)
    ignored: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def num_lost(self) -> int:
        """Elements left out."""
        return sum(map(len, self.lost.values()))

    def lines(self) -> list[str]:
        """The report in words, one remark a line; empty for a clean map."""
        remarks = [
            *((f"{len(tokens)} {reason}", tokens) for reason, tokens in self.mended.items()),
            *((f"{len(tokens)} left out: {reason}", tokens) for reason, tokens in self.lost.items()),
            *((f"{len(tokens)} not used: {reason}", tokens) for reason, tokens in self.ignored.items()),
        ]
        return [f"{self.path}: {text} ({_some(tokens)})" for text, tokens in remarks] + [
            f"{self.path}: {note}" for note in self.notes
        ]

    def finish(self, kept: int) -> None:
        """Judge the whole file.

        Raises:
            DataError: nothing is left of it, or more than a fifth of its elements had to be left out.
        """
        self.kept = kept
        reasons = "; ".join(f"{len(tokens)} {reason} ({_some(tokens)})" for reason, tokens in self.lost.items())
        if kept == 0:
            raise DataError(f"{self.path}: no map element in it{': ' + reasons if reasons else ''}; name another map")
        if self.num_lost > MAX_LOST * (kept + self.num_lost):
            raise DataError(
                f"{self.path}: {self.num_lost} of {kept + self.num_lost} elements cannot be read: {reasons}; "
                "copy or export the map again"
            )


def sound_shape(shape: BaseGeometry | None, token: str, report: MapReport) -> BaseGeometry | None:
    """The shape, valid; None where nothing of it is left. Repairs and losses go into the report.

    A polygon that crosses itself becomes the areas that its outline encloses (shapely's ``make_valid``); what has no area goes.
    Points of a line that repeat the one before go without a word.
    """
    if shape is None or shape.is_empty:
        report.lost.setdefault(EMPTY, []).append(token)
        return None
    if isinstance(shape, LineString | MultiLineString):
        if shape.length > 0:
            return shapely.remove_repeated_points(shape)
        report.lost.setdefault(EMPTY, []).append(token)
        return None
    if shape.is_valid:
        return shape
    parts = list(_polygons(shapely.make_valid(shape)))
    if not parts:
        report.lost.setdefault(EMPTY, []).append(token)
        return None
    report.mended.setdefault(MENDED, []).append(token)
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _polygons(shape: BaseGeometry) -> Iterator[Polygon]:
    for part in shapely.get_parts(shapely.get_parts(shape)):  # twice: a collection may hold multi-polygons
        if isinstance(part, Polygon) and part.area > 0:
            yield part


def _some(tokens: list[str]) -> str:
    return ", ".join(tokens[:NAMED]) + (", ..." if len(tokens) > NAMED else "")
