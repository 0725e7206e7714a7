"""Which reported change is which known one.

Rules, of what must agree beside the place:
    kind     the atomic change (the default).
    element  the atomic change and the layer.
    place    nothing: the place was found, whatever was said of it.
Distances, of which at most 3 m are allowed:
    pieces    from the reported shape to the known one, nearest points (the default). Kind to reports that are long.
    centroid  from the reported shape's centroid to the known shape: a shape that covers half a street is not near everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.geometry.map_edit import MapEdit
from avjepa.mapping.changes import MapChange

MATCH_M = 3.0

RULES: dict[str, Callable[[MapChange, MapEdit], bool]] = {
    "kind": lambda event, edit: event.atomic_change == edit.kind,
    "element": lambda event, edit: (event.atomic_change, event.layer) == (edit.kind, edit.layer),
    "place": lambda event, edit: True,
}
DISTANCES_M: dict[str, Callable[[BaseGeometry, BaseGeometry], float]] = {
    "pieces": shapely.distance,
    "centroid": lambda reported, known: shapely.distance(shapely.centroid(reported), known),
}


def match_events(
    events: Sequence[MapChange],
    edits: Sequence[MapEdit],
    in_reach: Sequence[bool],
    rule: str = "kind",
    distance: str = "pieces",
) -> list[int | None]:
    """The number of the edit that each event is; None of those that are none.

    One to one and greedy, as detections are matched in nuScenes (Caesar et al., CVPR 2020, section 3.1): events by falling
    confidence (ties by name), each takes the nearest edit that is free. Edits in reach come before others: an event on an edit
    that nobody asked for is neither right nor wrong, but it must not cost an edit that was.

    Args:
        events: reported changes.
        edits: known ones.
        in_reach: (edits,) whether the edit counts.
        rule: a key of RULES.
        distance: a key of DISTANCES_M.
    """
    agrees, distance_m = RULES[rule], DISTANCES_M[distance]
    edit_of: list[int | None] = [None] * len(events)
    free = set(range(len(edits)))
    for number in sorted(range(len(events)), key=lambda n: (-events[n].confidence, events[n].change_id)):
        event = events[number]
        found = [
            (not in_reach[candidate], metres, candidate)
            for candidate in free
            if agrees(event, edits[candidate])
            and (metres := distance_m(event.geometry, edits[candidate].geometry)) <= MATCH_M
        ]
        if found:
            edit_of[number] = min(found)[2]
            free.remove(edit_of[number])
    return edit_of
