"""Map changes: an outdated prior map of a town, and the edits that turn it back into the world (the truth to be found).

The world is what the sensors see. Each changed place gets a few edits of one element group each, far enough apart to be told
apart; the prior equals the world everywhere else. The steps are in change_edits.py and change_roads.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.city.change_edits import (
    CityEdit,
    Elements,
    Site,
    crosswalk_gone,
    crosswalk_new,
    divider_colour,
    divider_dashing,
    footprint,
    stop_line_moved,
)
from avjepa.city.change_roads import connector_gone, connector_new, divider_moved, drivable_edge_moved, lane_closed
from avjepa.city.road_map import RoadMap
from avjepa.geometry.map_edit import Place, edit_feature, place_feature

STEPS = {
    crosswalk_new: "insertion",
    crosswalk_gone: "deletion",
    divider_moved: "geometry",
    stop_line_moved: "geometry",
    drivable_edge_moved: "geometry",
    divider_colour: "markings",
    divider_dashing: "type",
    lane_closed: "connectivity",
    connector_new: "connectivity",
    connector_gone: "connectivity",
}
EDITS_MIN, EDITS_MAX = 2, 4  # in a changed place
APART_M = 8.0  # between the geometries of two edits
KEPT_APART_M = 5.0  # from an unchanged place: lanes beside a moved line change too, a few metres off
TRIES = 3  # failures after which a place is not changed


@dataclass(frozen=True)
class ChangePlan:
    """An outdated map and what is wrong with it.

    Attributes:
        prior: the outdated map.
        edits: the differences, prior to world.
        unchanged_places, changed_places: names, in the order given.
        closed_lanes: tokens of lanes that the world closes: barriers stand along ``world_geometry`` of their edit.
    """

    prior: RoadMap
    edits: tuple[CityEdit, ...]
    unchanged_places: tuple[str, ...]
    changed_places: tuple[str, ...]
    closed_lanes: tuple[str, ...]


def plan_changes(world: RoadMap, places: Sequence[Place], rng: np.random.Generator, changed_share: float) -> ChangePlan:
    """Draws changed places and their edits.

    Each edit lies in its place, 5 m or more from unchanged places, and touches no element that another edit touches. An
    element that is changed may reach into an unchanged place, but its shape, its paint and what it leads to are the same
    there. Kinds not used yet come first, then the steps used least; what fits nowhere in a place is left out there.

    Args:
        world: the map as it is.
        places: discs in map metres.
        rng: the only source of chance.
        changed_share: share of the places that change, in [0, 1], rounded to whole places.

    Raises:
        ValueError: the share is out of range, two places have one name, or too few places have room for two edits.
    """
    names = [place.name for place in places]
    if not 0 <= changed_share <= 1 or len(set(names)) != len(names):
        raise ValueError(f"want a share in [0, 1] and places of different names, got {changed_share} and {names}")
    order = [places[i] for i in rng.permutation(len(places))]
    count, failures = round(changed_share * len(places)), Counter()
    while True:
        changed = [place for place in order if failures[place.name] < TRIES][:count]
        if len(changed) < count:
            tried = sorted(name for name in failures if failures[name] == TRIES)
            raise ValueError(f"{count} places are to change, but there is no room for {EDITS_MIN} edits in {tried}")
        changed.sort(key=lambda place: -failures[place.name])  # before its neighbours take the room
        edits, failed = _draw_edits(world, changed, [place for place in places if place not in changed], rng)
        if failed is None:
            break
        failures[failed] += 1
    chosen = {place.name for place in changed}
    return ChangePlan(
        prior=_swap(world, edits, to_world=False),
        edits=tuple(edits),
        unchanged_places=tuple(name for name in names if name not in chosen),
        changed_places=tuple(name for name in names if name in chosen),
        closed_lanes=tuple(token for edit in edits if edit.step == lane_closed.__name__ for token in edit.world_tokens),
    )


def _draw_edits(world: RoadMap, changed: list[Place], unchanged: list[Place], rng) -> tuple[list[CityEdit], str | None]:
    """Edits of all changed places, and the first place that has no room for enough of them."""
    edits, kinds, steps = [], Counter(), Counter()
    kept = shapely.union_all([place.disc for place in unchanged]).buffer(KEPT_APART_M)
    for place in changed:
        wanted = int(rng.integers(EDITS_MIN, EDITS_MAX + 1))
        shuffled = [list(STEPS)[i] for i in rng.permutation(len(STEPS))]
        here: list[CityEdit] = []
        while len(here) < wanted:
            taken = [edit.geometry.buffer(APART_M) for edit in edits + here]
            free = place.disc.difference(shapely.union_all([kept, *taken]))
            touched = {token for edit in edits + here for token in (*edit.world_tokens, *edit.prior_tokens)}
            for step in sorted(shuffled, key=lambda step: (kinds[STEPS[step]] > 0, steps[step])):
                site = Site(world, place.name, free, f"{place.name}-edit{len(here)}", step.__name__, STEPS[step], rng)
                found = next((edit for edit in step(site) if _fits(edit, free, kept, touched)), None)
                if found is not None:
                    break
            else:
                break
            here.append(found)
            kinds[found.kind] += 1
            steps[step] += 1
        if len(here) < EDITS_MIN:
            return edits, place.name
        edits += here
    return edits, None


def _fits(edit: CityEdit, free: BaseGeometry, kept: BaseGeometry, touched: set[str]) -> bool:
    # A way that comes or goes changes what its lanes lead to: no such lane may reach into a place that is the same.
    elements = edit.world_elements + edit.prior_elements if edit.layer == "lane_connector" else ()
    return (
        edit.geometry.within(free)
        and not any(footprint(element).intersects(kept) for _, element in elements)
        and not touched & {*edit.world_tokens, *edit.prior_tokens}
    )


def apply_edits(prior: RoadMap, edits: Sequence[CityEdit]) -> RoadMap:
    """The world: the prior map with all edits made.

    Elements come back exactly; the drivable area does up to rounding (less than 1e-6 m2, collinear points along the kerbs).

    Raises:
        KeyError: the prior lacks an element that an edit changes.
    """
    return _swap(prior, edits, to_world=True)


def _swap(base: RoadMap, edits: Sequence[CityEdit], to_world: bool) -> RoadMap:
    layers = {field.name: dict(getattr(base, field.name)) for field in fields(base) if "dict" in field.type}
    drivable = base.drivable
    for edit in edits:
        sides = (edit.prior_elements, edit.world_elements)
        old, new = sides if to_world else sides[::-1]
        _exchange(layers, old, new)
        if edit.corridor is not None:
            # The other map is made with the corridor, the world with the very strip that this left or took.
            strip = edit.geometry if to_world else edit.corridor
            grows = (edit.world_geometry is None) != to_world
            drivable = strip.union(drivable) if grows else drivable.difference(strip)
    parts = [drivable] if isinstance(drivable, Polygon) else list(drivable.geoms)
    return replace(base, **layers, drivable=MultiPolygon(parts))


def _exchange(layers: dict[str, dict], old: Elements, new: Elements) -> None:
    for layer, element in old:
        del layers[layer][element.token]
    for layer, element in new:
        layers[layer][element.token] = element


def edits_to_geojson(town: str, edits: Sequence[CityEdit], places: Sequence[Place]) -> dict:
    """The truth as a GeoJSON FeatureCollection (RFC 7946, but for the coordinates: metres of the town's frame).

    First the edits, then the places, each as geometry/map_edit.py has it.

    Args:
        town: name of the map, which the foreign member ``frame`` names.
        edits: of any places.
        places: all places, changed or not.
    """
    features = [edit_feature(edit, edit.world_tokens, edit.prior_tokens) for edit in edits]
    features += [place_feature(place, edits) for place in places]
    frame = {"type": "name", "properties": {"name": town, "axes": ["x east", "y north"], "unit": "metre"}}
    return {"type": "FeatureCollection", "frame": frame, "features": features}


def write_geojson(path: Path, town: str, edits: Sequence[CityEdit], places: Sequence[Place]) -> None:
    """Writes edits_to_geojson to a file, the same bytes for the same edits."""
    text = json.dumps(edits_to_geojson(town, edits, places), indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
