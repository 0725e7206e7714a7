"""Changes as events: precision, recall and F1, what was missed, and how often a street that is as mapped is called changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from avjepa.geometry.map_edit import MapEdit
from avjepa.mapping.changes import MapChange
from avjepa.mapping.drive_paths import SIGHT_M, DrivePath
from avjepa.mapping.evaluation.matching import match_events
from avjepa.mapping.evaluation.truth import Reach

SAME_STREET_M = 10.0  # a pass not further from an earlier one is on the same street
SAME_PASS_M = 20.0  # behind the car, its own pass


@dataclass(frozen=True)
class EventScore:
    """Counts of one matching.

    Attributes:
        found: events that are an edit in reach; so many edits were found.
        wrong: events that are no edit.
        missed: edits in reach that no event is.
        aside: events that are an edit out of reach; they count nowhere.
    """

    found: int
    wrong: int
    missed: int
    aside: int

    @property
    def precision(self) -> float:
        """Share found / (found + wrong); nan without events."""
        return ratio(self.found, self.found + self.wrong)

    @property
    def recall(self) -> float:
        """Share found / (found + missed); nan without edits in reach."""
        return ratio(self.found, self.found + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of both; 0 where nothing is found, nan where there is neither an event nor an edit."""
        return ratio(2 * self.found, 2 * self.found + self.wrong + self.missed)


def ratio(part: float, whole: float) -> float:
    """The quotient; nan where there is nothing to divide by."""
    return part / whole if whole else math.nan


def with_status(changes: Sequence[MapChange], statuses: Sequence[str]) -> list[MapChange]:
    """Changes of these statuses; worn paint and what nobody saw are no events."""
    return [change for change in changes if change.status in statuses]


def score_events(events: Sequence[MapChange], reach: Reach, rule: str = "kind", distance: str = "pieces") -> EventScore:
    """Match events to edits and count; see :func:`match_events`."""
    edit_of = match_events(events, reach.edits, reach.in_reach, rule, distance)
    found = sum(edit is not None and reach.in_reach[edit] for edit in edit_of)
    wrong = sum(edit is None for edit in edit_of)
    return EventScore(found, wrong, len(reach.counted) - found, len(events) - found - wrong)


def recall_by(
    events: Sequence[MapChange], reach: Reach, name: Callable[[int, MapEdit], str]
) -> dict[str, tuple[int, int]]:
    """Edits found and edits in reach by name (a kind, a layer, ...), matched by kind and place.

    Args:
        events: reported changes.
        reach: the known ones.
        name: of an edit by its number.
    """
    found = set(match_events(events, reach.edits, reach.in_reach))
    names = {number: name(number, reach.edits[number]) for number in reach.counted}
    there, told = Counter(names.values()), Counter(names[number] for number in names if number in found)
    return {key: (told[key], there[key]) for key in sorted(there)}


def false_events(events: Sequence[MapChange], reach: Reach) -> int:
    """Events that are no edit of any kind, on unchanged street: further than 20 m from every edit, in reach or not."""
    edit_of = match_events(events, reach.edits, reach.in_reach, rule="place")
    shapes = [edit.geometry for edit in reach.edits]
    return sum(
        edit is None and all(shapely.distance(event.geometry, shape) > SIGHT_M for shape in shapes)
        for event, edit in zip(events, edit_of, strict=True)
    )


def unchanged_km(paths: Sequence[DrivePath], edits: Sequence[MapEdit]) -> float:
    """Kilometres of street that were driven further than 20 m from every edit, in reach or not; a street driven twice counts once,
    as an event on it does.
    """
    zone = shapely.union_all([edit.geometry.buffer(SIGHT_M, quad_segs=32) for edit in edits])
    segments = np.concatenate([path.segments for path in paths])
    drive = np.repeat(np.arange(len(paths)), [len(path.segments) for path in paths])
    end_m = np.concatenate([np.cumsum(path.steps_m) for path in paths])
    tree, total_m = shapely.STRtree(segments), 0.0
    for number, segment in enumerate(segments):
        near = tree.query(segment, predicate="dwithin", distance=SAME_STREET_M)
        is_earlier = (drive[near] < drive[number]) | (
            (drive[near] == drive[number]) & (end_m[near] < end_m[number] - SAME_PASS_M)
        )
        street = shapely.union_all(segments[near[is_earlier]]).buffer(SAME_STREET_M)
        total_m += segment.difference(street).difference(zone).length
    return total_m / 1000
