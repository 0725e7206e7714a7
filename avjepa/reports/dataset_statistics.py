"""Numbers of a nuScenes-format data set that a generated one must share with a real one: returns, cells, boxes, pictures.

Every statistic is a mean over keyframes, so that data sets of different length can be laid side by side. "Range" is the
distance from the LiDAR, "distance" that on the ground from the ego origin. Returns from the recording car itself are left
out everywhere but in ``stored`` and ``near``. Letters: see conventions.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from nuscenes.nuscenes import NuScenes

from avjepa.bev.cell_states import cell_states
from avjepa.conventions import CAMERAS, FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import transform_points
from avjepa.reports.figures import show_bev
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.nuscenes_files import LIDAR_COLUMNS, read_lidar
from avjepa.sensors.nuscenes_index import NuScenesIndex, load_index
from avjepa.sensors.sample import Frame
from avjepa.sensors.sweeps import on_ego_body

GRID = BEVGrid((-25.6, 25.6), (-25.6, 25.6), (-5.0, 3.0), 0.8, 8.0)  # that of configs/bev_jepa_nuscenes_tiny.py
IMAGE_SIZE_PX = (225, 400)  # every picture is measured at this size: a quarter of nuScenes's
RANGE_EDGES_M = (0.0, 5.0, 10.0, 20.0, 30.0, 50.0, np.inf)
DISTANCE_EDGES_M = (0.0, 10.0, 20.0, 30.0, 50.0, np.inf)
NEAR_M = 1.5  # nuScenes stores one record a beam: one without an echo, or from the LiDAR's housing, lies this near
MOST_RINGS = 128
SATURATED, BLACK = 250, 5  # luminance, of 255
CONTRAST_WINDOW_PX = 9
STANDING_MPS = 0.2
SPEED_QUANTILES = (0.5, 0.9, 0.99)
INTENSITY_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
CELL_STATES = {"unobserved": UNOBSERVED, "free": FREE, "occupied": OCCUPIED}

T = TypeVar("T")


@dataclass(frozen=True)
class LidarCounts:
    """Counts of one LiDAR turn, or their means over turns.

    Attributes:
        stored: records in the file, the car's own among them.
        near: of these, nearer than NEAR_M to the LiDAR.
        kept: returns without the car's own; the rest counts these.
        by_range: (bins of RANGE_EDGES_M,).
        by_ring: (MOST_RINGS,).
        elevation_deg: (MOST_RINGS,), sum over the returns of a ring.
        by_intensity: (256,), of the intensity in the file, rounded.
    """

    stored: float
    near: float
    kept: float
    by_range: np.ndarray
    by_ring: np.ndarray
    elevation_deg: np.ndarray
    by_intensity: np.ndarray


@dataclass(frozen=True)
class ImageNumbers:
    """Luminance (0 to 255) of N cameras at IMAGE_SIZE_PX, nan for an absent one; of one keyframe, or means over keyframes.

    Attributes:
        mean, std: (N,).
        saturated, black: (N,) share of pixels at or beyond SATURATED and BLACK.
        sharpness: (N,) variance of the Laplacian.
        contrast: (N,) mean standard deviation in windows of CONTRAST_WINDOW_PX.
        histogram: (N, 256) share of pixels.
    """

    mean: np.ndarray
    std: np.ndarray
    saturated: np.ndarray
    black: np.ndarray
    sharpness: np.ndarray
    contrast: np.ndarray
    histogram: np.ndarray


@dataclass(frozen=True)
class ClassNumbers:
    """Boxes of one category: how many a keyframe, median width, length and height (3,), SPEED_QUANTILES, share that stands.

    Speeds are nan when no box has one (a box seen once).
    """

    per_keyframe: float
    size_wlh_m: np.ndarray
    speed_mps: np.ndarray
    standing: float


@dataclass(frozen=True)
class BoxNumbers:
    """Boxes by category, most frequent first, and by bins of DISTANCE_EDGES_M: boxes a keyframe, median LiDAR points a box."""

    by_class: dict[str, ClassNumbers]
    by_distance: np.ndarray
    points_by_distance: np.ndarray
    without_points: float


@dataclass(frozen=True)
class DatasetNumbers:
    """Everything that is compared of one root.

    Attributes:
        scenes: names.
        keyframes: how many there are, and ``measured`` how many were looked at.
        image_size_px: height and width of the first camera as stored.
        lidar, cells, images, boxes: None where the root has none; cells (3,) are shares, in the order of CELL_STATES.
    """

    scenes: tuple[str, ...]
    keyframes: int
    measured: int
    image_size_px: tuple[int, int]
    lidar: LidarCounts | None
    cells: np.ndarray | None
    images: ImageNumbers | None
    boxes: BoxNumbers | None


class DatasetReader:
    """The keyframes of a root, each as one clip, and its annotations.

    Args:
        root: nuScenes-format root.
        version: name of the tables' folder; None takes the only one.
        image_size: (height, width) in pixels of the pictures that frames are given with.

    Raises:
        DataError: as for NuScenesClips.
    """

    def __init__(self, root: Path, version: str | None = None, image_size: tuple[int, int] = IMAGE_SIZE_PX) -> None:
        self.root = Path(root).expanduser()
        scenes = tuple(load_index(self.root, version).scene_name.tolist())
        self.clips = NuScenesClips(
            self.root, scenes, (0,), (), image_size, version=version, cache_frames=0, max_bad_share=1.0
        )
        self.index: NuScenesIndex = self.clips.index
        self.version = version or next(path.name for path in self.root.glob("v1.0-*") if path.is_dir())

    def chosen(self, most: int | None) -> list[int]:
        """At most ``most`` clips, evenly spaced over all scenes; None takes all."""
        count = len(self.clips) if most is None else min(most, len(self.clips))
        return np.linspace(0, len(self.clips) - 1, count).round().astype(int).tolist()

    def measure(self, clip_number: int) -> tuple[LidarCounts | None, np.ndarray | None, ImageNumbers]:
        """LiDAR, cell shares (3,) and images of one keyframe; None for a LiDAR that cannot be read."""
        clip = self.clips[clip_number]
        keyframe = self.clips.clips[clip_number, 0]
        images = measure_images(clip.now.images, clip.now.camera_present)
        # An unreadable keyframe was replaced by its neighbour, whose own turn is counted there.
        if not clip.now.lidar_present or clip.now.token != self.index.token[keyframe]:
            return None, None, images
        returns = read_returns(self.root / str(self.index.lidar_file[keyframe]))
        states = cell_states(collate_clips([clip]).targets(), GRID)
        shares = np.array([float((states == state).float().mean()) for state in CELL_STATES.values()])
        return measure_lidar(returns, self.index.ego_T_lidar[keyframe]), shares, images

    def measure_boxes(self, clip_numbers: Sequence[int]) -> BoxNumbers | None:
        """Annotations of the chosen keyframes; None where they have none, as in a test split."""
        nusc = NuScenes(version=self.version, dataroot=str(self.root), verbose=False)
        rows = []
        for keyframe in self.clips.clips[list(clip_numbers), 0]:
            ego_xy_m = self.index.global_T_ego[keyframe, :2, 3]
            for token in nusc.get("sample", str(self.index.token[keyframe]))["anns"]:
                box = nusc.get("sample_annotation", token)
                distance_m = float(np.linalg.norm(np.array(box["translation"][:2]) - ego_xy_m))
                speed_mps = float(np.linalg.norm(nusc.box_velocity(token)[:2]))
                rows.append((box["category_name"], box["size"], speed_mps, distance_m, box["num_lidar_pts"]))
        return box_numbers(rows, len(clip_numbers)) if rows else None

    def numbers(self, clip_numbers: Sequence[int], measured: Sequence[tuple]) -> DatasetNumbers:
        """Put together what :meth:`measure` gave for each of the chosen clips."""
        lidar, cells, images = ([part for part in parts if part is not None] for parts in zip(*measured, strict=True))
        present = [part for part in images if np.isfinite(part.mean).any()]
        return DatasetNumbers(
            scenes=tuple(self.index.scene_name.tolist()),
            keyframes=len(self.clips),
            measured=len(clip_numbers),
            image_size_px=tuple(self.index.camera_size_px.max((0, 1)).tolist()),
            lidar=mean_of(lidar) if lidar else None,
            cells=np.mean(cells, 0) if cells else None,
            images=mean_of(present) if present else None,
            boxes=self.measure_boxes(clip_numbers),
        )


def read_returns(path: Path) -> np.ndarray:
    """Finite points (P, 5) float32 of a ``.pcd.bin``: xyz_lidar in metres, intensity in [0, 1], ring.

    Raises:
        BadFileError: as read_lidar.
    """
    points, _ = read_lidar(path)
    raw = np.fromfile(path, dtype=np.float32).reshape(-1, LIDAR_COLUMNS)
    return np.c_[points, raw[np.isfinite(raw[:, :4]).all(1), 4]]


def measure_lidar(returns: np.ndarray, ego_T_lidar: np.ndarray) -> LidarCounts:
    """Counts of one turn.

    Args:
        returns: (P, 5), output of :func:`read_returns`.
        ego_T_lidar: (4, 4), to know the car's own returns.
    """
    xyz_lidar = returns[:, :3].astype(np.float64)
    range_m = np.linalg.norm(xyz_lidar, axis=1)
    kept = ~on_ego_body(transform_points(ego_T_lidar, xyz_lidar))
    ring = np.nan_to_num(returns[kept, 4]).clip(0, MOST_RINGS - 1).astype(int)
    elevation_deg = np.rad2deg(np.arctan2(xyz_lidar[kept, 2], np.linalg.norm(xyz_lidar[kept, :2], axis=1)))
    intensity = np.rint(returns[kept, 3] * 255).clip(0, 255).astype(int)
    return LidarCounts(
        stored=len(returns),
        near=int((range_m < NEAR_M).sum()),
        kept=int(kept.sum()),
        by_range=np.histogram(range_m[kept], RANGE_EDGES_M)[0],
        by_ring=np.bincount(ring, minlength=MOST_RINGS),
        elevation_deg=np.bincount(ring, elevation_deg, MOST_RINGS),
        by_intensity=np.bincount(intensity, minlength=256),
    )


def measure_images(images: torch.Tensor, present: torch.Tensor) -> ImageNumbers:
    """Luminance of one keyframe's ``images`` (N, 3, H, W) uint8 RGB; nan where ``present`` (N,) is false."""
    rows = []
    for image, is_present in zip(images.movedim(1, -1).numpy(), present.tolist(), strict=True):
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        exact, window = grey.astype(np.float64), (CONTRAST_WINDOW_PX, CONTRAST_WINDOW_PX)
        variance = cv2.blur(exact**2, window) - cv2.blur(exact, window) ** 2
        row = (
            grey.mean(),
            grey.std(),
            (grey >= SATURATED).mean(),
            (grey <= BLACK).mean(),
            cv2.Laplacian(exact, cv2.CV_64F).var(),
            np.sqrt(variance.clip(min=0)).mean(),
            np.bincount(grey.ravel(), minlength=256) / grey.size,
        )
        rows.append(row if is_present else tuple(np.full_like(value, np.nan, dtype=float) for value in row))
    return ImageNumbers(*(np.array(column) for column in zip(*rows, strict=True)))


