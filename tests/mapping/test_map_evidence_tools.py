"""Evidence trained, calibrated and used on the toy drive, by its tools; mistakes are one line."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from shapely.geometry import box

from avjepa.city.map_files import write_map_expansion
from avjepa.cli import run_tool
from avjepa.errors import ConfigError, DataError
from avjepa.mapping.evidence_material import Material
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.geojson_maps import write_geojson_map
from avjepa.mapping.map_edits import ElementEdit, write_truth
from avjepa.mapping.map_evidence import drive_key, load_map_evidence, save_map_evidence
from avjepa.mapping.outputs.geojson import read_changes_geojson
from avjepa.mapping.outputs.local_json import read_local_json
from avjepa.mapping.vector_map import ElementMap, MapElement
from avjepa.probes.heads import HeadTraining
from avjepa.sensors.nuscenes_index import load_index
from tests.city.hand_made import make_road_map
from tests.toy_drive import CITIES, SCENES, write_toy_drive
from tools import calibrate_map_evidence, detect_map_changes, train_map_evidence

CONFIG = "configs/bev_jepa_nuscenes_tiny.py"
FRAME = frame_of_city(CITIES[0])
# The toy road has no paint: rules say of both that they are gone, but the truth names one.
GONE = MapElement("gone", "ped_crossing", box(306, 897, 309, 903))
CALLED_GONE = MapElement("called gone", "ped_crossing", box(312.5, 897, 315.5, 903))  # not near the other
PARKED = MapElement("parked", "carpark_area", box(303, 903, 307, 906))  # no rule looks at it

pytestmark = pytest.mark.usefixtures("module_index_cache")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The toy drives; a hand-made town lies under that of the other city."""
    root = write_toy_drive(tmp_path_factory.mktemp("toy"), keyframes=4)
    path = root / "maps" / "expansion" / f"{CITIES[1]}.json"
    path.parent.mkdir(parents=True)
    write_map_expansion(path, make_road_map())
    tables = json.loads(path.read_text())
    for node in tables["node"]:
        node["x"], node["y"] = node["x"] + 250, node["y"] + 842  # its road under the car
    path.write_text(json.dumps(tables))
    return root


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    """A prior, its truth, and evidence of a random encoder that was trained on the other city."""
    out = tmp_path_factory.mktemp("made")
    write_geojson_map(out / "prior.geojson", ElementMap.of(FRAME, [GONE, CALLED_GONE, PARKED]))
    shape = GONE.geometry
    words = ("gone", "here", "deletion", "ped_crossing", "crosswalk_gone", "a crosswalk is gone")
    write_truth(out / "truth.geojson", FRAME, [ElementEdit(*words, shape, None, shape, (), (GONE,))], [])
    short = HeadTraining("conv", steps=3, batch_size=2, crop_cells=24)
    full = train_map_evidence.train_map_evidence
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_map_evidence, "train_map_evidence", partial(full, training=short))
        options = ["--random-init", "--data", str(root), "--scenes", SCENES[1], "--out", str(out / "evidence.pth")]
        train_map_evidence.main([CONFIG, *options])
    return out


def detect(root, made, out):
    detect_map_changes.main(
        [
            *("--data", str(root), "--map", str(made / "prior.geojson"), "--out", str(out)),
            *("--evidence", str(made / "evidence.pth")),
        ]
    )
    return read_local_json(out / "changes_local.json")


def test_the_file_says_where_it_comes_from(root, made):
    evidence = load_map_evidence(made / "evidence.pth")
    assert (evidence.origin.config, evidence.origin.checkpoint) == (CONFIG, "")
    assert evidence.origin.drives == (drive_key(load_index(root), SCENES[1]),)
    assert evidence.origin.towns == {CITIES[1]: ()}
    assert evidence.grid.shape_yx == (64, 64)
    assert evidence.calibration is None
    assert float(evidence.rates[0]) > 0.05  # the town's road was drawn
    assert torch.load(made / "evidence.pth", weights_only=True)["channels"] == 32


