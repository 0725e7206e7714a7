"""Annotation boxes of keyframes, and the points inside them. Labels are for probes; pretraining reads none."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
from nuscenes.nuscenes import NuScenes

from avjepa.errors import DataError
from avjepa.geometry.rigid import invert, transform_from_quaternion, transform_points
from avjepa.sensors.nuscenes_index import MAX_NORM_ERROR, NuScenesIndex, load_index
from avjepa.sensors.table_cache import find_tables, kept_arrays, open_tables

LAYOUT = 1
VELOCITY_SPAN_S = 1.5  # boxes further apart in time give no velocity (nuscenes-devkit, box_velocity)

log = logging.getLogger("avjepa")


@dataclass(frozen=True)
class KeyframeBoxes:
    """The n boxes of a keyframe. The axes of a box: x along its length, y along its width, z up; its origin is its centre.

    Attributes:
        ego_T_box: (n, 4, 4), into the ego frame of the keyframe at LiDAR time.
        global_T_box: (n, 4, 4).
        size_lwh_m: (n, 3) length, width, height.
        velocity_mps: (n, 3) over ground, along the ego axes; nan where unknown.
        category: (n,) str, such as "vehicle.car".
        attribute: (n,) str, the first one, such as "vehicle.moving"; empty where the box has none.
        instance: (n,) str, token of the thing, the same at every keyframe.
        num_lidar_pts: (n,) returns of the keyframe's sweep inside, as the table says.
    """

    ego_T_box: np.ndarray
    global_T_box: np.ndarray
    size_lwh_m: np.ndarray
    velocity_mps: np.ndarray
    category: np.ndarray
    attribute: np.ndarray
    instance: np.ndarray
    num_lidar_pts: np.ndarray

    def __len__(self) -> int:
        return len(self.size_lwh_m)


@dataclass(frozen=True)
class BoxTables:
    """The b boxes of all n keyframes of a root as flat arrays; those of a keyframe are consecutive.

    Keyframes are numbered as in the root's NuScenesIndex.

    Attributes:
        sample_token: (n,) str.
        first_box: (n + 1,), number of each keyframe's first box.
        global_T_ego: (n, 4, 4) at LiDAR time; nan where the pose is damaged.
        category_name, attribute_name, instance_token: str, what the numbers below stand for.
        category, instance: (b,).
        attribute: (b,), the first one; -1 where there is none.
        centre_m: (b, 3) in the global frame.
        rotation_wxyz: (b, 4), global from box.
        size_lwh_m: (b, 3).
        velocity_mps: (b, 3) in the global frame; nan where unknown.
        num_lidar_pts: (b,).
    """

    sample_token: np.ndarray
    first_box: np.ndarray
    global_T_ego: np.ndarray
    category_name: np.ndarray
    attribute_name: np.ndarray
    instance_token: np.ndarray
    category: np.ndarray
    attribute: np.ndarray
    instance: np.ndarray
    centre_m: np.ndarray
    rotation_wxyz: np.ndarray
    size_lwh_m: np.ndarray
    velocity_mps: np.ndarray
    num_lidar_pts: np.ndarray

    @cached_property
    def _number(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.sample_token.tolist())}

    def at(self, sample_token: str) -> KeyframeBoxes:
        """Boxes of a keyframe.

        Raises:
            DataError: there is no such keyframe, or its pose is damaged.
        """
        number = self._number.get(str(sample_token))
        if number is None:
            raise DataError(f"keyframe {sample_token} is not in these tables; name the root that holds it")
        global_T_ego = self.global_T_ego[number]
        if not np.isfinite(global_T_ego).all():
            raise DataError(f"keyframe {sample_token} has a damaged pose; leave it out or copy the tables again")
        boxes = slice(self.first_box[number], self.first_box[number + 1])
        poses = [
            transform_from_quaternion(*pose)
            for pose in zip(self.rotation_wxyz[boxes], self.centre_m[boxes], strict=True)
        ]
        global_T_box = np.array(poses).reshape(-1, 4, 4)
        attribute = self.attribute[boxes]
        return KeyframeBoxes(
            ego_T_box=invert(global_T_ego) @ global_T_box,
            global_T_box=global_T_box,
            size_lwh_m=self.size_lwh_m[boxes],
            velocity_mps=self.velocity_mps[boxes] @ global_T_ego[:3, :3],
            category=self.category_name[self.category[boxes]],
            attribute=np.where(attribute >= 0, self.attribute_name[attribute], ""),
            instance=self.instance_token[self.instance[boxes]],
            num_lidar_pts=self.num_lidar_pts[boxes],
        )


def load_boxes(root: str | Path, version: str | None = None) -> BoxTables:
    """Boxes of every keyframe of a nuScenes root, from the cache when the tables have not changed.

    Args:
        root: folder that holds ``samples/`` and the tables' folder.
        version: name of the tables' folder; None takes the only one there is.

    Raises:
        DataError: a table is missing or damaged.
    """
    build = partial(_build, index=load_index(root, version))
    return kept_arrays(BoxTables, "boxes", LAYOUT, find_tables(root, version), build)


boxes_of = cache(load_boxes)  # for callers that ask once a keyframe


def points_in_boxes(xyz_m: np.ndarray, dst_T_box: np.ndarray, size_lwh_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which points (P, 3) lie in which of n boxes, faces included; boxes may overlap.

    Args:
        xyz_m: points in any frame dst.
        dst_T_box: (n, 4, 4).
        size_lwh_m: (n, 3).

    Returns:
        Two int64 arrays of equal length, the point and the box of each pair, ordered by box, then by point.
    """
    if (
        xyz_m.ndim != 2
        or xyz_m.shape[1] != 3
        or dst_T_box.shape[1:] != (4, 4)
        or size_lwh_m.shape != (len(dst_T_box), 3)
    ):
        raise ValueError(f"want (P, 3), (n, 4, 4), (n, 3), got {xyz_m.shape}, {dst_T_box.shape}, {size_lwh_m.shape}")
    by_x = np.argsort(xyz_m[:, 0], kind="stable")
    x_m, reach_m = xyz_m[by_x, 0], np.linalg.norm(size_lwh_m, axis=1) / 2
    first = np.searchsorted(x_m, dst_T_box[:, 0, 3] - reach_m, "left")
    last = np.searchsorted(x_m, dst_T_box[:, 0, 3] + reach_m, "right")
    points = []
    for box_T_dst, size, begin, end in zip(invert(dst_T_box), size_lwh_m, first, last, strict=True):
        near = by_x[begin:end]
        inside = (np.abs(transform_points(box_T_dst, xyz_m[near].astype(np.float64))) <= size / 2).all(1)
        points.append(np.sort(near[inside]))
    boxes = np.repeat(np.arange(len(points)), [len(inside) for inside in points])
    return np.concatenate([np.zeros(0, dtype=np.int64), *points]), boxes


