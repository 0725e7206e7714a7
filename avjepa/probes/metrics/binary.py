"""Binary metrics over cells."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

THRESHOLDS = np.linspace(0.05, 0.95, 19)


def binary_iou(predicted: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> float:
    """Intersection over union TP / (TP + FP + FN) of the positive class on the counted cells; nan when there is no positive
    in either. All three are bool of one shape.
    """
    intersection = (predicted & truth & counted).sum().item()
    union = ((predicted | truth) & counted).sum().item()
    return intersection / union if union else float("nan")


def best_threshold(score: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> float:
    """The threshold of THRESHOLDS with the best IoU. Choose it on training data, never on the data that is reported."""
    ious = [binary_iou(score > threshold, truth, counted) for threshold in THRESHOLDS]
    return float(THRESHOLDS[int(np.nanargmax(ious))]) if not np.isnan(ious).all() else 0.5


def auroc(score: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> float:
    """Area under the ROC curve on the counted cells (ties count one half); nan when only one answer occurs."""
    answers = truth[counted].cpu().numpy()
    if answers.all() or not answers.any():
        return float("nan")
    return float(roc_auc_score(answers, score[counted].cpu().numpy()))


def average_precision(score: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> float:
    """Average precision on the counted cells: the sum of precision times step of recall over the distinct scores, without
    interpolation (cells that tie are found together); nan when only one answer occurs.
    """
    answers = truth[counted].cpu().numpy()
    if answers.all() or not answers.any():
        return float("nan")
    return float(average_precision_score(answers, score[counted].cpu().numpy()))
