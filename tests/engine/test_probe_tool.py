"""tools/probe.py on the toy drive, with checkpoints of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avjepa.engine.checkpoint import FORMAT, write_atomically
from avjepa.engine.config import load_config
from avjepa.engine.probe_study import random_jepa
from avjepa.errors import ConfigError
from avjepa.probes.bev_occupancy import BEVOccupancyProbe
from tests.toy_drive import SCENES, write_toy_drive
from tools import probe

PRETRAIN = Path(__file__).with_name("toy_config.py")
CONFIG = f"""
from avjepa.geometry.grid import BEVGrid
from avjepa.probes.bev_occupancy import BEVOccupancyProbe
from avjepa.probes.heads import HeadTraining
from avjepa.probes.supervised import SupervisedTraining
from avjepa.sensors.nuscenes_dataset import NuScenesClips

pretrain_config = "{PRETRAIN}"
clips = dict(
    type=NuScenesClips, root="nowhere", context_offsets=(-1, 0), future_offsets=(1, 2), image_size=(32, 64), max_bad_share=1.0
)
train_data = dict(dataset=dict(**clips, scenes=("{SCENES[0]}",)))
test_data = dict(other=dict(**clips, scenes=("{SCENES[1]}",)))
half_m = (-12.8, 12.8)
grid = dict(type=BEVGrid, x_range_m=half_m, y_range_m=half_m, z_range_m=(-5.0, 3.0), cell_m=0.8, cell_z_m=8.0)
probe = dict(type=BEVOccupancyProbe, grid=grid)
heads = dict(linear=dict(type=HeadTraining, steps=3, batch_size=1), conv=dict(type=HeadTraining, kind="conv", steps=3))
supervised = dict(type=SupervisedTraining, head="linear", steps=1, batch_size=1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a drive, a config, and checkpoints that were trained on the first and on the second scene."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.py").write_text(CONFIG)
    write_toy_drive(folder / "toy", scenes=2, keyframes=6)
    for seed, scene in enumerate(SCENES[:2]):
        weights = random_jepa(load_config(PRETRAIN), 10 + seed).state_dict()
        state = {"format": FORMAT, "model": {f"jepa.{k}": v for k, v in weights.items()}, "scenes": [scene]}
        write_atomically(state, folder / f"{seed}.pth")
    return folder


@pytest.fixture(autouse=True)
def cache_folder(folder, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(folder / "index"))


def run(folder: Path, out: Path, *more: str, checkpoints: tuple[str, ...] = ("0.pth",)) -> None:
    paths = [str(folder / name) for name in checkpoints]
    probe.main([str(folder / "probe.py"), *paths, "--data", str(folder / "toy"), "--out", str(out), *more])


def test_table_verdicts_record_and_pictures(folder, tmp_path, capsys):
    run(folder, tmp_path, "--seeds", "2", "--heads", "linear", "--supervised", "--label-share", "0.5", "1")
    said = capsys.readouterr().out
    assert "original split: 1 training and 1 evaluation scenes" in said
    rows = ("last seen, copied", "raw input, linear head", "JEPA, linear head", "supervised from scratch, linear head")
    for row in rows:
        assert f"| {row} |" in said, row
    assert "| JEPA, linear head, 50 % of labels |" in said
    assert f"JEPA, linear head, {next(iter(BEVOccupancyProbe.columns.values()))}: " in said
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["seeds"] == [0, 1]
    assert record["split"]["other"]["pretraining_scenes"] == [SCENES[0]]
    assert {len(values) for values in record["results"]["other"]["JEPA, linear head"].values()} == {2}
    assert (tmp_path / "other.png").stat().st_size > 10_000


def test_what_it_was_pretrained_on_is_not_scored(folder, tmp_path):
    with pytest.raises(ConfigError, match=f"the checkpoint was pretrained on {SCENES[1]}"):
        run(folder, tmp_path, checkpoints=("1.pth",))
    assert not tmp_path.joinpath("record.json").exists()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--seeds", "1"), "2 checkpoints for --seeds 1"),
        (("--seeds", "0"), "--seeds must be at least 1"),
        (("--label-share", "2"), r"every --label-share in \(0, 1\]"),
        (("--heads", "mlp"), "--heads: .*probe.py has no mlp; it has linear, conv"),
        (("--cfg-options", "heads.conv.kind=mlp"), "cannot build HeadTraining: unknown head 'mlp'"),
    ],
)
def test_mistakes(folder, tmp_path, more, complaint):
    with pytest.raises(ConfigError, match=complaint):
        run(folder, tmp_path, *more, checkpoints=("0.pth", "0.pth"))
