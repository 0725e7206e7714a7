"""Map segmentation and completion in the mini city, six classes: other streets (near) and another town (far)."""

from mmengine.config import read_base

from avjepa.probes.map_completion import MapProbe

with read_base():
    from .bev_occupancy_city import *
    from .map import heads, supervised

probe = dict(type=MapProbe)
