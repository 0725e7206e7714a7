"""Occupancy where a nuScenes root has no Occ3D files: truth from LiDAR rays and boxes; fitted in one city, tested in another."""

from mmengine.config import read_base

from avjepa.probes.occupancy import OccupancyProbe

with read_base():
    from .bev_occupancy import *
    from .occupancy import heads

probe = dict(type=OccupancyProbe, labels="lidar_and_boxes", train_mask="none", with_rays=True)
