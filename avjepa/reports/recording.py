"""What a recording of map changes shows: drives, the map that was checked, and its changes, on one timeline.

The drives are walked once, however many files are written: ``record_drives`` gives every file the same, one keyframe at a time, so
that a long drive takes no more memory than a short one. Files: recording_rerun.py, recording_mcap.py.

World coordinates are metres of the map frame; times are those of the LiDAR. Letters: see conventions.py.
"""

from __future__ import annotations

import importlib
import logging
import mimetypes
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import cv2
import matplotlib
import numpy as np
import shapely
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from avjepa.conventions import CAMERAS
from avjepa.errors import BadFileError, ConfigError, DataError
from avjepa.mapping.changes import ChangeReport, MapChange
from avjepa.mapping.vector_map import ElementMap
from avjepa.reports.review import CONTEXT_LAYERS, CONTEXT_M
from avjepa.sensors.nuscenes_files import read_encoded_image, read_lidar
from avjepa.sensors.nuscenes_index import NuScenesIndex
from avjepa.sensors.sweeps import move_sweep

# Those of the review page.
OLD_COLOUR, NEW_COLOUR = (255, 149, 80), (111, 168, 255)
STATUS_COLOURS = {
    "confirmed": NEW_COLOUR,
    "candidate": (200, 200, 208),
    "degraded": (224, 176, 74),
    "unobservable": (120, 122, 130),
}
PAINT_COLOURS = {"yellow": (230, 200, 60), "white": (235, 235, 235), "": (150, 152, 160)}
WAY_COLOUR = (86, 200, 131)
HEIGHT_RANGE_M = (-1.0, 4.0)  # of the LiDAR's colours
ABOVE_ROAD_M = 0.02  # changes over the map
WAY_WIDTH_M, MAP_WIDTH_M, CHANGE_WIDTH_M, MARK_WIDTH_M = 0.16, 0.08, 0.2, 0.6
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

Colour = tuple[int, int, int]
Strips = list[np.ndarray]  # lines (n, 3) in the world

log = logging.getLogger("avjepa")


@dataclass(frozen=True)
class RecordedMap:
    """What stays: ways (n, 3) by scene, and lines of the map around them by layer, with their colours."""

    ways: Mapping[str, np.ndarray]
    prior: Mapping[str, list[tuple[np.ndarray, Colour]]]


@dataclass(frozen=True)
class RecordedCamera:
    """A picture as it is on disk (``media_type``, such as "image/jpeg"), and its camera; size in height, width."""

    encoded: bytes
    media_type: str
    size_px: tuple[int, int]
    pix_T_cam: np.ndarray
    ego_T_cam: np.ndarray


@dataclass(frozen=True)
class RecordedKeyframe:
    """One keyframe.

    Attributes:
        timestamp_us: LiDAR time.
        global_T_ego: (4, 4).
        xyz_ego: (P, 3) float32; None where the LiDAR file is missing or corrupt.
        colours: (P, 3) uint8, by height.
        cameras: by name; None where the picture is missing or corrupt.
        bev: PNG files in the ego frame, forward up, by name.
    """

    timestamp_us: int
    global_T_ego: np.ndarray
    xyz_ego: np.ndarray | None
    colours: np.ndarray | None
    cameras: Mapping[str, RecordedCamera | None]
    bev: Mapping[str, bytes]


@dataclass(frozen=True)
class RecordedChange:
    """A change as it is drawn: a titled mark at ``xyz``, and the lines of both shapes, ``old`` and ``new``, as far as there are."""

    change: MapChange
    title: str
    colour: Colour
    xyz: tuple[float, float, float]
    sides: Mapping[str, tuple[Strips, Colour]]

    @property
    def line(self) -> str:
        """For a list of changes."""
        return f"{self.title}: {self.change.description or self.change.change_id}"

    @property
    def facts(self) -> dict[str, str | int | float]:
        """What a viewer tells of it."""
        change = self.change
        return {
            "status": change.status,
            "confidence": change.confidence,
            "world_change": change.world_change,
            "layer": change.layer,
            "element_id": change.element_id or "",
            "observed_fraction": change.observed_fraction,
            "n_traversals": change.n_traversals,
            "n_frames": change.n_frames,
            "description": change.description,
            "decision": change.review.decision,
        }


