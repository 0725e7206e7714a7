"""A recording for the rerun viewer: drives, the map that was checked, and its changes, on one timeline.

``rerun FILE`` opens it. Entities:
    world/ego                       the car, with world/ego/lidar and world/ego/cameras/NAME below it
    world/driven/SCENE              its way
    world/prior/LAYER               the map that was checked, near the ways
    world/changes/ID                where a change is, from the moment it was first seen: its label, status and confidence;
                                    below it ``old`` and ``new``, the shapes before and after
    bev/NAME                        pictures in the ego frame, forward up: the surveyed ground, by sensor
    changes                         one line of text a change
World coordinates are metres of the map frame. Nothing is sent anywhere and no viewer is started; rerun streams what it is given to
the file, so that a long drive takes no more memory than a short one. Letters: see conventions.py.
"""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import shapely
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from avjepa.conventions import CAMERAS
from avjepa.errors import BadFileError, ConfigError, DataError
from avjepa.files import replacing
from avjepa.mapping.changes import ChangeReport, MapChange
from avjepa.mapping.vector_map import ElementMap, MapElement
from avjepa.reports.review import CONTEXT_LAYERS, CONTEXT_M
from avjepa.sensors.nuscenes_files import read_encoded_image, read_lidar
from avjepa.sensors.nuscenes_index import NuScenesIndex
from avjepa.sensors.sweeps import move_sweep

APPLICATION = "avjepa map changes"
TIMELINE = "sample_time"
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

log = logging.getLogger("avjepa")
Log = Callable[..., None]


def write_recording(
    path: Path,
    report: ChangeReport,
    prior: ElementMap,
    root: Path,
    index: NuScenesIndex,
    frames: Iterable[tuple[int, Mapping[str, np.ndarray]]],
) -> int:
    """Write a ``.rrd`` file.

    Args:
        path: the file.
        report: of the changes to show.
        prior: the map that was checked.
        root: of the drives' files.
        index: of that root.
        frames: usable keyframes of the index in the order of time, by number, each with its BEV pictures by name, the same names
            for all: (Y, X, 3) in [0, 1]. Asked for one at a time.

    Returns:
        How many camera and LiDAR files are missing or corrupt; they are left out.

    Raises:
        ConfigError: rerun is not installed.
        DataError: a scene of the report is not in the index, or was driven in another city; or there is no frame.
        ValueError: the prior lies in another frame than the report.
    """
    rr = _rerun()
    if prior.frame != report.frame:
        raise ValueError(f"a prior of {prior.frame.name} for a report on {report.frame.name}")
    ways = {scene: _way(index, scene, report.frame.name) for scene in report.scenes}
    bad_files, start = 0, None
    with replacing(path) as temporary, _strict(rr):
        recording = rr.RecordingStream(APPLICATION, recording_id=report.run_id)
        recording.save(temporary)

        def put(entity: list[str], *content: Any, static: bool = False) -> None:
            recording.log(entity, *content, static=static)

        _put_map(put, rr, prior, ways)
        for number, layers in frames:
            seen = np.datetime64(int(index.timestamp_us[number]), "us")
            if start is None:
                start = seen
                # A viewer shows what it has read so far: without one it makes a blueprint of its own.
                recording.send_blueprint(_blueprint(list(layers)))
            recording.set_time(TIMELINE, timestamp=seen)
            bad_files += _put_frame(put, rr, root, index, number)
            for name, picture in layers.items():
                put(["bev", name], rr.EncodedImage(contents=_png(picture), media_type="image/png"))
        if start is None:
            raise DataError(f"{path}: no keyframe to record; name a scene that has some")
        for change in report.changes:
            first_seen = start if change.first_seen is None else max(start, _utc(change.first_seen))
            recording.set_time(TIMELINE, timestamp=first_seen)
            _put_change(put, rr, change)
        recording.flush(blocking=True)
        recording.disconnect()
    if bad_files:
        log.warning("%s: %d camera and LiDAR files are missing or corrupt and left out", path, bad_files)
    return bad_files


