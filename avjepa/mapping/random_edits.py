"""An out-of-date prior of any vector map: random edits of every kind that the map has room for, drawn from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely.geometry import Point
from shapely.geometry.base import BaseGeometry

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


def edit_map(world: ElementMap, count: int, rng: np.random.Generator, region: BaseGeometry) -> EditedMap:
    """Draw edits inside a region. Kinds not used yet come first, then the steps used least; what fits nowhere is left out.

    No two edits touch one element or come nearer than 8 m; the prior equals the world everywhere else, and
    ``apply_edits(prior, edits)`` is the world.

    Args:
        world: the map as it is.
        count: edits to make.
        rng: the only source of chance.
        region: where, in metres of the map.

    Raises:
        DataError: there is no room for so many.
    """
    edits: list[ElementEdit] = []
    kinds: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    free, touched = region, set()
    while len(edits) < count:
        shapely.prepare(free)
        shuffled = [list(STEPS)[i] for i in rng.permutation(len(STEPS))]
        for step in sorted(shuffled, key=lambda step: (kinds[STEPS[step]] > 0, steps[step.__name__])):
            site = Site(world, free, f"{world.frame.name}-edit{len(edits)}", STEPS[step], step.__name__, rng)
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
        kinds[found.kind] += 1
        steps[found.step] += 1
        touched |= {*found.world_tokens, *found.prior_tokens}
        free = free.difference(found.geometry.buffer(APART_M))
    places = _places(world.frame.name, region)
    edits = [replace(edit, place=_nearest(places, edit).name) for edit in edits]
    return EditedMap(revert_edits(world, edits), tuple(edits), tuple(places))


def around(xy_m: np.ndarray, distance_m: float) -> BaseGeometry:
    """The region within a distance of positions (n, 2)."""
    return shapely.union_all(shapely.buffer(shapely.points(xy_m), distance_m, quad_segs=4))


def _touches(edit: ElementEdit, touched: set[str]) -> bool:
    return not touched.isdisjoint((*edit.world_tokens, *edit.prior_tokens))


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