class Recording(Protocol):
    """A file that is being written; what is put is in the order of time."""

    def put_map(self, shown: RecordedMap, timestamp_us: int) -> None:
        """Once, first, at the time of the first keyframe."""

    def put_keyframe(self, keyframe: RecordedKeyframe) -> None:
        """Each keyframe; what it lacks is not shown on from the one before."""

    def put_changes(self, changes: Sequence[RecordedChange], timestamp_us: int) -> None:
        """Changes that are shown from a time on."""


def record_drives(
    recordings: Sequence[Recording],
    report: ChangeReport,
    prior: ElementMap,
    root: Path,
    index: NuScenesIndex,
    frames: Iterable[tuple[int, Mapping[str, np.ndarray]]],
) -> int:
    """Put drives, map and changes into recordings.

    Args:
        recordings: open files.
        report: of the changes to show: confirmed ones from when they could first be believed, others from when they were first
            seen.
        prior: the map that was checked.
        root: of the drives' files.
        index: of that root.
        frames: usable keyframes of the index in the order of time, by number, each with its BEV pictures by name, the same names
            for all: (Y, X, 3) in [0, 1]. Asked for one at a time.

    Returns:
        How many camera and LiDAR files are missing or corrupt; they are left out.

    Raises:
        DataError: a scene of the report is not in the index, or was driven in another city; or there is no frame.
        ValueError: the prior lies in another frame than the report.
    """
    if prior.frame != report.frame:
        raise ValueError(f"a prior of {prior.frame.name} for a report on {report.frame.name}")
    shown = recorded_map(prior, {scene: _way(index, scene, report.frame.name) for scene in report.scenes})
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise DataError(f"{root}: no keyframe to record; name a scene that has some")
    start_us = int(index.timestamp_us[first[0]])
    due = deque(_by_time(report, start_us))
    for recording in recordings:
        recording.put_map(shown, start_us)
    bad_files = 0
    for number, pictures in chain([first], frames):
        keyframe, bad = recorded_keyframe(root, index, number, pictures)
        bad_files += bad
        while due and due[0][0] < keyframe.timestamp_us:
            _put_changes(recordings, *due.popleft())
        for recording in recordings:
            recording.put_keyframe(keyframe)
    for timestamp_us, changes in due:
        _put_changes(recordings, timestamp_us, changes)
    if bad_files:
        log.warning("%s: %d camera and LiDAR files are missing or corrupt and left out", root, bad_files)
    return bad_files