def test_evidence_is_calibrated_and_weighed(root, made, capsys, caplog):
    bare = detect(root, made, made / "changes")
    assert bare.warnings == ()  # trained on another drive in another city
    assert "not calibrated" in capsys.readouterr().out
    assert not bare.calibrated
    by_element = {one.element_id: one for one in bare.changes}
    told = {one.element_id for one in bare.changes if one.status == "confirmed"}
    assert told == {"gone", "called gone"}  # nobody asks the encoder alone
    assert all(one.jepa_residual_log_odds is not None for one in by_element["gone"].evidence)
    hand = by_element["gone"].confidence

    case = [str(made / "prior.geojson"), str(made / "truth.geojson"), str(made / "changes")]
    options = ["--data", str(root), "--case", *case, "--out", str(made / "figures.json")]
    calibrate_map_evidence.main([str(made / "evidence.pth"), *options])
    unfitted = json.loads((made / "figures.json").read_text())[str(made / "evidence.pth")]
    assert set(unfitted["calibration"]) == {"hand-set, candidates"}  # nothing weighs the rest yet
    calibrate_map_evidence.main([str(made / "evidence.pth"), *options, "--fit"])
    figures = json.loads((made / "figures.json").read_text())[str(made / "evidence.pth")]
    assert figures["auroc"]["all"] | {"changed": 1, "unchanged": 2} == figures["auroc"]["all"]
    assert {(row["element"], row["right"]) for row in figures["candidates"]} == {
        *(("gone", True), ("called gone", False), ("parked", False)),
    }
    assert figures["calibration"]["hand-set, candidates"]["count"] == 2
    fitted = load_map_evidence(made / "evidence.pth").calibration
    assert (fitted.rows, fitted.regression.weights.shape) == (3, (5,))
    assert "prior.geojson" in fitted.fitted_on
    assert fitted.material == Material((drive_key(load_index(root), SCENES[0]),), {CITIES[0]: ()})
    assert figures["warnings"] == []  # a fit is measured on what it was fitted on

    assert not caplog.records
    report = detect(root, made, made / "changes")
    (warning,) = report.warnings
    assert warning.startswith(
        f"evidence.pth: was calibrated on 1 of the drives that it judges ({SCENES[0]}) and on the town"
    )
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [("WARNING", warning)]
    assert json.loads((made / "changes" / "changes_local.json").read_text())["warnings"] == [warning]
    assert read_changes_geojson(made / "changes" / "changes.geojson").warnings == (warning,)
    calibrate_map_evidence.main([str(made / "evidence.pth"), *options])
    assert json.loads((made / "figures.json").read_text())[str(made / "evidence.pth")]["warnings"] == [warning]
    assert report.calibrated
    assert read_changes_geojson(made / "changes" / "changes.geojson").calibrated
    assert report.run_id != bare.run_id
    (gone,) = (one for one in report.changes if one.element_id == "gone")
    assert gone.confidence != hand
    (row,) = (row for row in figures["candidates"] if row["element"] == "gone")
    assert gone.confidence == pytest.approx(1 / (1 + 2.718281828 ** -row["log_odds"]), abs=1e-6)


@pytest.fixture(scope="module")
def surveyed(root, made):
    """Surveys of the drive, judged with evidence that is not calibrated."""
    detect(root, made, made / "surveyed")
    return made / "surveyed"


