import pytest
import torch

from avjepa.jepa.masks import SensorDrop
from avjepa.jepa.target_encoder import EMATarget, SharedTarget, normalised
from tests.jepa import tiny


def test_teacher_follows_the_formula_exactly():
    model = tiny.jepa(target=EMATarget(0.9))
    by_hand = [p.detach().clone() for p in model.encoder.parameters()]
    torch.manual_seed(1)
    for step, progress in enumerate((0.25, 0.5, 1.0)):
        with torch.no_grad():
            for parameter in model.encoder.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.update_target(progress)
        momentum = (0.925, 0.95, 1.0)[step]
        by_hand = [
            momentum * slow + (1 - momentum) * fast.detach()
            for slow, fast in zip(by_hand, model.encoder.parameters(), strict=True)
        ]
        for slow, expected in zip(model.target.teacher.parameters(), by_hand, strict=True):
            torch.testing.assert_close(slow, expected, atol=1e-6, rtol=1e-6)


def test_buffers_are_copied():
    model = tiny.jepa()
    model.encoder.camera.mean.fill_(7.0)
    model.update_target(0.0)
    assert (model.target.teacher.camera.mean == 7.0).all()


def test_momentum_rises_linearly_to_one():
    target = EMATarget(0.99)
    assert [target.momentum(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.99, 0.995, 1.0])
    with pytest.raises(ValueError, match="momentum_start"):
        EMATarget(1.2)


def test_teacher_starts_equal_shares_nothing_and_gets_no_gradient():
    model = tiny.jepa()
    for slow, fast in zip(model.target.teacher.parameters(), model.encoder.parameters(), strict=True):
        assert torch.equal(slow, fast)
        assert slow.data_ptr() != fast.data_ptr()
        assert not slow.requires_grad
    terms, predictions = model(tiny.batch())
    assert not predictions.target.requires_grad
    terms.total().backward()
    assert all(slow.grad is None for slow in model.target.parameters())


def test_teacher_sees_the_whole_scene():
    """Targets depend neither on the mask nor on what sensors the context lost."""
    clips = tiny.batch()
    plain, dropped = tiny.jepa(), tiny.jepa(sensor_drop=SensorDrop(1.0, 1.0, 1.0))
    target = plain(clips)[1].target
    assert torch.equal(dropped(clips)[1].target, target)
    from dataclasses import replace

    other_mask = replace(clips, seeds=(101, 102))
    predictions = plain(other_mask)[1]
    assert torch.equal(predictions.target, target)
    assert not torch.equal(predictions.mask.hidden, plain(clips)[1].mask.hidden)


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_shared_target(stop_gradient):
    model = tiny.jepa(target=SharedTarget(stop_gradient))
    _, predictions = model(tiny.batch())
    assert predictions.target.requires_grad is not stop_gradient
    _, target = model.encode_targets(tiny.batch())
    with torch.no_grad():
        expected = normalised(model.encoder(tiny.batch().targets()).z).unflatten(0, (2, -1))
    torch.testing.assert_close(target.detach(), expected)


def test_normalised_is_layernorm_without_affine():
    z = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    out = normalised(z)
    torch.testing.assert_close(out.mean(1), torch.zeros(2, 4, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(1, unbiased=False), torch.ones(2, 4, 4), atol=1e-3, rtol=0)
    assert normalised(z.half()).dtype == torch.float32
