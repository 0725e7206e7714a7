"""Dynamic filtering in the mini city, moving things by its motion files: other streets (near) and another town (far)."""

from mmengine.config import read_base

from avjepa.probes.dynamic import DynamicProbe

with read_base():
    from .bev_occupancy_city import *
    from .dynamic import heads, supervised, voxels

for split in (train_data["dataset"], test_data["near"], test_data["far"]):
    split.update(future_offsets=())  # the probe asks about the present alone
probe = dict(type=DynamicProbe, grid=voxels, labels="motion files", whole_drive_rows=True)
