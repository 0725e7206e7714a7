"""Surveys of a painted world, made by hand: a flat road on which lines, areas, kerbs and things are put, in metres of the map.

Each cell is seen by one drive with a weight of 1 and has four LiDAR returns, unless a test says otherwise. The noise is seeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.ops import substring

from avjepa.conventions import CAMERAS
from avjepa.files import write_json
from avjepa.geometry.rigid import transform_from_se2
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.survey import DRIVE_FILE, FAR_FOLDER, FAR_LAYERS, GRID, LAYERS, SurveyedDrive, SurveyedFrame
from avjepa.mapping.tiles import TileSums
from avjepa.mapping.vector_map import ElementMap, MapElement
from avjepa.sensors.nuscenes_index import NuScenesIndex
from tests.toy_drive import camera_calibration

CITY = "singapore-onenorth"
FRAME = frame_of_city(CITY)
NOISE = 0.03  # of contrast
WHITE, YELLOW = (0.6, 0.0), (0.15, 0.35)  # contrast and yellowness of fresh paint
ROAD_REFLECTS, PAINT_REFLECTS = 0.1, 0.3  # LiDAR intensity
LINE_M = 0.2
DASH_M = (3.0, 6.0)  # and the gap behind it
IMAGE_SIZE = (160, 90)  # width and height
START_US = 1_600_000_000_000_000


class PaintedGround:
    """What a drive would see, cell by cell; arrays are (Y, X).

    Args:
        bounds_m: x_min, y_min, x_max, y_max of what is seen.
        seed: of the noise.
    """

    def __init__(self, bounds_m: tuple[float, float, float, float], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        first, last = (np.round(np.array(corner) / GRID.cell_m).astype(int) for corner in (bounds_m[:2], bounds_m[2:]))
        x_m, y_m = ((np.arange(first[axis], last[axis]) + 0.5) * GRID.cell_m for axis in (0, 1))
        self.x_m, self.y_m = np.meshgrid(x_m, y_m)
        shape = self.x_m.shape
        self.weight = np.ones(shape)
        self.contrast = rng.normal(0, NOISE, shape)
        self.yellow = rng.normal(0, NOISE / 3, shape)
        self.returns = np.full(shape, 4.0)
        self.intensity = np.clip(rng.normal(ROAD_REFLECTS, 0.02, shape), 0, 1)
        self.height_m = rng.normal(0, 0.01, shape)
        self.keyframes = np.zeros(shape)
        self.far = np.zeros(shape)

    def within(self, area: BaseGeometry) -> np.ndarray:
        """(Y, X) bool, cells whose centre lies in an area."""
        shapely.prepare(area)
        return shapely.contains_xy(area, self.x_m, self.y_m)

    def paint(self, area: BaseGeometry, colour: tuple[float, float] = WHITE, reflects: float = PAINT_REFLECTS) -> None:
        """Fresh paint, or a bright place that ``reflects`` no more than the road."""
        cells = self.within(area)
        self.contrast[cells] += colour[0]
        self.yellow[cells] += colour[1]
        self.intensity[cells] += reflects - ROAD_REFLECTS

    def line(self, line: LineString, colour: tuple[float, float] = WHITE, dashed: bool = False) -> None:
        """A painted line."""
        starts_m = np.arange(0, line.length, sum(DASH_M)) if dashed else [0.0]
        for start_m in starts_m:
            end_m = start_m + DASH_M[0] if dashed else line.length
            dash = substring(line, start_m, min(end_m, line.length))
            self.paint(dash.buffer(LINE_M / 2, cap_style="flat"), colour)

    def zebra(self, area: Polygon, stripe_m: float = 0.5, contrast: float = WHITE[0]) -> None:
        """Stripes along x, and gaps as wide, in an upright rectangle."""
        x0, y0, x1, y1 = area.bounds
        for bottom in np.arange(y0, y1, 2 * stripe_m):
            self.paint(box(x0, bottom, x1, min(bottom + stripe_m, y1)), (contrast, 0.0))

    def lift(self, area: BaseGeometry, height_m: float = 0.15) -> None:
        """A pavement: its edge is a kerb."""
        self.height_m[self.within(area)] += height_m

    def stand(self, area: BaseGeometry, keyframes: int = 5) -> None:
        """What stands there, and hides the ground."""
        cells = self.within(area)
        self.keyframes[cells] = keyframes
        self.weight[cells] = self.returns[cells] = 0

    def glimpse(self, area: BaseGeometry, keyframes: int) -> None:
        """What LiDAR alone meets there, from beyond the cameras' reach."""
        self.far[self.within(area)] = keyframes

    def hide(self, area: BaseGeometry) -> None:
        """No sensor sees it."""
        cells = self.within(area)
        self.weight[cells] = self.returns[cells] = 0

    def write(
        self, folder: Path, frames: Sequence[SurveyedFrame] = (), scene: str = "scene-0061", part: int = 0
    ) -> Path:
        """As survey.survey_drive writes it, in one part of a few."""
        w, n = self.weight, self.returns
        paint = np.stack([w, w * self.contrast, w * self.yellow], -1)
        ground = np.stack([n, n * self.intensity, n * self.height_m], -1)
        stands = np.stack([2 * self.keyframes, self.keyframes], -1)
        xy_m = np.stack([self.x_m, self.y_m], -1).reshape(-1, 2)
        place = folder / f"part_{part:06d}"
        with TileSums(place, GRID, LAYERS) as sums, TileSums(place / FAR_FOLDER, GRID, FAR_LAYERS) as far:
            sums.add(
                xy_m, {"paint": paint.reshape(-1, 3), "ground": ground.reshape(-1, 3), "stands": stands.reshape(-1, 2)}
            )
            met = self.far.ravel() > 0
            far.add(xy_m[met], {"far": self.far.ravel()[met]})
        write_json(folder / DRIVE_FILE, asdict(SurveyedDrive(scene, CITY, tuple(frames), ())))
        return folder


