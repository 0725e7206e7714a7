from dataclasses import replace

import pytest
import torch

from avjepa.conventions import OCCUPIED, UNOBSERVED
from avjepa.jepa.losses import LossWeights
from avjepa.jepa.masks import SensorDrop
from avjepa.jepa.predictor import WarpPredictor
from avjepa.jepa.target_encoder import SharedTarget
from tests.jepa import tiny


def hidden_point_mask(clips, hidden: torch.Tensor) -> torch.Tensor:
    """Points (P,) of context frames that lie in hidden cells of the present ego frame."""
    frames, per_clip = clips.shape[0] * clips.shape[1], clips.shape[1]
    now_T_point = clips.now_T_frame.reshape(-1, 4, 4)[clips.point_frame]
    xyz = (now_T_point[:, :3, :3] @ clips.points[:, :3, None])[..., 0] + now_T_point[:, :3, 3]
    xyz[:, 2] = 0
    flat, inside = tiny.BEV.bev_index(xyz)
    clip, frame = clips.point_frame // per_clip, clips.point_frame % per_clip
    assert int(clips.point_frame.max()) < frames
    return hidden.flatten(1)[clip, flat] & inside & (frame < clips.num_context)


def test_context_and_target_are_disjoint():
    """Nothing that happens inside hidden cells, in any context frame, reaches the context."""
    model, clips = tiny.jepa(cameras=False).eval(), tiny.batch()
    hidden = model.draw_mask(clips).hidden
    inside = hidden_point_mask(clips, hidden)
    assert 0.2 < inside.float().mean() < 0.6
    state, z = model.encode_context(clips, hidden)

    changed = clips.points.clone()
    changed[inside, 3] = 0.9  # other intensities
    changed[inside, 2] += 1.0  # other heights
    again, z_again = model.encode_context(tiny.with_points(clips, changed), hidden)
    assert torch.equal(again, state)
    assert torch.equal(z_again, z)

    gone = replace(clips, points=clips.points[~inside], point_frame=clips.point_frame[~inside])
    assert torch.equal(model.encode_context(gone, hidden)[0], state)

    changed = clips.points.clone()
    changed[~inside, 3] = 0.9
    assert not torch.equal(model.encode_context(tiny.with_points(clips, changed), hidden)[0], state)


def test_camera_features_in_hidden_cells_do_not_reach_the_context(monkeypatch):
    model, clips = tiny.jepa().eval(), tiny.batch()
    hidden = model.draw_mask(clips).hidden
    splat = type(model.encoder.lift).forward
    with torch.no_grad():
        state, _ = model.encode_context(clips, hidden)
        per_frame = hidden.repeat_interleave(clips.num_context, 0)[:, None]
        monkeypatch.setattr(
            type(model.encoder.lift), "forward", lambda *a, **k: splat(*a, **k).masked_fill(per_frame, 50.0)
        )
        assert torch.equal(model.encode_context(clips, hidden)[0], state)
        monkeypatch.setattr(
            type(model.encoder.lift), "forward", lambda *a, **k: splat(*a, **k).masked_fill(~per_frame, 50.0)
        )
        assert not torch.equal(model.encode_context(clips, hidden)[0], state)


def test_targets_where_nothing_was_observed_or_outside_the_overlap_do_not_count(monkeypatch):
    model, clips = tiny.jepa(cameras=False).eval(), tiny.batch()
    terms, predictions = model(clips)
    encode = type(model).embed_targets

    def poisoned(counted):
        def run(self, clips):
            states, target, maps = encode(self, clips)
            return states, torch.where(counted[:, :, None], target, 77.0), maps

        return run

    # The rollout counts cells that lie in the overlap of two steps: a part of the valid ones, so valid cells hold all that counts.
    monkeypatch.setattr(type(model), "embed_targets", poisoned(predictions.valid))
    same, _ = model(clips)
    for name, term in terms.named().items():
        assert torch.equal(same.named()[name], term), name
    assert not (predictions.valid & (predictions.states == UNOBSERVED)).any()
    assert not (predictions.valid[:, 0] & ~predictions.mask.hidden).any()

    some = predictions.valid.clone()
    some[:, 1] = False
    monkeypatch.setattr(type(model), "embed_targets", poisoned(some))
    assert not torch.equal(model(clips)[0].future, terms.future)


