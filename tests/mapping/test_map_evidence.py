"""Learned evidence on planted worlds: rasters, the likelihood ratio in closed form, what training recovers, what files refuse."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapely.geometry import LineString, box

from avjepa.conventions import FREE, UNOBSERVED
from avjepa.errors import CheckpointError, ConfigError
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import transform_from_se2
from avjepa.mapping.candidates import Candidate
from avjepa.mapping.evidence_material import Material
from avjepa.mapping.learned_evidence import (
    EmbeddedFrame,
    LearnedOdds,
    Reading,
    difference_of,
    fused,
    read_differences,
    with_readings,
)
from avjepa.mapping.logistic import Logistic
from avjepa.mapping.map_conditioned import MapConditioned, around, context_of, gaussian_log_likelihood
from avjepa.mapping.map_evidence import (
    Calibration,
    Origin,
    load_map_evidence,
    save_map_evidence,
    train_map_evidence,
)
from avjepa.mapping.map_rasters import MapDifference, counted, drawn, shares, with_difference
from avjepa.mapping.vector_map import MapElement
from avjepa.mapping.weighing import Weighed, calibrated, first_sure, weigh
from avjepa.probes.heads import HeadTraining
from avjepa.probes.metrics.map_iou import MAP_CLASSES
from tests.mapping.painted_ground import prior_of
from tests.mapping.reports import change

GRID = BEVGrid((-12.8, 12.8), (-12.8, 12.8), (-5.0, 3.0), cell_m=0.8, cell_z_m=8.0)  # 32 x 32 cells
CROSSING = MAP_CLASSES.index("ped_crossing")
HERE = np.eye(4)
CHANNELS = 4
DRIVES = ("scene-0061/0123456789abcdef",)
ORIGIN = Origin("configs/some.py", "last.pth", 0, "fingerprint", DRIVES)
STEPS = HeadTraining("conv", steps=150, batch_size=4, learning_rate=1e-2, crop_cells=24)


def quiet(items, what, total):
    return items


def crossing(token, west, south, east, north):
    return MapElement(token, "ped_crossing", box(west, south, east, north))


def planted(covers, generator):
    """Features of a world in which crosswalks shift the embedding by (2, -1, 0, 0), with noise of 0.3; all of it is seen."""
    shift = torch.tensor([2.0, -1.0, 0.0, 0.0])[:, None, None] * covers[:, CROSSING, None]
    z = shift + 0.3 * torch.randn(len(covers), CHANNELS, *GRID.shape_yx, generator=generator)
    states = torch.full((len(covers), 1, *GRID.shape_yx), float(FREE))
    return torch.cat([z, z, states], 1)


class Kept:
    """Features in memory."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, items):
        return self.values[items]


@pytest.fixture(scope="module")
def trained():
    """Evidence learned on sixteen maps of four crosswalks at random places."""
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    places = rng.uniform((-11, -11, 2, 2), (7, 7, 6, 6), (16, 4, 4))
    maps = [prior_of(*(crossing(f"{n}", x, y, x + w, y + h) for n, (x, y, w, h) in enumerate(some))) for some in places]
    covers = torch.stack([shares(counted(one, HERE, GRID)) for one in maps])
    return train_map_evidence(Kept(planted(covers, generator)), covers, GRID, ORIGIN, quiet, STEPS)


def frames_of(true_map, scene="scene-1", seed=1, count=2, unseen=None):
    cover = shares(counted(true_map, HERE, GRID))[None]
    features = planted(cover.expand(count, -1, -1, -1), torch.Generator().manual_seed(seed))
    if unseen is not None:
        features[:, -1, unseen] = UNOBSERVED
    return [EmbeddedFrame(f"{scene}-{i}", scene, 1000 * i + seed, HERE, one) for i, one in enumerate(features)]


# ------------------------------------------------------------------------------------------------------------ rasters


def test_a_square_is_drawn_where_it_is():
    pose = transform_from_se2(100.0, 50.0, np.pi / 2)  # x of the car is north
    cover = shares(drawn("ped_crossing", box(98.4, 54.0, 100.0, 57.2), pose, GRID)[None])[0]
    rows, columns = np.nonzero(cover.numpy() > 0.5)  # 0 to 1.6 m to the left, 4 to 7.2 m ahead
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 17, 21, 24)
    assert float(cover[16:18, 21:25].min()) == 1.0


