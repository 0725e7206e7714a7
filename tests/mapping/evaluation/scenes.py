"""Hand-made drives, known changes and reported ones, on a street along the x axis."""

from datetime import datetime, timedelta, timezone

import numpy as np
import shapely

from avjepa.geometry.map_edit import MapEdit
from avjepa.mapping.changes import MapChange
from avjepa.mapping.drive_paths import DrivePath

START_US = 1_600_000_000_000_000
STEP_US = 500_000


def at(frame, hours=0.0):
    """The time of a keyframe of a drive that began so many hours after the first."""
    start = datetime.fromtimestamp(START_US // 1_000_000, timezone.utc)
    return start + timedelta(hours=hours, microseconds=frame * STEP_US)


def straight(x_m, scene="drive", hours=0.0, y_m=0.0):
    """A drive with keyframes at x_m, two a second."""
    x_m = np.asarray(x_m, dtype=float)
    times_us = START_US + round(hours * 3.6e9) + STEP_US * np.arange(len(x_m))
    tokens = tuple(f"{scene}-{number}" for number in range(len(x_m)))
    return DrivePath(
        scene, "minicity-a", tokens, times_us, np.column_stack([x_m, np.full(len(x_m), y_m)]), np.ones(len(x_m), bool)
    )


def square(x_m, y_m=0.0, half_m=1.0):
    """A square around a point."""
    return shapely.box(x_m - half_m, y_m - half_m, x_m + half_m, y_m + half_m)


def edit(name, shape, kind="geometry", layer="stop_line"):
    """A known change."""
    return MapEdit(name, "place", kind, layer, "by_hand", "made by hand", shape, shape, shape)


def event(name, shape, confidence=0.9, kind="geometry", layer="stop_line", status="confirmed", **fields):
    """A reported change."""
    base = {
        **{"change_id": name, "element_id": "bar", "layer": layer, "atomic_change": kind, "status": status},
        **{"confidence": confidence, "n_traversals": 1, "n_frames": 9, "first_seen": at(0), "last_seen": at(99)},
        **{"observed_fraction": 1.0, "old_geometry": shape, "new_geometry": shape},
    }
    if kind == "insertion":
        base |= {"element_id": None, "old_geometry": None}
    if kind == "deletion":
        base |= {"new_geometry": None}
    return MapChange(**base | fields)