def box_of_points(xyz_m: np.ndarray, dst_T_box: np.ndarray, size_lwh_m: np.ndarray) -> np.ndarray:
    """The smallest box that holds each point, (P,) int64; -1 where there is none. Arguments as of points_in_boxes."""
    point, box = points_in_boxes(xyz_m, dst_T_box, size_lwh_m)
    shrinking = np.argsort(-size_lwh_m.prod(1)[box], kind="stable")  # the last one written stays
    holder = np.full(len(xyz_m), -1, dtype=np.int64)
    holder[point[shrinking]] = box[shrinking]
    return holder


def _build(tables: Path, index: NuScenesIndex) -> BoxTables:
    with open_tables(tables) as nusc:
        return _boxes_of(nusc, index)


def _boxes_of(nusc: NuScenes, index: NuScenesIndex) -> BoxTables:
    sample_number = {token: number for number, token in enumerate(index.token.tolist())}
    of_sample = np.array([sample_number[record["sample_token"]] for record in nusc.sample_annotation], dtype=np.int64)
    records = [nusc.sample_annotation[number] for number in np.argsort(of_sample, kind="stable")]
    of_sample = np.sort(of_sample)
    category_number = {record["token"]: number for number, record in enumerate(nusc.category)}
    attribute_number = {record["token"]: number for number, record in enumerate(nusc.attribute)}
    instance_number = {record["token"]: number for number, record in enumerate(nusc.instance)}
    category_of_instance = np.array([category_number[record["category_token"]] for record in nusc.instance], dtype=int)
    instance = np.array([instance_number[record["instance_token"]] for record in records], dtype=np.int32)
    centre_m = _floats(records, "translation", 3)
    rotation_wxyz = _floats(records, "rotation", 4)
    size_lwh_m = _floats(records, "size", 3)[:, [1, 0, 2]]  # the table has width, length, height
    sound = _are_sound(centre_m, rotation_wxyz, size_lwh_m)
    if not sound.all():
        log.warning("%s: %d damaged boxes are left out", nusc.table_root, (~sound).sum())
    first_attribute = [
        attribute_number[record["attribute_tokens"][0]] if record["attribute_tokens"] else -1 for record in records
    ]
    num_lidar_pts = np.array([record["num_lidar_pts"] for record in records], dtype=np.int32)
    time_us = np.array([nusc.get("sample", token)["timestamp"] for token in sample_number], dtype=np.int64)
    velocity_mps = _velocities(records, centre_m, time_us[of_sample])
    return BoxTables(
        sample_token=index.token,
        first_box=np.searchsorted(of_sample[sound], np.arange(len(sample_number) + 1)),
        global_T_ego=index.global_T_ego,
        category_name=np.array([record["name"] for record in nusc.category], dtype=str),
        attribute_name=np.array([record["name"] for record in nusc.attribute], dtype=str),
        instance_token=np.array(list(instance_number), dtype=str),
        category=category_of_instance[instance[sound]].astype(np.int16),
        attribute=np.array(first_attribute, dtype=np.int16)[sound],
        instance=instance[sound],
        centre_m=centre_m[sound],
        rotation_wxyz=rotation_wxyz[sound],
        size_lwh_m=size_lwh_m[sound],
        velocity_mps=velocity_mps[sound],
        num_lidar_pts=num_lidar_pts[sound],
    )


