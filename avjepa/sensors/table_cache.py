"""The tables of a nuScenes root: finding them, reading them, and keeping arrays made of them until a table changes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import numpy as np
from nuscenes.nuscenes import NuScenes

from avjepa.errors import DataError
from avjepa.files import replacing

GET_DATA = (
    "download v1.0-mini from nuscenes.org/nuscenes and give its folder by AVJEPA_NUSCENES or --data, "
    "or generate the mini city: python tools/make_city.py, then configs/bev_jepa_city.py"
)

log = logging.getLogger("avjepa")

Arrays = TypeVar("Arrays")  # a dataclass whose every field is an array


def find_tables(root: str | Path, version: str | None = None) -> Path:
    """Folder of a root's tables.

    Args:
        root: folder that holds ``samples/`` and the tables' folder.
        version: name of the tables' folder; None takes the only one there is.

    Raises:
        DataError: root or tables are missing, or there are several and no version is named.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {GET_DATA}")
    if version is None:
        versions = sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())
        if len(versions) != 1:
            found = ", ".join(versions) if versions else "none"
            raise DataError(f"{root}: want one v1.0-* folder, found {found}; name the version, or {GET_DATA}")
        version = versions[0]
    if not any((root / version).glob("*.json")):
        raise DataError(f"{root / version}: no tables; {GET_DATA}")
    return root / version


@contextmanager
def open_tables(tables: Path) -> Iterator[NuScenes]:
    """The tables through nuscenes-devkit.

    Raises:
        DataError: a table is missing or damaged, or the block looks up a record or a field that is not there.
    """
    try:
        yield NuScenes(version=tables.name, dataroot=str(tables.parent), verbose=False)
    except (AssertionError, OSError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{tables}: cannot be read ({type(error).__name__}: {error}); copy the tables again") from error


def kept_arrays(kind: type[Arrays], name: str, layout: int, tables: Path, build: Callable[[Path], Arrays]) -> Arrays:
    """Arrays made of the tables, from the cache when no table has changed since.

    The cache is $AVJEPA_CACHE, else ``~/.cache/avjepa``. A folder that cannot be written only costs time.

    Args:
        kind: dataclass of arrays, none of them of objects.
        name: first part of the file's name.
        layout: number to raise when the meaning of the arrays changes.
        tables: folder of the tables.
        build: makes the arrays from that folder.
    """
    path = _cache_file(name, layout, tables)
    kept = _read(kind, path)
    if kept is not None:
        return kept
    arrays = build(tables)
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(arrays, field.name) for field in fields(kind)})
    except OSError as error:
        log.warning("cannot keep the %s in %s (%s)", name, path.parent, error)
    return arrays


def _cache_file(name: str, layout: int, tables: Path) -> Path:
    """A change of a table, of the root or of the layout gives another name."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(tables.glob("*.json"))]
    key = json.dumps([layout, str(tables.resolve()), stats])
    folder = Path(os.environ.get("AVJEPA_CACHE") or Path.home() / ".cache" / "avjepa")
    return folder / f"{name}-{tables.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def _read(kind: type[Arrays], path: Path) -> Arrays | None:
    """The kept arrays, or None when there are none or they are damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return kind(**{field.name: arrays[field.name] for field in fields(kind)})
    except FileNotFoundError:
        return None
    except Exception as error:  # numpy and zipfile raise a different type for each kind of damage
        log.warning("%s is damaged (%s): reading the tables again", path, error)
        return None
