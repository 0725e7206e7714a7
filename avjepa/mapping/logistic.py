"""Logistic regression on a few labelled rows: standardised features, shrunk towards the base rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHRINK = 1.0  # L2 weight on standardised features: with few rows of one answer, towards the base rate
STEPS = 50


@dataclass(frozen=True)
class Logistic:
    """A fitted regression.

    Attributes:
        weights: (F + 1,), of standardised features; the last one is the bias.
        centre, scale: (F,) of the features.
    """

    weights: np.ndarray
    centre: np.ndarray
    scale: np.ndarray

    def log_odds(self, features: np.ndarray) -> np.ndarray:
        """(n,) of features (n, F)."""
        return _with_bias((features - self.centre) / self.scale) @ self.weights

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n,) of features (n, F)."""
        return _sigmoid(self.log_odds(features))


def fit_logistic(features: np.ndarray, answers: np.ndarray) -> Logistic:
    """Fit features (n, F) to answers (n,), bool, with an L2 penalty on all but the bias, by Newton's method."""
    centre, scale = features.mean(0), np.maximum(features.std(0), 1e-6)
    rows = _with_bias((features - centre) / scale)
    # The bias is barely shrunk: where all answers are one it must stay finite.
    shrink = SHRINK * np.diag([1.0] * features.shape[1] + [1e-3])
    weights = np.zeros(rows.shape[1])
    for _ in range(STEPS):
        p = _sigmoid(rows @ weights)
        gradient = rows.T @ (p - answers) + shrink @ weights
        curvature = (rows * (p * (1 - p))[:, None]).T @ rows + shrink
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step / max(1.0, float(np.linalg.norm(step)))  # short steps: far from the answer p saturates
    return Logistic(weights, centre, scale)


def _with_bias(features: np.ndarray) -> np.ndarray:
    return np.column_stack([features, np.ones(len(features))])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))
