from dataclasses import replace

import pytest
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.jepa.baselines.occupancy_mae import OccupancyMAE
from avjepa.jepa.masks import GroupMask, SensorDrop
from avjepa.jepa.monitors import measure
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.jepa.target_regions import scenes_of
from avjepa.jepa.voxel_decoder import VoxelDecoder
from tests.jepa import tiny


def occupancy_mae(seed: int = 0, cameras: bool = False, sensor_drop: SensorDrop | None = None) -> OccupancyMAE:
    """The whole model on the tiny grid: 6 voxels of 1 m above every cell."""
    torch.manual_seed(seed)
    return OccupancyMAE(
        encoder=tiny.encoder(cameras),
        temporal=TemporalContext(tiny.CHANNELS, tiny.CONTEXT),
        predictor=WarpPredictor(tiny.BEV, tiny.CHANNELS, 16, dilations=(1, 2)),
        mask=GroupMask(),
        sensor_drop=sensor_drop,
        decoder=VoxelDecoder(tiny.BEV, tiny.CHANNELS, voxel_m=1.0),
    )


def counted_voxels(model: OccupancyMAE, clips) -> torch.Tensor:
    """(B, K, Z, Y, X), bool: what the loss may count, spelled out voxel by voxel."""
    states = model.decoder.targets(clips)
    hidden = model.mask.draw(scenes_of(clips, model.encoder.grid, tiny.CONTEXT), clips.seeds).hidden
    _, overlap = model.predict(model.encode_context(clips)[0], clips)
    counted = (states != UNOBSERVED) & overlap[:, :, None]
    counted[:, 0] &= hidden[:, None]
    return counted


def test_targets_by_hand():
    """Voxels of the full frames, each in its own ego frame: a post that the car drives past moves backwards."""
    model = occupancy_mae()
    points = torch.tensor([[4.4, 0.4, 0.5], [4.4, 0.4, 1.5], [4.4, 0.4, 2.5]]).double().numpy()
    still, forward = torch.eye(4).double().numpy(), torch.eye(4).double().numpy()
    forward[0, 3] = 1.6  # two cells
    frames = [
        tiny.frame_of(points, pose, pose[:3, 3] + [0, 0, 1.5], i) for i, pose in enumerate((still, still, forward))
    ]
    states = model.decoder.targets(tiny.collate_clips([tiny.Clip(tuple(frames), 2, 0)]))
    assert states.shape == (1, 2, 6, 32, 32)
    row = 16  # y in [0, 0.8) m
    for frame, column in ((0, 21), (1, 19)):  # x in [4, 4.8) m, then [2.4, 3.2) m
        occupied = (states[0, frame] == OCCUPIED).nonzero().tolist()
        assert occupied == [[iz, row, column] for iz in (2, 3, 4)]  # z in [0, 1), [1, 2), [2, 3) m above -2 m
        assert states[0, frame, 3, row, column - 2] == FREE  # the level ray to z = 1.5 m
        assert states[0, frame, 0, row, column] == UNOBSERVED
        assert states[0, frame, 3, row, column + 1] == UNOBSERVED  # behind it


def test_only_hidden_columns_of_the_present_and_voxels_with_a_ray_count(monkeypatch):
    model, clips = occupancy_mae().eval(), tiny.batch()
    terms, predictions = model(clips)
    assert predictions is None
    counted = counted_voxels(model, clips)
    assert 0 < counted[:, 0].float().mean() < counted[:, 1:].float().mean() < 0.5
    rebuild = VoxelDecoder.forward

    def poisoned(kept: torch.Tensor):
        return lambda self, raw: torch.where(kept, rebuild(self, raw), 77.0)

    monkeypatch.setattr(VoxelDecoder, "forward", poisoned(counted))
    same, _ = model(clips)
    for name, value in terms.named().items():
        assert torch.equal(same.named()[name], value), name
    for horizon, name in ((0, "masked"), (1, "future")):
        fewer = counted.clone()
        fewer[:, horizon] = False
        monkeypatch.setattr(VoxelDecoder, "forward", poisoned(fewer))
        assert not torch.equal(model(clips)[0].named()[name], terms.named()[name])


def test_a_perfect_answer_costs_nothing_and_knowing_nothing_costs_log_two(monkeypatch):
    model, clips = occupancy_mae().eval(), tiny.batch()
    truth = torch.where(model.decoder.targets(clips) == OCCUPIED, 30.0, -30.0)
    monkeypatch.setattr(VoxelDecoder, "forward", lambda self, raw: truth)
    assert model(clips)[0].total() < 1e-6
    monkeypatch.setattr(VoxelDecoder, "forward", lambda self, raw: torch.zeros_like(truth))
    assert float(model(clips)[0].total()) == pytest.approx(2 * 0.693147, rel=1e-5)


def test_every_trained_parameter_gets_a_gradient():
    """After one step: at the start zero-initialised layers hide what lies behind them."""
    model = occupancy_mae(cameras=True, sensor_drop=SensorDrop(0.5, 0.5, 0.5)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    touched = set()
    for step in range(4):
        terms, _ = model(replace(tiny.batch(0, 1, 2), seeds=(step, step + 10, step + 20)))
        optimizer.zero_grad()
        terms.total().backward()
        optimizer.step()
        touched |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {name for name, _ in model.named_parameters()} - touched == set()


def test_training_lowers_the_loss():
    model, clips = occupancy_mae().train(), tiny.batch(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        terms, _ = model(clips)
        optimizer.zero_grad()
        terms.total().backward()
        optimizer.step()
        losses.append(terms.total().item())
    assert losses[-1] < 0.7 * losses[0]


def test_seeds_decide_the_mask_and_nothing_else_does():
    model, clips = occupancy_mae(), tiny.batch()
    torch.manual_seed(1)
    first = model(clips)[0]
    torch.manual_seed(2)
    assert torch.equal(model(clips)[0].masked, first.masked)
    assert not torch.equal(model(replace(clips, seeds=(7, 8)))[0].masked, first.masked)


def test_without_a_future_or_without_lidar():
    model = occupancy_mae(cameras=True)
    terms, _ = model(tiny.batch(0, frames=2))
    assert terms.future.item() == 0
    assert terms.masked.item() > 0
    clips = tiny.batch(0)
    nothing = replace(
        clips,
        points=clips.points[:0],
        point_frame=clips.point_frame[:0],
        lidar_present=torch.zeros_like(clips.lidar_present),
    )
    terms, _ = model(nothing)
    assert terms.total().item() == 0  # no ray, no truth
    terms.total().backward()


def test_probes_and_monitors_read_it_as_any_world_model():
    model, clips = occupancy_mae().eval(), tiny.batch()
    monitors = measure(model, clips)
    assert monitors["std"] > 0.1
    assert monitors["ratio_all"] == pytest.approx(1.0, abs=0.05)  # untrained, it predicts the warped present


def test_the_height_must_be_whole_voxels():
    with pytest.raises(ValueError, match="axis z"):
        VoxelDecoder(tiny.BEV, 16, 0.7)
