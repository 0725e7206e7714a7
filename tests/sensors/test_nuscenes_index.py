import json
import logging
import shutil

import numpy as np
import pytest

from avjepa.errors import DataError
from avjepa.geometry.rigid import invert
from avjepa.sensors import nuscenes_index
from avjepa.sensors.nuscenes_index import find_clips, load_index, split_scenes
from tests.toy_drive import LIDAR_POSITION_M, VERSION, camera_calibration, ego_pose, token


def edit_table(root, name, change):
    path = root / VERSION / f"{name}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def test_toy_drive_is_read_as_written(toy_drive):
    index = load_index(toy_drive)
    assert index.scene_name.tolist() == ["scene-0061", "scene-0103"]
    assert index.scene_city.tolist() == ["singapore-onenorth", "boston-seaport"]
    assert index.scene.tolist() == [0] * 10 + [1] * 10
    np.testing.assert_allclose(index.global_T_ego[3], ego_pose(3), atol=1e-9)
    np.testing.assert_allclose(index.ego_T_lidar[3, :3, 3], LIDAR_POSITION_M)
    # The camera was exposed 10 ms later, from a pose further along.
    pix_T_cam, body_T_cam = camera_calibration("CAM_FRONT", (160, 90))
    expected = invert(ego_pose(3)) @ ego_pose(3.02) @ body_T_cam
    np.testing.assert_allclose(index.ego_T_cam[3, 1], expected, atol=1e-9)
    assert np.abs(expected - body_T_cam).max() > 0.03
    np.testing.assert_allclose(index.pix_T_cam[3, 1], pix_T_cam)
    assert index.camera_size_px[3, 1].tolist() == [90, 160]
    # Four sweeps a keyframe, newest first; the first keyframe has none before it.
    assert (index.sweep_file[0] == "").all()
    np.testing.assert_allclose(index.sweep_age_s[3], np.arange(1, 11) * 0.125, atol=1e-6)
    np.testing.assert_allclose(index.ego_T_sweep_ego[3, 1], invert(ego_pose(3)) @ ego_pose(2.5), atol=1e-9)


def test_cache_is_used_rebuilt_and_survives_damage(toy_copy, cache_folder, monkeypatch, caplog):
    first = load_index(toy_copy)
    (cached,) = cache_folder.glob("index-*.npz")
    monkeypatch.setattr(nuscenes_index, "build_index", lambda *_: pytest.fail("read the tables in spite of the cache"))
    second = load_index(toy_copy)
    assert second.token.tolist() == first.token.tolist()
    np.testing.assert_array_equal(second.ego_T_cam, first.ego_T_cam)
    monkeypatch.undo()
    monkeypatch.setenv("AVJEPA_CACHE", str(cache_folder))

    cached.write_bytes(cached.read_bytes()[:500])
    with caplog.at_level(logging.WARNING):
        assert load_index(toy_copy).token.tolist() == first.token.tolist()
    assert "is damaged" in caplog.text

    edit_table(toy_copy, "scene", lambda rows: rows[0].update(name="scene-0553"))
    assert load_index(toy_copy).scene_name.tolist() == ["scene-0553", "scene-0103"]


