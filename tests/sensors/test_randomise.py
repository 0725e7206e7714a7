"""Randomised sensors: what changes, what may not, and that a draw can be repeated."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avjepa.sensors.augment import Augmentation, augment
from avjepa.sensors.randomise import SensorRandomisation, change_lidar, change_look, randomise
from avjepa.sensors.sample import Frame
from tests.jepa import tiny

AS_IT_IS = SensorRandomisation((1, 1), (0, 0), (0, 0), (1, 1), (1, 1), (1, 1), (1, 1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ring(range_m: float, count: int = 4000) -> Frame:
    """A frame whose returns all lie at one distance from its LiDAR."""
    frame = tiny.clip().now
    angle = torch.linspace(0, 6.28, count)
    xyz = frame.lidar_origin_ego + range_m * torch.stack([angle.cos(), angle.sin(), torch.zeros(count)], 1)
    return replace(frame, points_ego=torch.cat([xyz, torch.full((count, 1), 0.25), torch.zeros(count, 1)], 1))


def test_ones_and_zeros_change_nothing():
    clip = tiny.clip()
    same = randomise(clip, AS_IT_IS, generator())
    for before, after in zip(clip.frames, same.frames, strict=True):
        torch.testing.assert_close(after.points_ego, before.points_ego)
        assert torch.equal(after.images, before.images)


@pytest.mark.parametrize(("range_m", "share"), [(10.0, 0.8 * 0.9), (50.0, 0.8 * 0.5), (80.0, 0.8 * 0.5)])
def test_far_returns_are_lost_more_often(range_m, share):
    kept = change_lidar(ring(range_m), 0.8, 0.5, 0.0, 1.0, generator())
    assert len(kept.points_ego) / 4000 == pytest.approx(share, abs=0.03)


def test_noise_lies_along_the_ray_and_the_intensity_is_raised():
    frame = ring(20.0)
    noisy = change_lidar(frame, 1.0, 0.0, 0.05, 2.0, generator())
    offset = noisy.points_ego[:, :3] - frame.lidar_origin_ego
    range_m = offset.norm(dim=1)
    assert range_m.std().item() == pytest.approx(0.05, rel=0.1)
    direction = (frame.points_ego[:, :3] - frame.lidar_origin_ego) / 20.0
    torch.testing.assert_close(offset / range_m[:, None], direction)
    assert noisy.points_ego[:, 3].unique().tolist() == [0.0625]
    assert torch.equal(frame.points_ego[:, 3].unique(), torch.tensor([0.25]))  # the cached frame is not touched


def test_look_by_hand():
    frame = replace(tiny.clip().now, images=torch.zeros(2, 3, 1, 2, dtype=torch.uint8))
    frame.images[0, :, 0, 0] = torch.tensor([100, 50, 0])  # grey .299 * 100 + .587 * 50 = 59.25
    frame.images[0, :, 0, 1] = 200
    assert change_look(frame, 1.0, 1.0, 0.0).images[0, :, 0, 0].tolist() == [59, 59, 59]
    assert change_look(frame, 0.5, 1.0, 1.0).images[0, :, 0, 1].tolist() == [100, 100, 100]
    mean = (59.25 + 200) / 2
    assert change_look(frame, 1.0, 0.0, 0.0).images[0].unique().tolist() == [round(mean)]
    assert change_look(frame, 2.0, 1.0, 1.0).images.max() == 255
    camera_fields = ("images", "pix_T_cam", "ego_T_cam", "camera_present")
    none = replace(frame, **{name: getattr(frame, name)[:0] for name in camera_fields})
    assert change_look(none, 2.0, 1.0, 1.0) is none


def test_a_draw_is_one_clip_one_seed():
    """Every frame of a clip is of the same sensors, and the same seed gives the same clip."""
    clip, settings = tiny.clip(), SensorRandomisation()
    first, second = (randomise(clip, settings, generator(5)) for _ in range(2))
    other = randomise(clip, settings, generator(6))
    for a, b, c in zip(first.frames, second.frames, other.frames, strict=True):
        assert torch.equal(a.points_ego, b.points_ego)
        assert torch.equal(a.images, b.images)
        assert not torch.equal(a.images, c.images)
    intensities = [frame.points_ego[:, 3].unique().item() for frame in first.frames]  # .4 before, one power after
    assert len(set(intensities)) == 1
    assert intensities[0] != pytest.approx(0.4)


def test_as_a_part_of_the_augmentation_it_leaves_the_geometry_alone():
    clip = tiny.clip()
    plain = augment(clip, Augmentation(), generator())
    changed = augment(clip, Augmentation(sensors=SensorRandomisation()), generator())
    assert (changed.now.ego_T_cam == plain.now.ego_T_cam).all()
    assert (changed.now.pix_T_cam == plain.now.pix_T_cam).all()
    assert len(changed.now.points_ego) < len(plain.now.points_ego)


@pytest.mark.parametrize(
    "settings",
    [{"lidar_keep": (0.9, 0.5)}, {"brightness": (-0.1, 1)}, {"lidar_keep": (0.5, 1.5)}, {"lidar_lost_far": (0, 2)}],
)
def test_ranges_are_checked(settings):
    with pytest.raises(ValueError, match=r"ranges must ascend|shares must be"):
        SensorRandomisation(**settings)
