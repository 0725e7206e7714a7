"""One drive, looked at once: what its keyframes say of the ground and of what stands there, summed by cell of the map.

A survey is a folder: ``part_000000``, ``part_000001``, ..., tiles of sums (see tiles.py) of a few keyframes each, and in ``far`` of
each part tiles of what LiDAR alone met further away; ``drive.json``: where the car was and what could not be read. Surveys of
several drives are added cell by cell, so every drive can be its own task; memory does not grow with the frames. Parts tell when
something could first be known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from avjepa.errors import BadFileError, DataError
from avjepa.files import write_json
from avjepa.mapping.ground_view import CELL_M, Camera, GroundView, view_ground
from avjepa.mapping.tiles import TileGrid, TileSums
from avjepa.sensors.nuscenes_files import read_image, read_lidar
from avjepa.sensors.nuscenes_index import NuScenesIndex
from avjepa.sensors.sweeps import move_sweep

GRID = TileGrid(CELL_M, 256)
# paint: weight, and weight times contrast, yellowness. ground: returns, and their summed intensity and height.
# stands: returns of what stands on the ground, and in how many keyframes.
LAYERS = {"paint": 3, "ground": 3, "stands": 2}
FAR_LAYERS = {"far": 1}  # in how many keyframes LiDAR met what stands there from beyond the cameras' reach
FAR_FOLDER = "far"
DRIVE_FILE = "drive.json"
# What a survey is made by.
SURVEY_CODE = (
    *("mapping/survey.py", "mapping/ground_view.py", "mapping/ground_surface.py", "mapping/tiles.py"),
    *("conventions.py", "geometry", "sensors"),
)
PART_KEYFRAMES = 4  # two seconds


@dataclass(frozen=True)
class SurveyedFrame:
    """A keyframe that a survey holds: token, LiDAR time, pose of the car in the map frame, how many cameras were read."""

    token: str
    timestamp_us: int
    x_m: float
    y_m: float
    yaw_rad: float
    cameras: int


@dataclass(frozen=True)
class SurveyedDrive:
    """What a survey was made of.

    Attributes:
        scene, city: names.
        frames: keyframes in time order.
        left_out: why keyframes are missing, and images, one line each.
    """

    scene: str
    city: str
    frames: tuple[SurveyedFrame, ...]
    left_out: tuple[str, ...]

    @property
    def xy_m(self) -> np.ndarray:
        """(n, 2) where the car was, map frame."""
        return np.array([[frame.x_m, frame.y_m] for frame in self.frames]).reshape(-1, 2)


def survey_drive(
    root: Path,
    index: NuScenesIndex,
    scene: str,
    folder: Path,
    watch: Callable[[Iterable, int], Iterable] = lambda x, _: x,
) -> SurveyedDrive:
    """Survey one drive into a new folder.

    Args:
        root: of the data.
        index: of the root.
        scene: name.
        folder: for the survey; must not hold one.
        watch: wraps the keyframes (and their number), to show progress.

    Raises:
        DataError: no such scene, or not one of its keyframes can be read.
    """
    numbers = np.flatnonzero(index.scene_name == scene)
    if not len(numbers):
        raise DataError(f"{root}: no scene {scene}; it has {', '.join(index.scene_name[:5])}, ...")
    keyframes = index.keyframes_of(scene)
    frames: list[SurveyedFrame] = []
    left_out: list[str] = []
    readable = _readable(root, index, watch(keyframes, len(keyframes)), left_out)
    for first in readable:
        part = folder / f"part_{len(frames) // PART_KEYFRAMES:06d}"
        with TileSums(part, GRID, LAYERS) as sums, TileSums(part / FAR_FOLDER, GRID, FAR_LAYERS) as far:
            for n, points, cameras in chain([first], islice(readable, PART_KEYFRAMES - 1)):
                view = view_ground(points, cameras, index.global_T_ego[n])
                add_view(sums, view)
                add_far(far, view)
                frames.append(_frame(index, n, len(cameras)))
    if not frames:
        fault = left_out[0] if left_out else "its tables name none"
        raise DataError(f"{root}: {scene} has no keyframe that can be read ({fault})")
    drive = SurveyedDrive(scene, str(index.scene_city[numbers[0]]), tuple(frames), tuple(left_out))
    write_json(folder / DRIVE_FILE, asdict(drive))
    return drive


def _readable(
    root: Path, index: NuScenesIndex, keyframes: Iterable[int], left_out: list[str]
) -> Iterator[tuple[int, np.ndarray, list[Camera]]]:
    """Keyframes that can be read, with their returns and cameras; why others cannot is added to ``left_out``."""
    usable = index.usable()
    for n in keyframes:
        if not usable[n]:
            left_out.append(f"{index.token[n]}: damaged pose or calibration")
            continue
        try:
            points = read_returns(root, index, n)
        except BadFileError as error:
            left_out.append(str(error))
            continue
        cameras, faults = read_cameras(root, index, n)
        left_out += faults
        yield n, points, cameras


def parts_of(folder: Path) -> list[Path]:
    """The parts of a survey in the order of time; part i holds keyframes from ``i * PART_KEYFRAMES`` on.

    Raises:
        BadFileError: there is none.
    """
    parts = sorted(folder.glob("part_*"))
    if not parts:
        raise BadFileError(f"{folder}: holds no part of a survey; survey the drive again")
    return parts


def far_of(part: Path) -> Path:
    """What a part holds of things beyond the cameras' reach.

    Raises:
        BadFileError: it does not.
    """
    folder = part / FAR_FOLDER
    if not folder.is_dir():
        raise BadFileError(f"{folder}: missing; survey the drive again")
    return folder


def read_survey(folder: Path) -> SurveyedDrive:
    """What :func:`survey_drive` wrote beside the tiles.

    Raises:
        BadFileError: missing or damaged.
    """
    path = folder / DRIVE_FILE
    try:
        data = json.loads(path.read_text())
        frames = tuple(SurveyedFrame(**frame) for frame in data["frames"])
        return SurveyedDrive(data["scene"], data["city"], frames, tuple(data["left_out"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFileError(f"{path}: missing or damaged ({error}); survey the drive again") from error


def read_returns(root: Path, index: NuScenesIndex, n: int) -> np.ndarray:
    """Returns (P, 5) of a keyframe's own sweep, in its ego frame, none of the car itself.

    Raises:
        BadFileError: no file, or a damaged one.
    """
    if not index.lidar_file[n]:
        raise BadFileError(f"{index.token[n]}: the tables name no LiDAR file")
    points, _ = read_lidar(root / str(index.lidar_file[n]))
    return move_sweep(points, index.ego_T_lidar[n], np.eye(4), 0.0)


def read_cameras(root: Path, index: NuScenesIndex, n: int) -> tuple[list[Camera], list[str]]:
    """The cameras of a keyframe that can be read, and what is wrong with the others."""
    cameras, faults = [], []
    for file, size_px, pix_T_cam, ego_T_cam in zip(
        index.camera_file[n], index.camera_size_px[n], index.pix_T_cam[n], index.ego_T_cam[n], strict=True
    ):
        if not file:
            continue  # a rig need not have six
        try:
            size = (int(size_px[0]), int(size_px[1]))
            image, _ = read_image(root / str(file), size, size)
        except BadFileError as error:
            faults.append(str(error))
            continue
        cameras.append(Camera(image, pix_T_cam, ego_T_cam))
    return cameras, faults


def add_view(sums: TileSums, view: GroundView) -> None:
    """Add one keyframe to the sums."""
    w = view.weight
    paint = np.column_stack([w, w * view.contrast, w * view.yellow])
    sums.add(view.cell_xy_m, {"paint": paint})
    on = view.on_ground
    ground = np.column_stack([np.ones(on.sum()), view.intensity[on], view.height_m[on]])
    sums.add(view.return_xy_m[on], {"ground": ground})
    standing = view.return_xy_m[view.stands]
    sums.add(standing, {"stands": np.column_stack([np.ones(len(standing)), _once_a_cell(standing)])})


def add_far(sums: TileSums, view: GroundView) -> None:
    """Add what one keyframe met beyond the cameras' reach to sums of their own, whose tiles tell nothing of the ground."""
    sums.add(view.far_xy_m, {"far": _once_a_cell(view.far_xy_m)})


def _once_a_cell(xy_m: np.ndarray) -> np.ndarray:
    """(n,) 1 for the first of the points (n, 2) of each cell, 0 for the others."""
    _, first = np.unique(GRID.cells_of(xy_m), axis=0, return_index=True)
    once = np.zeros(len(xy_m))
    once[first] = 1
    return once


def _frame(index: NuScenesIndex, n: int, cameras: int) -> SurveyedFrame:
    pose = index.global_T_ego[n]
    yaw_rad = float(np.arctan2(pose[1, 0], pose[0, 0]))
    return SurveyedFrame(
        str(index.token[n]), int(index.timestamp_us[n]), float(pose[0, 3]), float(pose[1, 3]), yaw_rad, cameras
    )
