"""What the map alone says of its own errors: a control without sensors (TbV's "map only" row).

Where priors are made by edits, the edits leave marks in the map (a line cut in three, a crosswalk without stop lines), and a
detector may learn those instead of the street. What this control scores above chance, any detector could have got without looking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.conventions import ATOMIC_CHANGES
from avjepa.errors import DataError
from avjepa.geometry.map_edit import MapEdit
from avjepa.mapping.baselines.sights import seen_part, sight_of
from avjepa.mapping.changes import MapChange, change_id_of
from avjepa.mapping.drive_paths import DrivePath, seen_region, share_within
from avjepa.mapping.evaluation.matching import MATCH_M
from avjepa.mapping.logistic import Logistic, fit_logistic
from avjepa.mapping.vector_map import LAYERS, ElementMap, MapElement

TOUCH_M = 0.1  # elements that continue each other
NEAR_M = (5.0, 15.0)
OVERLAP_M = 0.5  # between an edit and the element it is an edit of
CONFIRMED, CANDIDATE = 0.5, 0.05  # from which probability on
SHIFT_M = (15.0, 30.0)  # from an element to an invented one beside it
TILE_M = 20.0  # an element is judged piece by piece: a road may run through the whole town, a change does not


@dataclass(frozen=True)
class Piece:
    """What of an element lies in one square of the map and in a region."""

    element: MapElement
    shape: BaseGeometry


@dataclass(frozen=True)
class MapOnlyModel:
    """Fitted on one town's map and its known errors.

    Attributes:
        regression: whether a piece changed.
        kind_shares: (LAYERS, ATOMIC_CHANGES) share of the kinds among a layer's changed pieces; rows add up to 1.
        rates: (LAYERS,) share of a layer's pieces that changed.
        inserted_per_m2: (LAYERS,) insertions for each square metre of map.
    """

    regression: Logistic
    kind_shares: np.ndarray
    rates: np.ndarray
    inserted_per_m2: np.ndarray

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n,) that a piece changed, of features (n, F)."""
        return self.regression.probabilities(features)


def fit_map_only(prior: ElementMap, edits: Sequence[MapEdit], region: BaseGeometry) -> MapOnlyModel:
    """Fit on the part of a prior in a region and on what is known to be wrong with it.

    Raises:
        DataError: the region holds no element.
    """
    pieces = pieces_of(prior, region)
    if not pieces:
        raise DataError(f"{prior.frame.name}: no map element near these drives; fit on drives of the map")
    inside = [edit for edit in edits if edit.geometry.intersects(region)]
    kind_of = {number: edit.kind for edit in inside if (number := edited_piece(pieces, edit)) is not None}
    is_changed = np.array([number in kind_of for number in range(len(pieces))])
    layers = np.array([LAYERS.index(piece.element.layer) for piece in pieces])
    kinds = np.ones((len(LAYERS), len(ATOMIC_CHANGES))) / len(
        ATOMIC_CHANGES
    )  # a sixth of an edit each: none is impossible
    for number, kind in kind_of.items():
        kinds[layers[number], ATOMIC_CHANGES.index(kind)] += 1
    inserted = Counter(edit.layer for edit in inside if edit.kind == "insertion")
    return MapOnlyModel(
        regression=fit_logistic(map_features(prior, pieces), is_changed),
        kind_shares=kinds / kinds.sum(1, keepdims=True),
        rates=np.array([is_changed[layers == i].mean() if (layers == i).any() else 0.0 for i in range(len(LAYERS))]),
        inserted_per_m2=np.array([inserted[layer] for layer in LAYERS]) / region.area,
    )


def pieces_of(prior: ElementMap, region: BaseGeometry) -> list[Piece]:
    """The map in a region, cut into pieces by squares of 20 m; elements no larger than a square stay whole."""
    pieces = []
    for element in prior.near(region, 0.0):
        west, south, east, north = element.geometry.bounds
        if max(east - west, north - south) <= TILE_M:
            pieces.append(Piece(element, element.geometry))
            continue
        seen = seen_part(element.geometry, region)
        cuts = [] if seen is None else [seen_part(seen, tile) for tile in _tiles(seen.bounds)]
        pieces += [Piece(element, cut) for cut in cuts if cut is not None]
    return pieces


def edited_piece(pieces: Sequence[Piece], edit: MapEdit) -> int | None:
    """The number of the piece that an edit is an edit of: that of its layer which it overlaps most; None of an insertion."""
    shape = edit.geometry if edit.prior_geometry is None and edit.kind == "geometry" else edit.prior_geometry
    if shape is None:
        return None
    zone = shape.buffer(OVERLAP_M)
    overlap_m2 = {
        number: zone.intersection(piece.shape.buffer(OVERLAP_M)).area
        for number, piece in enumerate(pieces)
        if piece.element.layer == edit.layer and piece.shape.intersects(zone)
    }
    return max(overlap_m2, key=overlap_m2.__getitem__, default=None)


