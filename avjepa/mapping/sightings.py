"""Which keyframes of which drives saw a place, and through which camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.conventions import CAMERAS
from avjepa.geometry.camera import in_image, project
from avjepa.geometry.rigid import invert, transform_points
from avjepa.mapping.changes import Evidence
from avjepa.mapping.ground_view import OWN_CAR, REACH_M
from avjepa.mapping.survey import SurveyedDrive
from avjepa.sensors.nuscenes_index import NuScenesIndex

SHOWN = 6  # keyframes that are named as evidence
BEST_M = 9.0  # at which a camera shows a place of the ground well


@dataclass(frozen=True)
class Sightings:
    """Who saw a place.

    Attributes:
        drives: names of the drives.
        frames: number of keyframes, over all drives.
        first, last: times of the first and last of them, UTC; None without any.
        evidence: the keyframes that show it best, the best first.
    """

    drives: tuple[str, ...]
    frames: int
    first: datetime | None
    last: datetime | None
    evidence: tuple[Evidence, ...]


def sightings_of(shape: BaseGeometry, drives: Sequence[SurveyedDrive], index: NuScenesIndex) -> Sightings:
    """Keyframes from which any of a shape was within reach, on the map frame's plane."""
    names, evidence = [], []
    number_of = {token: n for n, token in enumerate(index.token)} if shape is not None else {}
    for drive in drives:
        points = shapely.points(drive.xy_m)
        distance_m = shapely.distance(points, shape)
        near = np.flatnonzero(distance_m < REACH_M)
        if not len(near):
            continue
        names.append(drive.scene)
        for i in near:
            frame = drive.frames[i]
            camera = best_camera(shape, index, number_of[frame.token])
            seen = utc(frame.timestamp_us)
            evidence.append(Evidence(frame.token, drive.scene, seen, camera, float(distance_m[i])))
    times = [one.seen for one in evidence]
    shown = sorted(evidence, key=lambda one: (one.camera == "", abs(one.distance_m - BEST_M), one.frame))[:SHOWN]
    return Sightings(tuple(names), len(evidence), min(times, default=None), max(times, default=None), tuple(shown))


def best_camera(shape: BaseGeometry, index: NuScenesIndex, n: int) -> str:
    """The camera of keyframe ``n`` that shows most of a shape on the ground; "" where none shows any."""
    shares = {}
    for number, camera in enumerate(CAMERAS):
        uv_px, depth_m, size_px = in_camera(shape, index, n, number)
        if len(uv_px):
            height_px = round((1 - OWN_CAR) * size_px[0])
            shares[camera] = float(in_image(uv_px, depth_m, height_px, int(size_px[1])).mean())
    best = max(shares, key=shares.get, default="")
    return best if best and shares[best] > 0 else ""


def in_camera(
    shape: BaseGeometry, index: NuScenesIndex, n: int, camera: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (k, 2) and depths (k,) of points along a shape on the ground, and the image's (height, width).

    Without such a camera there are no points.
    """
    if not index.camera_file[n, camera]:
        return np.zeros((0, 2)), np.zeros(0), np.zeros(2)
    global_T_ego = index.global_T_ego[n]
    xy_m = shapely.get_coordinates(shapely.segmentize(shape, 1.0))
    xyz_ego = transform_points(invert(global_T_ego), np.column_stack([xy_m, np.full(len(xy_m), global_T_ego[2, 3])]))
    xyz_cam = transform_points(invert(index.ego_T_cam[n, camera]), xyz_ego)
    uv_px, depth_m = project(index.pix_T_cam[n, camera], xyz_cam)
    return uv_px, depth_m, index.camera_size_px[n, camera]


def utc(timestamp_us: int) -> datetime:
    """A time of the tables."""
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=timestamp_us)
