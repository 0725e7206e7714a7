import numpy as np
import torch

from avjepa.geometry.ego_motion import warp_bev
from avjepa.geometry.rigid import invert, transform_from_se2, transform_points
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.jepa.target_encoder import normalised
from avjepa.jepa.world_model import normalise_each
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.sample import Clip
from tests.jepa import tiny


def motion(*dx_dy_dyaw: float) -> torch.Tensor:
    return torch.from_numpy(invert(transform_from_se2(*dx_dy_dyaw))).float()[None]


def predictor() -> WarpPredictor:
    torch.manual_seed(0)
    return WarpPredictor(tiny.BEV, tiny.CHANNELS, 16)


def test_starts_at_persistence_by_warp():
    state = torch.randn(1, tiny.CHANNELS, 32, 32)
    step = motion(1.3, 0.4, 0.1)
    predicted, overlap = predictor()(state, step, torch.tensor([0.5]))
    warped, expected_overlap = warp_bev(state, step, tiny.BEV)
    assert torch.equal(predicted, warped)
    assert torch.equal(overlap, expected_overlap)


def test_context_starts_at_what_each_cell_showed_last():
    """Four cells: seen now, half a second ago, a second ago, never."""
    z = torch.randn(1, 3, tiny.CHANNELS, 2, 2)
    observed = torch.tensor([[[1, 0], [1, 0]], [[1, 1], [0, 0]], [[1, 0], [0, 0]]], dtype=torch.bool)[None]
    state = TemporalContext(tiny.CHANNELS, 3)(z, observed)
    newest = {(0, 0): 2, (0, 1): 1, (1, 0): 0, (1, 1): 2}
    for (y, x), frame in newest.items():
        assert torch.equal(state[0, :, y, x], z[0, frame, :, y, x])


def test_nothing_is_remembered_of_hidden_cells():
    """Rays cross them in every frame, but the mask hides what was seen: the state there is the present's mask token."""
    clips = tiny.batch()
    model = tiny.jepa(cameras=False).eval()
    hidden = torch.zeros(len(clips.time_s), *tiny.BEV.shape_yx, dtype=torch.bool)
    hidden[:, 10:20, 10:20] = True
    _, seen = model.encode_frames(clips)
    z, observed = model.encode_frames(clips, hidden)
    assert seen[:, :, 10:20, 10:20].any(-1).any(-1).all()
    assert not observed[:, :, 10:20, 10:20].any()
    state, _ = model.encode_context(clips, hidden)
    assert torch.equal(state[..., 10:20, 10:20], z[:, -1][..., 10:20, 10:20])


def test_motion_and_time_matter_once_trained():
    model = predictor()
    torch.nn.init.normal_(model.residual.weight, std=0.1)
    state = torch.randn(1, tiny.CHANNELS, 32, 32)

    def residual(step, dt_s):
        return model(state, step, torch.tensor([dt_s]))[0] - warp_bev(state, step, tiny.BEV)[0]

    still = residual(motion(0, 0, 0), 0.5)
    assert (residual(motion(0, 0, 0), 2.0) - still).abs().max() > 1e-3
    # The film alone: the same warped input, told another motion.
    features = model.enter(torch.cat([state, torch.ones(1, 1, 32, 32)], 1))
    told = [model.blocks[0](features, model.motion(torch.tensor([[dx, 0.0, 0.0, 0.5]]))) for dx in (0.0, 1.0)]
    assert (told[0] - told[1]).abs().max() > 1e-3


def test_when_only_the_ego_moved_the_warp_alone_is_perfect():
    """One scan, re-expressed in a frame moved by whole BEV cells: nothing in the world changed, so the untrained prediction
    equals the target. Things keep clear of the border, since convolutions see the border of a map, which does not move.
    """
    points = tiny.world(3, half_m=3.0)
    origin_global = np.array([0.4, -0.3, 1.8])
    poses = [np.eye(4), np.eye(4), transform_from_se2(1.6, -0.8, 0), transform_from_se2(2.4, 1.6, 0)]
    frames = tuple(tiny.frame_of(points, pose, origin_global, i) for i, pose in enumerate(poses))
    clips = collate_clips([Clip(frames, 2, 0)])
    model = tiny.jepa(cameras=False).eval()
    with torch.no_grad():
        state, _ = model.encode_context(clips)
        _, target = model.encode_targets(clips)
        raw, overlap = model.predict(state, clips)
        predicted = normalise_each(raw)
    border = 11  # the receptive field of the encoder, in cells, about the border
    inner = slice(border, -border)
    for k in range(3):
        assert overlap[0, k, inner, inner].all()
        torch.testing.assert_close(predicted[0, k, :, inner, inner], target[0, k, :, inner, inner], atol=2e-3, rtol=0)
    # And the warp is needed: without it the prediction is wrong.
    assert (normalised(state)[0, :, inner, inner] - target[0, 2, :, inner, inner]).abs().max() > 0.3


def test_points_of_the_past_land_on_the_present():
    clips = tiny.batch(0, step=(1.0, 0.2, 0.1))
    context = clips.context_in_now()
    past, now = (context.points[context.point_frame == i, :3] for i in range(2))
    world = torch.from_numpy(
        transform_points(invert(tiny.clip(0, step=(1.0, 0.2, 0.1)).now.global_T_ego), tiny.world(0))
    ).float()
    for cloud in (past, now):
        distance_m = torch.cdist(cloud, world, compute_mode="donot_use_mm_for_euclid_dist")
        assert distance_m.min(1).values.max() < 1e-3
