"""tools/detect_map_changes.py on the toy drive: every file is written and read back, decisions too; mistakes are one line."""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from datetime import timezone
from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import box

from avjepa.cli import run_tool
from avjepa.errors import DataError
from avjepa.fleet import LogTask
from avjepa.mapping.decisions import FORMAT
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.geojson_maps import write_geojson_map
from avjepa.mapping.outputs.frame_predictions import read_frame_predictions
from avjepa.mapping.outputs.geojson import read_changes_geojson
from avjepa.mapping.outputs.local_json import read_local_json
from avjepa.mapping.outputs.osm import read_osm
from avjepa.mapping.outputs.table import read_csv
from avjepa.mapping.survey import DRIVE_FILE, survey_drive
from avjepa.mapping.vector_map import ElementMap, MapElement
from avjepa.sensors.nuscenes_index import load_index
from tests.toy_drive import CITIES, SCENES, write_toy_drive
from tools import detect_map_changes as tool

KEYFRAMES = 4
GONE = box(306, 897, 309, 903)  # the toy road has no paint, and the car passes here
HIDDEN = box(311.5, 905.5, 312.5, 906.5)  # under the red box


pytestmark = pytest.mark.usefixtures("module_index_cache")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_toy_drive(tmp_path_factory.mktemp("toy"), keyframes=KEYFRAMES)


def map_file(folder, city=CITIES[0]):
    elements = [MapElement("gone", "ped_crossing", GONE), MapElement("hidden", "ped_crossing", HIDDEN)]
    write_geojson_map(folder / "prior.geojson", ElementMap.of(frame_of_city(city), elements))
    return folder / "prior.geojson"


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    """The options of a run, and the folder that it wrote."""
    out = tmp_path_factory.mktemp("made")
    options = ["--data", str(root), "--map", str(map_file(out)), "--out", str(out / "changes")]
    tool.main(options)
    return options, out / "changes"


def test_every_file_says_the_same(made):
    _, out = made
    report = read_local_json(out / "changes_local.json")
    assert report.scenes == (SCENES[0],)  # the other drive is in another city
    assert {(one.element_id, one.atomic_change, one.status) for one in report.changes} == {
        ("gone", "deletion", "confirmed"),
        ("hidden", "deletion", "unobservable"),
    }
    (gone,) = (one for one in report.changes if one.element_id == "gone")
    assert gone.old_geometry.equals(GONE)
    assert (gone.n_traversals, gone.n_frames) == (1, KEYFRAMES)
    assert report.created.tzinfo == timezone.utc
    ids = [one.change_id for one in report.changes]
    assert [one.change_id for one in read_changes_geojson(out / "changes.geojson").changes] == ids
    assert [one.change_id for one in read_csv(out / "changes.csv")] == ids
    assert len(read_osm(out / "changes.osm")) >= 1
    frames = read_frame_predictions(out / "frames.json")
    assert {frame.log_id for frame in frames} == {SCENES[0]}
    page = (out / "review.html").read_text()
    assert all(name in page for name in ids)
    assert page.count("data:image/jpeg") >= 2  # a camera and the ground from above


