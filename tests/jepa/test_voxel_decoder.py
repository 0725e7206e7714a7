import pytest
import torch

from avjepa.jepa.losses import LossWeights
from tests.jepa import tiny


def test_the_jepa_asks_for_the_hidden_columns_of_the_present_and_all_of_the_future():
    """Inside the overlap; written out beside the model."""
    torch.manual_seed(0)
    model, clips = tiny.jepa(cameras=False).eval(), tiny.batch()
    terms, predictions = model(clips)
    raw, counted = model.predict(predictions.state, clips)
    counted[:, 0] &= predictions.mask.hidden
    assert 0 < counted[:, 0].float().mean() < 1
    logits, states = model.decoder(raw), model.decoder.targets(clips)
    want = sum(model.decoder.loss(logits[:, k], states[:, k], counted[:, k]) for k in (slice(0, 1), slice(1, None)))
    assert float(terms.occupancy) == pytest.approx(float(want), rel=1e-6)


def test_the_weight_scales_the_term_and_gradients_reach_the_encoder():
    torch.manual_seed(0)
    clips = tiny.batch()
    only = dict(masked=0, future=0, rollout=0, variance=0, covariance=0)
    model = tiny.jepa(cameras=False, weights=LossWeights(**only, occupancy=2.0)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):  # zero-initialised layers hide what lies behind them at first
        terms, _ = model(clips)
        assert float(terms.total()) == pytest.approx(2 * float(terms.occupancy), rel=1e-6)
        optimizer.zero_grad()
        terms.total().backward()
        optimizer.step()
    for part in (model.encoder, model.temporal, model.predictor, model.decoder):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
