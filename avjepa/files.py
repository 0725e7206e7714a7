"""Files that are either whole or not there."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from avjepa.errors import ConfigError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, with its suffix; what is written there takes its place when the block ends well.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``, which must not be there or be empty; it takes its place when the block ends well.

    What a killed process left of it is removed.

    Raises:
        ConfigError: another process is writing it.
        OSError: the folder cannot be made or written, or holds something.
    """
    folder = folder.resolve()  # "." has no name
    partial, lock_file = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("partial", "lock"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = hold_lock(lock_file)
    if lock is None:
        raise ConfigError(f"{folder}: another run is writing there; wait for it, or choose another folder")
    with lock:
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            yield partial
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock_file.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n")


def hold_lock(path: Path) -> TextIO | None:
    """The file, locked until it is closed or this process ends, however it ends; None if another process holds it.

    Processes that are started meanwhile do not inherit the lock: loaders, which may outlive a kill, do not hold it.
    """
    lock = path.open("w")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def file_stats(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of files; -1 and -1 where there is none."""
    stats = []
    for path in paths:
        try:
            stat = os.stat(path)
            stats.append((str(path), stat.st_size, stat.st_mtime_ns))
        except OSError:
            stats.append((str(path), -1, -1))
    return stats
