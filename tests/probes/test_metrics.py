import math

import pytest
import torch

from avjepa.probes.metrics.binary import auroc, average_precision, best_threshold, binary_iou


def bools(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def test_iou_by_hand():
    predicted, truth, counted = bools(1, 1, 0, 0, 1), bools(1, 0, 1, 0, 1), bools(1, 1, 1, 1, 0)
    assert binary_iou(predicted, truth, counted) == pytest.approx(1 / 3)
    assert binary_iou(predicted, truth, torch.ones(5, dtype=torch.bool)) == pytest.approx(2 / 4)


def test_iou_without_positives_is_not_a_perfect_score():
    assert math.isnan(binary_iou(bools(0, 0), bools(0, 0), bools(1, 1)))
    assert binary_iou(bools(1, 0), bools(0, 0), bools(1, 1)) == 0


def test_auroc_by_hand():
    truth, everything = bools(1, 1, 0, 0), bools(1, 1, 1, 1)
    assert auroc(torch.tensor([0.9, 0.4, 0.5, 0.1]), truth, everything) == pytest.approx(3 / 4)
    assert auroc(torch.tensor([0.5, 0.5, 0.5, 0.5]), truth, everything) == pytest.approx(0.5)
    assert auroc(torch.tensor([0.9, 0.4, 0.5, 0.1]), truth, bools(1, 0, 1, 1)) == 1
    assert math.isnan(auroc(torch.rand(4), bools(1, 1, 1, 1), everything))


def test_average_precision_by_hand():
    truth, everything = bools(1, 1, 0, 0), bools(1, 1, 1, 1)
    assert average_precision(torch.tensor([0.9, 0.4, 0.5, 0.1]), truth, everything) == pytest.approx(
        (1 / 1 + 2 / 3) / 2
    )
    assert average_precision(torch.tensor([0.5, 0.5, 0.5, 0.5]), truth, everything) == pytest.approx(
        1 / 2
    )  # all found at once
    assert average_precision(torch.tensor([0.9, 0.5, 0.5, 0.1]), truth, everything) == pytest.approx(
        (1 / 1 + 2 / 3) / 2
    )
    assert average_precision(torch.tensor([0.9, 0.4, 0.5, 0.1]), truth, bools(1, 0, 1, 1)) == 1
    assert math.isnan(average_precision(torch.rand(4), bools(0, 0, 0, 0), everything))
    assert math.isnan(average_precision(torch.rand(4), bools(1, 1, 1, 0), bools(1, 1, 1, 0)))


def test_best_threshold():
    score = torch.tensor([0.9, 0.62, 0.58, 0.1])
    assert best_threshold(score, bools(1, 1, 0, 0), bools(1, 1, 1, 1)) == pytest.approx(0.6)
    assert best_threshold(score, bools(0, 0, 0, 0), bools(0, 0, 0, 0)) == 0.5
