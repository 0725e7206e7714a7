"""tools/export_occupancy.py on the toy drive, with a checkpoint of random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from avjepa.cli import run_tool
from avjepa.engine.checkpoint import FORMAT, write_atomically
from avjepa.engine.config import load_config
from avjepa.engine.kept_row import every_keyframe
from avjepa.engine.probe_study import build_study, random_jepa
from avjepa.errors import CheckpointError, ConfigError
from avjepa.geometry.occ3d import xyz_from_zyx
from avjepa.probes.occ3d_files import PREDICTION_KEYS, read_prediction
from tests.toy_drive import token, write_toy_drive
from tools import export_occupancy

PRETRAIN = Path(__file__).with_name("toy_config.py")
KEYFRAMES = 4
CONFIG = f"""
from avjepa.probes.heads import HeadTraining
from avjepa.probes.occupancy import OccupancyProbe
from avjepa.sensors.nuscenes_dataset import NuScenesClips

pretrain_config = "{PRETRAIN}"
clips = dict(
    type=NuScenesClips, root="nowhere", context_offsets=(-1, 0), future_offsets=(1,), image_size=(32, 64), max_bad_share=1.0
)
train_data = dict(dataset=dict(**clips, scenes=("mini_train",)))
test_data = dict(original=dict(**clips, scenes=("mini_val",)))
probe = dict(type=OccupancyProbe, labels="lidar_and_boxes", train_mask="none", with_rays=False)
heads = dict(linear=dict(type=HeadTraining, kind="linear", steps=2, batch_size=1, crop_cells=40))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a drive, a config, a checkpoint and a study of it; and the study's rows by name."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "probe.py").write_text(CONFIG)
    write_toy_drive(folder / "toy", scenes=2, keyframes=KEYFRAMES)
    for seed, name in enumerate(("last.pth", "other.pth")):
        weights = random_jepa(load_config(PRETRAIN), 10 + seed).state_dict()
        write_atomically({"format": FORMAT, "model": {f"jepa.{k}": v for k, v in weights.items()}}, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(folder / "index"))
        study = study_in(folder)
        rows = {row.name: row for row in study.rows()}
    return folder, study, rows


def study_in(folder: Path):
    cfg = load_config(folder / "probe.py", data_root=str(folder / "toy"))
    return build_study(
        cfg,
        [folder / "last.pth"],
        1,
        folder=folder / "results",
        features=folder / "probes" / "embeddings",
        progress=lambda items, what, total: items,
    )


@pytest.fixture(autouse=True)
def cache_folder(made, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(made[0] / "index"))


def arguments(made, out: Path, row: str = "JEPA", layout: str = "sparseocc", **changes) -> list[str]:
    folder, study, rows = made
    named = {
        "--split": "original",
        "--format": layout,
        "--out": out,
        "--data": folder / "toy",
    } | changes
    row_file = row if row.endswith(".json") else study.file_of(rows[row])
    given = [str(folder / "probe.py"), str(named.pop("checkpoint", folder / "last.pth")), str(row_file)]
    return given + [str(part) for pair in named.items() for part in pair]


def contents(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_prediction(path) for path in sorted(folder.glob("*.npz"))}


@pytest.mark.parametrize("layout", sorted(PREDICTION_KEYS))
@pytest.mark.parametrize("row", ["JEPA", "raw input"])
def test_every_keyframe_is_written_as_the_row_answers_it(made, tmp_path, row, layout, capsys):
    _, study, rows = made
    export_occupancy.main(arguments(made, tmp_path / "out", row, layout))
    found = contents(tmp_path / "out")
    assert set(found) == {token("sample", 1, k) for k in range(KEYFRAMES)}  # the first and the last among them
    assert f"{KEYFRAMES} of {KEYFRAMES} keyframes written\n" in capsys.readouterr().out
    dataset = study.tests["original"]
    for clip, keyframe in enumerate(dataset.present_keyframes()):  # those that the study itself answers
        answer = study.probe.answer(study.logits(rows[row], dataset, clip)[0], None)
        assert np.array_equal(found[keyframe.token], xyz_from_zyx(answer).numpy())
    with np.load(next((tmp_path / "out").glob("*.npz"))) as archive:
        assert archive.files == [PREDICTION_KEYS[layout]]


def test_a_stopped_export_goes_on(made, tmp_path, monkeypatch, capsys):
    export_occupancy.main(arguments(made, tmp_path / "out"))
    whole = contents(tmp_path / "out")
    kept, lost = sorted((tmp_path / "out").glob("*.npz"))[:2]
    before = kept.stat().st_mtime_ns
    lost.unlink()
    capsys.readouterr()
    export_occupancy.main(arguments(made, tmp_path / "out"))
    assert f"1 of {KEYFRAMES} keyframes written, {KEYFRAMES - 1} were there" in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == before
    assert all(np.array_equal(volume, whole[name]) for name, volume in contents(tmp_path / "out").items())


