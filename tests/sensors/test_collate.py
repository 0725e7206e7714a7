import pytest
import torch

from avjepa.geometry.rigid import transform_points
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips


@pytest.fixture(scope="module")
def dataset(toy_drive):
    return NuScenesClips(toy_drive, ("mini_train",), (-1, 0), (1, 2), (32, 64))


def test_batch_holds_every_frame_in_order(dataset):
    clips = [dataset[0], dataset[3]]
    batch = collate_clips(clips)
    assert batch.shape == (2, 4)
    for number, frame in enumerate(frame for clip in clips for frame in clip.frames):
        assert torch.equal(batch.points[batch.point_frame == number], frame.points_ego)
        assert torch.equal(batch.images.flatten(0, 1)[number], frame.images)
    torch.testing.assert_close(batch.time_s, torch.tensor([[-0.5, 0, 0.5, 1.0]] * 2))
    torch.testing.assert_close(batch.now_T_frame[:, 1], torch.eye(4).expand(2, 4, 4))


def test_frames_are_moved_into_now_and_targets_are_not(dataset):
    batch = collate_clips([dataset[0], dataset[3]])
    context, targets = batch.context_in_now(), batch.targets()
    assert context.num_frames == 4
    assert targets.num_frames == 6
    past = dataset[3].frames[0]
    torch.testing.assert_close(
        context.points[context.point_frame == 2, :3], transform_points(batch.now_T_frame[1, 0], past.points_ego[:, :3])
    )
    assert torch.equal(targets.points[targets.point_frame == 2, :3], dataset[0].frames[3].points_ego[:, :3])
    torch.testing.assert_close(context.bev_T_cam[2], batch.now_T_frame[1, 0] @ batch.ego_T_cam[1, 0])
    torch.testing.assert_close(batch.frame_T_now()[1, 2] @ batch.now_T_frame[1, 3], torch.eye(4), atol=1e-4, rtol=0)


def test_a_frame_without_points_keeps_its_number(dataset):
    from dataclasses import replace

    clip = dataset[0]
    empty = replace(clip.frames[3], points_ego=clip.frames[3].points_ego[:0])
    batch = collate_clips([replace(clip, frames=(*clip.frames[:3], empty))])
    assert batch.targets().num_frames == 3
    assert int(batch.targets().point_frame.max()) == 1


def test_clips_of_different_lengths_are_refused(dataset, toy_drive):
    other = NuScenesClips(toy_drive, ("mini_train",), (-1, 0), (1,), (32, 64))[0]
    with pytest.raises(ValueError, match="one length"):
        collate_clips([dataset[0], other])
