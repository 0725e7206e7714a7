import math
from itertools import pairwise

import pytest
import torch

from avjepa.jepa.losses import LossWeights
from avjepa.jepa.sigreg import SIGReg
from avjepa.jepa.target_encoder import SharedTarget
from tests.jepa import tiny


def normal(n: int, channels: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))


def test_one_point_by_hand():
    """All cells at the origin: the characteristic function is 1, whatever the direction."""
    sigreg = SIGReg(knots=2001, largest_t=8.0)
    # 2 * integral over t > 0 of (1 - g)^2 g for g = exp(-t^2 / 2), that is of g - 2 g^2 + g^3
    one = 2 * math.sqrt(math.pi / 2) * (1 - 2 / math.sqrt(2) + 1 / math.sqrt(3))
    for n in (1, 7):
        assert sigreg.times_n(torch.zeros(n, 8), (0,)).item() == pytest.approx(n * one, rel=1e-4)


def test_of_a_plain_sum():
    """Against loops over cells, directions and knots."""
    sigreg, z = SIGReg(directions=3, knots=5), normal(6, 4)
    directions = sigreg._unit_directions(z, (1, 2))
    t = torch.linspace(0, 3, 5)
    total = 0.0
    for k in range(3):
        values = []
        for knot in t:
            cosine = sum(math.cos(float(knot * (cell @ directions[:, k]))) for cell in z) / 6
            sine = sum(math.sin(float(knot * (cell @ directions[:, k]))) for cell in z) / 6
            g = math.exp(-(float(knot) ** 2) / 2)
            values.append(((cosine - g) ** 2 + sine**2) * g)
        total += 2 * sum((a + b) / 2 * 0.75 for a, b in pairwise(values))
    assert sigreg.times_n(z, (1, 2)).item() == pytest.approx(6 * total / 3, rel=1e-5)


def test_normal_cells_cost_the_same_at_any_number():
    """The mean of n |phi_n - phi|^2 is 1 - phi^2; its integral under the weight has a closed form."""
    expected = 2 * math.sqrt(math.pi / 2) * (1 - 1 / math.sqrt(3))
    for n in (20, 500):
        values = [SIGReg().times_n(normal(n, seed=seed), (seed,)).item() for seed in range(100)]
        assert sum(values) / 100 == pytest.approx(expected, rel=0.08), n


def test_what_is_not_normal_costs_more():
    sigreg = SIGReg()
    shapes = {
        "collapsed": torch.zeros(200, 8),
        "narrow": 0.3 * normal(200),
        "wide": 3 * normal(200),
        "shifted": normal(200) + 1,
        "of low rank": normal(200) * torch.tensor([1.0] * 4 + [0.0] * 4) * math.sqrt(2),
        "on two points": normal(200).sign(),
    }
    for name, cells in shapes.items():
        assert sigreg.times_n(cells, (0,)).item() > 2.2, name


def test_descending_it_spreads_collapsed_cells():
    z = (0.01 * normal(256)).requires_grad_()
    optimizer = torch.optim.Adam([z], 0.05)
    for step in range(200):
        optimizer.zero_grad()
        SIGReg().times_n(z, (step,)).backward()
        optimizer.step()
    covariance = torch.cov(z.detach().T)
    assert covariance.diagonal() == pytest.approx(torch.ones(8), abs=0.25)
    assert (covariance - covariance.diag().diag()).abs().max() < 0.2


def test_cells_are_drawn_from_the_whole_batch():
    """Half of the cells differ: a draw of the first 64 would not see them."""
    cells = torch.cat([normal(400), normal(400, seed=1) + 5])
    sigreg = SIGReg(max_cells=64)
    assert len(sigreg._drawn(cells, (3,))) == 64
    share = (sigreg._drawn(cells, (3,)).mean(1) > 2.5).float().mean().item()
    assert 0.25 < share < 0.75
    assert torch.equal(sigreg._drawn(cells, (3,)), sigreg._drawn(cells, (3,)))
    assert not torch.equal(sigreg._drawn(cells, (3,)), sigreg._drawn(cells, (4,)))


def test_half_precision_is_computed_in_float32():
    cells = normal(100)
    with torch.autocast("cpu", torch.bfloat16):
        value = SIGReg().times_n(cells, (0,))
    assert value.dtype == torch.float32
    assert value.item() == SIGReg().times_n(cells, (0,)).item()
    assert SIGReg().times_n(cells.bfloat16(), (0,)).dtype == torch.float32


def test_no_cell_is_no_crash():
    z = torch.zeros(0, 8, requires_grad=True)
    value = SIGReg().times_n(z, (0,))
    value.backward()
    assert value.item() == 0


def test_a_model_with_it_needs_no_teacher():
    weights = LossWeights(variance=0, covariance=0, occupancy=0, sigreg_times_n=0.1)
    model = tiny.jepa(cameras=False, target=SharedTarget(stop_gradient=False), weights=weights, sigreg=SIGReg())
    terms, _ = model(tiny.batch())
    assert terms.sigreg_times_n.item() > 0
    terms.sigreg_times_n.backward()
    assert sum(float(p.grad.abs().sum()) for p in model.encoder.neck.parameters()) > 0
    with pytest.raises(ValueError, match="sigreg_times_n is 0"):
        tiny.jepa(sigreg=SIGReg())
    with pytest.raises(ValueError, match="sigreg is None"):
        tiny.jepa(weights=weights)