def test_one_folder_holds_one_export(made, tmp_path):
    export_occupancy.main(arguments(made, tmp_path / "out"))
    for changes in ({"layout": "occ3d"}, {"row": "raw input"}):
        with pytest.raises(ConfigError, match=r"holds something else .*take another folder"):
            export_occupancy.main(arguments(made, tmp_path / "out", **changes))
    assert json.loads((tmp_path / "out.json").read_text())["format"] == "sparseocc"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        export_occupancy.main(arguments(made, tmp_path / "full"))


def test_a_corrupt_keyframe_gets_no_file_of_another(made, tmp_path, capsys):
    folder, study, _ = made
    copied = tmp_path / "toy"
    shutil.copytree(folder / "toy", copied)
    index = study.tests["original"].index
    n = index.token.tolist().index(token("sample", 1, 2))
    for name in (index.lidar_file[n], *index.camera_file[n]):
        (copied / str(name)).write_bytes(b"rubbish")
    cfg = load_config(folder / "probe.py", data_root=str(copied))
    keyframes = every_keyframe(cfg.test_data.original, ("mini_val",))
    exported = export_occupancy.export_occupancy(
        study, made[2]["JEPA"], keyframes, range(len(keyframes)), tmp_path / "out", "occ3d"
    )
    assert (exported.written, exported.kept, exported.unreadable) == (2, 0, 2)  # 2, and 3 whose past it is
    assert set(contents(tmp_path / "out")) == {token("sample", 1, k) for k in (0, 1)}


def mistakes(made, tmp_path) -> dict[str, list[str]]:
    folder, study, rows = made
    untrained = next(study.folder.glob("rows/all_free*.json"))
    (tmp_path / "damaged.json").write_text("{")
    foreign = tmp_path / "rows" / "JEPA-linear-1-seed0-0123456789ab.json"
    foreign.parent.mkdir()
    foreign.write_text(study.file_of(rows["JEPA"]).read_text())
    unheard = tmp_path / "rows" / "JEPA-conv-1-seed0-0123456789ab.json"
    unheard.write_text(foreign.read_text().replace('"linear"', '"conv"'))
    out = tmp_path / "out"
    return {
        r"none\.json: not a trained row": arguments(made, out, str(tmp_path / "none.json")),
        r"damaged\.json: not a trained row of tools/probe\.py": arguments(made, out, str(tmp_path / "damaged.json")),
        r"all_free.*json: not a trained row": arguments(made, out, str(untrained)),
        r"0123456789ab\.json: not made by .*probe\.py": arguments(made, out, str(foreign)),
        r"JEPA-conv.*: not made by": arguments(made, out, str(unheard)),
        r"not made by .* with .*other\.pth": arguments(made, out, checkpoint=folder / "other.pth"),
        "--split near: .*has original": arguments(made, out, **{"--split": "near"}),
    }


def test_mistakes_are_one_line_and_write_nothing(made, tmp_path, capsys):
    for message, given in mistakes(made, tmp_path).items():
        with pytest.raises(SystemExit) as left:
            run_tool(lambda given=given: export_occupancy.main(given))
        assert left.value.code == 2
        error = capsys.readouterr().err.strip()
        assert "\n" not in error
        with pytest.raises(ConfigError, match=message):
            export_occupancy.main(given)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.json").exists()


def test_a_lost_head_and_another_task_are_told(made, tmp_path):
    folder, study, rows = made
    copied = tmp_path / "results"
    shutil.copytree(study.folder, copied)
    row = copied / "rows" / study.file_of(rows["JEPA"]).name
    row.with_suffix(".pth").unlink()
    with pytest.raises(CheckpointError, match=r"JEPA.*\.pth: the weights of the row are missing"):
        export_occupancy.main(arguments(made, tmp_path / "out", str(row)))
    other = CONFIG.replace(
        "probes.occupancy import OccupancyProbe", "probes.map_completion import MapProbe as OccupancyProbe"
    )
    (folder / "map.py").write_text(other)
    with pytest.raises(ConfigError, match="MapProbe predicts no occupancy"):
        export_occupancy.main([str(folder / "map.py"), *arguments(made, tmp_path / "out")[1:]])


def test_a_study_knows_its_own_rows_only(made):
    folder, study, rows = made
    for name in ("raw input", "random init", "JEPA"):
        assert study.file_of(rows[name]).is_file()
    assert study.file_of(rows["all free"]) is None
    torch.manual_seed(0)
    assert study_in(folder).file_of(rows["JEPA"]) == study.file_of(rows["JEPA"])
