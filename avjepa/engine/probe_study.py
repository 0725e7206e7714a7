"""A probe study from a probe config and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from mmengine.config import Config

from avjepa.engine.checkpoint import first_fault, read_checkpoint
from avjepa.engine.config import load_config
from avjepa.engine.registry import build
from avjepa.errors import CheckpointError, ConfigError
from avjepa.jepa.world_model import BEVWorldModel
from avjepa.probes.frozen import Source
from avjepa.probes.heads import HeadTraining
from avjepa.probes.study import RANDOM_INIT, Study


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
    return Study(
        probe=build(cfg.probe),
        train=build(cfg.train_data.dataset),
        tests=build(cfg.test_data),
        sources=encoder_sources(pretrain, checkpoints, seeds),
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


def encoder_sources(pretrain: Config, checkpoints: list[Path], seeds: int) -> dict[str, list[Source]]:
    """Raw input, random-init and pretrained encoders, one for each seed.

    Raises:
        CheckpointError: as :func:`load_jepa`.
    """
    architecture = Config(dict(jepa=pretrain.model.jepa)).pretty_text
    pretrained = [Source.of_model(f"JEPA {path}", load_jepa(pretrain, path), architecture) for path in checkpoints]
    random = [Source.of_model(f"random init {s}", random_jepa(pretrain, s), architecture) for s in range(seeds)]
    return {
        "raw input": [Source.of_raw_input(pretrained[0].grid)] * seeds,
        RANDOM_INIT: random,
        "JEPA": [pretrained[seed % len(pretrained)] for seed in range(seeds)],
    }


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