def box_numbers(rows: Sequence[tuple[str, Sequence[float], float, float, int]], keyframes: int) -> BoxNumbers:
    """Statistics of boxes given as (category, (w, l, h) in metres, speed in m/s or nan, distance in metres, LiDAR points)."""
    category, size_wlh_m, speed_mps, distance_m, points = (np.array(column) for column in zip(*rows, strict=True))
    names, counts = np.unique(category, return_counts=True)
    by_class = {}
    for name in names[np.argsort(-counts, kind="stable")]:
        of_class = category == name
        speeds = speed_mps[of_class & np.isfinite(speed_mps)]
        by_class[str(name)] = ClassNumbers(
            per_keyframe=of_class.sum() / keyframes,
            size_wlh_m=np.median(size_wlh_m[of_class], 0),
            speed_mps=np.quantile(speeds, SPEED_QUANTILES) if len(speeds) else np.full(len(SPEED_QUANTILES), np.nan),
            standing=float((speeds < STANDING_MPS).mean()) if len(speeds) else np.nan,
        )
    place = np.digitize(distance_m, DISTANCE_EDGES_M) - 1
    bins = range(len(DISTANCE_EDGES_M) - 1)
    return BoxNumbers(
        by_class=by_class,
        by_distance=np.array([(place == k).sum() for k in bins]) / keyframes,
        points_by_distance=np.array([np.median(points[place == k]) if (place == k).any() else np.nan for k in bins]),
        without_points=float((points == 0).mean()),
    )


