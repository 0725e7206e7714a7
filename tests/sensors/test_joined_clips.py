"""Several data sets as one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avjepa.engine.config import load_config
from avjepa.errors import ConfigError
from avjepa.sensors.augment import Augmentation
from avjepa.sensors.joined_clips import JoinedClips
from avjepa.sensors.nuscenes_dataset import NuScenesClips

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "bev_jepa_city_and_real.py"


def drive(root: Path, future: tuple[int, ...] = (1,)) -> NuScenesClips:
    return NuScenesClips(root, ("mini_train",), (-1, 0), future, (45, 80), augment=Augmentation())


def test_each_data_set_as_often_as_asked_for(toy_drive):
    first, second = drive(toy_drive), NuScenesClips(toy_drive, ("mini_val",), (-1, 0), (1,), (45, 80))
    joined = JoinedClips((first, second), (1, 3))
    assert len(joined) == len(first) + 3 * len(second)
    tokens = [keyframe.token for keyframe in joined.present_keyframes()]
    assert tokens == [k.token for k in first.present_keyframes()] + 3 * [k.token for k in second.present_keyframes()]
    assert joined[len(first)].now.token == tokens[len(first)]
    assert joined[len(joined) - 1].now.token == tokens[-1]
    drawn, again = joined[1, 7], first[1, 7]
    assert drawn.seed == 7
    assert torch.equal(drawn.now.points_ego, again.now.points_ego)
    with pytest.raises(IndexError):
        joined[len(joined)]


def test_data_sets_must_fit_together(toy_drive):
    with pytest.raises(ConfigError, match="same frames, sweeps, image size and cameras"):
        JoinedClips((drive(toy_drive), drive(toy_drive, (1, 2))), (1, 1))
    with pytest.raises(ConfigError, match="same frames, sweeps, image size and cameras"):
        JoinedClips((drive(toy_drive, (1,)), drive(toy_drive, (2,))), (1, 1))  # as many frames, at other times
    with pytest.raises(ConfigError, match="one number of repeats"):
        JoinedClips((drive(toy_drive),), (1, 2))
    with pytest.raises(ConfigError, match="one number of repeats"):
        JoinedClips((drive(toy_drive),), (0,))


def test_the_config_of_city_and_real_drives_finds_both_roots(monkeypatch):
    monkeypatch.setenv("AVJEPA_CITY", "/somewhere/city")
    monkeypatch.delenv("AVJEPA_NUSCENES", raising=False)
    cfg = load_config(CONFIG, kind="training")
    roots = [dataset.root for dataset in cfg.train_data.dataset.datasets]
    assert roots == ["/somewhere/city", "data/nuscenes"]
    assert cfg.monitor.dataset.root == "data/nuscenes"
    scenes = [dataset.scenes for dataset in cfg.train_data.dataset.datasets]
    assert scenes == [("train",), ("mini_train", "scene-0523")]
    assert all(dataset.augment.sensors for dataset in cfg.train_data.dataset.datasets)