def test_decisions_are_read_back(made, tmp_path, capsys):
    """From the surveys that are there: they are not made again."""
    options, out = made
    report = read_local_json(out / "changes_local.json")
    (drive_file,) = (out / "surveys").rglob(DRIVE_FILE)
    made_ns = drive_file.stat().st_mtime_ns
    decision = {"change_id": report.changes[0].change_id, "decision": "accepted", "note": "seen"}
    decisions = {"format": FORMAT, "version": 1, "run_id": report.run_id}
    decisions["decisions"] = [decision | {"reviewed": "2026-05-04T12:00:09.000Z"}]
    (tmp_path / "decisions.json").write_text(json.dumps(decisions))
    tool.main([*options, "--review", str(tmp_path / "decisions.json")])
    reviewed = read_local_json(out / "changes_local.json")
    assert (reviewed.changes[0].review.decision, reviewed.changes[0].review.note) == ("accepted", "seen")
    assert reviewed.changes[1].review.decision == "undecided"
    assert reviewed.run_id == report.run_id
    assert drive_file.stat().st_mtime_ns == made_ns
    assert "1 drives; 1 confirmed, 0 candidate, 0 degraded, 1 unobservable" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("city", "options", "message"),
    [
        ("singapore-queenstown", [], "none of the drives is in singapore-queenstown"),
        (CITIES[0], ["--map", "gone.geojson"], "gone.geojson"),
        (CITIES[0], ["--scenes", "scene-9999"], "scene-9999"),
        (CITIES[0], ["--scenes", SCENES[1]], f"none of the drives is in {CITIES[0]}"),
        (CITIES[0], ["--data", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(root, tmp_path, capsys, city, options, message):
    given = ["--data", str(root), "--map", str(map_file(tmp_path, city)), "--out", str(tmp_path / "out"), *options]
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: tool.main(given))
    assert left.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_drive_without_a_readable_keyframe_is_one_line(root, tmp_path, capsys):
    """The only drive of the city: nothing to report on."""
    broken = write_toy_drive(tmp_path / "toy", scenes=1, keyframes=1, image_size=(16, 9))
    for path in (broken / "samples" / "LIDAR_TOP").iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    options = ["--data", str(broken), "--map", str(map_file(tmp_path)), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: tool.main(options))
    assert left.value.code == 2
    assert "no drive could be surveyed" in capsys.readouterr().err.splitlines()[-1]


def killed_once(root, version, scene, folder):
    """As survey_log, but the worker that is the first to come here dies."""
    if not (root / "killed").exists():
        (root / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    survey_drive(root, load_index(root, version), scene, folder)


def test_ray_with_a_dead_worker_reports_what_a_serial_run_does(made, ray, tmp_path, monkeypatch, capsys):
    """Its workers have another working directory than a tool that was given a relative --data."""
    options, _ = made
    root, prior = (Path(options[n]) for n in (1, 3))
    serial = tmp_path / "serial"
    tool.main([*options[:4], "--out", str(serial)])
    capsys.readouterr()
    monkeypatch.chdir(root.parent)
    monkeypatch.setattr(tool, "survey_log", killed_once)
    given = ["--data", root.name, "--map", str(prior), "--out", str(tmp_path / "changes"), "--engine", "ray"]
    tool.main([*given, "--workers", "1"])
    assert (root / "killed").exists()
    found, wanted = (read_changes_geojson(out / "changes.geojson") for out in (tmp_path / "changes", serial))
    assert replace(found, created=wanted.created) == wanted
    assert f"1 of 2 drives left out: they are in other cities than {CITIES[0]}" in capsys.readouterr().out


def test_a_recording_holds_the_drives_and_the_ground(made, tmp_path, capsys):
    rr = pytest.importorskip("rerun", reason="rerun is not installed: pip install avjepa[viz]")
    options, _ = made
    tool.main([*options, "--rrd", str(tmp_path / "drive.rrd")])
    assert f"drive.rrd: {KEYFRAMES} keyframes" in capsys.readouterr().out
    (recording,) = rr.dataframe.load_archive(tmp_path / "drive.rrd").all_recordings()
    entities = {column.entity_path for column in recording.schema().component_columns()}
    assert {"/bev/cameras", "/bev/lidar", "/world/ego/lidar", f"/world/driven/{SCENES[0]}"} <= entities
    assert any(entity.startswith("/world/changes/") for entity in entities)


def test_both_recordings_come_of_one_walk(made, tmp_path, capsys, monkeypatch):
    pytest.importorskip("rerun", reason="rerun is not installed: pip install avjepa[viz]")
    reader = pytest.importorskip("mcap.reader", reason="mcap is not installed: pip install avjepa[viz]")
    options, _ = made
    asked, pictures = [], tool.pictures_around
    monkeypatch.setattr(tool, "pictures_around", lambda *at: asked.append(at) or pictures(*at))
    tool.main([*options, "--rrd", str(tmp_path / "drive.rrd"), "--mcap", str(tmp_path / "drive.mcap")])
    said = capsys.readouterr().out
    assert f"drive.rrd: {KEYFRAMES} keyframes" in said
    assert f"drive.mcap: {KEYFRAMES} keyframes" in said
    assert len(asked) == KEYFRAMES
    with (tmp_path / "drive.mcap").open("rb") as stream:
        summary = reader.make_reader(stream).get_summary()
    counts = {channel.topic: summary.statistics.channel_message_counts[n] for n, channel in summary.channels.items()}
    assert {counts[topic] for topic in ("/tf", "/lidar", "/bev/cameras", "/bev/lidar")} == {KEYFRAMES}
    assert counts["/changes"] >= 1


@pytest.mark.parametrize(("option", "package"), [("--rrd", "rerun"), ("--mcap", "mcap")])
def test_a_missing_viewer_package_is_told_before_the_work(made, tmp_path, capsys, monkeypatch, option, package):
    monkeypatch.setitem(sys.modules, package, None)
    options, _ = made
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: tool.main([*options, "--out", str(tmp_path / "out"), option, str(tmp_path / "file")]))
    assert left.value.code == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert f"pip install avjepa[viz] brings {package}" in error
    assert not (tmp_path / "out").exists()


def test_a_recording_shows_the_drives_of_the_report_in_time_order(root):
    """Not a drive that could not be surveyed, and no keyframe without a pose."""
    index = load_index(root)
    poses, times = index.global_T_ego.copy(), index.timestamp_us.copy()
    poses[1] = np.nan
    times[[0, 3]] = times[[3, 0]]
    changed = replace(index, global_T_ego=poses, timestamp_us=times)
    assert tool.keyframes_in_time(changed, SCENES[:1]) == [3, 2, 0]
    assert tool.keyframes_in_time(changed, SCENES) == [3, 2, 0, 4, 5, 6, 7]


def test_names_of_drives_that_are_not_there(root):
    index = load_index(root)
    with pytest.raises(DataError, match="no scene scene-9999, scene-9998; it holds scene-0061"):
        tool.drives_of(index, CITIES[0], [SCENES[0], "scene-9999", "scene-9998"], root)
    assert tool.drives_of(index, CITIES[0], ["mini_train"], root) == [SCENES[0]]  # of which an extract holds a part


def test_what_was_left_out_is_told(root, tmp_path, capsys):
    broken = shutil.copytree(root, tmp_path / "toy")
    index = load_index(broken)
    (broken / str(index.camera_file[1, 2])).unlink()
    (broken / str(index.lidar_file[2])).write_bytes(b"1")
    tool.main(["--data", str(broken), "--map", str(map_file(tmp_path)), "--out", str(tmp_path / "out")])
    assert f"2 keyframes and images left out (see {tmp_path / 'out'}/surveys/*/drive.json)" in capsys.readouterr().out


def test_the_run_id_names_map_and_surveys(tmp_path):
    (tmp_path / "map").write_text("a")
    tasks = [LogTask("one", "f"), LogTask("two", "g")]
    before = tool.run_id_of([tmp_path / "map"], tasks)
    assert before == tool.run_id_of([tmp_path / "map"], list(tasks))
    ids = {before, tool.run_id_of([tmp_path / "map"], tasks[:1])}
    ids.add(tool.run_id_of([tmp_path / "map"], [tasks[0], LogTask("two", "h")]))  # the drive was surveyed anew
    (tmp_path / "map").write_text("b")
    ids.add(tool.run_id_of([tmp_path / "map"], tasks))
    assert len(ids) == 4


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as left:
        tool.main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "python tools/detect_map_changes.py --data" in shown
    assert "--review" in shown


def test_a_survey_is_made_anew_when_poses_or_code_change(root, monkeypatch):
    index = load_index(root)
    before = tool.settings_of(index, SCENES[0])
    assert tool.settings_of(index, SCENES[0]) == before
    moved = index.global_T_ego.copy()
    moved[index.keyframes_of(SCENES[0])[0], 0, 3] += 0.01
    assert tool.settings_of(replace(index, global_T_ego=moved), SCENES[0]) != before
    monkeypatch.setattr(tool, "SURVEY_CODE", ("mapping/survey.py",))
    assert tool.settings_of(index, SCENES[0]) != before
