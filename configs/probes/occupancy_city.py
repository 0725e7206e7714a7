"""Semantic occupancy of the mini city: fitted on the training drives, tested on other streets (near) and in another town (far)."""

from mmengine.config import read_base

from avjepa.probes.occupancy import OccupancyProbe

with read_base():
    from .bev_occupancy_city import *
    from .occupancy import heads, supervised

probe = dict(type=OccupancyProbe, train_mask="camera", with_rays=True)
