import pytest
import torch
import torch.nn.functional as F

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.resample import covered
from avjepa.probes.heads import DenseHead, HeadTraining, draw_window, new_head, train_head
from avjepa.probes.metrics.binary import auroc

GRID = BEVGrid((-4.0, 4.0), (-4.0, 4.0), (0.0, 1.0), 1.0, 1.0)
WIDER = BEVGrid((-6.0, 6.0), (-6.0, 6.0), (0.0, 1.0), 0.5, 1.0)
KINDS = ("linear", "conv", "attentive")


def separable(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Features whose second channel tells the answer, at another scale and offset."""
    features = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return features * 50 + 1000, features[:, 1] > 0.8


def fit(kind: str, features: torch.Tensor, answer: torch.Tensor, seed: int = 0, **settings) -> DenseHead:
    def loss(logits, items, window):
        return F.binary_cross_entropy_with_logits(logits[:, 0], answer[items][:, window[0], window[1]].float())

    head = new_head(kind, 1, GRID, GRID, features, seed)
    return train_head(head, features, loss, HeadTraining(kind, **settings), seed)


@torch.no_grad()
def scores(head: DenseHead, features: torch.Tensor) -> torch.Tensor:
    return head(features)[:, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("crop_cells", [None, 5])
def test_learns_what_the_features_tell(kind, crop_cells):
    features, answer = separable()
    head = fit(kind, features, answer, steps=200, batch_size=3, crop_cells=crop_cells)
    assert auroc(scores(head, features), answer, torch.ones_like(answer)) > 0.97


def test_only_attention_knows_what_is_far_away():
    """The answer, the same in every cell, is told by one distant corner."""
    generator = torch.Generator().manual_seed(0)
    features = 0.1 * torch.randn(40, 2, 8, 8, generator=generator)
    told = torch.rand(40, generator=generator) > 0.5
    features[:, 0, 0, 0] = 3.0 * told
    answer = told[:, None, None].expand(-1, 8, 8)
    far = torch.zeros(40, 8, 8, dtype=torch.bool)
    far[:, 5:, 5:] = True
    attentive, conv = (
        auroc(scores(fit(kind, features, answer, steps=150, learning_rate=1e-2), features), answer, far)
        for kind in ("attentive", "conv")
    )
    assert attentive > 0.95
    assert conv < 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    features, answer = separable()
    one, same, other = (scores(fit(kind, features, answer, seed, steps=3), features) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_constant_features_do_not_divide_by_zero():
    features, answer = separable()
    features[:, 0] = 7.0
    assert torch.isfinite(scores(fit("linear", features, answer, steps=3), features)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_answers_on_a_wider_grid_are_one_constant_beyond_the_features(kind):
    features, _ = separable(2)
    head = new_head(kind, 5, GRID, WIDER, features, 0)
    logits = head(features)
    assert logits.shape == (2, 5, 24, 24)
    outside = logits[:, :, ~covered(GRID, WIDER)]
    torch.testing.assert_close(outside, head.beyond[..., 0].expand_as(outside))
    assert logits[:, :, covered(GRID, WIDER)].std() > 0
    window = slice(3, 9), slice(4, 20)
    torch.testing.assert_close(head(features, window), logits[:, :, 3:9, 4:20])


def test_what_is_beyond_the_features_does_not_change_the_answer_on_them():
    """All true outside, one in ten inside: one bias for both would lift the scores inside."""
    features, _ = separable()
    features = torch.zeros_like(features)
    answer = ~covered(GRID, WIDER)
    answer[::4, ::3] = True

    def loss(logits, items, window):
        return F.binary_cross_entropy_with_logits(logits[:, 0], answer.float().expand(len(items), -1, -1))

    head = new_head("linear", 1, GRID, WIDER, features, 0)
    train_head(head, features, loss, HeadTraining(steps=400, batch_size=2, learning_rate=3e-2), 0)
    inside, outside = (
        scores(head, features)[0][mask].sigmoid() for mask in (covered(GRID, WIDER), ~covered(GRID, WIDER))
    )
    share = answer[covered(GRID, WIDER)].float().mean()
    assert outside.min() > 0.95
    assert inside.mean() == pytest.approx(float(share), abs=0.03)


def test_windows_reach_every_cell_and_stay_inside():
    seen = torch.zeros(8, 8)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        rows, columns = draw_window(GRID, 3, generator)
        assert (rows.stop - rows.start, columns.stop - columns.start) == (3, 3)
        seen[rows, columns] += 1
    assert seen.min() > 0
    assert seen.sum() == 200 * 9
    assert draw_window(GRID, 100, generator) == (slice(0, 8), slice(0, 8))


def test_unknown_head():
    with pytest.raises(ValueError, match="transformer"):
        DenseHead("transformer", 1, GRID, GRID, torch.zeros(3), torch.ones(3))
