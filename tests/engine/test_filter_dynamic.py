"""tools/filter_dynamic.py on the labelled toy drive, with a checkpoint of random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from avjepa.cli import run_tool
from avjepa.engine.checkpoint import FORMAT, write_atomically
from avjepa.engine.config import load_config
from avjepa.engine.probe_study import build_study, random_jepa
from avjepa.errors import ConfigError, UserError
from avjepa.probes import dynamic_export
from avjepa.probes.dynamic_export import MOVING_CODE, NOT_JUDGED, STATIC_CODE, write_filtered_drive
from avjepa.probes.metrics.moving_objects import IGNORED, MOVING, STATIC, semantickitti_labels
from avjepa.probes.pcd_files import read_pcd, read_scans, read_truth
from avjepa.probes.scans import read_drive
from avjepa.sensors.nuscenes_index import load_index
from tests.probes.labelled_drive import KEYFRAMES, write_labelled_drive
from tests.toy_drive import SCENES, VERSION, token
from tools import build_static_map, filter_dynamic

PART = "v1.0-part"
PRETRAIN = Path(__file__).with_name("toy_config.py")
CONFIG = f"""
from avjepa.geometry.grid import BEVGrid
from avjepa.probes.dynamic import DynamicProbe
from avjepa.probes.heads import HeadTraining
from avjepa.sensors.nuscenes_dataset import NuScenesClips

pretrain_config = "{PRETRAIN}"
clips = dict(type=NuScenesClips, root="nowhere", version="{VERSION}", context_offsets=(-1, 0), future_offsets=(),
             image_size=(32, 64), max_bad_share=1.0, scenes=("{SCENES[0]}",))
