"""What tells an out-of-date map from the world, whatever the map is made of: edits, the places they lie in, and their GeoJSON.

An edit is seen from the prior map to the world: an insertion is in the world and not in the prior. The kinds are the six
atomic changes of ArgoTweak (arXiv 2509.08764). All shapes are in metres of the map's frame, x east, y north.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shapely.geometry import Point, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.conventions import ATOMIC_CHANGES
from avjepa.geometry.geojson import from_geojson, to_geojson

GRID_M = 1e-3  # of coordinates in GeoJSON
NAMES = ("token", "place", "kind", "layer", "step", "description")  # of an edit, in the order of its fields
SHAPES = ("geometry", "world_geometry", "prior_geometry")


@dataclass(frozen=True)
class Place:
    """A disc of the map that was edited, or was not."""

    name: str
    centre_xy_m: tuple[float, float]
    radius_m: float

    @property
    def disc(self) -> Polygon:
        """The disc as a polygon (inscribed)."""
        return Point(self.centre_xy_m).buffer(self.radius_m, quad_segs=32)


@dataclass(frozen=True)
class MapEdit:
    """One difference between a prior map and the world; maps add the elements that differ.

    Attributes:
        token: unique name.
        place: name of the place it lies in.
        kind: one of ATOMIC_CHANGES.
        layer: nuScenes map layer of the element that changed: ped_crossing, lane_divider, drivable_area, ...
        step: name of the function that made it, finer than the kind.
        description: one line for people.
        geometry: the area or line where the difference is to be seen.
        world_geometry, prior_geometry: the changed piece on each side; None on the side that lacks it.

    Raises:
        ValueError: an unknown kind.
    """

    token: str
    place: str
    kind: str
    layer: str
    step: str
    description: str
    geometry: BaseGeometry
    world_geometry: BaseGeometry | None
    prior_geometry: BaseGeometry | None

    def __post_init__(self) -> None:
        if self.kind not in ATOMIC_CHANGES:
            raise ValueError(f"{self.token}: unknown kind {self.kind!r}; want {', '.join(ATOMIC_CHANGES)}")


def edit_feature(edit: MapEdit, world_tokens: Sequence[str], prior_tokens: Sequence[str]) -> dict[str, Any]:
    """An edit as a GeoJSON feature, with the names of the elements that differ on each side.

    Its geometry is where to look; the foreign members ``world_geometry`` and ``prior_geometry`` are the two sides, null where one
    lacks the element.
    """
    properties = {"feature": "edit", **{name: getattr(edit, name) for name in NAMES}}
    properties |= {"world_tokens": list(world_tokens), "prior_tokens": list(prior_tokens)}
    return {
        "type": "Feature",
        "id": edit.token,
        "geometry": to_geojson(edit.geometry, GRID_M),
        "properties": properties,
        "world_geometry": to_geojson(edit.world_geometry, GRID_M),
        "prior_geometry": to_geojson(edit.prior_geometry, GRID_M),
    }


def edit_fields(feature: dict[str, Any]) -> tuple[str | BaseGeometry | None, ...]:
    """The fields of :class:`MapEdit`, in their order, of a feature that :func:`edit_feature` made.

    Raises:
        KeyError, TypeError, ValueError: a member is missing, or is no shape.
    """
    names = (feature["properties"][name] for name in NAMES)
    return (*names, *(from_geojson(feature[name]) for name in SHAPES))


def place_feature(place: Place, edits: Sequence[MapEdit]) -> dict[str, Any]:
    """A place as a GeoJSON feature that names those of the edits that lie in it; to have none, and be unchanged, is truth too."""
    tokens = [edit.token for edit in edits if edit.place == place.name]
    properties = {"feature": "place", "place": place.name, "changed": bool(tokens), "edits": tokens}
    properties |= {"centre_xy_m": list(place.centre_xy_m), "radius_m": place.radius_m}
    return {"type": "Feature", "geometry": to_geojson(place.disc, GRID_M), "properties": properties}