def test_every_trained_parameter_gets_a_gradient():
    """After one step: at the start zero-initialised layers hide what lies behind them."""
    model = tiny.jepa(sensor_drop=SensorDrop(0.5, 0.5, 0.5)).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    touched = set()
    for step in range(4):
        clips = replace(tiny.batch(0, 1, 2), seeds=(step, step + 10, step + 20))
        terms, _ = model(clips)
        optimizer.zero_grad()
        terms.total().backward()
        optimizer.step()
        touched |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained - touched == set()
    assert not [name for name in touched if name.startswith("target")]


def test_training_lowers_the_loss():
    model, clips = tiny.jepa().train(), tiny.batch()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(12):
        terms, _ = model(clips)
        loss = terms.total()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.update_target(0.0)
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_step_is_a_pure_function_of_clips_and_seeds():
    clips = tiny.batch()
    first, second = tiny.jepa(), tiny.jepa()
    torch.manual_seed(123)  # the global generator plays no part
    a = first(clips)[0]
    torch.manual_seed(456)
    b = second(clips)[0]
    for name, term in a.named().items():
        assert torch.equal(b.named()[name], term), name


@pytest.mark.parametrize("missing", ["lidar", "cameras", "one camera", "an empty scan"])
def test_missing_sensors(missing):
    model, clips = tiny.jepa().eval(), tiny.batch()
    if missing == "lidar":
        clips = replace(
            clips,
            points=clips.points[:0],
            point_frame=clips.point_frame[:0],
            lidar_present=torch.zeros_like(clips.lidar_present),
        )
    elif missing == "cameras":
        clips = replace(clips, camera_present=torch.zeros_like(clips.camera_present))
    elif missing == "one camera":
        present = clips.camera_present.clone()
        present[0, :, 1] = False
        clips = replace(clips, camera_present=present)
    else:
        keep = clips.point_frame != clips.shape[0] * clips.shape[1] - 1  # the last frame of the last clip
        clips = replace(clips, points=clips.points[keep], point_frame=clips.point_frame[keep])
    terms, predictions = model(clips)
    assert torch.isfinite(terms.total())
    assert predictions.target.shape[:2] == (2, 3)
    if missing != "lidar":
        assert (predictions.states == OCCUPIED).any()


def test_a_model_without_cameras_and_a_clip_without_future():
    model = tiny.jepa(cameras=False)
    terms, predictions = model(tiny.batch(0, frames=2))
    assert predictions.predicted.shape[1] == 1
    assert terms.future.item() == 0
    assert terms.rollout.item() == 0
    assert terms.masked.item() > 0


def test_rollout_continues_from_predictions_without_bending_them():
    model, clips = tiny.jepa(), tiny.batch()
    state, _ = model.encode_context(clips)
    raw, overlap = model.predict(state, clips)
    rolled, inside = model.roll_out(raw, overlap, clips)
    assert rolled.shape == (2, 1, tiny.CHANNELS, 32, 32)
    assert inside.float().mean() < overlap[:, 2].float().mean() + 1e-6
    rolled.sum().backward()
    assert model.temporal.residual.weight.grad is None  # the gradient stopped between the steps
    assert model.predictor.residual.weight.grad is not None


def test_grids_must_agree():
    model = tiny.jepa(cameras=False)
    from avjepa.jepa.masks import GroupMask
    from avjepa.jepa.model import BEVJEPA

    with pytest.raises(ValueError, match="predictor is on"):
        BEVJEPA(
            encoder=model.encoder,
            target=SharedTarget(True),
            temporal=model.temporal,
            predictor=WarpPredictor(tiny.VOXELS, tiny.CHANNELS, 16),
            decoder=model.decoder,
            mask=GroupMask(),
            sensor_drop=None,
            weights=LossWeights(),
        )
