"""Match or mismatch, frame by frame, in the shape of TbV's prediction files (johnwlambert/tbv).

TbV looks at frames more than 5 m apart that lack no camera's picture, and calls one changed when an event is less than 20 m from
the ego position, measured to a line or to the outer ring of an area. Its positive class is *match*: 1 where map and world agree, 0
where they do not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

from avjepa.errors import DataError
from avjepa.files import write_json
from avjepa.mapping.changes import MapChange

MATCH, MISMATCH = 1, 0
RANGE_M = 20.0
SPACING_M = 5.0
BELIEVED = ("confirmed", "candidate")  # worn paint and what nobody saw are no mismatch


@dataclass(frozen=True)
class FramePrediction:
    """One frame.

    Attributes:
        log_id: name of the drive.
        lidar_timestamp_ns: time of its LiDAR turn.
        pred_class: MATCH or MISMATCH.
        confidence: of ``pred_class``, in [0, 1].
        y_true: MATCH or MISMATCH; None where nobody knows.

    Raises:
        ValueError: another class, or a confidence out of range.
    """

    log_id: str
    lidar_timestamp_ns: int
    pred_class: int
    confidence: float
    y_true: int | None

    def __post_init__(self) -> None:
        if self.pred_class not in (MATCH, MISMATCH) or self.y_true not in (MATCH, MISMATCH, None):
            raise ValueError(f"want classes {MISMATCH} or {MATCH}, got {self.pred_class!r} and {self.y_true!r}")
        if not 0 <= self.confidence <= 1 or not isinstance(self.lidar_timestamp_ns, int):
            raise ValueError(f"bad confidence {self.confidence!r} or time {self.lidar_timestamp_ns!r}")


def spaced_frames(xy_m: np.ndarray, pictured: np.ndarray) -> list[int]:
    """Indices of the frames that TbV looks at (``generate_eval_timestamp_list.py``): of those with all pictures, the first, and
    each that is more than 5 m from the last one taken.

    Args:
        xy_m: (n, 2) ego positions in time order.
        pictured: (n,) whether every camera has a picture.
    """
    taken: list[int] = []
    for index in np.flatnonzero(pictured).tolist():
        if not taken or math.dist(xy_m[index], xy_m[taken[-1]]) > SPACING_M:
            taken.append(index)
    return taken


def in_range(shape: BaseGeometry, xy_m: Sequence[float]) -> bool:
    """Whether a change is in sight of an ego position as TbV has it: inside a large area, away from its outline, it is not."""
    return outline(shape).distance(Point(xy_m)) < RANGE_M


def outline(shape: BaseGeometry) -> BaseGeometry:
    """Outer rings of areas; lines and points as they are."""
    if isinstance(shape, Polygon):
        return shape.exterior
    if isinstance(shape, MultiPolygon):
        return shapely.union_all([part.exterior for part in shape.geoms])
    return shape


def predict_frame(
    changes: Iterable[MapChange], log_id: str, timestamp_ns: int, xy_m: Sequence[float], y_true: int | None = None
) -> FramePrediction:
    """What a report says of one frame: a mismatch with the confidence of the surest change in sight, if that is one half or more.

    Args:
        changes: of the report.
        log_id, timestamp_ns: of the frame.
        xy_m: ego position in metres of the map.
        y_true: the label, where there is one.
    """
    in_sight = [
        change.confidence for change in changes if change.status in BELIEVED and in_range(change.geometry, xy_m)
    ]
    changed = max(in_sight, default=0.0)
    if changed >= 0.5:
        return FramePrediction(log_id, timestamp_ns, MISMATCH, changed, y_true)
    return FramePrediction(log_id, timestamp_ns, MATCH, 1.0 - changed, y_true)


def write_frame_predictions(path: Path, predictions: Iterable[FramePrediction]) -> None:
    """Write a JSON list; :func:`read_frame_predictions` gives the same predictions back."""
    write_json(path, [asdict(prediction) for prediction in predictions])


def read_frame_predictions(path: Path) -> list[FramePrediction]:
    """Read a JSON list, ours or another method's.

    Raises:
        DataError: missing, or no such list.
    """
    names = FramePrediction.__dataclass_fields__
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [FramePrediction(*(row[name] for name in names)) for row in rows]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name a file of frame predictions") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a list of frame predictions ({error}); want {', '.join(names)}") from error
