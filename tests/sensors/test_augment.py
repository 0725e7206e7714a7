import numpy as np
import pytest
import torch

from avjepa.geometry.camera import project
from avjepa.geometry.rigid import invert, transform_points
from avjepa.sensors.augment import Augmentation, augment, change_ego, draw_ego_change
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from tests.toy_drive import red_box_centre_in_ego

STRONG = Augmentation((-3.1, 3.1), 0.5, 0.5, (0.8, 1.3), 12, 0.5, 0.3)


@pytest.fixture(scope="module")
def clip(toy_drive, tmp_path_factory):
    return NuScenesClips(toy_drive, ("mini_train",), (-1, 0), (1,), (90, 160))[1]


def drawn(clip, seed):
    return augment(clip, STRONG, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
def test_relative_poses_and_points_stay_consistent(clip, seed):
    """A point moved to the global frame is the same point, whatever frame the augmentation chose."""
    changed = drawn(clip, seed)
    for frame, again in zip(clip.frames, changed.frames, strict=True):
        before = transform_points(frame.global_T_ego, frame.points_ego[:, :3].double().numpy())
        after = transform_points(again.global_T_ego, again.points_ego[:, :3].double().numpy())
        np.testing.assert_allclose(after, before, atol=2e-5)
        assert torch.equal(again.points_ego[:, 3:], frame.points_ego[:, 3:])
        origin = transform_points(frame.global_T_ego, frame.lidar_origin_ego[None].double().numpy())
        origin_again = transform_points(again.global_T_ego, again.lidar_origin_ego[None].double().numpy())
        np.testing.assert_allclose(origin_again, origin, atol=1e-5)
        np.testing.assert_allclose(
            again.global_T_ego @ again.ego_T_cam, frame.global_T_ego @ frame.ego_T_cam, atol=1e-9
        )


def test_the_same_thing_is_at_the_pixel_the_camera_says(clip):
    """The red box is found in the augmented image where the augmented camera projects it."""
    compared = 0
    for seed in range(12):
        frame = drawn(clip, seed).now
        centre_ego = transform_points(
            frame.ego_T_cam[0] @ invert(clip.now.ego_T_cam[0]), red_box_centre_in_ego(clip.now.global_T_ego)[None]
        )
        (uv_px,), _ = project(frame.pix_T_cam[0], transform_points(invert(frame.ego_T_cam[0]), centre_ego))
        if not (25 < uv_px[0] < 135 and 20 < uv_px[1] < 70):
            continue  # this draw pushes the box to the border, where it is cut
        red = (frame.images[0, 0].float() - frame.images[0, 1].float()).clamp(min=60) - 60
        v, u = np.mgrid[:90, :160]
        seen = np.array([(u * red.numpy()).sum(), (v * red.numpy()).sum()]) / red.sum().item()
        np.testing.assert_allclose(seen, uv_px, atol=4.0)
        compared += 1
    assert compared >= 4


def test_input_is_not_changed(clip):
    points, images, pose = clip.now.points_ego.clone(), clip.now.images.clone(), clip.now.global_T_ego.copy()
    drawn(clip, 0)
    assert torch.equal(clip.now.points_ego, points)
    assert torch.equal(clip.now.images, images)
    np.testing.assert_array_equal(clip.now.global_T_ego, pose)


def test_same_seed_same_draw(clip):
    assert torch.equal(drawn(clip, 3).now.images, drawn(clip, 3).now.images)
    assert not torch.equal(drawn(clip, 3).now.points_ego, drawn(clip, 4).now.points_ego)


def test_all_mirrors_and_turns_occur():
    changes = [draw_ego_change(STRONG, torch.Generator().manual_seed(seed)) for seed in range(60)]
    determinants = [round(np.linalg.det(change)) for change in changes]
    assert 15 < determinants.count(-1) < 45
    for change in changes:
        np.testing.assert_allclose(change[:3, :3] @ change[:3, :3].T, np.eye(3), atol=1e-12)


def test_collated_motion_is_that_of_the_augmented_frames(clip):
    """Past points moved by now_T_frame lie on the present's, augmented or not."""
    for version in (clip, drawn(clip, 5)):
        batch = collate_clips([version])
        still = batch.context_in_now()
        past, now = (still.points[still.point_frame == i, :3] for i in range(2))
        standing = past[past[:, 2] > 0.3]
        distance = torch.cdist(standing, now[now[:, 2] > 0.2]).min(1).values
        assert distance.median() < 0.35


def test_change_ego_moves_everything_by_one_matrix(clip):
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    changed = change_ego(clip.now, mirror)
    torch.testing.assert_close(changed.points_ego[:, 1], -clip.now.points_ego[:, 1])
    assert np.linalg.det(changed.ego_T_cam[0]) == pytest.approx(-1)


@pytest.mark.parametrize(
    "changes", [{"flip_x": 1.5}, {"image_flip": -0.1}, {"yaw_range_rad": (1.0, -1.0)}, {"image_resize": (0.0, 1.0)}]
)
def test_ranges_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match=r"probabilities|ranges"):
        Augmentation(**changes)


def test_nothing_drawn_is_nothing_changed(clip):
    still = Augmentation((0.0, 0.0), 0.0, 0.0, (1.0, 1.0), 0, 0.0, 0.0)
    same = augment(clip, still, torch.Generator().manual_seed(0)).now
    torch.testing.assert_close(same.points_ego, clip.now.points_ego, atol=1e-6, rtol=0)
    assert torch.equal(same.images, clip.now.images)
    np.testing.assert_allclose(same.pix_T_cam, clip.now.pix_T_cam, atol=1e-12)
