import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avjepa.bev.cell_states import cell_states, tallest_returns
from avjepa.bev.encoder import BEVEncoder, BEVMaps
from avjepa.conventions import OCCUPIED
from avjepa.geometry.rigid import transform_from_se2, transform_points
from avjepa.jepa.baselines.bev_contrast import MAX_SHIFT_M, BEVContrast, info_nce
from avjepa.jepa.masks import SensorDrop
from avjepa.jepa.monitors import measure
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.sample import Clip
from tests.jepa import tiny


def bev_contrast(
    seed: int = 0, cameras: bool = False, sensor_drop: SensorDrop | None = None, cells_per_clip: int = 64
) -> BEVContrast:
    """The whole model on the tiny grid."""
    torch.manual_seed(seed)
    return BEVContrast(
        encoder=tiny.encoder(cameras),
        temporal=TemporalContext(tiny.CHANNELS, tiny.CONTEXT),
        predictor=WarpPredictor(tiny.BEV, tiny.CHANNELS, 16, dilations=(1, 2)),
        sensor_drop=sensor_drop,
        projection_channels=8,
        cells_per_clip=cells_per_clip,
        shift_m=1.0,
    )


def test_info_nce_by_hand():
    ours = torch.tensor([[2.0, 0.0], [0.0, 3.0]])  # lengths do not count
    theirs = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss = info_nce(ours, theirs, temperature=0.5)
    # Row 0: similarities 2 and 2, so one of two by chance; row 1: 0 and 0, the same.
    torch.testing.assert_close(loss, torch.tensor([math.log(2), math.log(2)]))
    theirs = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    loss = info_nce(ours, theirs, temperature=0.5)
    wanted = [math.log(math.exp(2) + math.exp(1.2)) - 2, math.log(1 + math.exp(1.6)) - 1.6]
    torch.testing.assert_close(loss, torch.tensor(wanted))
    three = torch.eye(3)
    torch.testing.assert_close(info_nce(three, three, 1.0), torch.full((3,), math.log(math.e + 2) - 1))
    assert info_nce(ours[:1], theirs[:1], 0.07).item() == pytest.approx(0.0, abs=1e-6)  # nobody to take it for
    assert info_nce(ours[:0], theirs[:0], 0.07).shape == (0,)


# A post for each height, far apart, in the present ego frame.
POSTS = {1.2: (5.2, 2.8), 1.8: (-4.4, 3.6), 2.4: (2.0, -6.0), 2.8: (-3.6, -2.8)}


def clip_of_posts(seed: int) -> Clip:
    """The posts on dense ground, seen twice on the way here and twice after: the car turns left."""
    axis = np.arange(-9.0, 9.0, 0.35)
    ground = np.stack([*np.meshgrid(axis, axis), np.zeros((len(axis), len(axis)))], -1).reshape(-1, 3)
    posts = [np.c_[np.tile(xy, (30, 1)), np.linspace(0.1, height, 30)] for height, xy in POSTS.items()]
    points = np.concatenate([ground, *posts])
    step = transform_from_se2(1.1, 0.2, 0.15)
    poses = [np.linalg.inv(step), np.eye(4), step, step @ step]
    frames = [
        tiny.frame_of(points, pose, transform_points(pose, np.array([[0, 0, 1.8]]))[0], i, seed)
        for i, pose in enumerate(poses)
    ]
    return Clip(tuple(frames), 2, seed)


def test_the_view_returns_to_the_same_place(monkeypatch):
    """An encoder that embeds a cell as the height of what stands in it finds every post in its own cell, whatever the turn."""
    model, seeds = bev_contrast(), tuple(range(8))
    clips = collate_clips([clip_of_posts(seed) for seed in seeds])
    moment, turned_T_frame = model.draw_views(clips)
    assert set(moment.tolist()) == {1, 2}
    assert set(torch.linalg.det(turned_T_frame[:, :3, :3]).round().int().tolist()) == {-1, 1}

    def heights(self, frames, hidden=None):
        tallest = tallest_returns(frames, tiny.BEV)[:, None]
        return BEVMaps(tallest, tallest, tallest, tallest, cell_states(frames, tiny.BEV))

    monkeypatch.setattr(BEVEncoder, "forward", heights)
    view, occupied = model.embed_view(clips)
    centres = tiny.BEV.cell_centres()
    for number in range(len(seeds)):
        far = torch.ones(32, 32, dtype=torch.bool)
        for height, xy in POSTS.items():
            (_, row, column), _ = tiny.BEV.cell_index(torch.tensor([*xy, 0.0]))
            apart = (centres - torch.tensor(xy)).norm(dim=-1)
            found = float(view[number, 0][apart < 1.0].max())
            assert 0.3 * height < found < height + 0.05, (number, height)
            assert bool(occupied[number, row, column]), (number, height)
            far &= apart > 1.7
        assert not occupied[number][far].any()
        assert float(view[number, 0][far].max()) < 0.1
    # Without the way back it would be somewhere else.
    raw = heights(None, clips.targets(turned_T_frame[:, None].expand(-1, 4, -1, -1))).states.unflatten(0, (8, 3))
    aligned = (raw[:, 1] == OCCUPIED) & occupied
    assert aligned.flatten(1).sum(1).float().mean() < 2


