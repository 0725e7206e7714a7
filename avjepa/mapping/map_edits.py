"""Edits that tell a prior map from the world, and the truth files that hold them.

The files have the shape of the mini city's (``maps/changes/<town>.geojson``), and two members more for every edit: the elements on
both sides, whole and not rounded. So a truth file and a prior give back the world, exactly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avjepa.errors import DataError
from avjepa.files import replacing
from avjepa.geometry.geojson import from_geojson
from avjepa.geometry.map_edit import MapEdit, Place, edit_feature, edit_fields, place_feature
from avjepa.mapping.frames import MapFrame, frame_of_contract
from avjepa.mapping.geojson_maps import element_feature, feature_element, load_collection
from avjepa.mapping.vector_map import ElementMap, MapElement


@dataclass(frozen=True)
class ElementEdit(MapEdit):
    """An edit of an ElementMap.

    Attributes:
        world_elements, prior_elements: the elements that differ, whole, on each side; several edits of one area have the same.

    Raises:
        ValueError: an unknown kind, or nothing differs.
    """

    world_elements: tuple[MapElement, ...]
    prior_elements: tuple[MapElement, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.world_elements == self.prior_elements:
            raise ValueError(f"{self.token}: nothing differs")

    @property
    def world_tokens(self) -> tuple[str, ...]:
        """Elements that differ, as the world names them."""
        return tuple(element.token for element in self.world_elements)

    @property
    def prior_tokens(self) -> tuple[str, ...]:
        """Elements that differ, as the prior names them."""
        return tuple(element.token for element in self.prior_elements)


def apply_edits(prior: ElementMap, edits: Sequence[ElementEdit]) -> ElementMap:
    """The world: the prior with all edits made, in any order.

    Raises:
        KeyError: the prior lacks an element that an edit changes.
        ValueError: it has one already that an edit brings.
    """
    for edit in edits:
        prior = prior.exchanged(edit.prior_tokens, edit.world_elements)
    return prior


def revert_edits(world: ElementMap, edits: Sequence[ElementEdit]) -> ElementMap:
    """The prior: the inverse of :func:`apply_edits`."""
    for edit in edits:
        world = world.exchanged(edit.world_tokens, edit.prior_elements)
    return world


def write_truth(path: Path, frame: MapFrame, edits: Sequence[ElementEdit], places: Sequence[Place]) -> None:
    """Write edits, then places; a place without edits is truth too. The same bytes for the same edits."""
    features = [_edit_feature(edit) for edit in edits] + [place_feature(place, edits) for place in places]
    collection = {"type": "FeatureCollection", "frame": frame.contract(), "features": features}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(collection, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_truth(path: Path) -> tuple[MapFrame, list[ElementEdit]]:
    """Read what :func:`write_truth` wrote.

    Raises:
        DataError: missing, or no truth with whole elements (the mini city's files hold none).
    """
    collection = load_collection(path)
    try:
        frame = frame_of_contract(collection["frame"])
        features = [feature for feature in collection["features"] if feature["properties"]["feature"] == "edit"]
        return frame, [_edit(feature) for feature in features]
    except KeyError as error:
        raise DataError(f"{path}: no member {error}; want the truth that tools/edit_map.py writes") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); write it again with tools/edit_map.py") from error


def _edit_feature(edit: ElementEdit) -> dict[str, Any]:
    return {
        **edit_feature(edit, edit.world_tokens, edit.prior_tokens),
        "world_elements": [element_feature(element) for element in edit.world_elements],
        "prior_elements": [element_feature(element) for element in edit.prior_elements],
    }


def _edit(feature: dict[str, Any]) -> ElementEdit:
    sides = (tuple(map(_element, feature[name])) for name in ("world_elements", "prior_elements"))
    return ElementEdit(*edit_fields(feature), *sides)


def _element(feature: dict[str, Any]) -> MapElement:
    return feature_element(feature["id"], feature, from_geojson(feature["geometry"]), lambda shape: shape)