def map_features(prior: ElementMap, pieces: Sequence[Piece]) -> np.ndarray:
    """(n, F) of pieces: layer, size, neighbours. Names, which tell how an edit was made, are left out.

    Columns: one for each of LAYERS; log(1 + length or square root of area, in metres) of the whole element; of the same layer,
    log(1 + elements that touch the piece); of any layer, log(1 + elements within 5 m of it) and within 15 m.
    """
    rows = []
    for piece in pieces:
        whole, layer = piece.element.geometry, piece.element.layer
        size_m = whole.area**0.5 if whole.area else whole.length
        touching = sum(other.layer == layer for other in prior.near(piece.shape, TOUCH_M)) - 1  # but for itself
        counts = [touching, *(len(prior.near(piece.shape, distance_m)) - 1 for distance_m in NEAR_M)]
        rows.append([*(layer == name for name in LAYERS), *np.log1p([size_m, *counts])])
    return np.array(rows, dtype=np.float64)


def drawn_changes(
    model: MapOnlyModel, prior: ElementMap, paths: Sequence[DrivePath], rng: np.random.Generator
) -> list[MapChange]:
    """Changes drawn at the base rate of every layer and kind, whatever the elements look like; all confirmed.

    The confidence of an insertion is the chance that one lies within 3 m of the shape that was drawn for it.
    """
    region = seen_region(paths)
    pieces = pieces_of(prior, region)
    changes = []
    for piece in pieces:
        layer = LAYERS.index(piece.element.layer)
        if rng.random() < model.rates[layer]:
            shares = _shares_of_what_is_there(model, layer)
            kind = int(rng.choice(len(ATOMIC_CHANGES), p=shares))
            confidence = float(model.rates[layer] * shares[kind])
            changes.append(_change(piece, ATOMIC_CHANGES[kind], confidence, "confirmed", region, paths))
    for layer, per_m2 in zip(LAYERS, model.inserted_per_m2, strict=True):
        there = [piece for piece in pieces if piece.element.layer == layer]
        for _ in range(rng.poisson(per_m2 * region.area) if there else 0):
            piece = there[int(rng.integers(len(there)))]
            shift_m = rng.uniform(*SHIFT_M) * _direction(rng)
            shape = shapely.transform(piece.shape, lambda xy, shift_m=shift_m: xy + shift_m)
            confidence = min(float(per_m2 * shape.buffer(MATCH_M).area), 1.0)
            changes.append(_change(Piece(piece.element, shape), "insertion", confidence, "confirmed", region, paths))
    return _unique(changes)


def likely_changes(model: MapOnlyModel, prior: ElementMap, paths: Sequence[DrivePath]) -> list[MapChange]:
    """Pieces that look edited: each by the kind that is most usual in its layer; confirmed from probability 0.5 on."""
    region = seen_region(paths)
    pieces = pieces_of(prior, region)
    changes = []
    for piece, changed in zip(pieces, model.probabilities(map_features(prior, pieces)), strict=True):
        shares = _shares_of_what_is_there(model, LAYERS.index(piece.element.layer))
        kind = int(shares.argmax())
        confidence = float(changed * shares[kind])
        if confidence >= CANDIDATE:
            status = "confirmed" if confidence >= CONFIRMED else "candidate"
            changes.append(_change(piece, ATOMIC_CHANGES[kind], confidence, status, region, paths))
    return _unique(changes)


def _shares_of_what_is_there(model: MapOnlyModel, layer: int) -> np.ndarray:
    """Shares of the kinds of a layer but insertions: what the map has was not inserted."""
    shares = model.kind_shares[layer] * [kind != "insertion" for kind in ATOMIC_CHANGES]
    return shares / shares.sum()


def _change(
    piece: Piece, kind: str, confidence: float, status: str, region: BaseGeometry, paths: Sequence[DrivePath]
) -> MapChange | None:
    shape = seen_part(piece.shape, region)
    sight = None if shape is None else sight_of(shape, paths)
    if sight is None:
        return None
    has_old, has_new = kind != "insertion", kind in ("insertion", "markings", "type")
    element_id = piece.element.token if has_old else None
    return MapChange(
        change_id=change_id_of(piece.element.layer, kind, element_id, shape),
        element_id=element_id,
        layer=piece.element.layer,
        atomic_change=kind,
        status=status,
        confidence=confidence,
        n_traversals=sight.n_traversals,
        n_frames=sight.n_frames,
        first_seen=sight.first_seen,
        last_seen=sight.last_seen,
        observed_fraction=share_within(piece.shape, region),
        old_geometry=shape if has_old else None,
        new_geometry=shape if has_new else None,
        description="told from the map alone",
        evidence=sight.evidence,
    )


def _tiles(bounds: tuple[float, float, float, float]) -> list[BaseGeometry]:
    west, south, east, north = (np.asarray(bounds) / TILE_M).tolist()
    return [
        shapely.box(x * TILE_M, y * TILE_M, (x + 1) * TILE_M, (y + 1) * TILE_M)
        for y in range(int(np.floor(south)), int(np.floor(north)) + 1)
        for x in range(int(np.floor(west)), int(np.floor(east)) + 1)
    ]


def _unique(changes: Sequence[MapChange | None]) -> list[MapChange]:
    return list({change.change_id: change for change in changes if change is not None}.values())


def _direction(rng: np.random.Generator) -> np.ndarray:
    angle_rad = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle_rad), np.sin(angle_rad)])