def viewer_package(name: str) -> Any:
    """A module that the extra ``viz`` brings.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ConfigError(f"a recording: {error}; pip install avjepa[viz] brings {package}") from error


# ------------------------------------------------------------------------------------------------------------- drives
def recorded_keyframe(
    root: Path, index: NuScenesIndex, number: int, pictures: Mapping[str, np.ndarray]
) -> tuple[RecordedKeyframe, int]:
    """One keyframe, and how many of its files are bad; files that the tables do not name are none."""
    bad_files, xyz_ego, colours = 0, None, None
    if index.lidar_file[number]:
        try:
            points_lidar, _ = read_lidar(root / str(index.lidar_file[number]))
            xyz_ego = move_sweep(points_lidar, index.ego_T_lidar[number], np.eye(4), 0.0)[:, :3]
            colours = _height_colours(xyz_ego)
        except BadFileError as error:
            log.debug("%s", error)
            bad_files += 1
    cameras: dict[str, RecordedCamera | None] = dict.fromkeys(CAMERAS)
    for i, camera in enumerate(CAMERAS):
        path = root / str(index.camera_file[number, i])
        if not index.camera_file[number, i]:
            continue
        height_px, width_px = map(int, index.camera_size_px[number, i])
        try:
            encoded = read_encoded_image(path, (height_px, width_px)).tobytes()
        except BadFileError as error:
            log.debug("%s", error)
            bad_files += 1
            continue
        media_type = mimetypes.guess_type(path.name)[0] or "image/jpeg"
        matrices = (index.pix_T_cam[number, i], index.ego_T_cam[number, i])
        cameras[camera] = RecordedCamera(encoded, media_type, (height_px, width_px), *matrices)
    bev = {name: _png(picture) for name, picture in pictures.items()}
    timestamp_us, global_T_ego = int(index.timestamp_us[number]), index.global_T_ego[number]
    return RecordedKeyframe(timestamp_us, global_T_ego, xyz_ego, colours, cameras, bev), bad_files


def _way(index: NuScenesIndex, scene: str, city: str) -> np.ndarray:
    """Ego positions (n, 3) of a scene, global."""
    (numbers,) = np.nonzero(index.scene_name == scene)
    if len(numbers) == 0 or index.scene_city[numbers[0]] != city:
        found = f"a drive in {index.scene_city[numbers[0]]}" if len(numbers) else "not in this data root"
        raise DataError(f"{scene}: {found}; the report is on {city}")
    return index.global_T_ego[(index.scene == numbers[0]) & index.usable(), :3, 3]


def _height_colours(xyz_ego: np.ndarray) -> np.ndarray:
    low, high = HEIGHT_RANGE_M
    colours = matplotlib.colormaps["turbo"]((xyz_ego[:, 2] - low) / (high - low))
    return (colours[:, :3] * 255).astype(np.uint8)


def _png(picture: np.ndarray) -> bytes:
    """A BEV picture (Y, X, 3) in [0, 1] with +x (forward) up and +y (left) to the left."""
    turned = np.flip(picture.transpose(1, 0, 2), (0, 1))
    _, data = cv2.imencode(".png", np.ascontiguousarray(turned[..., ::-1] * 255).round().clip(0, 255).astype(np.uint8))
    return data.tobytes()


# ---------------------------------------------------------------------------------------------------- map and changes
def recorded_map(prior: ElementMap, ways: Mapping[str, np.ndarray]) -> RecordedMap:
    """Ways, and the part of the map that lies around them."""
    lines = [LineString(xyz[:, :2]) if len(xyz) > 1 else shapely.Point(xyz[0, :2]) for xyz in ways.values() if len(xyz)]
    around = shapely.union_all(lines).buffer(CONTEXT_M)
    layers: dict[str, list[tuple[np.ndarray, Colour]]] = {layer: [] for layer in CONTEXT_LAYERS}
    for element in prior.near(around, 0.0):
        if element.layer in layers:
            colour = PAINT_COLOURS[element.colour]
            layers[element.layer] += [(strip, colour) for strip in _strips(element.geometry, 0.0, around)]
    return RecordedMap(ways, {layer: strips for layer, strips in layers.items() if strips})


def recorded_change(change: MapChange) -> RecordedChange:
    """A change as it is drawn."""
    middle = shapely.centroid(change.geometry)
    shapes = {"old": (change.old_geometry, OLD_COLOUR), "new": (change.new_geometry, NEW_COLOUR)}
    return RecordedChange(
        change,
        title=f"{change.world_change or change.layer}, {change.status} {change.confidence:.2f}",
        colour=STATUS_COLOURS[change.status],
        xyz=(middle.x, middle.y, ABOVE_ROAD_M),
        sides={
            side: (_strips(shape, ABOVE_ROAD_M), colour)
            for side, (shape, colour) in shapes.items()
            if shape is not None
        },
    )


def _by_time(report: ChangeReport, start_us: int) -> list[tuple[int, list[RecordedChange]]]:
    """Changes by the time from which they are shown, which is not before the recording starts, in that order."""
    due = defaultdict(list)
    for change in report.changes:
        believed = change.confirmed_seen if change.status == "confirmed" else None
        seen = believed or change.first_seen
        shown_us = start_us if seen is None else max(start_us, (seen - EPOCH) // timedelta(microseconds=1))
        due[shown_us].append(recorded_change(change))
    return sorted(due.items(), key=lambda item: item[0])


def _put_changes(recordings: Sequence[Recording], timestamp_us: int, changes: Sequence[RecordedChange]) -> None:
    for recording in recordings:
        recording.put_changes(changes, timestamp_us)


def _strips(shape: BaseGeometry, z_m: float, within: BaseGeometry | None = None) -> Strips:
    """Rings and lines of a shape, each (n, 3), as far as they lie within another, on a level plane: maps know no height."""
    lines = shapely.get_parts([part.boundary if part.area > 0 else part for part in shapely.get_parts(shape)])
    if within is not None:  # the outline of a city's roads is one ring
        lines = shapely.get_parts(shapely.intersection(lines, within))
        lines = lines[shapely.length(lines) > 0]
    return [np.c_[xy, np.full(len(xy), z_m)] for xy in map(shapely.get_coordinates, lines)]
