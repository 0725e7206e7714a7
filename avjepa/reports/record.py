"""The JSON record of a result: enough to repeat it and to judge it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import avjepa


def write_record(
    path: Path,
    results: dict[str, Any],
    config: str,
    checkpoints: list[Path],
    seeds: list[int],
    split: dict[str, Any],
    convention: str,
) -> None:
    """Write a record next to what it needs to be repeated: command, config, commit, checkpoint hashes, split, hardware.

    Args:
        path: the file; written by way of a temporary one.
        results: the figures.
        config: the resolved config as text.
        checkpoints: files whose hash is recorded.
        seeds: every seed that entered.
        split: output of :func:`describe_split`.
        convention: the metric convention, in words.
    """
    record = {
        **origin(),
        "config": config,
        "checkpoints": {str(checkpoint): file_sha256(checkpoint) for checkpoint in checkpoints},
        "seeds": seeds,
        "split": split,
        "convention": convention,
        "results": results,
    }
    write_json(path, record)


def origin() -> dict[str, Any]:
    """What is running: command, version, commit, hardware."""
    return {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "avjepa": avjepa.__version__,
        "commit": _commit(),
        "hardware": {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "torch": torch.__version__,
        },
    }


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file by way of a temporary one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=2) + "\n")
    os.replace(temporary, path)


def describe_split(
    train_scenes: list[str],
    test_scenes: list[str],
    train_xy_m: np.ndarray,
    test_xy_m: np.ndarray,
    train_cities: list[str],
    test_cities: list[str],
) -> dict[str, Any]:
    """Names, hash and overlap of a split.

    The overlap is the share of test frames whose ego position (n, 2), in metres of the same city's map frame, lies within
    5 m of a training frame (Lilja et al., CVPR 2024, measure of geographic leakage). ``train_cities`` and ``test_cities``
    give the city of each frame: frames of different cities never overlap.
    """
    near = 0
    train_city_of = np.asarray(train_cities)
    for xy_m, city in zip(test_xy_m, test_cities, strict=True):
        same = train_xy_m[train_city_of == city]
        near += bool(len(same)) and bool((np.linalg.norm(same - xy_m, axis=1) < 5.0).any())
    names = json.dumps([sorted(train_scenes), sorted(test_scenes)])
    return {
        "train_scenes": sorted(train_scenes),
        "test_scenes": sorted(test_scenes),
        "hash": hashlib.sha256(names.encode()).hexdigest()[:16],
        "overlap_share_5m": near / max(len(test_xy_m), 1),
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _commit() -> str | None:
    """Commit of the source tree, with "+" when it has changes; None outside a checkout."""
    source = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=source, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
