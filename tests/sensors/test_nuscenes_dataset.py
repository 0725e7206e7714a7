import logging

import numpy as np
import pytest
import torch

from avjepa.errors import DataError
from avjepa.sensors.augment import Augmentation
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from tests.sensors.test_nuscenes_index import edit_table


def clips_of(root, **changes) -> NuScenesClips:
    settings = dict(
        scenes=("mini_train",), context_offsets=(-1, 0), future_offsets=(1,), image_size=(64, 120), max_bad_share=1.0
    )
    return NuScenesClips(root, **{**settings, **changes})


def file_of(dataset: NuScenesClips, keyframe: int, channel: str):
    if channel == "LIDAR_TOP":
        return dataset.root / str(dataset.index.lidar_file[keyframe])
    return next(dataset.root / str(name) for name in dataset.index.camera_file[keyframe] if f"/{channel}/" in str(name))


def test_a_clip_is_what_was_asked_for(toy_drive):
    clip = clips_of(toy_drive)[0]
    assert [frame.token for frame in clip.frames] == [str(t) for t in clips_of(toy_drive).index.token[:3]]
    assert clip.num_context == 2
    assert clip.now.images.shape == (6, 3, 64, 120)
    assert clip.now.camera_present.all()
    assert clip.now.lidar_present
    assert len(clip.now.points_ego) > 1000
    assert (clip.now.points_ego[:, 4] == 0).all()


def test_pixels_follow_the_resize_and_crop(toy_drive):
    """The red box's centre of mass in the image is where pix_T_cam says."""
    from avjepa.geometry.camera import project
    from avjepa.geometry.rigid import invert, transform_points
    from tests.toy_drive import red_box_centre_in_ego

    frame = clips_of(toy_drive, image_size=(40, 100))[0].now
    centre_cam = transform_points(invert(frame.ego_T_cam[0]), red_box_centre_in_ego(frame.global_T_ego)[None])
    (uv_px,), _ = project(frame.pix_T_cam[0], centre_cam)
    red = (frame.images[0, 0].float() - frame.images[0, 1].float()).clamp(min=60) - 60
    v, u = np.mgrid[:40, :100]
    seen = np.array([(u * red.numpy()).sum(), (v * red.numpy()).sum()]) / red.sum().item()
    np.testing.assert_allclose(seen, uv_px, atol=2.0)


def test_an_item_is_a_pure_function_of_index_and_seed(toy_drive):
    first, second = (clips_of(toy_drive, augment=Augmentation()) for _ in range(2))
    second[(5, 1)]
    a, b = first[(2, 77)], second[(2, 77)]
    assert torch.equal(a.now.points_ego, b.now.points_ego)
    assert torch.equal(a.now.images, b.now.images)
    assert not torch.equal(a.now.points_ego, first[(2, 78)].now.points_ego)
    assert torch.equal(first[2].now.points_ego, clips_of(toy_drive)[2].now.points_ego)


def test_missing_camera_is_absent_and_counted(toy_copy):
    file_of(clips_of(toy_copy), 1, "CAM_BACK").unlink()
    dataset = clips_of(toy_copy)
    assert dataset.bad_files.counts["missing files"] == 1
    assert "CAM_BACK" in str(dataset.bad_files)
    frame = dataset[0].now
    assert frame.camera_present.tolist() == [True, True, True, True, False, True]
    assert not frame.images[4].any()
    assert len(dataset) == 8  # nothing else is lost


def test_missing_channel_in_the_tables(toy_copy):
    edit_table(toy_copy, "sample_data", lambda rows: rows.__setitem__(slice(None), [r for r in rows if "CAM_FRONT/" not in r["filename"]]))
    assert clips_of(toy_copy)[0].now.camera_present.tolist() == [True, False, True, True, True, True]


@pytest.mark.parametrize(("channel", "kind"), [("LIDAR_TOP", "bad LiDAR files"), ("CAM_FRONT", "bad images")])
def test_truncated_files_are_absent_counted_and_named(toy_copy, caplog, channel, kind):
    path = file_of(clips_of(toy_copy), 1, channel)
    path.write_bytes(path.read_bytes()[:-7])
    dataset = clips_of(toy_copy)
    with caplog.at_level(logging.WARNING, "avjepa"):
        frame = dataset[0].now
    assert dataset.bad_files.counts[kind] == 1
    assert path.name in caplog.text
    if channel == "LIDAR_TOP":
        assert not frame.lidar_present
        assert len(frame.points_ego) == 0
        assert frame.camera_present.all()
    else:
        assert not frame.camera_present[1]
        assert frame.lidar_present


def test_missing_lidar_leaves_the_cameras(toy_copy):
    file_of(clips_of(toy_copy), 1, "LIDAR_TOP").unlink()
    dataset = clips_of(toy_copy)
    assert dataset.bad_files.counts["missing files"] == 1
    assert not dataset[0].now.lidar_present
    assert dataset[0].now.camera_present.all()


def test_empty_cloud_is_a_scan_without_returns(toy_copy):
    file_of(clips_of(toy_copy), 1, "LIDAR_TOP").write_bytes(b"")
    dataset = clips_of(toy_copy)
    frame = dataset[0].now
    assert frame.lidar_present
    assert frame.points_ego.shape == (0, 5)
    assert dataset.bad_files.counts["empty LiDAR sweeps"] == 1


