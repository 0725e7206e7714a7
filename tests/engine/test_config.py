from pathlib import Path

import pytest
import torch

from avjepa.engine.config import load_config, use_amp
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


@pytest.mark.parametrize("name", ["occupancy", "occupancy_city"])
def test_probe_config_fits_the_pretraining_config(name):
    probe = load_config(CONFIGS / "probes" / f"{name}.py")
    pretrain = load_config(CONFIGS / "probes" / probe.pretrain_config)
    for part in (probe.train_data, probe.test_data):
        assert part.dataset.context_offsets == pretrain.train_data.dataset.context_offsets
        assert part.dataset.image_size == pretrain.train_data.dataset.image_size
        assert part.dataset.num_sweeps == pretrain.train_data.dataset.num_sweeps
    assert probe.train_data.dataset.scenes == pretrain.train_data.dataset.scenes
    for part in (probe.train_data, probe.test_data):
        assert part.dataset.root == pretrain.train_data.dataset.root
    assert set(pretrain.monitor.dataset.scenes) <= set(probe.test_data.dataset.scenes)
