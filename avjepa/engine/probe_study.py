"""A probe study from a probe config and checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from avjepa.engine.checkpoint import first_fault, read_checkpoint
from avjepa.engine.config import load_config, settings_text
from avjepa.engine.registry import build
from avjepa.errors import CheckpointError, ConfigError
from avjepa.jepa.world_model import BEVWorldModel
from avjepa.probes.frozen import Source
from avjepa.probes.heads import HeadTraining
from avjepa.probes.splits import KINDS, PlacedFrames, PlaceSplit, check_split
from avjepa.probes.study import RANDOM_INIT, RAW_INPUT, Study
from avjepa.sensors.nuscenes_dataset import NuScenesClips

log = logging.getLogger("avjepa")


def build_study(
    cfg: Config,
    checkpoints: list[Path],
    seeds: int,
    *,
    folder: Path,
    features: Path,
    heads: list[str] | None = None,
    supervised: bool = True,
    label_shares: tuple[float, ...] = (1.0,),
    progress: Callable[[Iterable, str, int], Iterable],
) -> Study:
    """The study that a probe config describes.

    Args:
        cfg: probe config, as read by ``load_config``.
        checkpoints: of the pretraining config that it names, one per pretraining seed, taken in turn.
        seeds: of every row.
        folder: of results.
        features: folder of kept embeddings.
        heads: which of the config's heads; None for all.
        supervised: with the row that is trained from scratch, if the config has one.
        label_shares: shares of the training scenes whose labels heads see.
        progress: as in :class:`Study`.

    Raises:
        ConfigError: the config has no such head, or something in it cannot be built.
        CheckpointError: a checkpoint cannot be read, or is of another model.
        DataError: a split has no clip that can be read.
    """
    pretrain = load_config(Path(cfg.filename).parent / cfg.pretrain_config)
    pretrained = pretrained_sources("JEPA", pretrain, checkpoints)
    sources = {
        **untrained_sources(pretrain, seeds),
        "JEPA": [pretrained[seed % len(pretrained)] for seed in range(seeds)],
    }
    return study_of_sources(
        cfg,
        sources,
        folder=folder,
        features=features,
        heads=heads,
        supervised=supervised,
        label_shares=label_shares,
        progress=progress,
    )


def study_of_sources(
    cfg: Config,
    sources: dict[str, list[Source | None]],
    *,
    folder: Path,
    features: Path,
    heads: list[str] | None,
    supervised: bool,
    label_shares: tuple[float, ...],
    progress: Callable[[Iterable, str, int], Iterable],
) -> Study:
    """The study that a probe config describes, of any encoders; arguments as in :func:`build_study` and :class:`Study`.

    Raises:
        ConfigError: the config has no such head, or something in it cannot be built.
        DataError: a split has no clip that can be read.
    """
    return Study(
        probe=build(cfg.probe),
        train=build(cfg.train_data.dataset),
        tests=build(cfg.test_data),
        sources=sources,
        heads=chosen_heads(cfg, heads),
        supervised=build(cfg.get("supervised")) if supervised else None,
        label_shares=label_shares,
        folder=folder,
        features=features,
        progress=progress,
    )


def chosen_heads(cfg: Config, names: list[str] | None) -> dict[str, HeadTraining]:
    """The heads of the config, or those that are named.

    Raises:
        ConfigError: the config has no head of that name.
    """
    heads = build(cfg.heads)
    unknown = set(names or ()) - set(heads)
    if unknown:
        raise ConfigError(f"--heads: {cfg.filename} has no {', '.join(sorted(unknown))}; it has {', '.join(heads)}")
    return {name: head for name, head in heads.items() if names is None or name in names}


def untrained_sources(pretrain: Config, seeds: int) -> dict[str, list[Source]]:
    """Raw input and random-init encoders, one for each seed."""
    architecture = _architecture(pretrain)
    random = [Source.of_model(f"random init {s}", random_jepa(pretrain, s), architecture) for s in range(seeds)]
    return {RAW_INPUT: [Source.of_raw_input(random[0].grid)] * seeds, RANDOM_INIT: random}


def pretrained_sources(name: str, pretrain: Config, checkpoints: list[Path | None]) -> list[Source | None]:
    """Pretrained encoders, one for each checkpoint; None where there is none.

    Raises:
        CheckpointError: as :func:`load_jepa`.
    """
    architecture = _architecture(pretrain)
    return [
        None if path is None else Source.of_model(f"{name} {path}", load_jepa(pretrain, path), architecture)
        for path in checkpoints
    ]


def _architecture(pretrain: Config) -> str:
    """What decides the meaning of the weights."""
    return settings_text(pretrain.model.jepa)


def load_jepa(pretrain: Config, checkpoint: Path) -> BEVWorldModel:
    """The pretrained model.

    Raises:
        CheckpointError: the file cannot be read, or is of another model.
    """
    state = read_checkpoint(checkpoint)["model"]
    jepa = build(pretrain.model.jepa)
    try:
        jepa.load_state_dict({key.removeprefix("jepa."): value for key, value in state.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint}: not a model of {pretrain.filename} ({first_fault(error)})") from error
    return jepa


def random_jepa(pretrain: Config, seed: int) -> BEVWorldModel:
    """The same model with the weights it would start from."""
    torch.manual_seed(seed)
    return build(pretrain.model.jepa)


def pretraining_scenes(checkpoints: Iterable[Path]) -> set[str]:
    """Names of the scenes that checkpoints were trained on; one that does not say is warned of."""
    pretraining = set()
    for path in checkpoints:
        scenes = read_checkpoint(path).get("scenes")
        if scenes is None:
            log.warning("%s does not say which scenes it was trained on: not checked against the test splits", path)
        pretraining |= set(scenes or ())
    return pretraining


def check_splits(
    train: NuScenesClips, tests: dict[str, NuScenesClips], pretraining: Collection[str]
) -> dict[str, PlaceSplit]:
    """The splits, refused where a test scene was trained on; a test split that is named near or far must be so.

    Args:
        train: clips that heads are trained on.
        tests: by name, clips that are scored.
        pretraining: of :func:`pretraining_scenes`.
    """
    return {
        name: check_split(name if name in KINDS else "original", placed(train), placed(test), pretraining)
        for name, test in tests.items()
    }


def placed(dataset: NuScenesClips) -> PlacedFrames:
    """Where the present frames of all clips were taken."""
    keyframes = dataset.present_keyframes()
    return PlacedFrames(
        scene=np.array([keyframe.scene for keyframe in keyframes]),
        city=np.array([keyframe.city for keyframe in keyframes]),
        xy_m=np.array([keyframe.global_T_ego[:2, 3] for keyframe in keyframes]),
    )
