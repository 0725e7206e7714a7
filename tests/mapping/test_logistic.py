"""Logistic regression: closed forms, and a planted one that comes back."""

import numpy as np
import pytest

from avjepa.mapping.logistic import fit_logistic


def test_one_binary_feature_has_a_closed_form():
    """Three of four right where it is 1, one of four where it is 0: log-odds are ln 3 and -ln 3."""
    features, answers = np.array([[1.0]] * 4 + [[0.0]] * 4), np.array([True] * 3 + [False] + [True] + [False] * 3)
    fitted = fit_logistic(np.repeat(features, 5000, axis=0), np.repeat(answers, 5000))  # they outweigh the penalty
    assert fitted.log_odds(np.array([[1.0], [0.0]])) == pytest.approx([np.log(3), -np.log(3)], rel=1e-3)
    assert fitted.probabilities(np.array([[1.0]])) == pytest.approx([0.75], rel=1e-3)


def test_the_penalised_likelihood_is_at_its_top():
    features, answers = np.array([[1.0]] * 4 + [[0.0]] * 4), np.array([True] * 3 + [False] + [True] + [False] * 3)
    fitted = fit_logistic(features, answers)
    rows = np.column_stack([(features - fitted.centre) / fitted.scale, np.ones(8)])
    gradient = rows.T @ (fitted.probabilities(features) - answers)
    assert gradient == pytest.approx(-np.diag([1.0, 1e-3]) @ fitted.weights, abs=1e-9)


def test_a_planted_logistic_is_recovered():
    rng = np.random.default_rng(0)
    features = rng.normal([1.0, 0.0, -2.0], [2.0, 1.0, 0.5], (20_000, 3))
    planted_weights, bias = np.array([0.8, 0.0, -1.5]), -0.5
    right = rng.random(len(features)) < 1 / (1 + np.exp(-(features @ planted_weights + bias)))
    fitted = fit_logistic(features, right)
    assert fitted.weights[:-1] / fitted.scale == pytest.approx(planted_weights, abs=0.06)
    assert fitted.log_odds(np.zeros((1, 3)))[0] == pytest.approx(bias, abs=0.15)