def test_files_and_cases_are_judged_together(root, made, surveyed, tmp_path):
    """Every file has the same cases, and its own calibration: two priors give it twice the rows."""
    files = [shutil.copy(made / "evidence.pth", tmp_path / name) for name in ("a.pth", "b.pth")]
    save_map_evidence(files[0], replace(load_map_evidence(files[0]), calibration=None))
    case = ["--case", str(made / "prior.geojson"), str(made / "truth.geojson"), str(surveyed)]
    options = ["--data", str(root), "--cache", str(surveyed / "embeddings"), "--out", str(tmp_path / "figures.json")]
    calibrate_map_evidence.main([*map(str, files), *case, *case, *options, "--fit"])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == [str(file) for file in files]
    assert figures[str(files[0])] == figures[str(files[1])]  # of the same networks
    assert len(figures[str(files[0])]["candidates"]) == 6
    assert figures[str(files[0])]["auroc"]["all"]["unchanged"] == 4
    for file in files:
        assert load_map_evidence(file).calibration.rows == 6
        assert load_map_evidence(file).calibration.fitted_on == f"{root.name}: prior.geojson, prior.geojson"


def test_alike_answers_and_truths_of_other_maps_are_refused(root, made, surveyed, tmp_path):
    def calibrate(truth):
        case = [str(made / "prior.geojson"), str(truth), str(surveyed)]
        options = ["--data", str(root), "--cache", str(surveyed / "embeddings"), "--fit"]
        calibrate_map_evidence.main([str(made / "evidence.pth"), "--case", *case, *options])

    write_truth(tmp_path / "nothing.geojson", FRAME, [], [])
    before = (made / "evidence.pth").read_bytes()
    with pytest.raises(ConfigError, match="all 3 candidates are alike"):
        calibrate(tmp_path / "nothing.geojson")
    write_truth(tmp_path / "other.geojson", frame_of_city(CITIES[1]), [], [])
    with pytest.raises(DataError, match=f"known changes of {CITIES[1]}, but the map is of {CITIES[0]}"):
        calibrate(tmp_path / "other.geojson")
    assert (made / "evidence.pth").read_bytes() == before


@pytest.mark.parametrize("version", [0, 2])
def test_evidence_of_another_format_is_one_line(root, made, tmp_path, capsys, version):
    content = torch.load(made / "evidence.pth", weights_only=True)
    torch.save(content | {"version": version}, tmp_path / "old.pth")
    options = ["--data", str(root), "--map", str(made / "prior.geojson"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: detect_map_changes.main([*options, "--evidence", str(tmp_path / "old.pth")]))
    assert left.value.code == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert f"old.pth: map evidence of version {version}, not 1; make it again with tools/train_map_evidence.py" in error


@pytest.mark.parametrize(
    ("tool", "options", "message"),
    [
        (train_map_evidence, [CONFIG], "name a checkpoint, or --random-init"),
        (train_map_evidence, [CONFIG, "--random-init", "--scenes", SCENES[0]], f"{CITIES[0]}.json: no map"),
        (detect_map_changes, ["--evidence", "none.pth"], "none.pth: no such file"),
        (calibrate_map_evidence, ["none.pth"], "holds no surveys"),
    ],
)
def test_mistakes_are_one_line(root, made, tmp_path, capsys, tool, options, message):
    given = [*options, "--data", str(root), "--out", str(tmp_path / "out")]
    if tool is detect_map_changes:
        given += ["--map", str(made / "prior.geojson")]
    if tool is calibrate_map_evidence:
        given += ["--case", str(made / "prior.geojson"), str(made / "truth.geojson"), str(tmp_path)]
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: tool.main(given))
    assert left.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]


def test_drives_that_were_trained_on_are_refused(root, made, tmp_path, capsys):
    write_geojson_map(tmp_path / "prior.geojson", ElementMap.of(frame_of_city(CITIES[1]), [GONE]))
    given = ["--data", str(root), "--map", str(tmp_path / "prior.geojson"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: detect_map_changes.main([*given, "--evidence", str(made / "evidence.pth")]))
    assert left.value.code == 2
    assert f"was trained on {SCENES[1]}" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("tool", [train_map_evidence, calibrate_map_evidence])
def test_help_shows_an_example(tool, capsys):
    with pytest.raises(SystemExit) as left:
        tool.main(["--help"])
    assert left.value.code == 0
    assert f"python tools/{tool.__name__.split('.')[-1]}.py" in capsys.readouterr().out
