"""What a run trains on, as one hash: so that a run is not kept when its data were made anew in the same place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from avjepa.errors import DataError
from avjepa.files import file_stats
from avjepa.sensors.nuscenes_index import NuScenesIndex, load_index, split_scenes


def training_data_hash(dataset: Mapping[str, Any]) -> str | None:
    """Of a config's ``train_data.dataset``: what the tables say of its scenes, and size and time of every sensor file.

    Returns:
        The hash; None if the data cannot be read, of which training tells the reason.
    """
    digest = hashlib.sha256()
    try:
        for part in dataset.get("datasets", (dataset,)):
            _add_scenes(digest, part["root"], part.get("version"), part["scenes"])
    except DataError:
        return None
    return digest.hexdigest()


def _add_scenes(digest: Any, root: str, version: str | None, scenes: tuple[str, ...]) -> None:
    folder, index = Path(root).expanduser().resolve(), load_index(root, version)
    keyframes = np.isin(index.scene, split_scenes(index, scenes)[0])
    for field in fields(NuScenesIndex):
        rows = getattr(index, field.name)
        if len(rows) == len(index.scene) and field.name != "scene":  # numbers of scenes change when others are added
            rows = rows[keyframes]
            digest.update("\n".join(rows.ravel()).encode() if rows.dtype.kind == "U" else np.ascontiguousarray(rows))
    names = np.concatenate(
        [files[keyframes].ravel() for files in (index.lidar_file, index.camera_file, index.sweep_file)]
    )
    digest.update(repr(file_stats(folder / name for name in dict.fromkeys(names.tolist()) if name)).encode())
