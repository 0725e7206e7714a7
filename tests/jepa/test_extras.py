"""The terms that an objective may have beside those of losses.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avjepa.conventions import OCCUPIED, UNOBSERVED
from avjepa.jepa.causal import CausalPrediction, prefix
from avjepa.jepa.deep import DeepSupervision, distance_to
from avjepa.jepa.extras import Extra, Step
from avjepa.jepa.hypotheses import FutureHypotheses
from avjepa.jepa.losses import LossWeights, cell_error, stratified_mean
from avjepa.jepa.model import BEVJEPA
from avjepa.jepa.target_encoder import normalised
from avjepa.jepa.target_regions import scenes_of
from avjepa.jepa.uncertainty import PredictionUncertainty, calibration_error, spearman
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.sample import Clip
from tests.jepa import tiny


def deep(**settings) -> DeepSupervision:
    torch.manual_seed(1)
    return DeepSupervision(tiny.CHANNELS, 16, **settings)


class Caught(Extra):
    """Keeps the step it is given."""

    def forward(self, model, step: Step) -> torch.Tensor:
        self.step = step
        return step.raw.sum() * 0


def step_of(model: BEVJEPA, *seeds: int) -> Step:
    """The step of a batch, as an extra of this model sees it."""
    model.extras["caught"] = Caught(1.0)
    model(tiny.batch(*seeds))
    return model.extras["caught"].step


def with_predictions(step: Step, **changes) -> Step:
    return replace(step, predictions=replace(step.predictions, **changes))


def test_an_extra_is_one_weighted_term_by_its_name():
    plain, _ = tiny.jepa(cameras=False).eval()(tiny.batch())
    terms, _ = tiny.jepa(cameras=False, extras={"deep": deep(weight=0.5)}).eval()(tiny.batch())
    assert terms.extras["deep"] > 0
    torch.testing.assert_close(terms.total(), plain.total() + terms.extras["deep"])
    doubled, _ = tiny.jepa(cameras=False, extras={"deep": deep(weight=1.0)}).eval()(tiny.batch())
    torch.testing.assert_close(doubled.extras["deep"], 2 * terms.extras["deep"])


def test_every_parameter_of_the_extras_gets_a_gradient():
    torch.manual_seed(2)
    extras = {
        "deep": deep(),
        "causal": CausalPrediction(),
        "hypotheses": FutureHypotheses(3, 16),
        "uncertainty": PredictionUncertainty(tiny.CHANNELS),
    }
    model = tiny.jepa(cameras=False, extras=extras).train()
    torch.nn.init.normal_(model.predictor.residual.weight, std=0.01)  # zero at the start: it would hide the codes
    terms, _ = model(tiny.batch())
    terms.total().backward()
    lacking = [name for name, p in model.extras.named_parameters() if p.grad is None or not p.grad.any()]
    assert not lacking


# ------------------------------------------------------------------------------------------------------------------ deep
def test_distance_by_hand():
    cells = torch.zeros(1, 7, 7, dtype=torch.bool)
    cells[0, 3, 3] = True
    expected = torch.tensor([3.0, 2, 1, 1, 1, 2, 3])  # at least one, along the longer axis
    assert torch.equal(distance_to(cells, 9)[0, 3], expected)
    assert distance_to(cells, 9)[0, 0, 5] == 3
    assert distance_to(cells, 2).max() == 2
    assert (distance_to(~cells & cells, 5) == 5).all()  # nothing hidden


def test_visible_cells_count_from_the_middle_of_training_on():
    extra = deep(visible_weight=0.5, ramp=(0.5, 0.75))
    shares = []
    for progress in (0.2, 0.5, 0.625, 0.75, 1.0):
        extra.advance(progress)
        shares.append(extra.visible_share().item())
    assert shares == pytest.approx([0, 0, 0.25, 0.5, 0.5])
    again = deep()
    again.load_state_dict(extra.state_dict())
    assert again.visible_share() == 0.5  # the ramp survives a resume
    with pytest.raises(ValueError, match="ramp must rise"):
        deep(ramp=(0.8, 0.5))


def test_deep_levels_are_read_where_the_answer_is_known_and_asked_for():
    model = tiny.jepa(cameras=False).eval()
    step, extra = step_of(model, 0, 1), deep()
    term = extra(model, step)
    counted = step.predictions.valid.flatten(0, 1)[:, None]

    def poisoned(cells):
        return replace(step, targets=step.targets._replace(lidar=torch.where(cells, 9.0, step.targets.lidar)))

    noise = torch.randn(step.targets.lidar.shape, generator=torch.Generator().manual_seed(3))
    elsewhere = replace(step, targets=step.targets._replace(lidar=torch.where(counted, step.targets.lidar, noise * 50)))
    torch.testing.assert_close(extra(model, elsewhere), term)
    there = replace(step, targets=step.targets._replace(lidar=torch.where(counted, noise, step.targets.lidar)))
    assert abs(extra(model, there) - term) > 1e-3

    extra.advance(1.0)  # now the visible cells of the present count, those that nobody observed do not
    unobserved = (step.predictions.states == UNOBSERVED).flatten(0, 1)[:, None]
    full = extra(model, step)
    assert full > term
    torch.testing.assert_close(extra(model, poisoned(unobserved)), full)


def test_each_level_is_normalised_by_itself():
    model = tiny.jepa(cameras=False).eval()
    step, extra = step_of(model, 0, 1), deep()
    louder = replace(step, targets=step.targets._replace(fused=7 * step.targets.fused + 3))
    torch.testing.assert_close(extra(model, louder), extra(model, step), atol=1e-3, rtol=1e-3)


# ---------------------------------------------------------------------------------------------------------------- causal
def test_prefix_repeats_the_oldest():
    z = torch.arange(3.0).view(1, 3, 1, 1, 1)
    assert prefix(z, 1).flatten().tolist() == [0, 0, 0]
    assert prefix(z, 2).flatten().tolist() == [0, 0, 1]
    assert prefix(z, 3).flatten().tolist() == [0, 1, 2]


def test_causal_prediction_starts_as_persistence_and_does_not_pull_at_its_target():
    """A new model adds nothing to the newest frame it knows, so that the term is the error of the frame before."""
    model = tiny.jepa(cameras=False).eval()
    step = step_of(model, 0, 1)
    z = step.z_frames.detach().requires_grad_()
    term = CausalPrediction()(model, replace(step, z_frames=z))

    error = cell_error(normalised(z[:, 0]), normalised(z[:, 1]), "smooth_l1")
    seen = (step.predictions.states[:, 0] != UNOBSERVED) & ~step.predictions.mask.hidden
    expected = stratified_mean(error, step.predictions.states[:, 0], seen, 0.75)
    torch.testing.assert_close(term, expected)
    term.backward()
    assert z.grad[:, 0].any()
    assert not z.grad[:, -1].any()


def test_causal_prediction_needs_two_frames():
    model = tiny.jepa(cameras=False).eval()
    step = step_of(model, 0)
    assert CausalPrediction()(model, replace(step, z_frames=step.z_frames[:, -1:], observed=step.observed[:, -1:])) == 0


# ------------------------------------------------------------------------------------------------------------ hypotheses
class Given(FutureHypotheses):
    """Hypotheses that are given, not predicted."""

    futures: torch.Tensor

    def predict(self, model, state, clips) -> torch.Tensor:
        return self.futures


def given(step: Step, futures: list[torch.Tensor], **settings) -> torch.Tensor:
    extra = Given(len(futures), 16, **settings)
    extra.futures = torch.stack(futures, 1)
    return extra(None, step)


def test_equal_hypotheses_are_the_one_prediction():
    model = tiny.jepa(cameras=False).eval()
    step = step_of(model, 0, 1)
    raw = step.raw[:, 1:]
    future = step.loss(
        step.predictions.predicted[:, 1:],
        step.predictions.target[:, 1:],
        step.predictions.states[:, 1:],
        step.predictions.valid[:, 1:],
    )
    torch.testing.assert_close(given(step, [raw, raw, raw], others=0.05), future)

    extra = FutureHypotheses(3, 16)
    torch.nn.init.zeros_(extra.codes)
    torch.testing.assert_close(extra.predict(model, step.predictions.state, step.clips)[:, 1], raw)


def test_each_region_counts_its_best_hypothesis():
    step = step_of(tiny.jepa(cameras=False).eval(), 0, 1)
    target = step.predictions.target[:, 1:]
    left, right = target.clone(), target.clone()
    left[..., 16:] = -target[..., 16:]  # right only in the left half; 16 is a border of regions of 8 cells
    right[..., :16] = -target[..., :16]
    assert given(step, [left, right], others=0.0) < 1e-6
    assert given(step, [left, left], others=0.0) > 0.1
    assert (
        given(step, [left, right], others=0.0, region_cells=32) > 0.1
    )  # one region: one of them must be right throughout
    a_tenth = given(step, [left, right], others=0.1)
    assert 0 < a_tenth < 0.11 * given(step, [-target, -target], others=0.0)


def test_hypotheses_need_a_future_and_two_codes():
    step = step_of(tiny.jepa(cameras=False).eval(), 0)
    now = with_predictions(step, target=step.predictions.target[:, :1])
    assert FutureHypotheses(2, 16)(None, now) == 0
    with pytest.raises(ValueError, match="at least 2"):
        FutureHypotheses(1, 16)


# ----------------------------------------------------------------------------------------------------------- uncertainty
def test_uncertainty_reaches_its_head_alone():
    extra = PredictionUncertainty(tiny.CHANNELS)
    weights = LossWeights(masked=0, future=0, rollout=0, variance=0, covariance=0, occupancy=0)
    model = tiny.jepa(cameras=False, weights=weights, extras={"uncertainty": extra}).train()
    terms, _ = model(tiny.batch())
    terms.total().backward()
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"extras"}


def test_the_expected_error_is_learned():
    """Cells of two kinds, with errors of .2 and .8 in the mean: the head tells them apart and is calibrated."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    step = step_of(tiny.jepa(cameras=False).eval(), 0)
    kind = torch.rand(1, 2, 1, 32, 32, generator=generator) < 0.5
    shape = (1, 2, tiny.CHANNELS, 32, 32)
    raw = torch.where(kind, 1.0, -1.0).expand(shape) + 0.1 * torch.randn(shape, generator=generator)
    offset = torch.where(kind, 0.8, 0.2) * 2 * torch.rand(1, 2, 1, 32, 32, generator=generator)
    step = replace(step, raw=raw, cell_loss="l1")
    step = with_predictions(
        step,
        predicted=torch.zeros(shape),
        target=offset.expand(shape),
        states=torch.full((1, 2, 32, 32), OCCUPIED),
        valid=torch.ones(1, 2, 32, 32, dtype=torch.bool),
    )
    extra = PredictionUncertainty(tiny.CHANNELS)
    optimizer = torch.optim.Adam(extra.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        extra(None, step).backward()
        optimizer.step()
    with torch.no_grad():
        expected = extra.expected_error(raw)
        assert expected[kind[:, :, 0]].mean().item() == pytest.approx(0.8, rel=0.1)
        assert expected[~kind[:, :, 0]].mean().item() == pytest.approx(0.2, rel=0.15)
        found = extra.monitors(raw, offset[:, :, 0], step.predictions.valid)
    assert found["uncertainty_factor"].item() == pytest.approx(1, rel=0.1)
    assert found["uncertainty_off"] < 0.1
    assert found["uncertainty_rank"] > 0.5


def test_calibration_error_by_hand():
    expected = torch.tensor([1.0, 1.0, 3.0, 3.0])
    assert calibration_error(expected, torch.tensor([0.5, 1.5, 2.0, 4.0]), bins=2) == 0
    # bins (1, 1) and (3, 3): off by .5 and by 1, in relation to a mean of 1.75
    assert calibration_error(expected, torch.tensor([0.5, 0.5, 2.0, 4.0]) + torch.tensor([0, 0, 1.0, 1.0]), bins=2) == (
        pytest.approx((0.5 + 1.0) / 2 / 2.25)
    )
    assert torch.isnan(calibration_error(expected[:1], expected[:1], bins=2))


def test_spearman_by_hand():
    a = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert spearman(a, a**3) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert spearman(a, torch.tensor([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert torch.isnan(spearman(a[:1], a[:1]))


# ------------------------------------------------------------------------------------------------------------ ego-motion
def test_a_model_without_ego_motion_does_not_know_the_poses():
    clips = tiny.batch()
    moved = replace(clips, now_T_frame=clips.now_T_frame.clone())
    moved.now_T_frame[:, 0, :2, 3] += 2.0
    moved.now_T_frame[:, 2, :2, 3] -= 2.0
    for ego_motion in (True, False):
        model = tiny.jepa(cameras=False, ego_motion=ego_motion).eval()
        (z, _), (z_moved, _) = model.encode_frames(clips), model.encode_frames(moved)
        state = z[:, -1]
        raw, overlap = model.predict(state, clips)
        assert torch.equal(z, z_moved) is not ego_motion
        assert torch.equal(raw, model.predict(state, moved)[0]) is not ego_motion
        assert bool(overlap.all()) is not ego_motion


def test_a_model_reads_the_newest_frames_it_has_room_for():
    """Clips with an older frame are clips without it: masks, embeddings, predictions and losses."""
    model = tiny.jepa(cameras=False).eval()
    whole = [tiny.clip(seed, frames=5) for seed in (0, 1)]
    three = collate_clips([Clip(clip.frames, 3, clip.seed) for clip in whole])
    two = collate_clips([Clip(clip.frames[1:], 2, clip.seed) for clip in whole])
    assert three.shape == (2, 5)
    assert torch.equal(model.draw_mask(three).hidden, model.draw_mask(two).hidden)
    for with_older, without in zip(model.encode_frames(three), model.encode_frames(two), strict=True):
        assert torch.equal(with_older, without)
    terms, expected = model(three)[0].named(), model(two)[0].named()
    assert terms == expected
    swapped = collate_clips(
        [Clip((clip.frames[0], *clip.frames[:1], *clip.frames[2:]), 3, clip.seed) for clip in whole]
    )
    # The frame before the present is read.
    assert not torch.equal(model.encode_frames(swapped)[0], model.encode_frames(two)[0])
    with pytest.raises(ValueError, match="want 2 past and present frames, but the clips have 1"):
        model.encode_frames(replace(two, num_context=1))


def test_masks_look_at_the_frames_that_the_model_reads():
    """A post that only an older frame sees is in no scene."""
    world, place = tiny.world(), np.array([3.0, -5.0])
    post = np.c_[np.tile(place, (40, 1)), np.linspace(0.1, 1.8, 40)]
    seen = [np.concatenate([world, post]), world, world]
    frames = tuple(tiny.frame_of(points, np.eye(4), np.array([0, 0, 1.8]), i) for i, points in enumerate(seen))
    clips = collate_clips([Clip(frames, 3)])
    (all_three,), (newest,) = (scenes_of(clips, tiny.BEV, number) for number in (3, 2))
    row, column = (int((x + tiny.HALF_M) / 0.8) for x in place[::-1])
    assert all_three.union[row, column] == OCCUPIED
    assert newest.union[row, column] != OCCUPIED
    assert newest.states.shape[0] == 2
    assert all_three.tallest_m[row, column] > newest.tallest_m[row, column]
    with pytest.raises(ValueError, match="want 4 past and present frames, but the clips have 3"):
        scenes_of(clips, tiny.BEV, 4)
