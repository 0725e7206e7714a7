"""An out-of-date prior of any vector map: random edits of every kind that the map has room for, drawn from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely.geometry import Point
from shapely.geometry.base import BaseGeometry

from avjepa.conventions import ATOMIC_CHANGES
from avjepa.errors import DataError
from avjepa.geometry.map_edit import Place
from avjepa.mapping.edit_steps import STEPS, Site
from avjepa.mapping.map_edits import ElementEdit, revert_edits
from avjepa.mapping.vector_map import ElementMap

APART_M = 8.0  # between two edits, so that they can be told apart
PLACE_RADIUS_M = 30.0


@dataclass(frozen=True)
class EditedMap:
    """A prior, what tells it from the world, and the discs that cover the region, edited or not."""

    prior: ElementMap
    edits: tuple[ElementEdit, ...]
    places: tuple[Place, ...]


def edit_map(
    world: ElementMap,
    count: int,
    rng: np.random.Generator,
    region: BaseGeometry,
    kinds: Sequence[str] = ATOMIC_CHANGES,
) -> EditedMap:
    """Draw edits inside a region. Kinds not used yet come first, then the steps used least; what fits nowhere is left out.

    No two edits come nearer than 8 m or touch one element, but for strips along the edge of one drivable area, which may be all of
    the road: these share its two sides. The prior equals the world everywhere else, and ``apply_edits(prior, edits)`` is the world.

    Args:
        world: the map as it is.
        count: edits to make.
        rng: the only source of chance.
        region: where, in metres of the map.
        kinds: of ATOMIC_CHANGES; no others are made.

    Raises:
        DataError: there is no room for so many.
    """
    edits: list[ElementEdit] = []
    wanted = [step for step, kind in STEPS.items() if kind in kinds]
    made: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    free, touched, stripped = region, set(), world
    while len(edits) < count:
        shapely.prepare(free)
        shuffled = [wanted[i] for i in rng.permutation(len(wanted))]
        for step in sorted(shuffled, key=lambda step: (made[STEPS[step]] > 0, steps[step.__name__])):
            site = Site(stripped, free, f"{world.frame.name}-edit{len(edits)}", STEPS[step], step.__name__, rng)
            found = next(
                (edit for edit in step(site) if edit.geometry.within(free) and not _touches(edit, touched)), None
            )
            if found is not None:
                break
        else:
            raise DataError(
                f"{world.frame.name}: room for {len(edits)} edits alone, not {count}; ask for fewer or a larger region"
            )
        edits.append(found)
        made[found.kind] += 1
        steps[found.step] += 1
        if _is_strip(found):
            stripped = stripped.exchanged(found.world_tokens, found.prior_elements)
        else:
            touched |= {*found.world_tokens, *found.prior_tokens}
        free = free.difference(found.geometry.buffer(APART_M))
    places = _places(world.frame.name, region)
    edits = [_whole(replace(edit, place=_nearest(places, edit).name), world, stripped) for edit in edits]
    return EditedMap(revert_edits(world, edits), tuple(edits), tuple(places))


def around(xy_m: np.ndarray, distance_m: float) -> BaseGeometry:
    """The region within a distance of positions (n, 2)."""
    return shapely.union_all(shapely.buffer(shapely.points(xy_m), distance_m, quad_segs=4))


def _touches(edit: ElementEdit, touched: set[str]) -> bool:
    return not touched.isdisjoint((*edit.world_tokens, *edit.prior_tokens))


def _is_strip(edit: ElementEdit) -> bool:
    return edit.layer == "drivable_area" and edit.world_tokens == edit.prior_tokens


def _whole(edit: ElementEdit, world: ElementMap, stripped: ElementMap) -> ElementEdit:
    """The edit; of a strip with the whole area on both sides, other strips too."""
    if not _is_strip(edit):
        return edit
    sides = (tuple(side.elements[token] for token in edit.world_tokens) for side in (world, stripped))
    return replace(edit, **dict(zip(("world_elements", "prior_elements"), sides, strict=True)))


def _places(city: str, region: BaseGeometry) -> list[Place]:
    """Discs whose middles are those of squares that tile the region; the squares lie inside the discs."""
    west, south, east, north = region.bounds
    side_m = PLACE_RADIUS_M * np.sqrt(2)
    middles = [
        (float(x), float(y))
        for y in np.arange(south + side_m / 2, north + side_m / 2, side_m)
        for x in np.arange(west + side_m / 2, east + side_m / 2, side_m)
        if shapely.box(x - side_m / 2, y - side_m / 2, x + side_m / 2, y + side_m / 2).intersects(region)
    ]
    return [Place(f"{city}-place{number:03d}", middle, PLACE_RADIUS_M) for number, middle in enumerate(middles)]


def _nearest(places: Sequence[Place], edit: ElementEdit) -> Place:
    return min(places, key=lambda place: edit.geometry.centroid.distance(Point(place.centre_xy_m)))
