"""How well evidence tells changed elements from unchanged ones, and whether confidences are right as often as they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from avjepa.geometry.map_edit import MapEdit
from avjepa.mapping.evaluation.calibration import Calibration, calibration_of
from avjepa.mapping.evaluation.matching import MATCH_M
from avjepa.mapping.logistic import Logistic, fit_logistic
from avjepa.mapping.weighing import Weighed, weighed_features
from avjepa.probes.metrics.binary import auroc

PLACED = ("deletion", "geometry")  # kinds after which an element is not where the prior has it
EVIDENCE = ("hand", "residual", "belief", "combined")  # fields of an element


@dataclass(frozen=True)
class JudgedElement:
    """An element of a prior that a frozen encoder saw.

    Attributes:
        token, layer: of the element.
        hand: log-odds by hand-made rules, the largest of its candidates; None where they found nothing.
        residual, belief: by the encoder, that it is gone.
        combined: log-odds of all evidence, the largest of its candidates.
        edit: kind of the edit that changed it; "" where it is as the prior has it.
    """

    token: str
    layer: str
    hand: float | None
    residual: float
    belief: float
    combined: float
    edit: str


def judged_elements(
    weighed: Sequence[Weighed], gone: Sequence[Weighed], edited: Mapping[str, str]
) -> list[JudgedElement]:
    """Elements with what is said of them.

    Args:
        weighed: candidates of the report.
        gone: for every element, that it is gone, by the encoder alone.
        edited: of :func:`avjepa.mapping.evaluation.truth.edited_elements`.
    """
    judged = []
    for one in (one for one in gone if one.readings):
        token = one.candidate.element_id
        of_it = [other for other in weighed if other.candidate.element_id == token]
        hands = [other.hand for other in of_it if other.hand is not None]
        combined = max((other.candidate.log_odds for other in of_it), default=-np.inf)
        odds = one.odds
        judged.append(
            JudgedElement(
                *(token, one.candidate.layer, max(hands, default=None), odds.residual, odds.belief),
                *(float(combined), edited.get(token, "")),
            )
        )
    return judged


def auroc_of(elements: Iterable[JudgedElement], name: str) -> float:
    """AUROC of one kind of evidence (a field), of elements that are gone or moved against those as mapped; nan without either."""
    counted = [one for one in elements if one.edit in ("", *PLACED)]
    scores = [getattr(one, name) for one in counted]
    finite = [score for score in scores if score is not None and np.isfinite(score)]
    silent = min(finite, default=0.0) - 1.0  # what nothing is said of comes last
    score = torch.tensor([silent if value is None else max(value, silent) for value in scores], dtype=torch.float64)
    truth = torch.tensor([bool(one.edit) for one in counted], dtype=torch.bool)
    return auroc(score, truth, torch.ones_like(truth)) if len(counted) else float("nan")


def is_right(one: Weighed, edits: Iterable[MapEdit], edited: Mapping[str, str]) -> bool:
    """An edit of the kind lies within 3 m; where rules found nothing, the very element was edited so, not its neighbour.

    Args:
        one: a candidate.
        edits: known changes.
        edited: of :func:`avjepa.mapping.evaluation.truth.edited_elements`.
    """
    candidate = one.candidate
    if one.hand is None:
        return edited.get(candidate.element_id) == candidate.kind
    shape = candidate.old if candidate.new is None else candidate.new
    return any(edit.kind == candidate.kind and edit.geometry.distance(shape) <= MATCH_M for edit in edits)


def calibration_features(weighed: Sequence[Weighed]) -> np.ndarray:
    """(n, 4), as weighing.py: weighed_features."""
    return np.array([weighed_features(one.hand, one.odds) for one in weighed]).reshape(-1, 4)


def fit_calibration(weighed: Sequence[Weighed], right: Sequence[bool]) -> Logistic:
    """Fit the regression of :class:`avjepa.mapping.map_evidence.Calibration` on judged candidates."""
    return fit_logistic(calibration_features(weighed), np.asarray(right))


def reliability(log_odds: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Expected calibration error and Brier score of log-odds."""
    said = 0.5 * (1 + np.tanh(np.asarray(log_odds, dtype=float) / 2))
    return calibration_of(said, right)
