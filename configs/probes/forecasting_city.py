"""Occupancy and sweeps 0.5 to 3 s ahead in the mini city: other streets (near) and another town (far)."""

from mmengine.config import read_base

from avjepa.probes.forecasting import ForecastProbe

with read_base():
    from .bev_occupancy_city import *
    from .occupancy import heads, supervised

probe = dict(type=ForecastProbe, labels="occ3d", poses="true", ray_step=8)
