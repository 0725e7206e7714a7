"""Occupancy where a nuScenes root has no Occ3D files: truth from LiDAR rays and boxes; fitted on mini_train, tested on mini_val."""

from mmengine.config import read_base

from avjepa.probes.occupancy import OccupancyProbe

with read_base():
    from .bev_occupancy import *
    from .occupancy import heads, supervised

probe = dict(type=OccupancyProbe, labels="lidar_and_boxes", train_mask="none", with_rays=True)
