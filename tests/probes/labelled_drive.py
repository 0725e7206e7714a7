"""The toy drive with annotations of every kind, for tests of what reads labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pyquaternion import Quaternion

from tests.toy_drive import VERSION, token, write_toy_drive

KEYFRAMES = 4
# Category, attributes, width, length, height; each moves by 1.5 m in x and 0.5 m in y a keyframe, and turns by 10 degrees.
THINGS = (
    ("vehicle.car", ("vehicle.moving",), 2.0, 4.0, 1.5),
    ("human.pedestrian.adult", ("pedestrian.standing", "pedestrian.moving"), 0.6, 0.8, 1.8),
    ("vehicle.car", (), 1.8, 4.4, 1.6),
)


def write_labelled_drive(root: Path) -> Path:
    """One scene of KEYFRAMES keyframes; the last one has no annotation, and THINGS[2] has one at the first keyframe only."""
    write_toy_drive(root, scenes=1, keyframes=KEYFRAMES, image_size=(16, 9))
    names = ("vehicle.moving", "pedestrian.standing", "pedestrian.moving")
    write_table(root, "attribute", [{"token": token(name), "name": name, "description": ""} for name in names])
    instances, annotations = [], []
    for number, (category, attributes, width, length, height) in enumerate(THINGS):
        seen = 1 if number == 2 else KEYFRAMES - 1
        tokens = [token("annotation", number, k) for k in range(seen)]
        instances.append(
            {"token": token("thing", number), "category_token": token(category), "nbr_annotations": seen,
             "first_annotation_token": tokens[0], "last_annotation_token": tokens[-1]}
        )  # fmt: skip
        for k in range(seen):
            annotations.append(
                {"token": tokens[k], "sample_token": token("sample", 0, k), "instance_token": token("thing", number),
                 "visibility_token": "4", "attribute_tokens": [token(name) for name in attributes],
                 "translation": centre_m(number, k).tolist(), "size": [width, length, height],
                 "rotation": yaw(k).elements.tolist(), "prev": tokens[k - 1] if k else "",
                 "next": tokens[k + 1] if k + 1 < seen else "", "num_lidar_pts": 10 * number + k, "num_radar_pts": 0}
            )  # fmt: skip
    write_table(root, "instance", instances)
    write_table(root, "sample_annotation", annotations[::-1])  # the order of a table means nothing
    return root


def centre_m(number: int, keyframe: int) -> np.ndarray:
    """Centre of a thing in the global frame."""
    return np.array([310.0 + 8 * number + 1.5 * keyframe, 905.0 + 0.5 * keyframe, 0.8])


def yaw(keyframe: int) -> Quaternion:
    """Rotation of every thing."""
    return Quaternion(axis=[0, 0, 1], degrees=30 + 10 * keyframe)


def read_table(root: Path, name: str) -> list[dict]:
    return json.loads((root / VERSION / f"{name}.json").read_text())


def write_table(root: Path, name: str, rows: list[dict]) -> None:
    (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
