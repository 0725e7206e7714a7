"""Where drives went, on the map: ego positions in time order, and what came near them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.errors import DataError
from avjepa.sensors.nuscenes_index import NuScenesIndex, split_scenes

SIGHT_M = 20.0  # as TbV has it: what is further from the ego position is not asked for


@dataclass(frozen=True)
class DrivePath:
    """Keyframes of one drive that have a pose.

    Attributes:
        scene: name of the drive.
        city: the map it drives on.
        tokens: (n,) of the keyframes.
        timestamp_us: (n,) LiDAR times, ascending.
        xy_m: (n, 2) ego positions in metres of the map.
        pictured: (n,) where the tables name a picture of every camera that the drive has.
    """

    scene: str
    city: str
    tokens: tuple[str, ...]
    timestamp_us: np.ndarray
    xy_m: np.ndarray
    pictured: np.ndarray

    @property
    def steps_m(self) -> np.ndarray:
        """(n - 1,) metres from each keyframe to the next."""
        return np.linalg.norm(np.diff(self.xy_m, axis=0), axis=1)

    @property
    def segments(self) -> np.ndarray:
        """(n - 1,) straight lines from each keyframe to the next."""
        return shapely.linestrings(np.stack([self.xy_m[:-1], self.xy_m[1:]], axis=1))

    def distances_m(self, shape: BaseGeometry) -> np.ndarray:
        """(n,) from each ego position to a shape; 0 inside an area."""
        return shapely.distance(shapely.points(self.xy_m), shape)


def drive_paths(index: NuScenesIndex, scenes: Sequence[str]) -> list[DrivePath]:
    """Paths of drives, by name or by split, in the order of the index.

    Raises:
        DataError: a drive is not there or has no pose, or they drive in several cities.
    """
    numbers, missing = split_scenes(index, scenes)
    if missing:
        raise DataError(f"no scene {', '.join(missing[:3])} in this root; it holds {len(index.scene_name)} others")
    paths = [_path(index, number) for number in numbers]
    cities = sorted({path.city for path in paths})
    if len(cities) > 1:
        raise DataError(f"scenes of several cities ({', '.join(cities)}); a map is one city's, take them one by one")
    return paths


def seen_region(paths: Sequence[DrivePath]) -> BaseGeometry:
    """The part of the map within 20 m of an ego position."""
    points = shapely.points(np.concatenate([path.xy_m for path in paths]))
    return shapely.union_all(shapely.buffer(points, SIGHT_M, quad_segs=16))


def share_within(shape: BaseGeometry, region: BaseGeometry) -> float:
    """Share of a shape, in [0, 1], that lies in a region: of its area, or its length, or its points."""
    inside = shapely.intersection(shape, region)
    for size in (shapely.area, shapely.length, shapely.get_num_coordinates):
        if size(shape) > 0:
            return float(min(size(inside) / size(shape), 1.0))
    raise ValueError("an empty shape has no share anywhere")


def _path(index: NuScenesIndex, number: int) -> DrivePath:
    frames = np.flatnonzero((index.scene == number) & np.isfinite(index.global_T_ego).all((1, 2)))
    if not len(frames):
        raise DataError(f"scene {index.scene_name[number]} has no keyframe with a pose; leave it out")
    has_picture = index.camera_file[frames] != ""
    return DrivePath(
        scene=str(index.scene_name[number]),
        city=str(index.scene_city[number]),
        tokens=tuple(map(str, index.token[frames])),
        timestamp_us=index.timestamp_us[frames],
        xy_m=index.global_T_ego[frames][:, :2, 3],
        pictured=(has_picture | ~has_picture.any(0)).all(1),
    )
