import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from nuscenes.utils.splits import create_splits_scenes

from avjepa.engine.config import load_config, settings_text, use_amp
from avjepa.engine.registry import build
from avjepa.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = CONFIGS / "bev_jepa_nuscenes_tiny.py"
CITY = CONFIGS / "bev_jepa_city.py"


def test_options_change_what_exists_and_nothing_else():
    cfg = load_config(TINY, {"train_cfg.max_iters": 5, "custom_hooks.2.interval": 7})
    assert cfg.train_cfg.max_iters == 5
    assert cfg.custom_hooks[2].interval == 7
    for wrong in ("train_cfg.max_iter", "model.jepa.encoder.chanels", "custom_hooks.9.interval"):
        with pytest.raises(ConfigError, match=f"--cfg-options {wrong}: .* has no such key"):
            load_config(TINY, {wrong: 1})


def test_data_root_argument_then_environment_then_config(monkeypatch):
    monkeypatch.delenv("AVJEPA_NUSCENES", raising=False)
    assert load_config(TINY).train_data.dataset.root == "data/nuscenes"
    monkeypatch.setenv("AVJEPA_NUSCENES", "/from/environment")
    assert load_config(TINY).monitor.dataset.root == "/from/environment"
    monkeypatch.delenv("AVJEPA_CITY", raising=False)
    assert load_config(CITY).train_data.dataset.root == "data/city"  # the other variable is not for this config
    monkeypatch.setenv("AVJEPA_CITY", "/another/city")
    assert load_config(CITY).train_data.dataset.root == "/another/city"
    cfg = load_config(TINY, data_root="/from/argument")
    assert cfg.train_data.dataset.root == cfg.monitor.dataset.root == "/from/argument"


def test_missing_and_broken_configs(tmp_path):
    with pytest.raises(ConfigError, match="no such config"):
        load_config(tmp_path / "a.py")
    (tmp_path / "b.py").write_text("x = 1 / 0\n")
    with pytest.raises(ConfigError, match=r"b\.py: ZeroDivisionError"):
        load_config(tmp_path / "b.py")


def leaves(value, name: str = "") -> dict[str, object]:
    """Settings by dotted key; imported names at the top are none."""
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(part, dict) for part in value):
        parts = enumerate(value)
    else:
        return {name: value}
    return {
        key: leaf for part, inner in parts for key, leaf in leaves(inner, f"{name}.{part}" if name else part).items()
    }


def test_settings_are_a_line_each():
    cfg = load_config(TINY)
    lines = dict(line.split(" = ", 1) for line in settings_text(cfg).splitlines())
    imported = {key for key, value in cfg.items() if isinstance(value, type)}
    settings = leaves({key: value for key, value in cfg.to_dict().items() if key not in imported})
    assert set(lines) == set(settings)
    assert len(lines) > 100
    assert lines["model.jepa.encoder.channels"] == repr(cfg.model.jepa.encoder.channels)
    assert lines["model.jepa.type"] == "avjepa.jepa.model.BEVJEPA"
    assert lines["train_data.dataset.context_offsets"] == "(-2, -1, 0)"
    numbers = {key: value for key, value in settings.items() if isinstance(value, int | float)}
    assert len(numbers) > 40
    assert {key: lines[key] for key in numbers} == {key: repr(value) for key, value in numbers.items()}


def test_settings_tell_configs_apart():
    """The same config says the same; every setting that is changed is in one line, and no other line changes."""
    before = settings_text(load_config(TINY)).splitlines()
    assert settings_text(load_config(TINY)).splitlines() == before
    changes = {
        "train_cfg.max_iters": 5,
        "custom_hooks.2.interval": 7,
        "optim_wrapper.optimizer.lr": 0.125,
        "model.jepa.encoder.lidar.channels": (1, 2),
        "randomness.seed": 77,
        "monitor.num_clips": 3,
    }
    for key, value in changes.items():
        after = settings_text(load_config(TINY, {key: value})).splitlines()
        new = set(after) - set(before)
        assert new == {f"{key} = {value!r}"}, key
        assert len(set(before) - set(after)) <= 1


def test_amp_needs_a_gpu():
    with pytest.raises(ConfigError, match="--amp needs a CUDA GPU"):
        use_amp(load_config(TINY), cuda_available=False)
    cfg = load_config(TINY)
    use_amp(cfg, cuda_available=True)
    assert cfg.optim_wrapper.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("name", "bev_shape", "context", "future"),
    [
        ("bev_jepa_nuscenes", (128, 128), (-3, -2, -1, 0), (1, 2, 4)),
        ("bev_jepa_nuscenes_tiny", (64, 64), (-2, -1, 0), (1, 2)),
        ("bev_jepa_city", (64, 64), (-2, -1, 0), (1, 2)),
    ],
)
def test_every_training_config_builds(name, bev_shape, context, future):
    cfg = load_config(CONFIGS / f"{name}.py")
    jepa = build(cfg.model.jepa)
    assert jepa.encoder.grid.shape_yx == bev_shape
    for part in (cfg.train_data, cfg.monitor):
        assert tuple(part.dataset.context_offsets) == context
        assert tuple(part.dataset.future_offsets) == future
        height, width = part.dataset.image_size
        assert height % jepa.encoder.camera.feature_stride == width % jepa.encoder.camera.feature_stride == 0
    assert jepa.temporal.mix[0][0].in_channels == len(context) * jepa.encoder.channels
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in jepa.modules())


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "probes").glob("*.py")))
def test_probe_config_fits_the_pretraining_config(name):
    probe = load_config(CONFIGS / "probes" / f"{name}.py")
    pretrain = load_config(CONFIGS / "probes" / probe.pretrain_config)
    pretrained = pretrain.train_data.dataset
    for dataset in (probe.train_data.dataset, *probe.test_data.values()):
        for setting in ("context_offsets", "image_size", "num_sweeps", "root"):
            assert dataset[setting] == pretrained[setting], setting
    tested = scene_names(scene for dataset in probe.test_data.values() for scene in dataset.scenes)
    assert scene_names(pretrain.monitor.dataset.scenes) <= tested
    assert not tested & scene_names(probe.train_data.dataset.scenes)
    assert not tested & scene_names(pretrained.scenes), "the encoder was pretrained on what the probe is tested on"
    task = build(probe.probe)
    assert name.startswith(task.name)
    assert task.columns
    wanted = {"linear"} if "residual" in name else {"linear", "conv"}  # of one channel, a threshold is all there is
    assert {training.kind for training in build(probe.heads).values()} >= wanted


def scene_names(scenes: Iterable[str]) -> set[str]:
    """Scenes by name; names of nuScenes's own splits are resolved."""
    official = create_splits_scenes()
    return {name for scene in scenes for name in official.get(scene, [scene])}


@pytest.mark.parametrize("name", ["bev_jepa_nuscenes", "bev_jepa_nuscenes_tiny", "bev_jepa_city"])
def test_the_named_probe_config_is_of_this_model(name):
    config = CONFIGS / f"{name}.py"
    probe_config = CONFIGS.parent / load_config(config).probe_config
    assert (probe_config.parent / load_config(probe_config).pretrain_config).resolve() == config.resolve()


@pytest.mark.parametrize(
    ("config", "kind", "complaint"),
    [
        (TINY, "a probe", "bev_jepa_nuscenes_tiny.py: no config of a probe (it has no probe, heads, test_data, "),
        (CONFIGS / "probes" / "map.py", "training", "map.py: no config of training (it has no model, monitor, "),
    ],
)
def test_a_config_of_another_kind_is_refused(config, kind, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        load_config(config, kind=kind)