def test_of_two_elements_at_one_place_one_may_go():
    both = prior_of(crossing("a", 0, 0, 4, 4), crossing("b", 0, 0, 4, 4))
    counts = counted(both, HERE, GRID)
    gone = MapDifference("ped_crossing", removed=box(0, 0, 4, 4))
    number, one_left = with_difference(counts, gone, HERE, GRID)
    assert number == CROSSING
    assert torch.equal(shares(one_left[None])[0], shares(counts)[CROSSING])
    _, cleared = with_difference(counts, replace(gone, clears=True), HERE, GRID)
    assert cleared.sum() == 0
    alone = counted(prior_of(crossing("a", 0, 0, 4, 4)), HERE, GRID)
    assert with_difference(alone, gone, HERE, GRID)[1].sum() == 0
    assert alone.sum() > 0  # the counts themselves stay


def test_what_candidates_say_of_the_drawn_map():
    old, new = box(0, 0, 1, 1), box(1, 0, 2, 1)

    def told(layer, kind, before, after):
        return difference_of(Candidate("x", layer, kind, before, after, 0.0, 1.0, ""))

    assert told("stop_line", "geometry", old, new) == MapDifference("stop_line", old, new)
    assert told("drivable_area", "geometry", None, new) == MapDifference("drivable_area", None, new, clears=True)
    assert told("lane", "connectivity", old, old) == MapDifference("drivable_area", old, clears=True)
    line = LineString([(0, 0), (9, 0)])
    assert told("lane_divider", "markings", line, line) is None
    assert told("traffic_light", "deletion", line, None) is None


# --------------------------------------------------------------------------------------------------------- likelihood


def test_log_likelihood_of_a_known_gaussian():
    z = torch.tensor([1.0, -2.0, 0.5])[None, :, None, None]
    mean = torch.tensor([0.0, 0.0, 0.5])[None, :, None, None]
    log_variance = torch.full((1, 1, 1, 1), math.log(4.0))
    found = gaussian_log_likelihood(z, mean, log_variance)
    expected = torch.distributions.Normal(mean, 2.0).log_prob(z).sum()
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    # Of two means with the same variance: (|z - a|^2 - |z - b|^2) / (2 variance), here (5 - 0) / 8.
    ratio = gaussian_log_likelihood(z, z, log_variance) - found
    assert float(ratio) == pytest.approx(5 / 8)


def test_the_crop_gives_the_ratio_of_the_whole_grid():
    torch.manual_seed(0)
    network = MapConditioned(len(MAP_CLASSES), torch.zeros(CHANNELS), torch.ones(CHANNELS)).eval().requires_grad_(False)
    rng = np.random.default_rng(0)
    for west, south in ((-12, -12), (0, 3), (9, -2)):  # one at a corner, one inside, one at an edge
        cover = torch.from_numpy(rng.random((len(MAP_CLASSES), *GRID.shape_yx))).float()
        changed = cover.clone()
        changed[CROSSING] += shares(drawn("ped_crossing", box(west, south, west + 3, south + 2), HERE, GRID)[None])[0]
        z = torch.from_numpy(rng.normal(size=(CHANNELS, *GRID.shape_yx))).float()
        states = torch.from_numpy(rng.integers(0, 3, (1, *GRID.shape_yx)))
        context, observed = context_of(states, GRID)[0], (states != UNOBSERVED)[0]
        both = [network.log_likelihood(z[None], one[None], context[None])[0] for one in (cover, changed)]
        whole = float((both[1] - both[0])[observed].sum())
        assert whole != 0
        assert network.log_ratio(z, context, observed, cover, changed) == pytest.approx(whole, rel=1e-4, abs=1e-4)
        assert network.log_ratio(z, context, observed, cover, cover) == 0.0
        assert network.log_ratio(z, context, torch.zeros_like(observed), cover, changed) == 0.0


def test_windows_stay_on_the_grid():
    cells = torch.zeros(6, 8, dtype=torch.bool)
    cells[0, 2] = cells[1, 7] = True
    assert around(cells, 2) == (slice(0, 4), slice(0, 8))


# -------------------------------------------------------------------------------------------------- training, reading


def test_training_recovers_the_planted_shift(trained):
    cover = shares(counted(prior_of(crossing("a", -1, -1, 3, 3)), HERE, GRID))
    states = torch.full((1, *GRID.shape_yx), FREE)
    conditioned = trained.conditioned
    mean, log_variance = conditioned(cover[None], context_of(states, GRID))
    expected = mean[0] * conditioned.std + conditioned.mean
    inside, outside = expected[:, 16:18, 16:18].mean((1, 2)), expected[:, 4:8, 4:8].mean((1, 2))
    assert torch.allclose(inside - outside, torch.tensor([2.0, -1.0, 0.0, 0.0]), atol=0.25)
    # The noise of 0.3, in units of each channel's spread; the net has one figure for all.
    noise = float(log_variance.mean().mul(0.5).exp())
    assert 0.8 * 0.3 / float(conditioned.std.max()) < noise < 1.2 * 0.3 / float(conditioned.std.min())
    on = trained.belief_log_odds(frames_of(prior_of(crossing("a", -1, -1, 3, 3)))[0].features)[CROSSING]
    assert on[16:18, 16:18].min() > 2
    assert on[4:8, 4:8].max() < 0


