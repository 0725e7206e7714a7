"""The two real scenes, read from end to end. Golden calibrations: tests/geometry/test_real_calibration.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips

pytestmark = pytest.mark.real_data


def test_every_clip_of_both_scenes_can_be_read(nuscenes_root):
    """One pass over all clips at a small size: no bad file, poses that move, times that grow."""
    dataset = NuScenesClips(
        nuscenes_root, ("scene-0523", "mini_val"), (-2, -1, 0), (1, 2), (32, 88), cache_frames=100, max_bad_share=0.0
    )
    assert len(dataset) >= 60
    for i in range(0, len(dataset), 6):
        batch = collate_clips([dataset[i]])
        assert (batch.time_s.diff() > 0.3).all()
        assert (batch.time_s.diff() < 0.75).all()
        assert torch.isfinite(batch.points).all()
        assert batch.camera_present.all()
        assert batch.lidar_present.all()
        assert (batch.points[:, 3] <= 1).all()
        step_m = batch.now_T_frame[0, :, :3, 3].diff(dim=0).norm(dim=1)
        assert (step_m < 12).all()
    assert set(dataset.bad_files.counts) <= {"scenes that this root does not hold"}


def test_a_still_world_stays_still(nuscenes_root):
    """Ego-motion on real data: the past, moved into the present, fits it far better than left where it was."""
    dataset = NuScenesClips(nuscenes_root, ("scene-0523",), (-2, -1, 0), (1,), (32, 88), cameras=())
    positions = [dataset[i].frames[0].global_T_ego[:3, 3] for i in range(len(dataset))]
    fastest = int(np.argmax(np.linalg.norm(np.diff(positions, axis=0), axis=1)))
    batch = collate_clips([dataset[fastest]])

    def misfit_m(frames) -> float:
        past, now = (frames.points[frames.point_frame == i] for i in (0, 2))
        things = [
            cloud[(cloud[:, 2] > 0.5) & (cloud[:, 2] < 3) & (cloud[:, :2].norm(dim=1) < 30), :3]
            for cloud in (past, now)
        ]
        return float(torch.cdist(things[0][::5], things[1]).min(1).values.median())

    moved = batch.context_in_now()
    left = replace(batch, now_T_frame=torch.eye(4).expand_as(batch.now_T_frame)).context_in_now()
    assert misfit_m(moved) < 0.25
    assert misfit_m(moved) < 0.6 * misfit_m(left)
