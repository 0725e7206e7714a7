import math
from dataclasses import fields, replace

import pytest
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.jepa.losses import (
    LossTerms,
    LossWeights,
    cell_error,
    occupancy_loss,
    stratified_mean,
    variance_covariance,
)


def cells(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, -1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("l1", (0.5 + 3.0) / 2),
        ("l2", (0.25 + 9.0) / 2),
        ("smooth_l1", (0.125 + 2.5) / 2),
        ("cosine", 1 - (1.5 * 1 + 4 * 1) / (math.hypot(1.5, 4) * math.hypot(1, 1))),
    ],
)
def test_cell_losses_by_hand(kind, expected):
    predicted, target = torch.tensor([1.5, 4.0]).view(1, 2, 1, 1), torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)
    assert cell_error(predicted, target, kind).item() == pytest.approx(expected, abs=1e-6)


def test_unknown_loss_is_named():
    with pytest.raises(ValueError, match="huber"):
        cell_error(torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1), "huber")


def test_stratified_mean_by_hand():
    error = cells(1.0, 3.0, 10.0, 100.0, 1000.0)
    states = torch.tensor([OCCUPIED, OCCUPIED, FREE, FREE, UNOBSERVED]).view(1, 1, -1)
    valid = torch.tensor([True, True, True, False, True]).view(1, 1, -1)
    assert stratified_mean(error, states, valid, 0.75).item() == pytest.approx(0.75 * 2 + 0.25 * 10)
    assert stratified_mean(error, states, valid, 1.0).item() == pytest.approx(2)
    assert stratified_mean(error, states, valid, 0.0).item() == pytest.approx(10)


def test_cells_count_by_their_weight_within_their_stratum():
    states = torch.tensor([OCCUPIED, OCCUPIED, FREE]).view(1, 1, -1)
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    weighted = stratified_mean(cells(1.0, 3.0, 10.0), states, valid, 0.75, cells(1.0, 4.0, 0.5))
    assert weighted.item() == pytest.approx(0.75 * 13 / 5 + 0.25 * 10)
    alike = stratified_mean(cells(1.0, 3.0, 10.0), states, valid, 0.75, cells(2.0, 2.0, 2.0))
    assert alike.item() == pytest.approx(0.75 * 2 + 0.25 * 10)


def test_an_empty_stratum_gives_its_weight_away():
    states = torch.tensor([FREE, FREE, UNOBSERVED]).view(1, 1, -1)
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    assert stratified_mean(cells(1.0, 2.0, 9.0), states, valid, 0.75).item() == pytest.approx(1.5)


def test_no_cell_gives_zero_and_a_gradient_of_zero():
    error = cells(1.0, 2.0).requires_grad_()
    loss = stratified_mean(error, torch.full((1, 1, 2), UNOBSERVED), torch.ones(1, 1, 2, dtype=torch.bool), 0.75)
    loss.backward()
    assert loss.item() == 0
    assert not error.grad.any()


def test_variance_and_covariance_closed_forms():
    generator = torch.Generator().manual_seed(0)
    variance, covariance = variance_covariance(torch.full((50, 4), 3.0))
    assert variance.item() == pytest.approx(1 - 0.01)  # std is sqrt(1e-4)
    assert covariance.item() == 0
    # Orthonormal columns scaled to std 2: no hinge, no covariance.
    white = torch.linalg.qr(torch.randn(200, 4, generator=generator) - 0.0).Q
    white = white - white.mean(0)
    white = torch.linalg.qr(white).Q * math.sqrt(199) * 2
    variance, covariance = variance_covariance(white)
    assert variance.item() == 0
    assert covariance.item() < 1e-6
    # Two equal columns of variance v: covariance v off the diagonal, twice.
    column = torch.randn(200, 1, generator=generator)
    v = column.var().item()
    assert variance_covariance(column.repeat(1, 2))[1].item() == pytest.approx(2 * v**2 / 2, rel=1e-4)


def test_half_the_std_gives_half_the_hinge():
    column = torch.tensor([[1.0], [-1.0]] * 50)
    scaled = column / column.std() * 0.5
    assert variance_covariance(scaled)[0].item() == pytest.approx(0.5, abs=1e-3)


def test_regulariser_is_float32_and_pushes_apart():
    z = (torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) * 0.1).to(torch.bfloat16).requires_grad_()
    variance, _ = variance_covariance(z)
    assert variance.dtype == torch.float32
    variance.backward()
    moved = z.detach().float() - 5.0 * z.grad.float()
    assert moved.std(0).mean() > z.detach().float().std(0).mean()


def test_one_cell_is_no_statistics_and_no_crash():
    variance, covariance = variance_covariance(torch.randn(1, 4))
    assert torch.isfinite(variance)
    assert covariance.item() == 0


def test_occupancy_loss_by_hand():
    logits = cells(0.0, 2.0, -1.0)
    states = torch.tensor([OCCUPIED, FREE, UNOBSERVED]).view(1, 1, -1)
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    expected = 0.75 * math.log(2) + 0.25 * math.log(1 + math.exp(2))
    assert occupancy_loss(logits, states, valid, 0.75).item() == pytest.approx(expected, abs=1e-6)


def test_total_is_the_weighted_sum_and_zero_switches_off():
    weights = LossWeights(masked=1, future=2, rollout=3, variance=4, covariance=5, sigreg_times_n=6, occupancy=7)
    terms = LossTerms(*(torch.tensor(float(10**i)) for i in range(7)), weights)
    assert terms.total().item() == 7654321
    more = replace(terms, extras={"deep": torch.tensor(0.5)})
    assert more.total().item() == 7654321.5
    assert list(more.named()) == [term.name for term in fields(LossWeights)] + ["deep"]
    broken = LossTerms(*(torch.tensor(1.0),) * 6, torch.tensor(float("nan")), LossWeights(occupancy=0))
    assert broken.total().item() == pytest.approx(1 + 1 + 0.5 + 1 + 0.04)


def test_variance_and_covariance_are_float32_under_mixed_precision():
    """A mean far from zero and a small spread, which sums in bfloat16 would lose."""
    z = 3 + 0.2 * torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    exact = torch.stack(variance_covariance(z))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(torch.stack(variance_covariance(z)), exact)
        rounded = torch.stack(variance_covariance(z.bfloat16()))  # as convolutions give them there
    assert rounded.dtype == torch.float32
    assert torch.isfinite(rounded).all()
    torch.testing.assert_close(rounded, exact, atol=1e-5, rtol=0.02)
