"""The JSON record of a result: enough to repeat it and to judge it."""

from __future__ import annotations

import hashlib
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import avjepa
from avjepa.files import write_json


def write_record(
    path: Path,
    results: dict[str, Any],
    config: str,
    checkpoints: list[Path],
    seeds: list[int],
    split: dict[str, Any],
    task: str,
    columns: dict[str, str],
    convention: str,
) -> None:
    """Write a record next to what it needs to be repeated: command, config, commit, checkpoint hashes, split, hardware.

    Args:
        path: the file; written by way of a temporary one.
        results: the figures, ``results[split][row][metric]`` = values over seeds.
        config: the resolved config as text.
        checkpoints: files whose hash is recorded.
        seeds: every seed that entered.
        split: what :meth:`avjepa.probes.splits.PlaceSplit.record` says of every split.
        task: name of the probe.
        columns: titles of the metrics.
        convention: the metric convention, in words.
    """
    record = {
        **origin(),
        "config": config,
        "checkpoints": {str(checkpoint): file_sha256(checkpoint) for checkpoint in checkpoints},
        "seeds": seeds,
        "split": split,
        "task": task,
        "columns": columns,
        "convention": convention,
        "results": results,
    }
    write_json(path, record)


def origin() -> dict[str, Any]:
    """What is running: command, version, commit, hardware."""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "avjepa": avjepa.__version__,
        "commit": _commit(),
        "hardware": {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "torch": torch.__version__,
        },
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