def test_points_that_are_not_finite_are_dropped_and_counted(toy_copy):
    path = file_of(clips_of(toy_copy), 1, "LIDAR_TOP")
    points = np.fromfile(path, np.float32).reshape(-1, 5)
    before = len(clips_of(toy_copy)[0].now.points_ego)
    points[np.flatnonzero(np.linalg.norm(points[:, :2], axis=1) > 10)[:3], 1] = np.nan
    points.tofile(path)
    dataset = clips_of(toy_copy)
    assert len(dataset[0].now.points_ego) == before - 3
    assert dataset.bad_files.counts["LiDAR points that are not finite"] == 3
    assert torch.isfinite(dataset[0].now.points_ego).all()


def test_missing_sweeps_are_counted_and_not_invented(toy_copy):
    with_sweeps = clips_of(toy_copy, num_sweeps=4)
    full = with_sweeps[2].now
    for path in (toy_copy / "sweeps" / "LIDAR_TOP").iterdir():
        path.unlink()
    dataset = clips_of(toy_copy, num_sweeps=4)
    frame = dataset[2].now
    assert set(frame.points_ego[:, 4].tolist()) == {0.0}
    assert len(frame.points_ego) == (full.points_ego[:, 4] == 0).sum()
    # Three older sweeps for each keyframe but the first, none of which are keyframes themselves.
    assert dataset.bad_files.counts["older LiDAR sweeps listed but missing"] == 9 * 3


def test_keyframe_without_any_file_is_left_out(toy_copy):
    dataset = clips_of(toy_copy)
    for channel in ("LIDAR_TOP", "CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"):
        file_of(dataset, 4, channel).unlink()
    damaged = clips_of(toy_copy)
    assert not (damaged.clips == 4).any()
    assert len(damaged) == len(dataset) - 3
    assert damaged.bad_files.counts["clips left out (unreadable keyframe or gap in time)"] == 3


def test_keyframe_found_unreadable_is_replaced_by_the_next_clip(toy_copy):
    dataset = clips_of(toy_copy, cameras=())
    path = file_of(dataset, 4, "LIDAR_TOP")
    path.write_bytes(path.read_bytes()[:-3])
    clip = dataset[2]  # keyframes 2, 3, 4
    assert clip.now.token == str(dataset.index.token[6])  # the next clip without keyframe 4 is 5, 6, 7
    assert dataset.bad_files.counts["clips replaced"] == 3


def test_too_many_bad_files_stop_the_run(toy_copy):
    for keyframe in range(3):
        file_of(clips_of(toy_copy), keyframe, "CAM_FRONT").unlink()
    with pytest.raises(DataError, match=r"3 of 10 keyframes have bad files, more than max_bad_share=0.2.*CAM_FRONT"):
        clips_of(toy_copy, max_bad_share=0.2)
    assert len(clips_of(toy_copy, max_bad_share=0.3))


def test_too_many_corrupt_files_stop_the_run_when_they_are_read(toy_copy):
    for keyframe in range(3):
        path = file_of(clips_of(toy_copy), keyframe, "CAM_FRONT")
        path.write_bytes(path.read_bytes()[:-50])
    dataset = clips_of(toy_copy, max_bad_share=0.2)
    with pytest.raises(DataError, match="3 of 10 keyframes have bad files"):
        [dataset[i] for i in range(len(dataset))]


def test_one_sensor_only(toy_drive):
    lidar_only = clips_of(toy_drive, cameras=())[0].now
    assert lidar_only.images.shape == (0, 3, 64, 120)
    assert lidar_only.lidar_present
    camera_only = clips_of(toy_drive, use_lidar=False, cameras=("CAM_BACK", "CAM_FRONT"))[0].now
    assert not camera_only.lidar_present
    assert camera_only.camera_present.tolist() == [True, True]
    assert camera_only.ego_T_cam[1, 0, 3] > 0.99  # the front camera is second, as asked
    with pytest.raises(ValueError, match="cameras or LiDAR"):
        clips_of(toy_drive, cameras=(), use_lidar=False)


def test_no_clip_says_why(toy_drive):
    with pytest.raises(DataError, match=r"no clip of offsets \(-1, 0, 50\)"):
        clips_of(toy_drive, future_offsets=(50,))
    with pytest.raises(ValueError, match="offsets must ascend"):
        clips_of(toy_drive, context_offsets=(0, -1))


def test_labels_are_never_read(toy_copy):
    """Empty or poisoned annotation tables change not a bit of any batch."""
    before = [clips_of(toy_copy)[i] for i in (0, 4)]
    for table in ("sample_annotation", "instance"):
        edit_table(toy_copy, table, lambda rows: rows.clear())
    edit_table(toy_copy, "category", lambda rows: [row.update(name="poison") for row in rows])
    after = [clips_of(toy_copy)[i] for i in (0, 4)]
    for a, b in zip(before, after, strict=True):
        for frame, again in zip(a.frames, b.frames, strict=True):
            assert torch.equal(frame.points_ego, again.points_ego)
            assert torch.equal(frame.images, again.images)
            np.testing.assert_array_equal(frame.ego_T_cam, again.ego_T_cam)


def test_keyframes_are_decoded_once(toy_drive, monkeypatch):
    dataset = clips_of(toy_drive)
    reads = []
    original = NuScenesClips._read_frame
    monkeypatch.setattr(NuScenesClips, "_read_frame", lambda self, n: reads.append(n) or original(self, n))
    for i in range(len(dataset)):
        dataset[i]
    assert sorted(reads) == list(range(10))
