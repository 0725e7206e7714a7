"""Splits by place, how much a split leaks, and the refusal to score what was trained on.

Drives of one town share its streets: more than 80 % of nuScenes's official validation frames lie within 5 m of a training
frame, and map scores on them measure memory (Lilja et al., CVPR 2024). A result therefore names its kind of split,
    original  the data set's own train and val, leaky or not;
    near      other streets of the towns of training;
    far       other towns,
and states its overlap share.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from sklearn.neighbors import KDTree

from avjepa.errors import ConfigError

Kind = Literal["original", "near", "far"]

KINDS: tuple[Kind, ...] = get_args(Kind)
OVERLAP_RADIUS_M = 5.0
MOST_OVERLAP = 0.05

log = logging.getLogger("avjepa")


@dataclass(frozen=True)
class PlacedFrames:
    """Where frames were taken.

    Attributes:
        scene: (n,) scene name of each frame.
        city: (n,) its location.
        xy_m: (n, 2) ego position in the location's map frame, metres.

    Raises:
        ValueError: the lengths differ, there is no frame, or a position is not finite.
    """

    scene: np.ndarray
    city: np.ndarray
    xy_m: np.ndarray

    def __post_init__(self) -> None:
        shapes = np.shape(self.scene), np.shape(self.city), np.shape(self.xy_m)
        n = len(self.scene)
        if shapes != ((n,), (n,), (n, 2)) or not n:
            raise ValueError(f"want (n,), (n,) and (n, 2) with n > 0, got {shapes}")
        if not np.isfinite(self.xy_m).all():
            raise ValueError("a position is not finite; leave out keyframes without a pose")


@dataclass(frozen=True)
class PlaceSplit:
    """A checked split.

    Attributes:
        kind: original, near or far.
        train_scenes, eval_scenes: sorted names.
        pretraining_scenes: sorted names that the encoder was pretrained on; empty for one that was not.
        overlap_share: share of evaluation frames within 5 m of a training frame.
    """

    kind: Kind
    train_scenes: tuple[str, ...]
    eval_scenes: tuple[str, ...]
    pretraining_scenes: tuple[str, ...]
    overlap_share: float

    def record(self) -> dict[str, Any]:
        """For a result's JSON record. The hash is that of the training and evaluation scenes, whatever their order."""
        names = json.dumps([self.train_scenes, self.eval_scenes])
        return {
            "kind": self.kind,
            "train_scenes": list(self.train_scenes),
            "test_scenes": list(self.eval_scenes),
            "pretraining_scenes": list(self.pretraining_scenes),
            "hash": hashlib.sha256(names.encode()).hexdigest()[:16],
            "overlap_share_5m": self.overlap_share,
        }

    def __str__(self) -> str:
        return (
            f"{self.kind} split: {len(self.train_scenes)} training and {len(self.eval_scenes)} evaluation scenes; "
            f"{self.overlap_share:.1%} of the evaluation frames within {OVERLAP_RADIUS_M:g} m of a training frame"
        )


def check_split(
    kind: Kind, train: PlacedFrames, evaluation: PlacedFrames, pretraining_scenes: Collection[str] = ()
) -> PlaceSplit:
    """The split of an evaluation, refused when it is not what it claims to be; a leaky one is warned of.

    Args:
        kind: what the result will be called.
        train: frames that the probe's head was trained on.
        evaluation: frames that are scored.
        pretraining_scenes: names of the scenes that the encoder was pretrained on.

    Raises:
        ConfigError: an evaluation scene was trained or pretrained on (whose scores are then worthless: MapTracker issue 24),
            a far split shares a town with training, or a near one evaluates a town without training frames.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown split {kind!r}; want one of {', '.join(KINDS)}")
    train_scenes, eval_scenes, pretraining = (
        set(map(str, names)) for names in (train.scene, evaluation.scene, pretraining_scenes)
    )
    _refuse_common("the probe's head trains on", train_scenes & eval_scenes)
    _refuse_common("the checkpoint was pretrained on", pretraining & eval_scenes)
    train_cities, eval_cities = set(map(str, train.city)), set(map(str, evaluation.city))
    if kind == "far" and train_cities & eval_cities:
        raise ConfigError(f"not a far split: training and evaluation both visit {_names(train_cities & eval_cities)}")
    if kind == "near" and eval_cities - train_cities:
        raise ConfigError(f"not a near split: no training frame in {_names(eval_cities - train_cities)}; call it far")

    names = (tuple(sorted(scenes)) for scenes in (train_scenes, eval_scenes, pretraining))
    split = PlaceSplit(kind, *names, overlap_share(train, evaluation))
    if split.overlap_share > MOST_OVERLAP:
        log.warning("%s: scores measure memory of the place as well; report a near or far split beside it", split)
    return split


def overlap_share(train: PlacedFrames, evaluation: PlacedFrames) -> float:
    """Share of evaluation frames less than 5 m from a training frame of the same city (Lilja et al., CVPR 2024)."""
    near = np.zeros(len(evaluation.xy_m), dtype=bool)
    for city in np.unique(evaluation.city):
        here, trained = evaluation.city == city, train.city == city
        if trained.any():
            distance_m, _ = KDTree(train.xy_m[trained]).query(evaluation.xy_m[here])
            near[here] = distance_m[:, 0] < OVERLAP_RADIUS_M
    return float(near.mean())


def _refuse_common(what: str, scenes: set[str]) -> None:
    if scenes:
        raise ConfigError(
            f"training and evaluation split do not match: {what} {_names(scenes)}, which this evaluation scores; "
            "evaluate scenes it has not seen, or train on others"
        )


def _names(names: set[str]) -> str:
    """The first three, and how many more."""
    first = ", ".join(sorted(names)[:3])
    return first + (f" and {len(names) - 3} more" if len(names) > 3 else "")