def mean_of(parts: Sequence[T]) -> T:
    """Mean of every field over dataclasses of numbers; nan entries do not count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a camera that no keyframe has stays nan
        return type(parts[0])(*(np.nanmean([getattr(p, f.name) for p in parts], 0) for f in fields(parts[0])))


def histogram_quantiles(counts: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Quantiles (q,) of whole numbers that occur ``counts`` (n,) times; nan when there is none."""
    if not counts.sum():
        return np.full(len(quantiles), np.nan)
    return np.searchsorted(np.cumsum(counts) / counts.sum(), np.asarray(quantiles) - 1e-12).astype(float)


def table_rows(numbers: DatasetNumbers) -> dict[str, dict[str, float]]:
    """``rows[section][row] = number``, in reading order; a section that the data set has nothing for is empty."""
    rows: dict[str, dict[str, float]] = {
        "LiDAR, per turn": {},
        "BEV cells from rays": {},
        "images": {},
        "boxes": {},
        "boxes by class": {},
    }
    if numbers.lidar is not None:
        lidar = numbers.lidar
        rows["LiDAR, per turn"] = {
            "records in the file": lidar.stored,
            f"records nearer than {NEAR_M:g} m": lidar.near,
            "returns without the car's own": lidar.kept,
            **{f"returns at {name} m": n for name, n in zip(bin_names(RANGE_EDGES_M), lidar.by_range, strict=True)},
            "rings with returns": int((lidar.by_ring > 0).sum()),
            **{
                f"intensity (0 to 255), {100 * q:g} %": value
                for q, value in zip(
                    INTENSITY_QUANTILES, histogram_quantiles(lidar.by_intensity, INTENSITY_QUANTILES), strict=True
                )
            },
            **{f"returns of ring {ring}": lidar.by_ring[ring] for ring in range(ring_count(lidar))},
        }
    if numbers.cells is not None:
        rows["BEV cells from rays"] = {
            f"share {name}": share for name, share in zip(CELL_STATES, numbers.cells, strict=True)
        }
    if numbers.images is not None:
        images = numbers.images
        values = {
            "luminance (0 to 255), mean": images.mean,
            "luminance, std inside an image": images.std,
            "share of saturated pixels": images.saturated,
            "share of black pixels": images.black,
            "sharpness (variance of the Laplacian)": images.sharpness,
            f"local contrast (std in {CONTRAST_WINDOW_PX} px)": images.contrast,
        }
        rows["images"] = {name: float(np.nanmean(value)) for name, value in values.items()}
        rows["images"] |= {f"{name}, mean": value for name, value in zip(CAMERAS, images.mean, strict=True)}
        rows["images"] |= {f"{name}, sharpness": value for name, value in zip(CAMERAS, images.sharpness, strict=True)}
    if numbers.boxes is not None:
        boxes, names = numbers.boxes, bin_names(DISTANCE_EDGES_M)
        rows["boxes"] = {
            "boxes per keyframe": boxes.by_distance.sum(),
            "share of boxes without LiDAR points": boxes.without_points,
            **{f"boxes per keyframe at {name} m": n for name, n in zip(names, boxes.by_distance, strict=True)},
            **{
                f"points per box at {name} m, median": n
                for name, n in zip(names, boxes.points_by_distance, strict=True)
            },
        }
        for name, boxes_of in boxes.by_class.items():
            rows["boxes by class"] |= {
                f"{name}: per keyframe": boxes_of.per_keyframe,
                **{f"{name}: {axis} (m)": m for axis, m in zip("wlh", boxes_of.size_wlh_m, strict=True)},
                **{
                    f"{name}: speed {100 * q:g} % (m/s)": v
                    for q, v in zip(SPEED_QUANTILES, boxes_of.speed_mps, strict=True)
                },
                f"{name}: share standing": boxes_of.standing,
            }
    return {section: {row: float(value) for row, value in values.items()} for section, values in rows.items()}


def ring_count(lidar: LidarCounts) -> int:
    """One more than the highest ring that has a return."""
    return int(np.flatnonzero(lidar.by_ring).max(initial=-1)) + 1


def bin_names(edges_m: Sequence[float]) -> list[str]:
    """Names of the bins between edges: "0-5", ..., "50+"."""
    return [f"{low:g}+" if np.isinf(high) else f"{low:g}-{high:g}" for low, high in pairwise(edges_m)]


def show_returns(axis, frame: Frame, grid: BEVGrid) -> None:
    """Draw a frame's LiDAR returns seen from above, coloured by their height above the ego plane; forward is up."""
    show_bev(axis, np.full((*grid.shape_yx, 3), 0.07), grid)
    xyz = frame.points_ego[:, :3].numpy()
    xyz = xyz[np.argsort(xyz[:, 2])]
    axis.scatter(xyz[:, 1], xyz[:, 0], s=1.2, c=xyz[:, 2], cmap="turbo", vmin=-0.5, vmax=4.0, linewidths=0)
    axis.set_xlim(grid.y_range_m[1], grid.y_range_m[0])
    axis.set_ylim(*grid.x_range_m)