train_data = dict(dataset=dict(**clips))
test_data = dict(same=dict(**clips))
half_m = (-12.8, 12.8)
probe = dict(
    type=DynamicProbe, whole_drive_rows=False,
    grid=dict(type=BEVGrid, x_range_m=half_m, y_range_m=half_m, z_range_m=(-2.0, 4.0), cell_m=0.8, cell_z_m=1.0),
)
heads = dict(linear=dict(type=HeadTraining, kind="linear", steps=5, batch_size=2))
"""


def write_part(root: Path) -> None:
    """A second version of the tables, without the first keyframe: the others have other numbers there."""
    part = shutil.copytree(root / VERSION, root / PART)
    scene, sample = (json.loads((part / f"{name}.json").read_text()) for name in ("scene", "sample"))
    scene[0]["first_sample_token"], sample[1]["prev"] = sample[1]["token"], ""
    (part / "scene.json").write_text(json.dumps(scene))
    (part / "sample.json").write_text(json.dumps(sample))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a drive, a config, a checkpoint and a study of it; and the study's rows by name."""
    folder = tmp_path_factory.mktemp("filter")
    (folder / "probe.py").write_text(CONFIG)
    write_labelled_drive(folder / "toy")
    write_part(folder / "toy")
    for seed, name in enumerate(("last.pth", "other.pth")):
        weights = random_jepa(load_config(PRETRAIN), 10 + seed).state_dict()
        write_atomically({"format": FORMAT, "model": {f"jepa.{k}": v for k, v in weights.items()}}, folder / name)
    cfg = load_config(folder / "probe.py", data_root=str(folder / "toy"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(folder / "index"))
        study = build_study(
            cfg,
            [folder / "last.pth"],
            1,
            folder=folder / "results",
            features=folder / "probes" / "embeddings",
            progress=lambda items, what, total: items,
        )
        rows = {row.name: row for row in study.rows()}
    return folder, study, rows


@pytest.fixture(autouse=True)
def cache_folder(made, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(made[0] / "index"))


def arguments(made, out: Path, row: Path | None = None, checkpoint: str = "last.pth") -> list[str]:
    folder, study, rows = made
    row = row or study.file_of(rows["JEPA"])
    given = [
        folder / "probe.py",
        folder / checkpoint,
        row,
        "--scene",
        SCENES[0],
        "--out",
        out,
        "--data",
        folder / "toy",
    ]
    return [str(part) for part in given]


def test_a_drive_is_filtered_as_the_row_answers_it(made, tmp_path, capsys):
    """Every keyframe, the first too; benchmark folder, labels and cleaned map say the same."""
    folder, study, rows = made
    out = tmp_path / "out"
    filter_dynamic.main(arguments(made, out))
    assert sorted(path.name for path in out.iterdir()) == ["cleaned.pcd", "gt_cloud.pcd", "labels", "pcd", "scans.json"]
    drive = read_drive(folder / "toy", load_index(folder / "toy", VERSION), 0, sweeps=False)
    found, (xyz, dynamic) = read_scans(out), read_truth(out)
    assert len(found) == len(drive.turns) == KEYFRAMES
    for scan, turn in zip(found, drive.turns, strict=True):
        np.testing.assert_array_equal(scan.xyz_map, turn.scan.xyz_map)
        np.testing.assert_allclose(scan.map_T_lidar, turn.scan.map_T_lidar, atol=1e-9)
    ends = np.cumsum([len(turn.file_row) for turn in drive.turns])[:-1]
    for number, (turn, moving) in enumerate(zip(drive.turns, np.split(dynamic, ends), strict=True)):
        codes = np.fromfile(out / "labels" / f"{number:06d}.label", dtype="<u4")
        assert len(codes) == turn.num_file_points
        assert (codes[turn.file_row] == np.where(moving, MOVING_CODE, STATIC_CODE)).all()
        assert (np.delete(codes, turn.file_row) == NOT_JUDGED).all()
    np.testing.assert_array_equal(read_pcd(out / "cleaned.pcd").xyz_world, xyz[~dynamic])
    dataset, row = study.tests["same"], rows["JEPA"]
    for clip in range(len(dataset)):  # those that the study itself answers: all but the first
        truth = study.probe.truth(dataset, clip)[0]
        answer = study.probe.answer(study.logits(row, dataset, clip)[0], truth) > row.threshold
        np.testing.assert_array_equal(np.split(dynamic, ends)[clip + 1], answer)
    assert 0 < dynamic.sum() < len(dynamic)
    said = json.loads((out / "scans.json").read_text())
    assert [scan["keyframe"] for scan in said["scans"]] == [token("sample", 0, k) for k in range(KEYFRAMES)]
    assert f"{len(dynamic)} returns, {dynamic.sum()} of them" in capsys.readouterr().out.replace("\n", " ")


def test_codes_are_those_that_readers_know():
    raw = np.array([NOT_JUDGED, STATIC_CODE, MOVING_CODE])
    assert semantickitti_labels(raw, "semantickitti").tolist() == [IGNORED, STATIC, MOVING]


def test_all_or_nothing(made, tmp_path, monkeypatch):
    """A folder that holds something is left alone; a stopped export leaves nothing, and can be given again."""
    drive = read_drive(made[0] / "toy", load_index(made[0] / "toy", VERSION), 0, sweeps=False)
    tokens = load_index(made[0] / "toy", VERSION).token
    moving = {turn.keyframe: np.zeros(len(turn.file_row), dtype=bool) for turn in drive.turns}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds something already"):
        write_filtered_drive(tmp_path / "full", drive, moving, tokens)
    with monkeypatch.context() as patch:
        patch.setattr(dynamic_export, "write_labels", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_filtered_drive(tmp_path / "out", drive, moving, tokens)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    total, removed = write_filtered_drive(tmp_path / "out", drive, moving, tokens)
    assert (total, removed) == (sum(len(turn.file_row) for turn in drive.turns), 0)


def interrupted(*arguments):
    raise KeyboardInterrupt


def test_mistakes_are_one_line_and_write_nothing(made, tmp_path, capsys):
    _, study, rows = made
    own = study.file_of(rows["JEPA"])
    foreign = tmp_path / "rows" / "JEPA-linear-1-seed0-0123456789ab.json"
    foreign.parent.mkdir()
    foreign.write_text(own.read_text())
    lost = tmp_path / "rows" / own.name
    lost.write_text(own.read_text())
    out = tmp_path / "out"
    other_task = [str(Path("configs/probes/bev_occupancy.py")), *arguments(made, out)[1:]]
    unknown = [*arguments(made, out)[:4], "scene-9999", *arguments(made, out)[5:]]
    mistakes = {
        r"none\.json: not a trained row": arguments(made, out, tmp_path / "none.json"),
        r"all_static.*: not a trained row": arguments(made, out, next(study.folder.glob("rows/all_static*.json"))),
        r"0123456789ab\.json: not made by": arguments(made, out, foreign),
        r"not made by .* with .*other\.pth": arguments(made, out, checkpoint="other.pth"),
        "the weights of the row are missing": arguments(made, out, lost),
        "BEVOccupancyProbe filters nothing": other_task,
        "scene-9999": unknown,
    }
    for message, given in mistakes.items():
        with pytest.raises(SystemExit) as left:
            run_tool(lambda given=given: filter_dynamic.main(given))
        assert left.value.code == 2, message
        assert capsys.readouterr().err.strip().count("\n") == 0
        with pytest.raises(UserError, match=message):
            filter_dynamic.main(given)
    assert not out.exists()


def test_a_static_map_takes_the_rows_answers(made, tmp_path):
    """tools/build_static_map.py --row: the labels of tools/filter_dynamic.py, keyframe by keyframe."""
    folder, study, rows = made
    filter_dynamic.main(arguments(made, tmp_path / "filtered"))
    row = [str(folder / "probe.py"), str(folder / "last.pth"), str(study.file_of(rows["JEPA"]))]
    options = [
        "--data",
        str(folder / "toy"),
        "--version",
        VERSION,
        "--scenes",
        SCENES[0],
        "--out",
        str(tmp_path / "map"),
    ]
    build_static_map.main([*options, "--row", *row])
    files = sorted((tmp_path / "filtered" / "labels").iterdir())
    assert len(files) == KEYFRAMES
    for file in files:
        assert file.read_bytes() == (tmp_path / "map" / "labels" / file.name).read_bytes()
    with pytest.raises(ConfigError, match="--sweeps"):
        build_static_map.main([*options[:-1], str(tmp_path / "other"), "--row", *row, "--sweeps"])


def test_a_static_map_of_the_version_that_is_named(made, tmp_path):
    """--version with --row: its keyframes are numbered otherwise than those of the config's version, and keep their own answers."""
    folder, study, rows = made
    filter_dynamic.main(arguments(made, tmp_path / "filtered"))
    row = [str(folder / "probe.py"), str(folder / "last.pth"), str(study.file_of(rows["JEPA"]))]
    options = ["--data", str(folder / "toy"), "--version", PART, "--scenes", SCENES[0], "--out", str(tmp_path / "map")]
    build_static_map.main([*options, "--row", *row])
    wanted = [(tmp_path / "filtered" / "labels" / f"{n:06d}.label").read_bytes() for n in range(KEYFRAMES)]
    labels = [path.read_bytes() for path in sorted((tmp_path / "map" / "labels").iterdir())]
    assert len(labels) == KEYFRAMES - 1
    assert labels[1:] == wanted[2:]  # the first one has no past here