def test_drawn_views_are_orthogonal_and_not_too_far():
    model = bev_contrast()
    model.shift_m = 10.0
    _, turned_T_frame = model.draw_views(replace(tiny.batch(*range(4)), seeds=tuple(range(4))))
    rotation = turned_T_frame[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(4, 3, 3), atol=1e-6, rtol=0)
    assert turned_T_frame[:, :2, 3].abs().max() <= MAX_SHIFT_M
    assert turned_T_frame[:, 2, 3].abs().max() == 0


def test_cells_are_drawn_by_the_seed_of_their_clip_alone():
    model = bev_contrast(cells_per_clip=10)
    among = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.1
    among[2] = False
    among[2, 4, :5] = True
    drawn = model.draw_cells(among, (3, 4, 5))
    assert drawn.flatten(1).sum(1).tolist() == [10, 10, 5]
    assert not (drawn & ~among).any()
    assert torch.equal(model.draw_cells(among[1:2], (4,))[0], drawn[1])
    assert not torch.equal(model.draw_cells(among[1:2], (6,))[0], drawn[1])


def test_every_trained_parameter_gets_a_gradient_and_no_frozen_one_does():
    model = bev_contrast(cameras=True, sensor_drop=SensorDrop(0.5, 0.5, 0.5)).train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name for name, _ in model.named_parameters()} - set(trained)
    assert frozen == {"encoder.tokens.masked", *(f"predictor.{name}" for name, _ in model.predictor.named_parameters())}
    optimizer = torch.optim.SGD(trained.values(), lr=0.05)
    touched = set()
    for step in range(4):
        terms, _ = model(replace(tiny.batch(0, 1, 2), seeds=(step, step + 10, step + 20)))
        optimizer.zero_grad()
        terms.total().backward()
        optimizer.step()
        touched |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert touched == set(trained)


def test_training_lowers_the_loss():
    model, clips = bev_contrast().train(), tiny.batch(0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(20):
        terms, predictions = model(clips)
        optimizer.zero_grad()
        terms.total().backward()
        optimizer.step()
        losses.append(terms.total().item())
    assert predictions is None
    assert losses[-1] < 0.7 * losses[0]


def test_seeds_decide_the_step_and_nothing_else_does():
    model, clips = bev_contrast(), tiny.batch()
    torch.manual_seed(1)
    first = model(clips)[0].contrast
    torch.manual_seed(2)
    assert torch.equal(model(clips)[0].contrast, first)
    assert not torch.equal(model(replace(clips, seeds=(7, 8)))[0].contrast, first)


def test_without_a_future_the_present_is_seen_twice():
    model = bev_contrast()
    clips = tiny.batch(0, frames=2)
    assert model.draw_views(clips)[0].tolist() == [0]
    assert model(clips)[0].total().item() > 0


def test_nothing_occupied_is_no_loss():
    model, clips = bev_contrast(cameras=True), tiny.batch()
    flat = clips.points.clone()
    flat[:, 2] = 0
    terms, _ = model(tiny.with_points(clips, flat))
    assert terms.total().item() == 0
    terms.total().backward()
    assert model.projection.weight.grad.abs().sum() == 0


def test_probes_and_monitors_read_it_as_any_world_model():
    """The predictor is never trained: it is the warp, and the monitors say so."""
    monitors = measure(bev_contrast().eval(), tiny.batch())
    assert monitors["std"] > 0.1
    assert monitors["ratio_all"] == pytest.approx(1.0, abs=0.05)


def test_info_nce_is_float32_under_mixed_precision():
    """A temperature of .07 makes logits of 14, where bfloat16 counts in steps of .06."""
    generator = torch.Generator().manual_seed(0)
    theirs = torch.randn(300, 32, generator=generator)
    ours = theirs + 0.5 * torch.randn(300, 32, generator=generator)
    exact = info_nce(ours, theirs, 0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(ours, theirs, 0.07), exact)
        rounded = info_nce(ours.bfloat16(), theirs.bfloat16(), 0.07)  # as a projection gives them there
    assert rounded.dtype == torch.float32
    assert torch.isfinite(rounded).all()
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.02)
