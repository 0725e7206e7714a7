"""Reading a training config and applying the command line to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper

from avjepa.errors import ConfigError

DATA_ROOT_VARIABLE = "AVJEPA_NUSCENES"  # for configs that name none
ROOT_VARIABLES = {"data/nuscenes": "AVJEPA_NUSCENES", "data/city": "AVJEPA_CITY"}  # of joined data sets
KINDS = {
    "training": ("model", "train_data", "monitor", "optim_wrapper", "train_cfg"),
    "a probe": ("probe", "heads", "train_data", "test_data", "pretrain_config"),
    "a study": ("objectives", "reference", "seeds", "label_shares", "tasks"),
}
FOLDERS = {"training": "configs/", "a probe": "configs/probes/", "a study": "configs/studies/"}


def load_config(
    path: Path,
    options: dict | None = None,
    data_root: str | None = None,
    kind: Literal["training", "a probe", "a study"] | None = None,
) -> Config:
    """Read a pure-Python config, apply ``key=value`` options, and set the data root of every data set in it.

    The data root is, in this order: the argument, the environment variable that the config names, the config's own. Joined data
    sets have a root each: $AVJEPA_NUSCENES, $AVJEPA_CITY, or their own, and take no argument. ``kind`` is what the config must be
    for, if it matters.

    Raises:
        ConfigError: no such file, an error in it, a config for something else, or an option whose key does not exist.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such config; see configs/")
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is Python: anything can be wrong in it
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    lacking = [name for name in KINDS.get(kind, ()) if name not in cfg]
    if lacking:
        raise ConfigError(f"{path}: no config of {kind} (it has no {', '.join(lacking)}); take one of {FOLDERS[kind]}")
    for key in options or {}:
        _check_key(cfg, key, path)
    cfg.merge_from_dict(options or {})
    argument = data_root
    data_root = data_root or os.environ.get(cfg.get("data_root_variable", DATA_ROOT_VARIABLE))
    if data_root:
        for part in ("train_data", "monitor"):
            if part in cfg and "root" in cfg[part].dataset:
                cfg[part].dataset.root = data_root
        for split in cfg.get("test_data", {}).values():
            split.root = data_root
    joined = cfg.get("train_data", {}).get("dataset", {}).get("datasets", ())
    if joined and argument:
        raise ConfigError(
            f"{path}: trains on several data roots: set $AVJEPA_CITY and $AVJEPA_NUSCENES, and leave out --data"
        )
    for dataset in joined:
        dataset.root = os.environ.get(ROOT_VARIABLES.get(dataset.root, "")) or dataset.root
    return cfg


def settings_text(cfg: Config | Mapping[str, Any]) -> str:
    """Every setting of a config on a line of its own, ``model.jepa.target.momentum_start = 0.99``: to be kept and compared.

    mmengine's ``pretty_text`` says the same as Python code, which takes it seconds to format.
    """
    imported = {key for key in cfg.keys() if key != "type" and callable(cfg[key])}
    return "\n".join(line for key in cfg.keys() if key not in imported for line in _setting_lines(cfg[key], key))


def _setting_lines(value: Any, name: str) -> Iterator[str]:
    """``name = value``, or those of its parts."""
    if isinstance(value, Mapping) and value:
        parts = value.keys()
    elif isinstance(value, (list, tuple)) and any(isinstance(part, Mapping) for part in value):
        parts = range(len(value))
    else:
        yield f"{name} = {f'{value.__module__}.{value.__qualname__}' if callable(value) else repr(value)}"
        return
    for part in parts:
        yield from _setting_lines(value[part], f"{name}.{part}")


def use_amp(cfg: Config, cuda_available: bool) -> None:
    """Switch the optimiser wrapper to automatic mixed precision, in place.

    Raises:
        ConfigError: there is no GPU; mmengine's wrapper works on GPUs only.
    """
    if not cuda_available:
        raise ConfigError("--amp needs a CUDA GPU and none was found; train without it")
    cfg.optim_wrapper.type = AmpOptimWrapper
    cfg.optim_wrapper.setdefault("dtype", "bfloat16")


def _check_key(cfg: Config, dotted: str, path: Path) -> None:
    """A mistyped option must not create a new key that nobody reads."""
    node = cfg
    for key in dotted.split("."):
        if isinstance(node, (list, tuple)) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif hasattr(node, "keys") and key in node:
            node = node[key]
        else:
            raise ConfigError(f"--cfg-options {dotted}: {path} has no such key ('{key}')")
