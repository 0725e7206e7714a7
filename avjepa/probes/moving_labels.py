"""Which points of a LiDAR turn belong to something that moves: from annotation boxes, or from the mini city's own files.

Labels are int8: metrics.moving_objects.STATIC, MOVING or IGNORED.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avjepa.conventions import LIDAR
from avjepa.errors import BadFileError
from avjepa.probes.boxes import KeyframeBoxes, points_in_boxes
from avjepa.probes.metrics.moving_objects import IGNORED, MOVING, STATIC
from avjepa.sensors.table_cache import find_tables, open_tables

MOVING_ATTRIBUTES = ("vehicle.moving", "cycle.with_rider", "pedestrian.moving")


def moving_boxes(boxes: KeyframeBoxes) -> np.ndarray:
    """(n,) bool: the box's first attribute says that it moves (MapMOS, nuScenes loader).

    By that rule a cyclist who waits moves, and a vehicle without attribute does not.
    """
    return np.isin(boxes.attribute, MOVING_ATTRIBUTES)


def box_moving_labels(xyz_ego: np.ndarray, boxes: KeyframeBoxes, moving: np.ndarray) -> np.ndarray:
    """Labels (P,) of a keyframe's points (P, 3) in its ego frame: MOVING inside a moving box, else STATIC.

    A keyframe without any annotation is IGNORED throughout, as in MapMOS; so is every sweep between keyframes, for which
    there are no boxes to call this with.

    Args:
        xyz_ego: points.
        boxes: of the keyframe.
        moving: (n,) bool, such as :func:`moving_boxes` gives it.
    """
    if not len(boxes):
        return np.full(len(xyz_ego), IGNORED, dtype=np.int8)
    labels = np.full(len(xyz_ego), STATIC, dtype=np.int8)
    point, _ = points_in_boxes(xyz_ego, boxes.ego_T_box[moving], boxes.size_lwh_m[moving])
    labels[point] = MOVING
    return labels


class MotionFiles:
    """The mini city's motion labels: what moves faster than 0.5 m/s at that moment, by LiDAR file (see data/README.md).

    Args:
        root: data root.
        version: name of the tables' folder; None takes the only one there is.

    Raises:
        DataError: a table is missing or damaged.
    """

    def __init__(self, root: str | Path, version: str | None = None) -> None:
        tables = find_tables(root, version)
        self.folder = tables.parent / "motion" / tables.name
        self._token: dict[str, str] = {}
        if self.folder.is_dir():
            with open_tables(tables) as nusc:
                self._token = {
                    record["filename"]: record["token"] for record in nusc.sample_data if record["channel"] == LIDAR
                }

    def read(self, lidar_file: str, num_points: int) -> np.ndarray | None:
        """Labels (P,) of all points of a LiDAR file, in its order; None where that file has no motion labels.

        Args:
            lidar_file: name relative to the root.
            num_points: P, points of the file.

        Raises:
            BadFileError: the labels cannot be read, are not P, or hold something else than 0 and 1.
        """
        path = self.folder / f"{self._token.get(str(lidar_file), '')}_motion.bin"
        if not path.is_file():
            return None
        try:
            moving = np.fromfile(path, dtype=np.uint8)
        except OSError as error:
            raise BadFileError(f"{path}: cannot be read ({error.strerror}); generate the city again") from error
        if len(moving) != num_points:
            raise BadFileError(f"{path}: {len(moving)} labels for {num_points} points; generate the city again")
        if moving.max(initial=0) > 1:
            raise BadFileError(f"{path}: a label is neither 0 nor 1; generate the city again")
        return np.where(moving, MOVING, STATIC).astype(np.int8)
