"""Candidates weighed: what hand-made rules say of them, and what a frozen encoder says, as one log-odds.

Without an evidence file, or with one that was not calibrated, the hand-made log-odds stand. With a calibrated one, elements of
which the rules say nothing are asked about as well: the encoder alone may say that one is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from shapely.geometry.base import BaseGeometry

from avjepa.mapping.candidates import SEEN_SHARE, Candidate
from avjepa.mapping.learned_evidence import EmbeddedFrame, LearnedOdds, Reading, difference_of, fused, read_differences
from avjepa.mapping.logistic import Logistic
from avjepa.mapping.map_evidence import Calibration, MapEvidence
from avjepa.mapping.vector_map import ElementMap, MapElement

ASKED = {
    **{"ped_crossing": "crosswalk", "stop_line": "stop line", "carpark_area": "car park"},
    **{"lane_divider": "line", "road_divider": "line"},
}
HALF_LINE_M = 0.3  # of a line, as it is drawn


@dataclass(frozen=True)
class Weighed:
    """A candidate and what speaks for it.

    Attributes:
        candidate: with the log-odds of all evidence.
        hand: log-odds by hand-made rules alone; None where they found nothing.
        readings: of the keyframes that show it, by the encoder.
        regression: that weighed them; None where none did.
    """

    candidate: Candidate
    hand: float | None
    readings: tuple[Reading, ...] = ()
    regression: Logistic | None = None

    @property
    def odds(self) -> LearnedOdds:
        """What the encoder says, of all keyframes."""
        return fused(self.readings)

    def log_odds_at(self, hand: float | None, upto_us: int) -> float:
        """For the change, of hand-made log-odds and the keyframes up to a time."""
        if self.regression is None:
            return self.hand if hand is None else hand
        features = weighed_features(hand, fused(self.readings, upto_us))
        return float(self.regression.log_odds(features[None])[0])


def by_hand(candidates: Iterable[Candidate]) -> list[Weighed]:
    """Candidates as hand-made rules have them."""
    return [Weighed(candidate, candidate.log_odds) for candidate in candidates]


def weigh(
    candidates: Sequence[Candidate],
    near: Sequence[MapElement],
    evidence: MapEvidence,
    prior: ElementMap,
    frames: Iterable[EmbeddedFrame],
) -> list[Weighed]:
    """Candidates, and the elements near the drives of which rules say nothing, with what the encoder says of them.

    Args:
        candidates: by hand-made rules.
        near: elements of the prior near the drives.
        evidence: networks, and the calibration if there is one.
        prior: the map.
        frames: keyframes of the drives.
    """
    told = {candidate.element_id for candidate in candidates}
    quiet = gone_candidates(element for element in near if element.token not in told)
    asked = [*candidates, *quiet]
    differences = [difference_of(candidate) for candidate in asked]
    drawn = [difference for difference in differences if difference is not None]
    answers = iter(read_differences(evidence, prior, drawn, frames))
    readings = [() if difference is None else tuple(next(answers)) for difference in differences]
    weighed = list(map(Weighed, candidates, (one.log_odds for one in candidates), readings))
    for candidate, its in zip(quiet, readings[len(candidates) :], strict=True):
        share = _seen_share(candidate.old, its, evidence.grid.cell_m)
        if share >= SEEN_SHARE:
            weighed.append(Weighed(replace(candidate, seen_share=share), None, its))
    return weighed if evidence.calibration is None else [calibrated(one, evidence.calibration) for one in weighed]


def calibrated(one: Weighed, calibration: Calibration) -> Weighed:
    """The same candidate with log-odds of all evidence."""
    odds, regression = one.odds, calibration.regression
    log_odds = float(regression.log_odds(weighed_features(one.hand, odds)[None])[0])
    words = one.candidate.description
    if odds.drives:
        words += f" (encoder: residual {odds.residual:+.1f}, map belief {odds.belief:+.1f})"
    return replace(one, candidate=replace(one.candidate, log_odds=log_odds, description=words), regression=regression)


def first_sure(one: Weighed, bar: float) -> int | None:
    """The time, us, of the keyframe with which the encoder alone first gave log-odds of ``bar``; None if it never did."""
    times = sorted(reading.timestamp_us for reading in one.readings)
    return next((time_us for time_us in times if one.log_odds_at(one.hand, time_us) >= bar), None)


def weighed_features(hand: float | None, odds: LearnedOdds) -> np.ndarray:
    """(4,), as map_evidence.py: Calibration reads them; ``hand`` is None where hand-made rules found nothing."""
    return np.array([hand or 0.0, float(hand is None), odds.residual, odds.belief])


def gone_candidates(elements: Iterable[MapElement]) -> list[Candidate]:
    """That an element is gone, before anything is known, of the elements that the encoder is asked about."""
    return [
        Candidate(
            *(element.token, element.layer, "deletion", element.geometry, None, -float("inf"), 0.0),
            f"it looks as if a {ASKED[element.layer]} were not there",
        )
        for element in elements
        if element.layer in ASKED
    ]


def _seen_share(shape: BaseGeometry, readings: Sequence[Reading], cell_m: float) -> float:
    """Of a shape, in [0, 1], in the keyframe that shows most of it."""
    area_m2 = shape.area or 2 * HALF_LINE_M * shape.length
    return min(1.0, max((reading.cells for reading in readings), default=0.0) * cell_m**2 / area_m2)