# ------------------------------------------------------------------------------------------------------------- drives
def _put_frame(put: Log, rr: Any, root: Path, index: NuScenesIndex, number: int) -> int:
    """One keyframe: pose, points, pictures as they are on disk. Returns how many of its files are bad."""
    bad_files = 0
    put(["world", "ego"], _transform(rr, index.global_T_ego[number]))
    if not index.lidar_file[number]:
        put(["world", "ego", "lidar"], rr.Clear(recursive=False))
    else:
        try:
            points_lidar, _ = read_lidar(root / str(index.lidar_file[number]))
            xyz_ego = move_sweep(points_lidar, index.ego_T_lidar[number], np.eye(4), 0.0)[:, :3]
            put(["world", "ego", "lidar"], rr.Points3D(xyz_ego, colors=_height_colours(xyz_ego), radii=0.04))
        except BadFileError as error:
            bad_files += _clear(put, rr, ["world", "ego", "lidar"], error)
    for i, camera in enumerate(CAMERAS):
        entity = ["world", "ego", "cameras", camera]
        if not index.camera_file[number, i]:
            put(entity, rr.Clear(recursive=False))
            continue
        height_px, width_px = map(int, index.camera_size_px[number, i])
        try:
            encoded = read_encoded_image(root / str(index.camera_file[number, i]), (height_px, width_px))
        except BadFileError as error:
            bad_files += _clear(put, rr, entity, error)
            continue
        pinhole = rr.Pinhole(
            image_from_camera=index.pix_T_cam[number, i],
            resolution=(width_px, height_px),
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=1.5,
        )
        media_type, _ = mimetypes.guess_type(str(index.camera_file[number, i]))
        image = rr.EncodedImage(contents=encoded.tobytes(), media_type=media_type)
        put(entity, _transform(rr, index.ego_T_cam[number, i]), pinhole, image)
    return bad_files


def _clear(put: Log, rr: Any, entity: list[str], error: BadFileError) -> int:
    """Nothing, instead of what the keyframe before had there. Returns 1, the file that is bad."""
    log.debug("%s", error)
    put(entity, rr.Clear(recursive=False))
    return 1


def _way(index: NuScenesIndex, scene: str, city: str) -> np.ndarray:
    """Ego positions (n, 3) of a scene, global."""
    (numbers,) = np.nonzero(index.scene_name == scene)
    if len(numbers) == 0 or index.scene_city[numbers[0]] != city:
        found = f"a drive in {index.scene_city[numbers[0]]}" if len(numbers) else "not in this data root"
        raise DataError(f"{scene}: {found}; the report is on {city}")
    return index.global_T_ego[(index.scene == numbers[0]) & index.usable(), :3, 3]


