"""Match or mismatch frame by frame, scored as TbV does (Lambert and Hays, "Trust, but Verify", NeurIPS Datasets 2021;
johnwlambert/tbv, ``eval_map_change_detection.py`` and ``pr_utils.py``).

What makes numbers disagree, and is therefore named:
    Positive class: TbV counts *match* as positive (precision, recall, AP), most others *mismatch*. Both APs are given.
    Range: less than 20 m from the ego position to a line, or to the outer ring of an area, on the ground; inside a large area the
        frame is a match.
    Frames: the first, then each after more than 5 m of motion; a standing car is asked once, and never where a camera that the
        drive has lacks its picture.
    mAcc: of a class that does not occur TbV takes the accuracy as 0, so that a drive without changes scores 0.5 at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from avjepa.errors import DataError
from avjepa.geometry.map_edit import MapEdit
from avjepa.mapping.changes import MapChange
from avjepa.mapping.drive_paths import DrivePath
from avjepa.mapping.evaluation.events import ratio
from avjepa.mapping.outputs.frame_predictions import (
    MATCH,
    MISMATCH,
    FramePrediction,
    in_range,
    predict_frame,
    spaced_frames,
)
from avjepa.probes.metrics.binary import average_precision

EPS = 1e-7  # as pr_utils.py has it
TIE_DIGITS = 12  # 1 - (1 - c) is not c: confidences that tie in one polarity must tie in the other


@dataclass(frozen=True)
class FrameScore:
    """Scores of the frames that were asked for and answered.

    Attributes:
        confusion: (2, 2) counts: rows what is true, columns what was said; match first, then mismatch.
        ap_match, ap_mismatch: average precision with match, or mismatch, as the positive class; nan where one class alone occurs.
        unanswered: frames that were asked for and are not among the predictions; they count nowhere else.
    """

    confusion: np.ndarray
    ap_match: float
    ap_mismatch: float
    unanswered: int

    @property
    def m_acc(self) -> float:
        """TbV's: the mean over both classes of the share of its frames that was said right."""
        return float(np.mean(np.diag(self.confusion) / (self.confusion.sum(1) + EPS)))

    @property
    def accuracies(self) -> tuple[float, float]:
        """Share of the match frames, and of the mismatch frames, that was said right; nan of a class that does not occur."""
        return tuple(ratio(float(row[i]), float(row.sum())) for i, row in enumerate(self.confusion))


def predict_drives(changes: Sequence[MapChange], paths: Sequence[DrivePath]) -> list[FramePrediction]:
    """What a report says of every frame that TbV asks for."""
    return [
        predict_frame(changes, path.scene, int(path.timestamp_us[frame]) * 1000, path.xy_m[frame])
        for path in paths
        for frame in spaced_frames(path.xy_m, path.pictured)
    ]


def true_frames(edits: Sequence[MapEdit], paths: Sequence[DrivePath]) -> dict[tuple[str, int], int]:
    """MATCH or MISMATCH of every frame that TbV asks for, by drive and LiDAR time in nanoseconds.

    A mismatch is a frame with an edit in range, of whatever kind and layer.
    """
    return {
        (path.scene, int(path.timestamp_us[frame]) * 1000): MISMATCH
        if any(in_range(edit.geometry, path.xy_m[frame]) for edit in edits)
        else MATCH
        for path in paths
        for frame in spaced_frames(path.xy_m, path.pictured)
    }


def score_frames(predictions: Sequence[FramePrediction], truth: dict[tuple[str, int], int]) -> FrameScore:
    """Score predictions against the truth of :func:`true_frames`. Frames that nobody asked for, and ``y_true``, are not looked at.

    Raises:
        DataError: a frame is predicted twice, or none of those that are asked for is predicted.
    """
    said = {(prediction.log_id, prediction.lidar_timestamp_ns): prediction for prediction in predictions}
    if len(said) < len(predictions):
        raise DataError(f"{len(predictions) - len(said)} frames are predicted twice; keep one prediction of each")
    asked = [frame for frame in truth if frame in said]
    if not asked:
        raise DataError(f"none of the {len(truth)} frames of these drives is predicted; are these the same drives?")
    was = np.array([truth[frame] for frame in asked])
    is_said = np.array([said[frame].pred_class for frame in asked])
    order = (MATCH, MISMATCH)
    confusion = np.array([[int(((was == true) & (is_said == told)).sum()) for told in order] for true in order])
    confidence = np.array([said[frame].confidence for frame in asked])
    p_match = torch.from_numpy(np.round(np.where(is_said == MATCH, confidence, 1 - confidence), TIE_DIGITS))
    is_match, every = torch.from_numpy(was == MATCH), torch.ones(len(asked), dtype=torch.bool)
    return FrameScore(
        confusion=confusion,
        ap_match=average_precision(p_match, is_match, every),
        ap_mismatch=average_precision(-p_match, ~is_match, every),
        unanswered=len(truth) - len(asked),
    )
