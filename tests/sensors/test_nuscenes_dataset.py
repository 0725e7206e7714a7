import dataclasses
import logging

import numpy as np
import pytest
import torch

from avjepa.conventions import CAMERAS
from avjepa.errors import DataError
from avjepa.geometry.camera import resize_pixels, shift_pixels
from avjepa.sensors.augment import Augmentation
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.sample import ClipBatch
from tests.sensors.test_nuscenes_index import edit_table


def clips_of(root, **changes) -> NuScenesClips:
    settings = dict(
        scenes=("scene-0061",), context_offsets=(-1, 0), future_offsets=(1,), image_size=(64, 120), max_bad_share=1.0
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


def test_cameras_of_reduced_decodes_follow_in_closed_form(toy_drive):
    """160 x 90 px decoded at a quarter is 40 x 23 px, which stand for 160 x 92; then 36 x 20 px, corner on corner."""
    dataset = clips_of(toy_drive, image_size=(18, 36))
    expected = shift_pixels(0, -2) @ resize_pixels(36 / 160, 20 / 92) @ dataset.index.pix_T_cam[1]
    np.testing.assert_allclose(dataset[0].now.pix_T_cam, expected, atol=1e-12)


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
    def drop_front(rows):
        rows[:] = [row for row in rows if "CAM_FRONT/" not in row["filename"]]

    edit_table(toy_copy, "sample_data", drop_front)
    dataset = clips_of(toy_copy)
    assert dataset[0].now.camera_present.tolist() == [True, False, True, True, True, True]
    assert dataset.bad_files.counts["sensors without a record or calibration"] == 10
    without = tuple(channel for channel in CAMERAS if channel != "CAM_FRONT")
    assert not clips_of(toy_copy, cameras=without, max_bad_share=0.0).bad_files.found


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


def test_a_bad_file_is_counted_and_logged_once_however_often_it_is_read(toy_copy, caplog):
    path = file_of(clips_of(toy_copy), 1, "CAM_FRONT")
    path.write_bytes(path.read_bytes()[:-7])
    dataset = clips_of(toy_copy, cache_frames=0)
    with caplog.at_level(logging.WARNING, "avjepa"):
        for _ in range(3):
            dataset[0]
    assert str(dataset.bad_files) == "1 bad images (" + str(path.relative_to(toy_copy)) + ")"
    assert caplog.text.count(path.name) == 1


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
    for channel in (
        "LIDAR_TOP",
        "CAM_FRONT",
        "CAM_FRONT_LEFT",
        "CAM_FRONT_RIGHT",
        "CAM_BACK",
        "CAM_BACK_LEFT",
        "CAM_BACK_RIGHT",
    ):
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


def test_no_clip_says_why(toy_drive):
    with pytest.raises(DataError, match=r"no clip of offsets \(-1, 0, 50\)"):
        clips_of(toy_drive, future_offsets=(50,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_offsets": (0, -1)}, "offsets must ascend"),
        ({"context_offsets": (-2, -1)}, "offsets must ascend and the context end in 0"),
        ({"cameras": ("CAM_TOP",)}, r"unknown cameras \['CAM_TOP'\]"),
        ({"cameras": (), "use_lidar": False}, "needs cameras or LiDAR"),
        ({"num_sweeps": 12}, "num_sweeps must be 1 to 11"),
        ({"num_sweeps": 0}, "num_sweeps must be 1 to 11"),
        ({"clip_stride": 0}, "clip_stride"),
    ],
)
def test_arguments_out_of_range_are_refused(toy_drive, changes, message):
    with pytest.raises(ValueError, match=message):
        clips_of(toy_drive, **changes)


def test_stride_and_absent_scenes_are_counted(toy_drive):
    dataset = clips_of(toy_drive, scenes=("scene-0061", "scene-0103", "scene-9999"), clip_stride=4)
    assert [frame.token for frame in dataset.present_keyframes()] == dataset.index.token[[1, 5, 11, 15]].tolist()
    assert str(dataset.bad_files) == "1 scenes that this root does not hold (scene-9999)"


def empty_labels(root):
    for table in ("sample_annotation", "instance"):
        edit_table(root, table, list.clear)


def poison_labels(root):
    box = {"translation": [1e9, float("nan"), -5], "size": [0, -1, 1e9], "rotation": [0, 0, 0, 0], "num_lidar_pts": -7}
    edit_table(root, "sample_annotation", lambda rows: [row.update(box) for row in rows])
    for table in ("category", "attribute"):
        edit_table(root, table, lambda rows: [row.update(name="poison") for row in rows])


@pytest.mark.parametrize("change_labels", [empty_labels, poison_labels])
def test_labels_are_never_read(toy_copy, change_labels):
    """Emptied or poisoned annotation tables change not a bit of any augmented batch."""

    def batches() -> list[ClipBatch]:
        dataset = clips_of(toy_copy, augment=Augmentation(), num_sweeps=3)
        return [collate_clips([dataset[(i, 7 + i)]]) for i in range(len(dataset))]

    before = batches()
    change_labels(toy_copy)
    after = batches()
    assert len(before) == len(after) == 8
    for a, b in zip(before, after, strict=True):
        for field in dataclasses.fields(ClipBatch):
            ours, again = getattr(a, field.name), getattr(b, field.name)
            same = torch.equal(ours, again) if isinstance(ours, torch.Tensor) else ours == again
            assert same, field.name


def test_keyframes_are_decoded_once(toy_drive, monkeypatch):
    dataset = clips_of(toy_drive)
    reads = []
    original = NuScenesClips._read_frame
    monkeypatch.setattr(NuScenesClips, "_read_frame", lambda self, n: reads.append(n) or original(self, n))
    for i in range(len(dataset)):
        dataset[i]
    assert sorted(reads) == list(range(10))