def test_evidence_tells_a_gone_crosswalk_from_one_that_is_there(trained):
    there, gone = crossing("there", -8, -8, -4, -5), crossing("gone", 2, 2, 6, 5)
    prior, world = prior_of(there, gone), prior_of(there)
    differences = [MapDifference("ped_crossing", removed=one.geometry) for one in (there, gone)]
    new = MapDifference("ped_crossing", added=box(2, -8, 6, -5))
    kept, lost, invented = (
        fused(one) for one in read_differences(trained, prior, [*differences, new], frames_of(world))
    )
    assert kept.residual < -3 < 3 < lost.residual
    assert kept.belief < -2 < 2 < lost.belief
    assert invented.residual < -3
    assert invented.belief < -2
    assert kept.drives == 1


def test_what_was_not_observed_says_nothing(trained):
    gone = crossing("gone", 2, 2, 6, 5)
    prior = prior_of(gone, crossing("far", -8, -8, -4, -5))
    hidden = torch.ones(GRID.shape_yx, dtype=torch.bool)
    difference = MapDifference("ped_crossing", removed=gone.geometry)
    (blind,) = read_differences(trained, prior, [difference], frames_of(prior, unseen=hidden))
    assert blind == []
    assert fused(blind) == LearnedOdds(0.0, 0.0, 0)
    # Half hidden: as much for each cell, of half the cells.
    hidden[:, :] = False
    hidden[:, 21:] = True
    (full,), (half,) = (
        read_differences(trained, prior, [difference], frames_of(prior, unseen=mask, count=1))
        for mask in (None, hidden)
    )
    assert half[0].cells < 0.7 * full[0].cells
    assert half[0].residual == pytest.approx(full[0].residual, rel=0.5)


def test_an_element_whose_removal_changes_nothing_says_nothing(trained):
    twice = prior_of(crossing("a", 2, 2, 6, 5), crossing("b", 2, 2, 6, 5))
    (found,) = read_differences(
        trained, twice, [MapDifference("ped_crossing", removed=box(2, 2, 6, 5))], frames_of(twice)
    )
    assert fused(found) == LearnedOdds()
    (far,) = read_differences(
        trained, twice, [MapDifference("ped_crossing", added=box(90, 0, 94, 4))], frames_of(twice)
    )
    assert far == []


def test_frames_of_a_drive_are_one_and_drives_add_up():
    def reading(scene, time_us, residual, belief, cells):
        return Reading(f"{scene}-{time_us}", scene, time_us, residual, belief, cells)

    first = [reading("a", 1, 1.0, 3.0, 1.0), reading("a", 2, 5.0, -1.0, 3.0)]  # means 4 and 0
    assert fused(first) == LearnedOdds(4.0, 0.0, 1)
    assert fused([*first, *first]) == LearnedOdds(4.0, 0.0, 1)  # the same again is nothing new
    assert fused([*first, reading("b", 3, -1.0, 0.5, 2.0)]) == LearnedOdds(3.0, 0.5, 2)
    assert fused(first, upto_us=1) == LearnedOdds(1.0, 3.0, 1)


# ------------------------------------------------------------------------------------------------------ calibration


def weights(hand, quiet_, residual, belief, bias):
    return Calibration(Logistic(np.array([hand, quiet_, residual, belief, bias]), np.zeros(4), np.ones(4)), "b", 9)


def test_candidates_and_quiet_elements_are_weighed(trained):
    there, gone = crossing("there", -8, -8, -4, -5), crossing("gone", 2, 2, 6, 5)
    prior, frames = prior_of(there, gone), frames_of(prior_of(there))
    told = Candidate("there", "ped_crossing", "deletion", there.geometry, None, 1.5, 1.0, "a crosswalk is gone")
    by_token = {
        one.candidate.element_id: one for one in weigh([told], list(prior.elements.values()), trained, prior, frames)
    }
    assert by_token["there"].candidate == told  # not calibrated: the hand-made log-odds stand
    assert by_token["gone"].candidate.log_odds == -math.inf
    known = replace(trained, calibration=weights(1.0, -1.0, 0.5, 0.25, -0.5))
    by_token = {
        one.candidate.element_id: one for one in weigh([told], list(prior.elements.values()), known, prior, frames)
    }
    odds = by_token["gone"].odds
    assert by_token["gone"].candidate.log_odds == pytest.approx(-1.5 + 0.5 * odds.residual + 0.25 * odds.belief)
    assert by_token["gone"].candidate.log_odds > 0 > by_token["there"].candidate.log_odds
    assert by_token["gone"].candidate.seen_share == pytest.approx(1.0, abs=0.05)
    assert by_token["there"].hand == 1.5
    assert "map belief" in by_token["gone"].candidate.description