def straight_frames(from_m: float, to_m: float, y_m: float = 0.0, name: str = "frame") -> tuple[SurveyedFrame, ...]:
    """Keyframes every 4 m along x, half a second apart."""
    return tuple(
        SurveyedFrame(f"{name}-{i}", START_US + i * 500_000, float(x_m), y_m, 0.0, 6)
        for i, x_m in enumerate(np.arange(from_m, to_m, 4.0))
    )


def index_of(frames: Sequence[SurveyedFrame]) -> NuScenesIndex:
    """An index that knows the keyframes, with the toy drive's six cameras, whose files are named by channel and token."""
    n = len(frames)
    calibrations = [camera_calibration(channel, IMAGE_SIZE) for channel in CAMERAS]
    return NuScenesIndex(
        scene_name=np.array(["scene-0061"]),
        scene_city=np.array([CITY]),
        scene_split=np.array([""]),
        scene=np.zeros(n, int),
        token=np.array([frame.token for frame in frames]),
        timestamp_us=np.array([frame.timestamp_us for frame in frames]),
        global_T_ego=np.stack([transform_from_se2(frame.x_m, frame.y_m, frame.yaw_rad) for frame in frames]),
        lidar_file=np.full(n, ""),
        ego_T_lidar=np.tile(np.eye(4), (n, 1, 1)),
        camera_file=np.array([[f"{channel}-{frame.token}.jpg" for channel in CAMERAS] for frame in frames]),
        camera_size_px=np.tile(np.array(IMAGE_SIZE[::-1]), (n, 6, 1)),
        pix_T_cam=np.tile(np.stack([pix_T_cam for pix_T_cam, _ in calibrations]), (n, 1, 1, 1)),
        ego_T_cam=np.tile(np.stack([ego_T_cam for _, ego_T_cam in calibrations]), (n, 1, 1, 1)),
        sweep_file=np.full((n, 0), ""),
        sweep_age_s=np.zeros((n, 0)),
        sweep_ego_T_lidar=np.zeros((n, 0, 4, 4)),
        ego_T_sweep_ego=np.zeros((n, 0, 4, 4)),
    )


def prior_of(*elements: MapElement) -> ElementMap:
    """A prior map of the painted world's city."""
    return ElementMap.of(FRAME, elements)
