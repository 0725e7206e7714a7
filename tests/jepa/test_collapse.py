import pytest
import torch

from avjepa.jepa.collapse import directions_holding, masked_mean, per_dim_std, rankme, variance_shares


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_counts_equal_directions(rank):
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q[:rank]
    centred = torch.randn(500, rank, generator=generator, dtype=torch.float64)
    white = torch.linalg.qr(centred - centred.mean(0)).Q.float()
    assert rankme(white @ directions + 5.0).item() == pytest.approx(rank, rel=1e-3)  # the mean does not count


def test_rankme_is_blind_to_scale_and_std_is_not():
    z = torch.randn(300, 16, generator=torch.Generator().manual_seed(1))
    assert rankme(z * 1e-3).item() == pytest.approx(rankme(z).item(), rel=1e-4)
    assert per_dim_std(z * 1e-3).mean().item() == pytest.approx(1e-3 * per_dim_std(z).mean().item(), rel=1e-4)


def test_std_closed_form_and_few_cells():
    assert per_dim_std(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).tolist() == pytest.approx([2**0.5, 0.0])
    assert per_dim_std(torch.ones(1, 4)).tolist() == [0, 0, 0, 0]


def test_masked_mean():
    error = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    assert masked_mean(error, error > 1.5).item() == pytest.approx(14 / 3)
    assert masked_mean(error, error > 100).isnan()


def test_variance_shares_closed_form():
    """Variances 4, 1 and 0 along the axes of a rotated frame, far from the origin."""
    z = torch.tensor([[2.0, 0, 0], [-2.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).Q
    shares = variance_shares(z @ rotation + 10.0)
    assert shares.tolist() == pytest.approx([0.8, 0.2, 0.0], abs=1e-6)
    assert variance_shares(torch.ones(5, 3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("share", "needed"), [(0.5, 1), (0.6, 2), (0.8, 2), (0.95, 3), (1.0, 4)])
def test_directions_that_hold_a_share(share, needed):
    assert directions_holding(torch.tensor([0.5, 0.375, 0.09375, 0.03125]), share) == needed
