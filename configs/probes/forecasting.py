"""Occupancy and sweeps 0.5 to 3 s ahead on nuScenes without Occ3D files: fitted on mini_train, tested on mini_val."""

from mmengine.config import read_base

from avjepa.probes.forecasting import ForecastProbe

with read_base():
    from .bev_occupancy import *
    from .occupancy import heads, supervised

for split in (train_data["dataset"], test_data["original"]):
    split.update(clip_stride=4)  # truth from LiDAR rays takes seconds a clip
probe = dict(type=ForecastProbe, labels="lidar_and_boxes", poses="true", ray_step=8)
