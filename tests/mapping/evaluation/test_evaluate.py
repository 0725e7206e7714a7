import json
import re

import pytest
import shapely

from avjepa.errors import ConfigError, DataError
from avjepa.geometry.map_edit import edit_feature
from avjepa.mapping.changes import ChangeReport
from avjepa.mapping.drive_paths import drive_paths
from avjepa.mapping.evaluation.evaluate import evaluate_report
from avjepa.mapping.evaluation.frames import predict_drives
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.outputs.frame_predictions import write_frame_predictions
from avjepa.mapping.outputs.local_json import write_local_json
from avjepa.sensors.nuscenes_index import load_index
from tests.mapping.evaluation.scenes import at, edit, event, square, straight
from tests.toy_drive import write_toy_drive
from tools import evaluate_map_changes as tool

FRAME = FRAMES["singapore-onenorth"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A drive of 18 m from (300, 900) and one in another city."""
    return write_toy_drive(tmp_path_factory.mktemp("toy"), image_size=(32, 18))


@pytest.fixture
def truth(tmp_path):
    """A stop line that moved where the drive begins, and a crosswalk that is gone half a kilometre off."""
    edits = [edit("near", square(305, 905)), edit("far", square(800, 900), "deletion", "ped_crossing")]
    features = [edit_feature(one, [], []) for one in edits]
    path = tmp_path / "truth.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "frame": FRAME.contract(), "features": features}))
    return path


def report_on(root, folder, changes, scenes=("scene-0061",), frame=FRAME):
    """Writes a report and its frame predictions."""
    report = ChangeReport(f"run-{folder.name}", frame, "prior.json", tuple(scenes), at(0), tuple(changes))
    write_local_json(folder / "changes_local.json", report)
    write_frame_predictions(folder / "frames.json", predict_drives(changes, drive_paths(load_index(root), scenes)))
    return folder


def test_everything_of_one_report():
    path = straight(range(0, 401, 5), "scene")
    edits = [edit("a", square(50)), edit("b", square(200), "deletion"), edit("c", square(300, 400), "type")]
    changes = [
        event("right", square(51), 0.9, confirmed_seen=at(8)),
        event("maybe", square(200), 0.6, "deletion", status="candidate"),
        event("false", square(350), 0.7, "insertion"),
    ]
    report = ChangeReport("run", FRAMES["minicity-a"], "prior", ("scene",), at(0), tuple(changes))
    found = evaluate_report(report, predict_drives(changes, [path]), report.frame, edits, [path])
    confirmed, believed = (found.events[belief]["kind", "pieces"] for belief in ("confirmed", "with candidates"))
    assert (confirmed.found, confirmed.wrong, confirmed.missed) == (1, 1, 1)
    assert (believed.found, believed.wrong, believed.missed) == (2, 1, 0)
    assert found.out_of_reach == {"type": 1}
    # 400 m but for 42 m at either edit in reach; a square's buffer reaches 20 m beyond its side.
    assert found.unchanged_km == pytest.approx(0.4 - 0.084, abs=1e-6)
    assert found.false_per_km("confirmed") == pytest.approx(1 / 0.316)
    assert found.recall_by["kind"] == {"deletion": (0, 1), "geometry": (1, 1)}
    assert found.recall_by["drives"] == {"1 drive": (1, 2)}
    # In sight from x = 30 (keyframe 6) on; confirmed at keyframe 8.
    assert found.mean_detection("driven_m") == pytest.approx(10.0)
    assert found.untimed == 0
    assert sorted(found.judged) == [(0.6, True), (0.7, False), (0.9, True)]
    assert found.calibration.brier == pytest.approx((0.1**2 + 0.4**2 + 0.7**2) / 3)
    assert json.loads(json.dumps(found.record()))["events"]["confirmed"]["kind, pieces"]["f1"] == pytest.approx(0.5)


def test_a_found_change_that_does_not_say_when():
    path, known = straight(range(0, 101, 5), "scene"), [edit("a", square(50))]
    report = ChangeReport("run", FRAMES["minicity-a"], "p", ("scene",), at(0), (event("e", square(50)),))
    found = evaluate_report(report, predict_drives(report.changes, [path]), report.frame, known, [path])
    assert (found.detected, found.untimed) == ((), 1)
    assert found.record()["frames"]["ap_match"] is not None


def test_another_towns_truth():
    path = straight([0, 10], "scene")
    report = ChangeReport("run", FRAMES["minicity-a"], "p", ("scene",), at(0), ())
    with pytest.raises(DataError, match="minicity-b"):
        evaluate_report(report, predict_drives([], [path]), FRAMES["minicity-b"], [], [path])


def test_the_tool_makes_tables_and_a_record(root, truth, tmp_path, capsys):
    seeds = [
        report_on(root, tmp_path / "one", [event("e", square(305, 905))]),
        report_on(root, tmp_path / "two", [event("e", square(300, 950))]),
    ]
    rows = [*(f"ours={folder}" for folder in seeds), str(report_on(root, tmp_path / "none", []))]
    tool.main([*rows, "--truth", str(truth), "--data", str(root), "--out", str(tmp_path / "out")])
    markdown = (tmp_path / "out" / "evaluation.md").read_text()
    assert markdown in capsys.readouterr().out
    assert re.search(
        r"\| ours, confirmed \| 1\.00 ± 0\.00 \| 1\.00 ± 0\.00 \| 0\.50 ± 0\.71 \| 0\.50 ± 0\.71 \|", markdown
    )
    assert re.search(r"\| 1 drive, confirmed \| 1\.00 \| 0\.00 \| nan \| 0\.00 \|", markdown)
    assert "| 1 drive (1 drive) | 1 | 1 deletion |" in markdown
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [len(seeds) for seeds in record["results"].values()] == [2, 1]
    assert record["results"]["ours"][0]["edits_in_reach"] == ["near"]
    assert record["results"]["1 drive"][0]["events"]["confirmed"]["kind, pieces"]["precision"] is None
    assert {"command", "commit", "truth", "convention"} <= set(record)


def test_a_map_that_is_up_to_date(root, tmp_path, capsys):
    truth = tmp_path / "truth.geojson"
    truth.write_text(json.dumps({"type": "FeatureCollection", "frame": FRAME.contract(), "features": []}))
    folder = report_on(root, tmp_path / "report", [event("e", square(305, 905))])
    tool.main([str(folder), "--truth", str(truth), "--data", str(root)])
    (path,) = drive_paths(load_index(root), ["scene-0061"])
    false_per_km = 1000 / path.steps_m.sum()
    told = capsys.readouterr().out
    assert f"| 0.00 | nan | {false_per_km:.2f} | 1 |" in told  # F1, recall of nothing, false alarms
    assert "No edit is in reach." in told


def test_what_cannot_be_scored(root, truth, tmp_path):
    where = ["--truth", str(truth), "--data", str(root)]
    with pytest.raises(DataError, match=r"changes_local\.json"):
        tool.main([str(tmp_path / "gone"), *where])
    with pytest.raises(ConfigError, match="no drive"):
        tool.main([str(report_on_no_drive(tmp_path / "idle")), *where])
    folder = report_on(root, tmp_path / "report", [])
    (folder / "frames.json").unlink()
    with pytest.raises(DataError, match=r"frames\.json"):
        tool.main([str(folder), *where])
    elsewhere = report_on(root, tmp_path / "boston", [], ["scene-0103"], FRAMES["boston-seaport"])
    with pytest.raises(DataError, match="boston-seaport"):
        tool.main([str(elsewhere), *where])


def report_on_no_drive(folder):
    """A report that looked at nothing."""
    write_local_json(folder / "changes_local.json", ChangeReport("run", FRAME, "prior", (), at(0), ()))
    write_frame_predictions(folder / "frames.json", [])
    return folder


def test_names_of_rows(tmp_path):
    odd = tmp_path / "lr=0.1"
    odd.mkdir()
    assert tool.named_folder(f"ours={odd}") == ("ours", odd)
    assert tool.named_folder(str(odd)) == ("", odd)
    assert tool.named_folder("work_dirs/changes")[0] == ""


def test_the_example_square_is_where_the_toy_drive_begins(root):
    (path,) = drive_paths(load_index(root), ["scene-0061"])
    assert shapely.distance(shapely.Point(path.xy_m[0]), square(305, 905)) < 20
