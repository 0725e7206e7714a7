"""Everything that is asked of one report of map changes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from avjepa.errors import DataError
from avjepa.geometry.map_edit import MapEdit
from avjepa.mapping.changes import ChangeReport, MapChange
from avjepa.mapping.drive_paths import DrivePath
from avjepa.mapping.evaluation.calibration import Calibration, calibration_of
from avjepa.mapping.evaluation.events import (
    EventScore,
    false_events,
    ratio,
    recall_by,
    score_events,
    unchanged_km,
    with_status,
)
from avjepa.mapping.evaluation.frames import FrameScore, score_frames, true_frames
from avjepa.mapping.evaluation.matching import DISTANCES_M, RULES, match_events
from avjepa.mapping.evaluation.time_to_detect import DetectionDistance, detection_distance
from avjepa.mapping.evaluation.truth import Reach, reach_of
from avjepa.mapping.frames import MapFrame
from avjepa.mapping.outputs.frame_predictions import BELIEVED, FramePrediction

BELIEFS = {"confirmed": ("confirmed",), "with candidates": BELIEVED}


@dataclass(frozen=True)
class ChangeEvaluation:
    """Scores of one report.

    Attributes:
        run_id: of the report.
        scenes: drives that it looked at.
        reach: known changes, and which of them count.
        unchanged_km: of street, driven further than 20 m from every known change.
        events: ``events[belief][rule, distance]``, for the keys of BELIEFS, RULES and DISTANCES_M.
        visible: by belief, ``events[belief]["kind", "pieces"]`` without the edits that leave no trace in the world.
        false_events: by belief, see :func:`avjepa.mapping.evaluation.events.false_events`.
        recall_by: of confirmed events, ``recall_by["kind" | "layer" | "drives"][name]`` = (found, in reach).
        detected: of confirmed events that are an edit in reach, how far was driven; where the record says when.
        untimed: how many of them say nothing of it.
        frames: by TbV's rule.
        judged: (confidence, right) of every event, confirmed or candidate, that is not aside.
    """

    run_id: str
    scenes: tuple[str, ...]
    reach: Reach
    unchanged_km: float
    events: dict[str, dict[tuple[str, str], EventScore]]
    visible: dict[str, EventScore]
    false_events: dict[str, int]
    recall_by: dict[str, dict[str, tuple[int, int]]]
    detected: tuple[DetectionDistance, ...]
    untimed: int
    frames: FrameScore
    judged: tuple[tuple[float, bool], ...]

    @property
    def calibration(self) -> Calibration:
        """Of all events that are right or wrong."""
        return calibration_of([said for said, _ in self.judged], [right for _, right in self.judged])

    @property
    def out_of_reach(self) -> dict[str, int]:
        """Number of edits that do not count, by kind."""
        pairs = zip(self.reach.edits, self.reach.in_reach, strict=True)
        return dict(sorted(Counter(edit.kind for edit, inside in pairs if not inside).items()))

    def false_per_km(self, belief: str) -> float:
        """False events for each kilometre of unchanged street; nan where there is none."""
        return ratio(self.false_events[belief], self.unchanged_km)

    def mean_detection(self, name: str) -> float:
        """Mean over detected changes of ``driven_m`` or ``in_sight_m``; nan of none."""
        return ratio(sum(getattr(distance, name) for distance in self.detected), len(self.detected))

    def record(self) -> dict[str, Any]:
        """All of it as JSON values; null where a figure is not defined."""
        frames = self.frames
        figures = {
            "run_id": self.run_id,
            "scenes": list(self.scenes),
            "edits": len(self.reach.edits),
            "edits_in_reach": [self.reach.edits[number].token for number in self.reach.counted],
            "edits_out_of_reach": self.out_of_reach,
            "edits_without_a_trace": [self.reach.edits[number].token for number in self.reach.traceless],
            "events": {
                belief: {
                    f"{rule}, {distance}": asdict(score)
                    | {"precision": score.precision, "recall": score.recall, "f1": score.f1}
                    for (rule, distance), score in scores.items()
                }
                for belief, scores in self.events.items()
            },
            "visible_events": {
                belief: asdict(score) | {"precision": score.precision, "recall": score.recall, "f1": score.f1}
                for belief, score in self.visible.items()
            },
            "recall_by": self.recall_by,
            "unchanged_km": self.unchanged_km,
            "false_events": self.false_events,
            "false_events_per_km": {belief: self.false_per_km(belief) for belief in self.false_events},
            "detected": [asdict(distance) for distance in self.detected],
            "detected_untimed": self.untimed,
            "frames": {
                "confusion": frames.confusion.tolist(),
                "m_acc": frames.m_acc,
                "accuracy_match": frames.accuracies[0],
                "accuracy_mismatch": frames.accuracies[1],
                "ap_match": frames.ap_match,
                "ap_mismatch": frames.ap_mismatch,
                "unanswered": frames.unanswered,
            },
            "calibration": asdict(self.calibration),
        }
        return _null_for_nan(figures)


def evaluate_report(
    report: ChangeReport,
    predictions: Sequence[FramePrediction],
    frame: MapFrame,
    edits: Sequence[MapEdit],
    paths: Sequence[DrivePath],
) -> ChangeEvaluation:
    """Score a report against known changes.

    Args:
        report: the changes.
        predictions: by frame.
        frame: of the known changes.
        edits: the known changes of the whole map.
        paths: of the report's drives.

    Raises:
        DataError: report, changes and drives are not of one map, or the predictions are of other drives.
    """
    cities = {"the report": report.frame.name, "the known changes": frame.name, "the drives": paths[0].city}
    if len(set(cities.values())) > 1 or report.frame != frame:
        told = ", ".join(f"{what}: {city}" for what, city in cities.items())
        raise DataError(f"run {report.run_id}: not of one map ({told}); take the known changes of the report's map")
    reach = reach_of(edits, paths)
    events = {belief: with_status(report.changes, statuses) for belief, statuses in BELIEFS.items()}
    confirmed, believed = events["confirmed"], events["with candidates"]
    detected, untimed = _detected(confirmed, reach, paths)
    return ChangeEvaluation(
        run_id=report.run_id,
        scenes=report.scenes,
        reach=reach,
        unchanged_km=unchanged_km(paths, edits),
        events={
            belief: {
                (rule, distance): score_events(found, reach, rule, distance)
                for rule in RULES
                for distance in DISTANCES_M
            }
            for belief, found in events.items()
        },
        visible={belief: score_events(found, reach.visible) for belief, found in events.items()},
        false_events={belief: false_events(found, reach) for belief, found in events.items()},
        recall_by={
            "kind": recall_by(confirmed, reach, lambda number, edit: edit.kind),
            "layer": recall_by(confirmed, reach, lambda number, edit: edit.layer),
            "drives": recall_by(confirmed, reach, lambda number, edit: _drives(reach.drives[number])),
        },
        detected=detected,
        untimed=untimed,
        frames=score_frames(predictions, true_frames(edits, paths)),
        judged=_judged(believed, reach),
    )


def _detected(
    events: Sequence[MapChange], reach: Reach, paths: Sequence[DrivePath]
) -> tuple[tuple[DetectionDistance, ...], int]:
    edit_of = match_events(events, reach.edits, reach.in_reach)
    found = [
        (event, reach.edits[edit])
        for event, edit in zip(events, edit_of, strict=True)
        if edit is not None and reach.in_reach[edit]
    ]
    distances = [
        detection_distance(edit.geometry, event.confirmed_seen, paths)
        for event, edit in found
        if event.confirmed_seen is not None
    ]
    timed = tuple(distance for distance in distances if distance is not None)
    return timed, len(found) - len(timed)


def _judged(events: Sequence[MapChange], reach: Reach) -> tuple[tuple[float, bool], ...]:
    edit_of = match_events(events, reach.edits, reach.in_reach)
    return tuple(
        (event.confidence, edit is not None)
        for event, edit in zip(events, edit_of, strict=True)
        if edit is None or reach.in_reach[edit]
    )


def _drives(count: int) -> str:
    """Edits that no single drive had in reach, but all together have, are the fusion's own."""
    return {0: "only together", 1: "1 drive"}.get(count, "2 drives or more")


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_null_for_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