def test_cache_holds_no_pickle(toy_drive, cache_folder):
    load_index(toy_drive)
    (cached,) = cache_folder.glob("index-*.npz")
    with np.load(cached, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret.jpg", "samples/../../secret.jpg"])
def test_tables_cannot_name_files_outside_the_root(toy_copy, name):
    edit_table(toy_copy, "sample_data", lambda rows: rows[0].update(filename=name))
    with pytest.raises(DataError, match="leaves the data root"):
        load_index(toy_copy)


def test_missing_root_and_tables_say_what_to_do(tmp_path, toy_copy):
    with pytest.raises(DataError, match=r"nowhere: no such folder; download v1\.0-mini from nuscenes\.org"):
        load_index(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"v1\.0-trainval: no tables"):
        load_index(toy_copy, "v1.0-trainval")
    (toy_copy / VERSION / "ego_pose.json").unlink()
    with pytest.raises(DataError, match=r"cannot be read \(FileNotFoundError.*ego_pose"):
        load_index(toy_copy)
    shutil.rmtree(toy_copy / VERSION)
    with pytest.raises(DataError, match=r"want one v1.0-\* folder, found none"):
        load_index(toy_copy)


def test_two_versions_must_be_named(toy_copy):
    shutil.copytree(toy_copy / VERSION, toy_copy / "v1.0-other")
    with pytest.raises(DataError, match=r"found v1\.0-mini, v1\.0-other"):
        load_index(toy_copy)
    assert len(load_index(toy_copy, "v1.0-other").token) == 20


def test_poses_that_are_not_finite_are_left_out_and_named(toy_copy, caplog):
    poison = load_index(toy_copy).lidar_file[4]
    edit_table(
        toy_copy,
        "ego_pose",
        lambda rows: next(row for row in rows if str(row["timestamp"]) in str(poison))["translation"].__setitem__(
            0, float("nan")
        ),
    )
    with caplog.at_level(logging.WARNING):
        index = load_index(toy_copy)
    assert "1 keyframes have a damaged pose" in caplog.text
    assert np.flatnonzero(~index.usable()).tolist() == [4]
    assert str(index.token[4]) in caplog.text
    clips, left_out = find_clips(index, [0], (-1, 0, 1), index.usable())
    assert not (clips == 4).any()
    assert (len(clips), left_out) == (5, 3)


@pytest.mark.parametrize(
    "rotation", [[2.0, 0, 0, 0], [0.5, 0, 0, 0.5], [0, 0, 0, 0], [float("nan"), 0, 0, 1], None, "x"]
)
def test_a_rotation_that_is_none_is_not_used(toy_copy, rotation):
    """A quaternion that is not of unit length is damage, not a matter of scaling."""
    time_us = str(load_index(toy_copy).timestamp_us[4])
    edit_table(
        toy_copy, "ego_pose", lambda rows: [r.update(rotation=rotation) for r in rows if str(r["timestamp"]) == time_us]
    )
    assert np.flatnonzero(~load_index(toy_copy).usable()).tolist() == [4]


def test_a_damaged_calibration_is_not_used(toy_copy):
    def damage(rows, channel):
        next(row for row in rows if row["token"] == token("calibrated", channel))["translation"][2] = float("inf")

    edit_table(toy_copy, "calibrated_sensor", lambda rows: damage(rows, "CAM_BACK"))
    index = load_index(toy_copy)
    assert index.usable().all()
    assert (index.camera_file != "").all(0).tolist() == [True, True, True, True, False, True]
    edit_table(toy_copy, "calibrated_sensor", lambda rows: damage(rows, "LIDAR_TOP"))
    assert not load_index(toy_copy).usable().any()


def test_a_record_that_does_not_exist_is_a_data_error(toy_copy):
    edit_table(toy_copy, "scene", lambda rows: rows[0].update(first_sample_token="nowhere"))
    with pytest.raises(DataError, match=r"v1\.0-mini: cannot be read \(KeyError: 'nowhere'\)"):
        load_index(toy_copy)


def test_a_cache_that_cannot_be_written_only_costs_time(toy_drive, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert len(load_index(toy_drive).token) == 20
    assert "cannot keep the index" in caplog.text


def test_splits_and_names(toy_drive):
    index = load_index(toy_drive)
    found, absent = split_scenes(index, ("mini_train",))
    assert found == [0]
    assert len(absent) == 7  # mini_train has eight scenes
    assert "scene-0553" in absent
    assert "scene-0061" not in absent
    assert split_scenes(index, ("mini_val", "scene-0061"))[0] == [0, 1]
    assert split_scenes(index, ("scene-0103", "scene-9999")) == ([1], ["scene-9999"])
    with pytest.raises(
        DataError, match=r"none of the scenes scene-9999 is here; this root holds scene-0061, scene-0103"
    ):
        split_scenes(index, ("scene-9999",))


def test_clips_never_cross_scenes(toy_drive):
    index = load_index(toy_drive)
    clips, left_out = find_clips(index, [0, 1], (-2, 0, 3), index.usable())
    assert left_out == 0
    assert len(clips) == 2 * (10 - 5)
    assert (index.scene[clips] == index.scene[clips][:, :1]).all()
    assert (np.diff(clips, axis=1) == [2, 3]).all()


def test_stride_thins_out_clips(toy_drive):
    index = load_index(toy_drive)
    clips, _ = find_clips(index, [0, 1], (-1, 0, 1), index.usable(), stride=3)
    assert clips[:, 1].tolist() == [1, 4, 7, 11, 14, 17]


def test_clips_do_not_span_gaps_in_time(toy_copy):
    index = load_index(toy_copy)
    index.timestamp_us[5:10] += 2_000_000
    clips, left_out = find_clips(index, [0], (-1, 0, 1), index.usable())
    assert [clip.tolist() for clip in clips] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7], [6, 7, 8], [7, 8, 9]]
    assert left_out == 2


def test_missing_channel_is_an_empty_name(toy_copy):
    def drop_front(rows):
        rows[:] = [row for row in rows if "CAM_FRONT/" not in row["filename"]]

    edit_table(toy_copy, "sample_data", drop_front)
    index = load_index(toy_copy)
    assert (index.camera_file[:, 1] == "").all()
    assert (index.camera_file[:, 0] != "").all()