def test_when_the_encoder_alone_was_first_sure():
    readings = tuple(Reading(f"f{i}", f"drive-{i}", 100 * i, 1.0, 0.0, 1.0) for i in (3, 1, 2))
    candidate = Candidate("x", "ped_crossing", "deletion", box(0, 0, 1, 1), None, 0.0, 1.0, "")
    one = calibrated(Weighed(candidate, None, readings), weights(1, 0, 1, 1, -1.5))
    assert one.candidate.log_odds == pytest.approx(1.5)
    assert first_sure(one, 0.4) == 200  # one drive gives -0.5, two 0.5
    assert first_sure(one, 2.0) is None


def test_readings_go_into_the_evidence_of_their_frames():
    seen, other = change().evidence
    readings = [Reading(seen.frame, seen.scene, 0, 1.25, -0.5, 4.0)]
    first, second = with_readings((seen, other), readings)
    assert (first.jepa_residual_log_odds, first.map_belief_log_odds) == (1.25, -0.5)
    assert second == other


# -------------------------------------------------------------------------------------------------------------- file


def test_a_file_gives_back_what_was_written(trained, tmp_path):
    path = tmp_path / "evidence.pth"
    save_map_evidence(path, replace(trained, calibration=weights(1, 2, 3, 4, 5)))
    again = load_map_evidence(path)
    assert (again.origin, again.grid) == (ORIGIN, GRID)
    assert again.calibration.regression.weights.tolist() == [1, 2, 3, 4, 5]
    assert (again.calibration.fitted_on, again.calibration.rows) == ("b", 9)
    assert (again.origin.towns, again.calibration.material) == (None, None)
    material = Material(("scene-1/ab",), {"minicity-a": ("cd", "ef"), "boston-seaport": ()})
    known = replace(trained, origin=replace(ORIGIN, towns=material.towns))
    save_map_evidence(path, replace(known, calibration=replace(weights(1, 2, 3, 4, 5), material=material)))
    assert load_map_evidence(path).origin.towns == material.towns
    assert load_map_evidence(path).calibration.material == material
    prior = prior_of(crossing("a", 2, 2, 6, 5))
    differences = [MapDifference("ped_crossing", removed=box(2, 2, 6, 5))]
    frames = frames_of(prior)
    assert read_differences(again, prior, differences, frames) == read_differences(trained, prior, differences, frames)
    assert torch.load(path, weights_only=True)["origin"]["drives"] == DRIVES


def test_files_without_a_record_of_their_material_are_read_and_told(trained, tmp_path):
    path = tmp_path / "evidence.pth"
    save_map_evidence(path, replace(trained, calibration=weights(1, 2, 3, 4, 5)))
    content = torch.load(path, weights_only=True)
    del content["origin"]["towns"], content["calibration"]["material"]
    torch.save(content, path)
    judged = Material(("scene-1/ab",), {"minicity-a": ("cd",)})
    (warning,) = load_map_evidence(path).warnings(judged, path.name)
    assert warning.startswith("evidence.pth: does not say which drives and towns it was trained and calibrated on")
    (warning,) = replace(trained, origin=replace(ORIGIN, towns={})).warnings(judged, "e") or [""]
    assert warning == ""  # not calibrated: there is nothing to know of it


def test_other_encoders_grids_and_the_drives_of_training_are_refused(trained, tmp_path):
    path = Path("evidence.pth")
    trained.check_encoder("fingerprint", GRID, path)
    with pytest.raises(CheckpointError, match="was trained with another encoder than"):
        trained.check_encoder("another", GRID, path)
    with pytest.raises(CheckpointError, match="another grid"):
        trained.check_encoder("fingerprint", replace(GRID, cell_m=1.6), path)
    trained.check_drives(["scene-0061/another", "scene-0103/0123456789abcdef"])
    with pytest.raises(ConfigError, match="trained on scene-0061"):
        trained.check_drives([DRIVES[0]])
    with pytest.raises(CheckpointError, match="no such file"):
        load_map_evidence(tmp_path / "none.pth")
    torch.save({"format": "other"}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not map evidence"):
        load_map_evidence(tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="not readable"):
        load_map_evidence(tmp_path / "broken.pth")
    save_map_evidence(tmp_path / "short.pth", trained)
    content = torch.load(tmp_path / "short.pth", weights_only=True)
    del content["rates"]
    torch.save(content, tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match="damaged"):
        load_map_evidence(tmp_path / "short.pth")
