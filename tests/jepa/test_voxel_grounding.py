import pytest
import torch

from avjepa.jepa.masks import GroupMask
from avjepa.jepa.target_regions import scenes_of
from avjepa.jepa.voxel_grounding import VoxelDecoder, VoxelGrounding
from tests.jepa import tiny


def grounded(weight: float = 1.0):
    decoder = VoxelDecoder(tiny.BEV, tiny.CHANNELS, voxel_m=1.0)
    return tiny.jepa(cameras=False, extras={"voxels": VoxelGrounding(decoder, weight)})


def test_the_term_is_that_of_occupancy_mae_on_the_same_predictions():
    """The very columns: hidden ones of the present, all of the future, inside the overlap."""
    torch.manual_seed(0)
    model, clips = grounded().eval(), tiny.batch()
    terms, predictions = model(clips)
    hidden = model.mask.draw(scenes_of(clips, model.encoder.grid, tiny.CONTEXT), clips.seeds).hidden
    raw, counted = model.predict(predictions.state, clips)
    counted = counted.clone()
    counted[:, 0] &= hidden
    decoder = model.extras["voxels"].decoder
    logits, states = decoder(raw), decoder.targets(clips)
    want = sum(decoder.loss(logits[:, k], states[:, k], counted[:, k]) for k in (slice(0, 1), slice(1, None)))
    assert float(terms.named()["voxels"]) == pytest.approx(float(want), rel=1e-6)
    assert isinstance(model.mask, GroupMask)


def test_weight_scales_the_term_and_gradients_reach_the_encoder():
    torch.manual_seed(0)
    model = grounded(2.0).train()
    clips = tiny.batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):  # zero-initialised layers hide what lies behind them at first
        terms, _ = model(clips)
        optimizer.zero_grad()
        terms.named()["voxels"].backward()
        optimizer.step()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    torch.manual_seed(0)
    single, double = grounded(1.0).eval(), None
    torch.manual_seed(0)
    double = grounded(2.0).eval()
    once, twice = (float(m(clips)[0].named()["voxels"]) for m in (single, double))
    assert twice == pytest.approx(2 * once, rel=1e-6)
