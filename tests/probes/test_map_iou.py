import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avjepa.probes.metrics.map_iou import MAP_CLASSES, THRESHOLDS, MapIoU

TOLERANCE = {"abs": 1e-6, "rel": 0}


def scored(score: list, truth: list, counted: list | None = None, classes=("a",)):
    """One frame of one row of cells; lists over classes, or of cells when there is one class."""
    score, truth = torch.tensor(score, dtype=torch.float32), torch.tensor(truth, dtype=torch.bool)
    score, truth = (tensor.view(len(classes), 1, -1) for tensor in (score, truth))
    evaluation = MapIoU(classes)
    evaluation.add(score, truth, None if counted is None else torch.tensor([counted], dtype=torch.bool))
    return evaluation.scores()


def plain_iou(frames, num_classes: int) -> torch.Tensor:
    """The definition, threshold by threshold and cell by cell."""
    iou = torch.zeros(num_classes, len(THRESHOLDS), dtype=torch.float64)
    for c in range(num_classes):
        for k, threshold in enumerate(torch.tensor(THRESHOLDS)):
            tp = fp = fn = 0
            for score, truth, counted in frames:
                cells = zip(score[c].flatten(), truth[c].flatten().tolist(), counted.flatten().tolist(), strict=True)
                for value, is_true, is_counted in cells:
                    is_predicted = bool(value >= threshold)
                    tp += is_counted and is_predicted and is_true
                    fp += is_counted and is_predicted and not is_true
                    fn += is_counted and not is_predicted and is_true
            iou[c, k] = tp / (tp + fp + fn + 1e-7)
    return iou


def test_by_hand():
    # at 0.50: TP 2 (0.9, 0.5), FP 1 (0.55), FN 1 (0.36); at 0.35: TP 3, FP 1; at 0.60: TP 1, FN 2
    scores = scored([0.9, 0.5, 0.55, 0.36, 0.1], [1, 1, 0, 1, 0])
    assert scores.per_class("iou@0.50")["a"] == pytest.approx(2 / 4, **TOLERANCE)
    assert scores.per_class("iou@max")["a"] == pytest.approx(3 / 4, **TOLERANCE)
    assert scores.iou[0].tolist() == pytest.approx([3 / 4, 2 / 4, 2 / 4, 2 / 4, 1 / 4, 1 / 3, 1 / 3], **TOLERANCE)


def test_a_score_on_a_threshold_is_predicted():
    """In float32, where 0.35, 0.45, 0.55 and 0.65 are not what they are in float64."""
    for k, threshold in enumerate(THRESHOLDS):
        below = torch.nextafter(torch.tensor(threshold), torch.tensor(0.0)).item()
        assert scored([threshold, 0.0], [1, 1]).iou[0, k] == pytest.approx(1 / 2, **TOLERANCE)
        assert scored([below, 0.0], [1, 1]).iou[0, k] == pytest.approx(0, **TOLERANCE)
        evaluation = MapIoU(["a"])
        evaluation.add(torch.full((1, 1, 1), threshold, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.bool))
        assert evaluation.scores().iou[0, k] == pytest.approx(1, **TOLERANCE)


def test_counts_are_summed_over_frames_before_the_division():
    evaluation = MapIoU(["a"])
    evaluation.add(torch.ones(1, 1, 4), torch.tensor([[[True, True, True, True]]]))  # IoU 1 of 4 cells
    evaluation.add(torch.ones(1, 1, 2), torch.tensor([[[False, True]]]))  # IoU 1 / 2 of 2 cells
    assert evaluation.scores().mean("iou@0.50") == pytest.approx(5 / 6, **TOLERANCE)  # not (1 + 1 / 2) / 2


