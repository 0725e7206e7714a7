"""Recordings of map changes for Foxglove, read back with mcap's own reader."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from pyquaternion import Quaternion
from shapely.geometry import LineString, Point, box

from avjepa.conventions import CAMERAS
from avjepa.errors import ConfigError, DataError
from avjepa.mapping.frames import FRAMES
from avjepa.reports.foxglove_schemas import SCHEMAS
from avjepa.reports.recording import record_drives
from avjepa.reports.recording_mcap import mcap_recording
from avjepa.sensors.nuscenes_files import read_lidar
from avjepa.sensors.nuscenes_index import load_index
from avjepa.sensors.sweeps import move_sweep
from tests.mapping.reports import HOSTILE, change
from tests.reports.recordings import black_and_white, prior_at, report_on, seen_at

pytestmark = pytest.mark.usefixtures("module_index_cache")


@pytest.fixture(autouse=True)
def reader():
    return pytest.importorskip("mcap.reader", reason="mcap is not installed: pip install avjepa[viz]")


def write(path, changes, root, index, frames):
    report = report_on(index, changes)
    with mcap_recording(path, report) as recording:
        return record_drives([recording], report, prior_at(index), root, index, frames)


class Recorded:
    """A file read back: (time in ns, message) by topic, in the order of the file."""

    def __init__(self, reader, path):
        self.topics, self.schemas, self.times_ns = {}, {}, []
        with path.open("rb") as stream:
            file = reader.make_reader(stream)
            self.summary = file.get_summary()
            for schema, channel, message in file.iter_messages(log_time_order=False):
                assert (channel.message_encoding, schema.encoding) == ("json", "jsonschema")
                assert json.loads(schema.data) == SCHEMAS[schema.name]
                assert message.publish_time == message.log_time
                self.schemas[channel.topic] = schema.name
                self.times_ns.append(message.log_time)
                self.topics.setdefault(channel.topic, []).append((message.log_time, json.loads(message.data)))
            self.metadata = {record.name: record.metadata for record in file.iter_metadata()}

    def messages(self, topic):
        return [message for _, message in self.topics[topic]]

    def times_us(self, topic):
        return [time // 1000 for time, _ in self.topics[topic]]


def matrix(transform):
    """(4, 4) parent_T_child of a FrameTransform."""
    x, y, z, w = (transform["rotation"][name] for name in "xyzw")
    parent_T_child = Quaternion(w, x, y, z).transformation_matrix
    parent_T_child[:3, 3] = [transform["translation"][name] for name in "xyz"]
    return parent_T_child


def points(cloud):
    """(P, 3) metres and (P, 4) colours, read by the fields that the cloud names."""
    names, offsets = zip(*((field["name"], field["offset"]) for field in cloud["fields"]), strict=True)
    formats = [{1: "u1", 7: "<f4"}[field["type"]] for field in cloud["fields"]]
    layout = {"names": names, "formats": formats, "offsets": offsets, "itemsize": cloud["point_stride"]}
    rows = np.frombuffer(base64.b64decode(cloud["data"]), np.dtype(layout))
    return tuple(np.stack([rows[name] for name in wanted], 1) for wanted in ("xyz", ("red", "green", "blue", "alpha")))


def line(entity, number=0):
    return [tuple(point[name] for name in "xyz") for point in entity["lines"][number]["points"]]


def test_a_drive_comes_back(tmp_path, reader, toy):
    root, index = toy
    path = tmp_path / "out" / "drive.mcap"
    assert write(path, [], root, index, map(black_and_white, range(4))) == 0
    assert [file.name for file in path.parent.iterdir()] == ["drive.mcap"]
    found, times = Recorded(reader, path), index.timestamp_us.tolist()
    assert found.schemas == {
        **{"/tf": "foxglove.FrameTransforms", "/gps": "foxglove.LocationFix", "/lidar": "foxglove.PointCloud"},
        **{f"/cameras/{name}/image": "foxglove.CompressedImage" for name in CAMERAS},
        **{f"/cameras/{name}/calibration": "foxglove.CameraCalibration" for name in CAMERAS},
        **{"/bev/occupancy": "foxglove.CompressedImage", "/driven": "foxglove.SceneUpdate"},
        **{f"/prior/{layer}": "foxglove.SceneUpdate" for layer in ("ped_crossing", "road_divider", "drivable_area")},
    }
    assert found.metadata["report"]["run_id"] == "run-1"
    assert found.times_ns == sorted(found.times_ns)
    statistics = found.summary.statistics
    assert statistics.message_count == len(found.times_ns) == 4 * (3 + 2 * 6 + 1) + 1 + 3
    assert {chunk.compression for chunk in found.summary.chunk_indexes} == {"zstd"}
    for topic, messages in found.topics.items():
        start_alone = topic == "/driven" or topic.startswith("/prior")
        assert found.times_us(topic) == (times[:1] if start_alone else times), topic
        for (time_ns, message), stamped in ((pair, pair[1]) for pair in messages if "timestamp" in pair[1]):
            stamp = stamped["timestamp"]
            assert stamp["sec"] * 10**9 + stamp["nsec"] == time_ns
            assert set(message) == set(SCHEMAS[found.schemas[topic]]["properties"])

    for i, name in enumerate(CAMERAS):
        for n, image in enumerate(found.messages(f"/cameras/{name}/image")):
            assert base64.b64decode(image["data"]) == (root / str(index.camera_file[n, i])).read_bytes()
            assert (image["format"], image["frame_id"]) == ("jpeg", name)
        calibration = found.messages(f"/cameras/{name}/calibration")[2]
        assert (calibration["width"], calibration["height"]) == (160, 90)
        np.testing.assert_array_equal(np.reshape(calibration["K"], (3, 3)), index.pix_T_cam[2, i])
        np.testing.assert_array_equal(np.reshape(calibration["P"], (3, 4))[:, :3], index.pix_T_cam[2, i])

    (way,) = found.messages("/driven")[0]["entities"]
    np.testing.assert_array_equal(line(way), index.global_T_ego[:, :3, 3])
    (divider,) = found.messages("/prior/road_divider")[0]["entities"]
    assert line(divider) == [(300.0, 900.0, 0.0), (309.0, 900.0, 0.0), (309.0, 902.0, 0.0)]
    assert (divider["frame_id"], divider["lifetime"]) == ("map", {"sec": 0, "nsec": 0})
    assert divider["lines"][0]["color"] == pytest.approx({"r": 230 / 255, "g": 200 / 255, "b": 60 / 255, "a": 1})

    fix = found.messages("/gps")[3]
    lon_lat = np.array([[fix["longitude"], fix["latitude"]]])
    xy_m = FRAMES[str(index.scene_city[0])].to_map(lon_lat)[0]
    np.testing.assert_allclose(xy_m, index.global_T_ego[3, :2, 3], atol=1e-6)

    (tmp_path / "bev.png").write_bytes(base64.b64decode(found.messages("/bev/occupancy")[0]["data"]))
    picture = np.asarray(Image.open(tmp_path / "bev.png"))
    assert picture[0, 0].tolist() == [255, 255, 255], "forward is up, left is left"
    assert picture.sum() == 3 * 255


def test_points_and_pixels_land_where_the_poses_say(tmp_path, reader, toy):
    root, index = toy
    write(tmp_path / "drive.mcap", [], root, index, ((n, {}) for n in range(4)))
    found, n = Recorded(reader, tmp_path / "drive.mcap"), 3
    poses = {one["child_frame_id"]: one for one in found.messages("/tf")[n]["transforms"]}
    assert poses["ego"]["parent_frame_id"] == "map"
    cloud = found.messages("/lidar")[n]
    assert (cloud["frame_id"], cloud["pose"]["position"]) == ("ego", {"x": 0.0, "y": 0.0, "z": 0.0})
    xyz_ego, colours = points(cloud)
    kept, _ = read_lidar(root / str(index.lidar_file[n]))
    expected = move_sweep(kept, index.ego_T_lidar[n], np.eye(4), 0.0)[:, :3]
    np.testing.assert_array_equal(xyz_ego, expected)
    assert (colours[:, 3] == 255).all()
    high, low = xyz_ego[:, 2] > 1.5, xyz_ego[:, 2] < 0.1
    assert colours[high, 0].mean() > colours[low, 0].mean() + 50, "turbo: high is red"

    xyz_map = xyz_ego @ matrix(poses["ego"])[:3, :3].T + matrix(poses["ego"])[:3, 3]
    truth = expected @ index.global_T_ego[n, :3, :3].T + index.global_T_ego[n, :3, 3]
    np.testing.assert_allclose(xyz_map, truth, atol=1e-6)
    red_box = box(311, 905, 313, 907).buffer(0.05)  # of the toy world, in its map
    on_it = [Point(*xyz).within(red_box) for xyz in xyz_map[xyz_map[:, 2] > 0.3]]
    assert sum(on_it) > 20

    for i, name in enumerate(CAMERAS):
        assert poses[name]["parent_frame_id"] == "ego"
        np.testing.assert_allclose(matrix(poses[name]), index.ego_T_cam[n, i], atol=1e-9)


def test_changes_come_back_at_their_place_and_time(tmp_path, reader, toy):
    root, index = toy
    times = index.timestamp_us.tolist()
    seen = seen_at(index, 0, 3)
    moved = {"layer": "lane_divider", "atomic_change": "geometry", "old_geometry": LineString([(0, 0), (9, 0)])}
    changes = [
        change(**seen, confirmed_seen=seen["first_seen"] + timedelta(microseconds=times[2] - times[0])),
        change("c1", **moved, new_geometry=LineString([(0, 1), (9, 1)]), **seen_at(index, 1, 3)),
        change("c2", **seen_at(index, 2, 3), status="candidate", confidence=0.4),
        change(
            HOSTILE,
            **{"status": "unobservable", "observed_fraction": 0.0, "n_traversals": 0, "n_frames": 0},
            **{"first_seen": None, "last_seen": None, "evidence": ()},
        ),
    ]
    write(tmp_path / "changes.mcap", changes, root, index, ((n, {}) for n in range(4)))
    found = Recorded(reader, tmp_path / "changes.mcap")
    assert found.times_ns == sorted(found.times_ns)
    assert found.times_us("/changes") == [times[0], times[1], times[2]]
    shown = [[entity["id"] for entity in message["entities"]] for message in found.messages("/changes")]
    assert shown == [[HOSTILE], [HOSTILE, "c1"], [HOSTILE, "c1", "c0", "c2"]], "all that are known so far"
    _, c1, c0, _ = found.messages("/changes")[-1]["entities"]
    assert c0["spheres"][0]["pose"]["position"] == {"x": 12.0, "y": 22.0, "z": 0.02}
    assert c0["texts"][0]["text"] == "delete_crosswalk, confirmed 0.93"
    assert {fact["key"]: fact["value"] for fact in c0["metadata"]}["status"] == "confirmed"
    assert set(line(c0)) == {(x, y, 0.02) for x in (10.0, 14.0) for y in (20.0, 24.0)}
    assert len(c0["lines"]) == 1
    assert [line(c1, side) for side in (0, 1)] == [[(0.0, y, 0.02), (9.0, y, 0.02)] for y in (0.0, 1.0)]
    assert c1["lines"][0]["color"] != c1["lines"][1]["color"]
    assert found.times_us("/log") == [times[0], times[1], times[2], times[2]]
    said = found.messages("/log")[2]
    assert (said["level"], said["message"]) == (3, "delete_crosswalk, confirmed 0.93: a crosswalk is gone")
    assert found.messages("/log")[3]["level"] == 2


def test_what_a_keyframe_lacks_is_not_shown_on(tmp_path, reader, toy, caplog):
    """Nor made up for a camera that no keyframe has."""
    root, index = toy
    (root / str(index.camera_file[1, 0])).write_bytes(b"\xff\xd8 no picture")
    (root / str(index.lidar_file[2])).unlink()
    files = index.camera_file.copy()
    files[:, 3], files[3, 1] = "", ""
    path, index = tmp_path / "drive.mcap", replace(index, camera_file=files)
    assert write(path, [], root, index, ((n, {}) for n in range(4))) == 2
    assert "2 camera and LiDAR files are missing or corrupt" in caplog.text
    found = Recorded(reader, path)
    times = index.timestamp_us.tolist()
    assert f"/cameras/{CAMERAS[3]}/image" not in found.topics
    assert [len(points(cloud)[0]) > 0 for cloud in found.messages("/lidar")] == [True, True, False, True]
    for camera, lacking in ((0, 1), (1, 3)):
        pictures = found.messages(f"/cameras/{CAMERAS[camera]}/image")
        assert [picture["format"] for picture in pictures] == ["png" if n == lacking else "jpeg" for n in range(4)]
        (tmp_path / "black.png").write_bytes(base64.b64decode(pictures[lacking]["data"]))
        assert np.asarray(Image.open(tmp_path / "black.png")).tolist() == [[[0, 0, 0]]]
        with_picture = [time for n, time in enumerate(times) if n != lacking]
        assert found.times_us(f"/cameras/{CAMERAS[camera]}/calibration") == with_picture
    children = [[one["child_frame_id"] for one in message["transforms"]] for message in found.messages("/tf")]
    assert children[1] == ["ego", *(name for i, name in enumerate(CAMERAS) if i not in (0, 3))]


def test_messages_are_written_as_they_come(tmp_path, toy):
    """Not held until the drive is over."""
    root, index = toy
    sizes = []

    def frames():
        for _ in range(3):
            sizes.append(sum(file.stat().st_size for file in tmp_path.glob(".drive.*.mcap")))
            noise = np.random.default_rng(0).random((700, 700, 3))  # does not compress: more than a chunk
            yield 0, {"noise": noise}

    write(tmp_path / "drive.mcap", [], root, index, frames())
    assert all(after > before + 1_000_000 for before, after in pairwise(sizes))


def test_a_kill_leaves_no_half_file(tmp_path, toy):
    root, index = toy
    path = tmp_path / "drive.mcap"
    path.write_bytes(b"of an earlier run")

    def stopped(end):
        yield 0, {}
        end()

    child = os.fork()
    if child == 0:
        write(path, [], root, index, stopped(lambda: os.kill(os.getpid(), signal.SIGKILL)))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_bytes() == b"of an earlier run"
    for left in tmp_path.glob(".drive.*.mcap"):
        left.unlink()

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, [], root, index, stopped(interrupt))
    with pytest.raises(DataError, match="no keyframe to record"):
        write(path, [], root, index, [])
    assert [file.name for file in tmp_path.glob("*.mcap")] == ["drive.mcap"]
    assert not list(tmp_path.glob(".drive.*"))
    assert path.read_bytes() == b"of an earlier run"


def test_without_mcap_the_mend_is_one_line(tmp_path, toy, monkeypatch):
    root, index = toy
    monkeypatch.setitem(sys.modules, "mcap.writer", None)
    with pytest.raises(ConfigError, match=r"pip install avjepa\[viz\] brings mcap"):
        write(tmp_path / "a.mcap", [], root, index, [(0, {})])


@pytest.mark.real_data
def test_real_frames_come_back(tmp_path, reader, nuscenes_root):
    index = load_index(nuscenes_root)
    (numbers,) = np.nonzero(index.scene == 0)
    assert write(tmp_path / "real.mcap", [], nuscenes_root, index, ((int(n), {}) for n in numbers[:2])) == 0
    found = Recorded(reader, tmp_path / "real.mcap")
    assert found.times_us("/tf") == index.timestamp_us[numbers[:2]].tolist()
    assert all(len(points(cloud)[0]) > 20_000 for cloud in found.messages("/lidar"))
    for i, name in enumerate(CAMERAS):
        image = found.messages(f"/cameras/{name}/image")[1]
        path = nuscenes_root / str(index.camera_file[numbers[1], i])
        assert base64.b64decode(image["data"]) == path.read_bytes()