# ---------------------------------------------------------------------------------------------------- map and changes
def _put_map(put: Log, rr: Any, prior: ElementMap, ways: Mapping[str, np.ndarray]) -> None:
    """What stays: axes, ways, and the map around them."""
    put(["world"], rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    for scene, xyz in ways.items():
        put(["world", "driven", scene], rr.LineStrips3D([xyz], colors=WAY_COLOUR, radii=0.08), static=True)
    lines = [LineString(xyz[:, :2]) if len(xyz) > 1 else shapely.Point(xyz[0, :2]) for xyz in ways.values() if len(xyz)]
    around = shapely.union_all(lines).buffer(CONTEXT_M)
    near = prior.near(around, 0.0)
    for layer in CONTEXT_LAYERS:
        elements = [element for element in near if element.layer == layer]
        strips = [(strip, _paint(element)) for element in elements for strip in _strips(element.geometry, 0.0, around)]
        if strips:
            shapes, colours = zip(*strips, strict=True)
            put(["world", "prior", layer], rr.LineStrips3D(shapes, colors=colours, radii=0.04), static=True)


def _paint(element: MapElement) -> tuple[int, int, int]:
    return PAINT_COLOURS[element.colour]


def _put_change(put: Log, rr: Any, change: MapChange) -> None:
    """One change: a labelled mark, both shapes, a line of text."""
    entity = ["world", "changes", change.change_id]
    title = f"{change.world_change or change.layer}, {change.status} {change.confidence:.2f}"
    colour = STATUS_COLOURS[change.status]
    middle = shapely.centroid(change.geometry)
    facts = rr.AnyValues(
        status=change.status,
        confidence=change.confidence,
        world_change=change.world_change,
        layer=change.layer,
        element_id=change.element_id or "",
        observed_fraction=change.observed_fraction,
        n_traversals=change.n_traversals,
        n_frames=change.n_frames,
        description=change.description,
        decision=change.review.decision,
    )
    mark = rr.Points3D([[middle.x, middle.y, ABOVE_ROAD_M]], labels=[title], colors=colour, radii=0.3)
    put(entity, mark, facts)
    sides = {"old": (change.old_geometry, OLD_COLOUR), "new": (change.new_geometry, NEW_COLOUR)}
    for side, (shape, side_colour) in sides.items():
        if shape is not None:
            strips = rr.LineStrips3D(_strips(shape, ABOVE_ROAD_M), colors=side_colour, radii=0.1)
            put([*entity, side], strips)
    level = rr.TextLogLevel.WARN if change.status == "confirmed" else rr.TextLogLevel.INFO
    put(["changes"], rr.TextLog(f"{title}: {change.description or change.change_id}", level=level, color=colour))


def _strips(shape: BaseGeometry, z_m: float, within: BaseGeometry | None = None) -> list[np.ndarray]:
    """Rings and lines of a shape, each (n, 3), as far as they lie within another, on a level plane: maps know no height."""
    lines = shapely.get_parts([part.boundary if part.area > 0 else part for part in shapely.get_parts(shape)])
    if within is not None:  # the outline of a city's roads is one ring
        lines = shapely.get_parts(shapely.intersection(lines, within))
        lines = lines[shapely.length(lines) > 0]
    return [np.c_[xy, np.full(len(xy), z_m)] for xy in map(shapely.get_coordinates, lines)]


# --------------------------------------------------------------------------------------------------------------- rest
def _blueprint(pictures: list[str]) -> Any:
    """What the viewer shows at first: the world, six cameras with the changes drawn into them, BEV pictures, the list."""
    import rerun.blueprint as rrb

    cameras = [
        rrb.Spatial2DView(
            origin=f"/world/ego/cameras/{camera}",
            contents=["$origin/**", "/world/prior/**", "/world/changes/**"],
            name=camera,
        )
        for camera in CAMERAS
    ]
    bev = [rrb.Spatial2DView(origin=f"/bev/{name}", name=name) for name in pictures]
    world = rrb.Spatial3DView(origin="/world/ego", contents="/world/**", name="world")  # the view goes along
    changes = rrb.TextLogView(origin="/changes", name="changes")
    above = rrb.Horizontal(world, rrb.Tabs(*bev), column_shares=[3, 2]) if bev else world
    below = rrb.Horizontal(rrb.Grid(*cameras, grid_columns=3), changes, column_shares=[3, 2])
    return rrb.Blueprint(rrb.Vertical(above, below), collapse_panels=True)


def _transform(rr: Any, dst_T_src: np.ndarray) -> Any:
    return rr.Transform3D(translation=dst_T_src[:3, 3], mat3x3=dst_T_src[:3, :3])


def _height_colours(xyz_ego: np.ndarray) -> np.ndarray:
    """Colours (P, 3) uint8 by height."""
    low, high = HEIGHT_RANGE_M
    colours = matplotlib.colormaps["turbo"]((xyz_ego[:, 2] - low) / (high - low))
    return (colours[:, :3] * 255).astype(np.uint8)


def _png(picture: np.ndarray) -> bytes:
    """A BEV picture (Y, X, 3) in [0, 1] with +x (forward) up and +y (left) to the left."""
    turned = np.flip(picture.transpose(1, 0, 2), (0, 1))
    _, data = cv2.imencode(".png", np.ascontiguousarray(turned[..., ::-1] * 255).round().clip(0, 255).astype(np.uint8))
    return data.tobytes()


def _utc(time: datetime) -> np.datetime64:
    """Exact, which rerun's own way from a datetime is not: by a float."""
    return np.datetime64(time.replace(tzinfo=None), "us")


@contextmanager
def _strict(rr: Any) -> Iterator[None]:
    """Raise where rerun would warn and leave something out."""
    before = rr.error_utils.strict_mode()
    rr.set_strict_mode(True)
    try:
        yield
    finally:
        rr.set_strict_mode(before)


def _rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise ConfigError(f"a recording: {error}; pip install avjepa[viz] brings rerun") from error
    return rerun
