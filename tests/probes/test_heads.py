import pytest
import torch

from avjepa.probes.heads import BinaryHead, HeadTraining, head_scores, train_head
from avjepa.probes.metrics.binary import auroc


def separable(n: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features whose second channel tells the answer, at another scale and offset, on the known cells only."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, 3, 8, 8, generator=generator)
    answer = features[:, 1] > 0.8
    known = torch.rand(n, 8, 8, generator=generator) > 0.3
    lied = torch.where(known, answer, ~answer)
    return features * 50 + 1000, lied, known


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_learns_what_the_features_tell_and_reads_known_cells_only(kind):
    features, answer, known = separable()
    head = train_head(features, answer, known, HeadTraining(kind, steps=150, batch_size=3), seed=0)
    score = head_scores(head, features)
    assert auroc(score, answer, known) > 0.97
    assert auroc(score, answer, ~known) < 0.1


def test_the_seed_decides():
    features, answer, known = separable()
    training = HeadTraining(steps=5)
    one, same, other = (
        head_scores(train_head(features, answer, known, training, seed), features) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_constant_features_do_not_divide_by_zero():
    features, answer, known = separable()
    features[:, 0] = 7.0
    assert torch.isfinite(head_scores(train_head(features, answer, known, HeadTraining(steps=3), 0), features)).all()


def test_unknown_head():
    with pytest.raises(ValueError, match="transformer"):
        BinaryHead("transformer", torch.zeros(3), torch.ones(3))
