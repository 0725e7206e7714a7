"""Checkpoints that a kill cannot damage and that load with ``weights_only=True``.

mmengine's own checkpoints hold HistoryBuffers and numpy scalars, which torch >= 2.6 refuses to load (mmengine#1655); ours hold
tensors, numbers and strings only. Model and optimiser states are gathered whole, under the names of the bare model, so that
a checkpoint moves freely between one process, DDP and FSDP.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.runner import Runner
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from avjepa.engine.config import settings_text
from avjepa.errors import CheckpointError
from avjepa.files import replacing

FORMAT = 1
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def save_checkpoint(runner: Runner, name: str) -> Path:
    """Write ``work_dir/name`` (temporary file, flush to disk, rename), then point ``work_dir/last.pth`` at it."""
    optimizer = runner.optim_wrapper.optimizer
    checkpoint = {
        "format": FORMAT,
        "iteration": runner.iter + 1,
        "model": get_model_state_dict(runner.model, options=WHOLE),
        "optimizer": get_optimizer_state_dict(runner.model, optimizer, options=WHOLE),
        "loss_scaler": _loss_scaler_state(runner),
        "loss_spikes": runner.train_loop.spikes and runner.train_loop.spikes.state_dict(),
        "schedulers": [_plain(scheduler.state_dict()) for scheduler in runner.param_schedulers],
        "rng_cpu": torch.get_rng_state(),
        "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "seed": runner.seed,
        "scenes": sorted({keyframe.scene for keyframe in runner.train_dataloader.dataset.present_keyframes()}),
        "config": settings_text(runner.cfg),
    }
    path = Path(runner.work_dir) / name
    if is_main_process():
        write_atomically(checkpoint, path)
        link = path.with_name(f".last.{os.getpid()}")
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        os.replace(link, path.with_name("last.pth"))
    barrier()
    return path


def write_atomically(checkpoint: dict[str, Any], path: Path) -> None:
    """``torch.save`` that leaves either the old file or the whole new one."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load and check a checkpoint; only tensors and plain values can be inside.

    Raises:
        CheckpointError: missing, damaged, not ours, or holding objects that ``weights_only=True`` refuses.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train first, or check the path")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for each kind of damage
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason}); take an earlier one") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not an avjepa checkpoint of format {FORMAT}")
    return checkpoint


def resume(runner: Runner, path: Path) -> int:
    """Restore everything that the next iteration depends on; returns the number of iterations already done.

    Data order, augmentation and masks need no state: they are functions of (seed, iteration).

    Raises:
        CheckpointError: the checkpoint does not fit the model, or was made with another seed.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint["seed"] != runner.seed:
        raise CheckpointError(
            f"{path}: made with seed {checkpoint['seed']}, the config says {runner.seed}; set randomness.seed"
        )
    optimizer = runner.optim_wrapper.optimizer
    try:
        set_model_state_dict(runner.model, checkpoint["model"], options=WHOLE)
        set_optimizer_state_dict(runner.model, optimizer, checkpoint["optimizer"], options=WHOLE)
        if checkpoint["loss_scaler"] is not None and hasattr(runner.optim_wrapper, "loss_scaler"):
            runner.optim_wrapper.loss_scaler.load_state_dict(checkpoint["loss_scaler"])
        spikes = runner.train_loop.spikes
        if checkpoint.get("loss_spikes") is not None and spikes is not None:  # older checkpoints have no such key
            spikes.load_state_dict(checkpoint["loss_spikes"])
        for scheduler, state in zip(runner.param_schedulers, checkpoint["schedulers"], strict=True):
            scheduler.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: does not fit the model of this config or its schedule ({first_fault(error)})"
        ) from error
    torch.set_rng_state(checkpoint["rng_cpu"])
    if torch.cuda.is_available() and len(checkpoint["rng_cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(checkpoint["rng_cuda"])
    return checkpoint["iteration"]


def first_fault(error: Exception) -> str:
    """The first thing that torch says does not fit, without its heading."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[min(1, len(lines) - 1)].strip()


def _loss_scaler_state(runner: Runner) -> dict | None:
    scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
    return None if scaler is None else scaler.state_dict()


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The state without callables and numpy scalars, which a safe load refuses."""
    return {
        key: value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
        for key, value in state.items()
    }