def test_each_class_has_its_own_best_threshold():
    scores = scored([[0.4, 0.0], [0.62, 0.58]], [[1, 0], [1, 0]], classes=("a", "b"))
    assert scores.per_class("iou@max") == pytest.approx({"a": 1, "b": 1}, **TOLERANCE)
    assert scores.per_class("iou@0.50") == pytest.approx({"a": 0, "b": 1 / 2}, **TOLERANCE)
    assert scores.mean("iou@max") == pytest.approx(1, **TOLERANCE)
    assert scores.iou.mean(0).max() < 0.8  # one threshold for both would give less


def test_only_counted_cells_enter():
    score, truth = [0.9, 0.9, 0.1, 0.9], [1, 0, 1, 1]
    assert scored(score, truth).mean("iou@0.50") == pytest.approx(2 / 4, **TOLERANCE)
    assert scored(score, truth, [1, 0, 1, 0]).mean("iou@0.50") == pytest.approx(1 / 2, **TOLERANCE)
    assert scored(score, truth, [0, 1, 0, 0]).occurs.tolist() == [False]  # its true cells are elsewhere


def test_a_class_that_never_occurs_counts_as_0_and_is_told():
    """Never predicted or predicted: 0 either way, and in BEVFusion's mean."""
    for absent in ([0.1, 0.2], [0.9, 0.2]):
        scores = scored([[0.9, 0.1], absent], [[1, 0], [0, 0]], classes=("here", "absent"))
        assert scores.occurs.tolist() == [True, False]
        for mode in ("iou@0.50", "iou@max"):
            assert scores.per_class(mode) == pytest.approx({"here": 1, "absent": 0}, **TOLERANCE)
            assert scores.mean(mode) == pytest.approx(1 / 2, **TOLERANCE)
            assert scores.mean_over_occurring(mode) == pytest.approx(1, **TOLERANCE)
    assert math.isnan(scored([0.1], [0]).mean_over_occurring("iou@max"))


@given(st.integers(0, 10_000))
def test_agrees_with_the_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    frames = []
    evaluation = MapIoU(["a", "b", "c"])
    for _ in range(2):
        score = torch.rand(3, 4, 5, generator=generator)
        score = torch.where(torch.rand(3, 4, 5, generator=generator) < 0.3, (score * 20).round() / 20, score)
        truth = torch.rand(3, 4, 5, generator=generator) < 0.4
        truth[2] = False
        counted = torch.rand(4, 5, generator=generator) < 0.8
        frames.append((score, truth, counted))
        evaluation.add(score, truth, counted)
    torch.testing.assert_close(evaluation.scores().iou, plain_iou(frames, 3), atol=1e-12, rtol=0)


def test_a_whole_data_set_loses_no_cell():
    """Beyond 2^24 cells a float32 sum, as in the reference, no longer counts by ones."""
    evaluation = MapIoU(["a"])
    evaluation._cells[0, 1, -1] = 2**24
    evaluation.add(torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool))
    assert int(evaluation._cells[0, 1, -1]) == 2**24 + 1


@pytest.mark.parametrize("bad", [1.2, -0.1, float("nan")])
def test_scores_that_are_no_probabilities(bad):
    with pytest.raises(ValueError, match="sigmoid"):
        scored([0.5, bad], [1, 0])


def test_wrong_shapes_and_nothing_to_score():
    truth = torch.ones(6, 3, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(6, 4, 3\)"):
        MapIoU().add(torch.ones(6, 4, 3), truth)
    with pytest.raises(ValueError, match="5"):
        MapIoU(MAP_CLASSES[:5]).add(torch.ones(6, 3, 4), truth)
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        MapIoU().add(torch.ones(6, 3, 4), truth, torch.ones(4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="bool"):
        MapIoU().add(torch.ones(6, 3, 4), truth.float())
    with pytest.raises(ValueError, match="no cell"):
        MapIoU().scores()
    with pytest.raises(ValueError, match="no cell"):
        scored([0.5], [1], [0])
    with pytest.raises(ValueError, match="iou@best"):
        scored([0.5], [1]).mean("iou@best")
