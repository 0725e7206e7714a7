"""Recordings of map changes for rerun, read back from their files; what can be recorded at all."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from PIL import Image
from shapely.geometry import Polygon, box

from avjepa.conventions import CAMERAS
from avjepa.errors import ConfigError, DataError
from avjepa.mapping.changes import ChangeReport
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.vector_map import ElementMap
from avjepa.reports.recording import record_drives
from avjepa.reports.recording_rerun import TIMELINE, rerun_recording
from avjepa.sensors.nuscenes_index import load_index
from tests.mapping.reports import END, HOSTILE, change
from tests.reports.recordings import black_and_white, prior_at, report_on, seen_at
from tests.toy_drive import BOXES

HOLED = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])

pytestmark = pytest.mark.usefixtures("module_index_cache")


@pytest.fixture
def rr():
    return pytest.importorskip("rerun", reason="rerun is not installed: pip install avjepa[viz]")


def write_recording(path, report, prior, root, index, frames):
    with rerun_recording(path, report.run_id) as recording:
        return record_drives([recording], report, prior, root, index, frames)


class Recording:
    """A file read back."""

    def __init__(self, rr, path):
        (self.recording,) = rr.dataframe.load_archive(path).all_recordings()
        schema = self.recording.schema()
        self.entities = {column.entity_path for column in schema.component_columns()}
        self.timelines = {column.name for column in schema.index_columns()}

    def rows(self, entity, component):
        """(time in microseconds, value) of a component that changes with time."""
        table = self.recording.view(index=TIMELINE, contents=entity).select().read_all()
        times = table[TIMELINE].to_numpy().astype("datetime64[us]").astype(np.int64)
        values = table[f"{entity}:{component}"].to_pylist()
        return [(t, v) for t, v in zip(times.tolist(), values, strict=True) if v is not None]

    def static(self, entity, component):
        """The value of one that does not."""
        view = self.recording.view(index=TIMELINE, contents=entity)
        return view.select_static(f"{entity}:{component}").read_all()[0].to_pylist()[0]


def test_a_drive_comes_back(tmp_path, rr, toy):
    root, index = toy
    path = tmp_path / "out" / "drive.rrd"
    assert (
        write_recording(path, report_on(index, []), prior_at(index), root, index, map(black_and_white, range(4))) == 0
    )
    assert [file.name for file in path.parent.iterdir()] == ["drive.rrd"]
    found = Recording(rr, path)
    assert TIMELINE in found.timelines
    assert found.recording.recording_id() == "run-1"
    times = index.timestamp_us.tolist()

    poses = found.rows("/world/ego", "Translation3D")
    assert [t for t, _ in poses] == times
    np.testing.assert_allclose([xyz[0] for _, xyz in poses], index.global_T_ego[:, :3, 3], atol=1e-3)
    columns = np.array(found.rows("/world/ego", "TransformMat3x3")[3][1]).reshape(3, 3)
    np.testing.assert_allclose(columns.T, index.global_T_ego[3, :3, :3], atol=1e-6)

    for i, camera in enumerate(CAMERAS):
        pictures = found.rows(f"/world/ego/cameras/{camera}", "Blob")
        assert [t for t, _ in pictures] == times
        assert bytes(pictures[2][1][0]) == (root / str(index.camera_file[2, i])).read_bytes()
        ((_, pinhole), *_) = found.rows(f"/world/ego/cameras/{camera}", "PinholeProjection")
        np.testing.assert_allclose(np.reshape(pinhole, (3, 3)).T, index.pix_T_cam[0, i], rtol=1e-6)
        ((_, size), *_) = found.rows(f"/world/ego/cameras/{camera}", "Resolution")
        assert size == [[160, 90]]

    clouds = found.rows("/world/ego/lidar", "Position3D")
    assert [t for t, _ in clouds] == times
    top = max(height for *_, height in BOXES)
    heights = np.array(clouds[1][1])[:, 2]
    assert (heights > 0.5).any(), "returns from the boxes"
    assert -0.3 < heights.min() < heights.max() < top + 0.3, "the road is at height 0 of the ego frame"

    assert found.static("/world/prior/road_divider", "LineStrip3D")[0][0] == pytest.approx([300.0, 900.0, 0.0])
    assert "/world/prior/ped_crossing" in found.entities
    assert "/world/prior/stop_line" not in found.entities, "further away than 80 m"
    sides = [np.array(strip) for strip in found.static("/world/prior/drivable_area", "LineStrip3D")]
    nearest_m = [np.linalg.norm(side[:, None] - index.global_T_ego[:, :3, 3], axis=2).min(1) for side in sides]
    assert len(sides) == 2, "a kerb on either hand, and no end"
    assert max(far_m.max() for far_m in nearest_m) == pytest.approx(80, abs=0.5)
    (way,) = found.static(f"/world/driven/{index.scene_name[0]}", "LineStrip3D")
    np.testing.assert_allclose(way, index.global_T_ego[:, :3, 3], atol=1e-3)

    picture = np.asarray(Image.open(io.BytesIO(bytes(found.rows("/bev/occupancy", "Blob")[0][1][0]))))
    assert picture.shape == (4, 6, 3), "forward is up, left is left"
    assert picture[0, 0].tolist() == [255, 255, 255]
    assert picture.sum() == 3 * 255


def test_changes_come_back_at_the_time_they_were_first_seen(tmp_path, rr, toy):
    root, index = toy
    changes = [
        change(**seen_at(index, 2, 3)),
        change(
            "c1",
            **{"element_id": None, "atomic_change": "insertion", "old_geometry": None, "new_geometry": HOLED},
            **{"status": "candidate", "confidence": 0.4, **seen_at(index, 1, 3)},
        ),
        change(
            HOSTILE,
            **{"status": "unobservable", "observed_fraction": 0.0, "n_traversals": 0, "n_frames": 0},
            **{"first_seen": None, "last_seen": None, "evidence": ()},
        ),
    ]
    path = tmp_path / "changes.rrd"
    frames = ((n, {}) for n in range(4))
    write_recording(path, report_on(index, changes), prior_at(index), root, index, frames)
    found = Recording(rr, path)
    times = index.timestamp_us.tolist()
    assert found.rows("/world/changes/c0", "status") == [(times[2], ["confirmed"])]
    ((_, (confidence,)),) = found.rows("/world/changes/c0", "confidence")
    assert confidence == pytest.approx(0.93)
    ((_, labels),) = found.rows("/world/changes/c0", "Text")
    assert labels == ["delete_crosswalk, confirmed 0.93"]
    ((seen, rings),) = found.rows("/world/changes/c1/new", "LineStrip3D")
    assert seen == times[1]
    assert sorted(len(ring) for ring in rings) == [5, 5], "outer ring and hole"
    assert "/world/changes/c1/old" not in found.entities
    assert len([entity for entity in found.entities if entity.endswith("/old")]) == 2
    said = found.rows("/changes", "Text")
    assert [t for t, _ in said] == sorted([times[0], times[1], times[2]])
    assert said[1][1] == ["insert_crosswalk, candidate 0.40: a crosswalk is gone"]


def test_a_confirmed_change_is_shown_from_when_it_could_be_believed(tmp_path, rr, toy):
    """What was confirmed once and is a candidate now was seen, and is not believed."""
    root, index = toy
    seen = seen_at(index, 0, 3)
    believed = {**seen, "confirmed_seen": seen["first_seen"] + timedelta(seconds=1)}
    changes = [change(**believed), change("c1", **believed, status="candidate", confidence=0.4)]
    path = tmp_path / "changes.rrd"
    write_recording(path, report_on(index, changes), prior_at(index), root, index, ((n, {}) for n in range(4)))
    found, start_us = Recording(rr, path), int(index.timestamp_us[0])
    assert found.rows("/world/changes/c0", "status") == [(start_us + 1_000_000, ["confirmed"])]
    assert found.rows("/world/changes/c1", "status") == [(start_us, ["candidate"])]


def test_bad_files_are_left_out_and_counted(tmp_path, rr, toy, caplog):
    root, index = toy
    (root / str(index.camera_file[1, 0])).write_bytes(b"\xff\xd8 no picture")
    (root / str(index.lidar_file[2])).unlink()
    path = tmp_path / "drive.rrd"
    frames = ((n, {}) for n in range(4))
    assert write_recording(path, report_on(index, []), prior_at(index), root, index, frames) == 2
    assert "2 camera and LiDAR files are missing or corrupt" in caplog.text
    found, times = Recording(rr, path), index.timestamp_us.tolist()
    shown = [t for t, blob in found.rows(f"/world/ego/cameras/{CAMERAS[0]}", "Blob") if blob]
    assert shown == [times[0], times[2], times[3]]
    assert [t for t, cloud in found.rows("/world/ego/lidar", "Position3D") if cloud] == [times[0], times[1], times[3]]


def test_a_keyframe_without_lidar_shows_no_points(tmp_path, rr, toy):
    """Not those of the keyframe before."""
    root, index = toy
    files = index.lidar_file.copy()
    files[1] = ""
    index, path = replace(index, lidar_file=files), tmp_path / "drive.rrd"
    assert write_recording(path, report_on(index, []), prior_at(index), root, index, ((n, {}) for n in range(3))) == 0
    clouds, times = Recording(rr, path).rows("/world/ego/lidar", "Position3D"), index.timestamp_us.tolist()
    assert [(t, bool(cloud)) for t, cloud in clouds] == [(times[0], True), (times[1], False), (times[2], True)]


@pytest.mark.real_data
def test_real_frames_come_back(tmp_path, rr, nuscenes_root):
    index = load_index(nuscenes_root)
    (numbers,) = np.nonzero(index.scene == 0)
    path = tmp_path / "real.rrd"
    x, y = index.global_T_ego[numbers[1], :2, 3]
    gone = change(**seen_at(index, numbers[1], numbers[2]) | {"old_geometry": box(x, y, x + 3, y + 2)})
    frames = ((int(n), {}) for n in numbers[:3])
    assert write_recording(path, report_on(index, [gone]), prior_at(index), nuscenes_root, index, frames) == 0
    found = Recording(rr, path)
    times = index.timestamp_us[numbers[:3]].tolist()
    for entity, component in (("/world/ego", "Translation3D"), ("/world/ego/lidar", "Position3D")):
        assert [t for t, _ in found.rows(entity, component)] == times
    for camera in CAMERAS:
        assert [t for t, _ in found.rows(f"/world/ego/cameras/{camera}", "Blob")] == times
    assert all(len(cloud) > 20_000 for _, cloud in found.rows("/world/ego/lidar", "Position3D"))
    assert [t for t, _ in found.rows("/world/changes/c0", "status")] == [times[1]]


def test_what_cannot_be_recorded(tmp_path, rr, toy):
    root, index = toy
    report, prior = report_on(index, []), prior_at(index)
    elsewhere = ElementMap.of(FRAMES["minicity-a"], prior.elements.values())
    with pytest.raises(ValueError, match=r"a prior of minicity-a for a report on singapore-onenorth"):
        write_recording(tmp_path / "a.rrd", report, elsewhere, root, index, [(0, {})])
    other = ChangeReport("run-1", report.frame, "prior.json", ("scene-9999",), END, ())
    with pytest.raises(DataError, match="scene-9999: not in this data root"):
        write_recording(tmp_path / "a.rrd", other, prior, root, index, [(0, {})])
    with pytest.raises(DataError, match="no keyframe to record"):
        write_recording(tmp_path / "a.rrd", report, prior, root, index, [])
    assert not list(tmp_path.glob("*.rrd"))


def test_without_rerun_the_mend_is_one_line(tmp_path, toy, monkeypatch):
    root, index = toy
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ConfigError, match=r"pip install avjepa\[viz\]"):
        write_recording(tmp_path / "a.rrd", report_on(index, []), prior_at(index), root, index, [(0, {})])
