import math

import pytest
import torch

from avjepa.jepa.slowness import slow_features

LENGTH = 120
PERIODS = (1, 2, 7, 20)  # in LENGTH steps: exactly uncorrelated over them, and so are their differences


def sinusoids() -> torch.Tensor:
    """(LENGTH, 4), zero mean and unit variance."""
    steps = torch.arange(LENGTH, dtype=torch.float64)[:, None]
    return 2**0.5 * torch.sin(2 * math.pi * steps * torch.tensor(PERIODS, dtype=torch.float64) / LENGTH)


def pairs(series: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return series, series.roll(-1, 0)


def expected() -> list[float]:
    return [2 * (1 - math.cos(2 * math.pi * k / LENGTH)) for k in PERIODS]


def test_a_mixture_of_sinusoids_is_taken_apart():
    """Sources of known frequency, mixed linearly: their delta values, and themselves up to sign."""
    sources = sinusoids()
    mixing = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixed = sources @ mixing + 3.0
    slow = slow_features(*pairs(mixed))
    assert slow.deltas.tolist() == pytest.approx(expected(), rel=1e-9)
    recovered = (mixed - mixed.mean(0)) @ slow.directions
    assert (recovered.T @ sources / LENGTH).abs().sub(torch.eye(4)).abs().max() < 1e-9


def test_directions_without_variance_are_left_out():
    """Four sources in seven dimensions, two of them copies and one constant."""
    mixing = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mixed = torch.cat([sinusoids() @ mixing, torch.ones(LENGTH, 1)], 1)
    slow = slow_features(*pairs(mixed.float()))
    assert slow.directions.shape == (7, 4)
    assert slow.deltas.tolist() == pytest.approx(expected(), abs=1e-4)


def test_autoregressive_processes():
    """AR(1) with coefficient rho has delta 2 (1 - rho): 2 for noise, towards 4 for what flips its sign."""
    rho = torch.tensor([0.95, 0.5, 0.0, -0.8], dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    before = torch.randn(40_000, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(40_000, 4, generator=generator, dtype=torch.float64)
    slow = slow_features(before, rho * before + (1 - rho**2).sqrt() * noise)
    assert slow.deltas.tolist() == pytest.approx((2 * (1 - rho)).tolist(), rel=0.03)
    weight = slow.directions.abs() / slow.directions.abs().amax(0)
    assert weight.argmax(0).tolist() == [0, 1, 2, 3]


def test_deltas_of_other_pairs():
    """Against the variance of the pairs that it was made from: twice the step, four times the delta."""
    before, after = pairs(sinusoids())
    slow = slow_features(before, after)
    assert slow.deltas_of(before, after).tolist() == pytest.approx(slow.deltas.tolist(), rel=1e-9)
    assert slow.deltas_of(before, before + 2 * (after - before)).tolist() == pytest.approx(
        [4 * delta for delta in expected()], rel=1e-9
    )


def test_what_never_varies_has_no_direction():
    slow = slow_features(torch.ones(10, 3), torch.ones(10, 3))
    assert slow.deltas.shape == (0,)
    assert slow.directions.shape == (3, 0)


@pytest.mark.parametrize("shapes", [((1, 3), (1, 3)), ((5, 3), (5, 4)), ((5,), (5,))])
def test_bad_shapes(shapes):
    with pytest.raises(ValueError, match="two or more pairs"):
        slow_features(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
