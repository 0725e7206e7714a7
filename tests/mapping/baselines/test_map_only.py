import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, box

from avjepa.conventions import ATOMIC_CHANGES
from avjepa.errors import DataError
from avjepa.mapping.baselines.map_only import (
    Piece,
    drawn_changes,
    edited_piece,
    fit_map_only,
    likely_changes,
    map_features,
    pieces_of,
)
from avjepa.mapping.drive_paths import seen_region
from avjepa.mapping.vector_map import LAYERS
from tests.mapping.evaluation.scenes import edit, straight
from tests.mapping.test_map_edits import street_map

PATHS = [straight(np.arange(0, 201, 5), y_m=-2.0)]
REGION = seen_region(PATHS)


def insertion(name, shape, layer):
    """A known insertion, which the prior lacks."""
    known = edit(name, shape, "insertion", layer)
    return type(known)(name, "place", "insertion", layer, "by_hand", "", shape, shape, None)


def test_long_elements_fall_into_squares_and_small_ones_stay_whole():
    pieces = pieces_of(street_map(), REGION)
    road = [
        piece for piece in pieces if piece.element.token == "road"
    ]  # 200 x 12 m about y = 0: squares above and below
    assert len(road) == 20
    assert sum(piece.shape.area for piece in road) == pytest.approx(200 * 12)
    assert [piece.shape for piece in pieces if piece.element.token == "zebra"] == [box(20, -6, 24, 6)]
    line = [piece.shape.length for piece in pieces if piece.element.token == "side"]
    assert sum(line) == pytest.approx(200)
    assert max(line) == pytest.approx(20)
    assert pieces_of(street_map(), box(1000, 0, 1010, 10)) == []


def test_the_piece_that_was_edited():
    pieces = pieces_of(street_map(), REGION)
    moved = edit("moved", box(150, -4, 160, -3.5), layer="lane_divider")
    assert pieces[edited_piece(pieces, moved)].element.token == "short"
    assert pieces[edited_piece(pieces, moved)].shape.bounds[0] == 150
    assert edited_piece(pieces, insertion("new", box(100, -6, 104, 6), "ped_crossing")) is None
    assert edited_piece(pieces, edit("elsewhere", box(500, 0, 510, 5), layer="lane_divider")) is None


def test_features_of_a_piece_by_hand():
    world = street_map()
    short = world.elements["short"]  # a line 40 m long on the edge of the road's two lanes
    features = map_features(world, [Piece(short, LineString([(150, -4), (160, -4)]))])[0]
    assert features[: len(LAYERS)].tolist() == [layer == "lane_divider" for layer in LAYERS]
    # Within 5 m: road, both lanes, the middle line; the other line is 8 m off, the kerb 10 m, so within 15 m all six.
    assert features[len(LAYERS) :] == pytest.approx(np.log1p([40.0, 0, 4, 6]))


def test_base_rates_are_those_of_the_town():
    known = [
        edit("zebra", box(20, -6, 24, 6), "deletion", "ped_crossing"),
        insertion("new", box(0, 0, 9, 1), "stop_line"),
    ]
    model = fit_map_only(street_map(), known, REGION)
    crossing = LAYERS.index("ped_crossing")
    assert model.rates[crossing] == 1.0
    assert model.rates.sum() == 1.0
    # A whole edit and the sixth of one that every kind has beforehand.
    assert model.kind_shares[crossing, ATOMIC_CHANGES.index("deletion")] == pytest.approx((1 + 1 / 6) / 2)
    assert model.kind_shares.sum(1) == pytest.approx(np.ones(len(LAYERS)))
    assert model.inserted_per_m2[LAYERS.index("stop_line")] == pytest.approx(1 / REGION.area)
    with pytest.raises(DataError, match="no map element"):
        fit_map_only(street_map(), known, box(1000, 0, 1010, 10))


def test_draws_come_at_the_base_rate_and_from_the_seed():
    known = [
        edit("dash", LineString([(40, 4), (60, 4)]), "type", "lane_divider"),
        insertion("new", box(0, 0, 9, 1), "stop_line"),
    ]
    model = fit_map_only(street_map(), known, REGION)
    runs = [drawn_changes(model, street_map(), PATHS, np.random.default_rng(seed)) for seed in range(25)]
    counts = [sum(change.layer == "lane_divider" for change in run) for run in runs]
    assert 0.4 < np.mean(counts) < 1.8  # one edit in this street: the mean of 25 draws is 1 +- 0.2
    inserted = [sum(change.atomic_change == "insertion" for change in run) for run in runs]
    assert 0.2 < np.mean(inserted) < 1.7  # some are drawn out of sight
    again = drawn_changes(model, street_map(), PATHS, np.random.default_rng(7))
    assert again == runs[7]
    assert all(change.status == "confirmed" for run in runs for change in run)
    assert {change.layer for run in runs for change in run} == {"lane_divider", "stop_line"}


def test_the_map_that_gives_its_edits_away():
    # In this prior every cut line is an edit, as where a tool has cut them: the control finds what it was fitted on.
    world = street_map()
    cuts = [
        world.elements["short"].__class__(f"cut{i}", "lane_divider", LineString([(x, 2), (x + 3, 2)]))
        for i, x in enumerate((10, 60, 110))
    ]
    prior = world.exchanged([], cuts)
    known = [edit(cut.token, cut.geometry, "type", "lane_divider") for cut in cuts]
    model = fit_map_only(prior, known, REGION)
    changes = likely_changes(model, prior, PATHS)
    ranked = sorted(changes, key=lambda change: -change.confidence)
    assert {change.element_id for change in ranked[:3]} == {"cut0", "cut1", "cut2"}
    assert {change.atomic_change for change in ranked[:3]} == {"type"}
    assert all(0 <= change.confidence <= 1 and change.n_frames > 0 for change in changes)
    assert all((change.status == "confirmed") == (change.confidence >= 0.5) for change in changes)
    assert not any(change.atomic_change == "insertion" for change in changes)
    names = shapely.union_all([change.geometry for change in ranked[:3]])
    assert names.length == pytest.approx(9.0)
