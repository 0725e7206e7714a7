from dataclasses import replace

import numpy as np
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.jepa.predictor import TemporalContext
from avjepa.jepa.target_encoder import normalised
from avjepa.probes.baselines import raw_features
from avjepa.probes.residual import ResidualView, occupancy_change, static_residual
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.sample import Clip
from tests.jepa import tiny


def test_residual_by_hand():
    """Three frames of four cells: still, changed, first seen now, no longer seen; the first frame misses the changed cell."""
    a, b, c = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]), torch.tensor([0, 0, 1.0])
    z = torch.stack([torch.stack(cells) for cells in ([a, c, b, a], [a, b, b, a], [a, a, a, b])])  # (T, cells, C)
    z = z.movedim(-1, 1)[None, ..., None, :]  # (1, T, C, 1, 4)
    observed = torch.tensor([[1, 0, 0, 1], [1, 1, 0, 1], [1, 1, 1, 0]], dtype=torch.bool)[None, :, None]
    residual, known = static_residual(z, observed)
    assert known[0, 0, 0].tolist() == [True, True, False, False]
    difference = normalised(a.view(1, 3, 1, 1)) - normalised(b.view(1, 3, 1, 1))
    torch.testing.assert_close(residual[0, :, 0, 1], difference[0, :, 0, 0], atol=1e-4, rtol=0)
    assert residual[0, :, 0, [0, 2, 3]].abs().max() < 1e-4


def test_the_static_scene_is_the_mean_of_the_past():
    z = torch.randn(1, 4, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    residual, known = static_residual(z, torch.ones(1, 4, 2, 2, dtype=torch.bool))
    mean = sum(normalised(z[:, i]) for i in range(3)) / 3
    torch.testing.assert_close(residual, normalised(z[:, 3]) - normalised(mean))
    assert known.all()


def test_occupancy_change_by_hand():
    u, f, x = UNOBSERVED, FREE, OCCUPIED
    states = torch.tensor([[x, u, f, f, x], [f, f, u, f, x], [x, x, x, u, f]])[None, :, None]
    assert occupancy_change(states)[0, :, 0].tolist() == [[0, 0, 1, 0, -1], [1, 1, 0, 0, -1]]


def test_a_still_scene_leaves_no_residual_and_a_newcomer_the_largest():
    jepa, view = tiny.jepa(0, cameras=False).eval(), ResidualView(norm_only=True)
    world = tiny.world()
    place = np.array([2.0, -6.0])
    post = np.c_[np.tile(place, (40, 1)), np.linspace(0.1, 1.8, 40)]
    norms = []
    with torch.inference_mode():
        for now in (world, np.concatenate([world, post])):
            seen = [tiny.frame_of(points, np.eye(4), np.array([0, 0, 1.8]), i) for i, points in enumerate((world, now))]
            norms.append(view.embed(jepa, collate_clips([Clip(tuple(seen), tiny.CONTEXT)]))[0, 0])
    assert norms[0].max() < 1e-3
    row, column = divmod(int(norms[1].argmax()), 32)
    assert np.hypot(*(tiny.BEV.cell_centres()[row, column].numpy() - place)) < 2.0
    assert norms[1].max() > 0.3


def test_channels():
    jepa, clips = tiny.jepa(0, cameras=False).eval(), tiny.batch(0, 1)
    with torch.inference_mode():
        full, norm = ResidualView().embed(jepa, clips), ResidualView(norm_only=True).embed(jepa, clips)
        state, z = jepa.encode_context(clips)
    channels = tiny.CHANNELS
    assert full.shape == (2, 3 * channels + 2, 32, 32)
    torch.testing.assert_close(full[:, : 2 * channels], torch.cat([normalised(state), normalised(z)], 1))
    torch.testing.assert_close(full[:, 3 * channels], norm[:, 0])
    rms = full[:, 2 * channels : 3 * channels].square().mean(1).sqrt()
    torch.testing.assert_close(rms, norm[:, 0])
    assert not norm[:, 0][full[:, -1] == 0].any()
    raw = ResidualView().raw(clips, tiny.BEV)
    torch.testing.assert_close(raw[:, :-1], raw_features(clips, tiny.BEV))
    assert raw.shape[1] == 6 * tiny.CONTEXT + tiny.CONTEXT - 1
    assert ResidualView(norm_only=True).raw(clips, tiny.BEV).shape == (2, 1, 32, 32)
    assert repr(ResidualView()) != repr(ResidualView(norm_only=True))


def test_without_ego_motion_the_residual_is_of_cells_that_move_with_the_car():
    """What the model does not know, its view must not know either: other poses give the same maps."""
    clips = tiny.batch(0, 1)
    moved = replace(clips, now_T_frame=clips.now_T_frame.clone())
    moved.now_T_frame[:, 0, :2, 3] += 2.0
    for ego_motion in (True, False):
        jepa = tiny.jepa(0, cameras=False, ego_motion=ego_motion).eval()
        with torch.inference_mode():
            full, full_moved = ResidualView().embed(jepa, clips), ResidualView().embed(jepa, moved)
            state, z = jepa.encode_context(clips)
        assert torch.equal(full, full_moved) is not ego_motion
        channels = tiny.CHANNELS
        torch.testing.assert_close(full[:, : 2 * channels], torch.cat([normalised(state), normalised(z)], 1))
        assert torch.isfinite(full).all()


def test_without_a_past_there_is_no_residual():
    """One frame a clip, of a model that reads one: nothing is known to move, and no score is nan."""
    jepa = tiny.jepa(0, cameras=False).eval()
    jepa.temporal = TemporalContext(tiny.CHANNELS, 1).eval()
    clips = collate_clips([Clip(tiny.clip(seed).frames[1:], 1, seed) for seed in (0, 1)])
    with torch.inference_mode():
        full, norm = ResidualView().embed(jepa, clips), ResidualView(norm_only=True).embed(jepa, clips)
        state, z = jepa.encode_context(clips)
    channels = tiny.CHANNELS
    torch.testing.assert_close(full[:, : 2 * channels], torch.cat([normalised(state), normalised(z)], 1))
    assert not full[:, 2 * channels :].any()
    assert not norm.any()
    assert ResidualView().raw(clips, tiny.BEV).shape == (2, 6, 32, 32)
    raw = ResidualView(norm_only=True).raw(clips, tiny.BEV)
    assert raw.shape == (2, 1, 32, 32)
    assert not raw.any()