def _floats(records: list[dict], key: str, width: int) -> np.ndarray:
    """(b, width) float64; a value of another length is damage of the whole table."""
    return np.array([record[key] for record in records], dtype=np.float64).reshape(len(records), width)


def _are_sound(centre_m: np.ndarray, rotation_wxyz: np.ndarray, size_lwh_m: np.ndarray) -> np.ndarray:
    is_unit = np.abs(np.linalg.norm(rotation_wxyz, axis=1) - 1) < MAX_NORM_ERROR
    return np.isfinite(centre_m).all(1) & is_unit & (np.isfinite(size_lwh_m) & (size_lwh_m > 0)).all(1)


def _velocities(records: list[dict], centre_m: np.ndarray, time_us: np.ndarray) -> np.ndarray:
    """Central difference over the boxes before and after, one-sided at a track's ends, as nuscenes-devkit's box_velocity."""
    row = {record["token"]: number for number, record in enumerate(records)}
    own = np.arange(len(records))
    before = np.array(
        [row[record["prev"]] if record["prev"] else n for n, record in enumerate(records)], dtype=np.int64
    )
    after = np.array([row[record["next"]] if record["next"] else n for n, record in enumerate(records)], dtype=np.int64)
    span_s = (time_us[after] - time_us[before]) * 1e-6
    steps = (before != own).astype(int) + (after != own)
    known = (steps > 0) & (span_s > 0) & (span_s <= VELOCITY_SPAN_S * steps)
    velocity_mps = np.full((len(records), 3), np.nan)
    velocity_mps[known] = (centre_m[after] - centre_m[before])[known] / span_s[known, None]
    return velocity_mps
