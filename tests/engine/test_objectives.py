"""Configs of objectives on the toy drive: each takes a step; rivals are trained by the tool and read as probes read them."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avjepa.engine.config import load_config
from avjepa.engine.data import held_out_batch
from avjepa.engine.hooks import remedies
from avjepa.engine.probe_study import load_jepa
from avjepa.engine.registry import build
from avjepa.probes.frozen import FutureView, PresentView
from tests.engine.test_training import CONFIG, ROOT, environment
from tests.toy_drive import write_toy_drive

TERMS = {
    "ad_l_jepa": {"masked", "future", "rollout", "variance", "covariance", "sigreg_times_n", "occupancy"},
    "bev_contrast": {"contrast"},
    "occupancy_mae": {"masked", "future"},
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A folder with the drive, and the configs on the toy model in place of the city's."""
    folder = tmp_path_factory.mktemp("objectives")
    write_toy_drive(folder / "drive")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "configs" / "bev_jepa_city.py").write_text((ROOT / CONFIG).read_text().replace("...configs.", "."))
    return folder


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs" / "objectives").glob("*.py")))
def test_every_objective_takes_a_step(toy, name):
    cfg = load_config(toy / "configs" / "objectives" / f"{name}.py", data_root=str(toy / "drive"), kind="training")
    torch.manual_seed(0)
    model = build(cfg.model.jepa).train()
    terms, _ = model(held_out_batch(cfg.train_data.dataset, 2))
    loss = terms.total()
    assert torch.isfinite(loss)
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
    assert f"`{name}.py`" in (ROOT / "configs" / "objectives" / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(TERMS))
def test_a_rival_trains_and_is_read_by_probes(toy, name):
    config, work_dir = toy / "configs" / "objectives" / f"{name}.py", toy / name
    command = ["tools/train.py", str(config), "--data", str(toy / "drive"), "--work-dir", str(work_dir)]
    options = ["--cfg-options", "train_cfg.max_iters=2"]
    done = subprocess.run(
        [sys.executable, *command, *options], cwd=ROOT, env=environment(toy), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "next: " not in done.stdout  # the city's probe config is of another architecture
    rows = [json.loads(row) for row in (work_dir / "loss_curve.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert {key.removeprefix("loss_") for key in rows[0] if key.startswith("loss_")} == TERMS[name]
    pictures = list((work_dir / "pictures").glob("*.png"))
    assert len(pictures) == (1 if name == "ad_l_jepa" else 0)  # rivals predict no embedding that could be shown
    monitors = [json.loads(row) for row in (work_dir / "monitors.jsonl").read_text().splitlines()]
    assert all(row["std"] > 0.1 and math.isfinite(row["ratio_all"]) for row in monitors)

    cfg = load_config(config, data_root=str(toy / "drive"))
    model = load_jepa(cfg, work_dir / "last.pth").eval()
    clips = held_out_batch(load_config(ROOT / CONFIG, data_root=str(toy / "drive")).monitor.dataset, 1)
    with torch.no_grad():
        present, future = PresentView().embed(model, clips), FutureView().embed(model, clips)
    rows_columns = model.encoder.grid.shape_yx
    assert present.shape == (1, 2 * model.encoder.channels, *rows_columns)
    assert future.shape == (2, model.encoder.channels + 1, *rows_columns)
    assert torch.isfinite(present).all()
    assert torch.isfinite(future).all()


def test_ad_l_jepa_is_the_recipe():
    cfg = load_config(ROOT / "configs" / "objectives" / "ad_l_jepa.py")
    jepa, data = cfg.model.jepa, cfg.train_data.dataset
    assert (tuple(data.context_offsets), tuple(data.future_offsets), jepa.temporal.num_context) == ((0,), (), 1)
    blocks = jepa.mask.regions.blocks.sampler
    assert (tuple(blocks.block_cells), blocks.hidden_share) == ((1, 1), 0.5)
    assert (jepa.cell_loss, jepa.occupied_weight, jepa.target.momentum_start) == ("cosine", 0.75, 0.996)
    weights = {name: weight for name, weight in jepa.weights.items() if name != "type"}
    assert weights == {"future": 0.0, "rollout": 0.0, "covariance": 0.0, "occupancy": 0.0}


def test_checkpoints_of_what_names_a_probe_config_are_the_defaults():
    """tools/probe.py builds the default model for the probes of the city; those of another model name no probe config."""
    default = load_config(ROOT / "configs" / "bev_jepa_city.py")
    shapes = {key: value.shape for key, value in build(default.model.jepa).state_dict().items()}
    probed = []
    for path in sorted((ROOT / "configs" / "objectives").glob("*.py")):
        cfg = load_config(path)
        if cfg.get("probe_config") is not None:
            found = {key: value.shape for key, value in build(cfg.model.jepa).state_dict().items()}
            assert found == shapes, path.name
            assert cfg.model.jepa.encoder == default.model.jepa.encoder, path.name
            assert cfg.model.jepa.get("ego_motion", True), path.name
            probed.append(path.stem)
    assert {"changed_cells", "loss_l1", "mixed_masks", "no_grounding"} <= set(probed)


def test_remedies_against_collapse_are_settings_of_the_config(toy):
    """Of the default, of those without a teacher, and of rivals, which have no such weights."""
    words = {}
    for name in ("no_grounding", "vicreg", "sigreg", "bev_contrast", "occupancy_mae"):
        words[name] = remedies(build(load_config(toy / "configs" / "objectives" / f"{name}.py").model.jepa))
    learning_rate, variance = "in the config, lower optim_wrapper.optimizer.lr", "raise variance in model.jepa.weights"
    teacher, sigreg = "take EMATarget as model.jepa.target", "raise sigreg_times_n in model.jepa.weights"
    assert words["no_grounding"] == f"{learning_rate}, or {variance}"
    assert words["vicreg"] == f"{learning_rate}, or {variance}, or {teacher}"
    assert words["sigreg"] == f"{learning_rate}, or {variance}, or {sigreg}, or {teacher}"
    assert words["bev_contrast"] == words["occupancy_mae"] == learning_rate
