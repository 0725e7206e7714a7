"""Which of the vehicles and people that stand around move, in the mini city: other streets (near) and another town (far)."""

from mmengine.config import read_base

from avjepa.probes.moving_parked import MovingParkedProbe

with read_base():
    from .bev_occupancy_city import *

for split in (train_data["dataset"], test_data["near"], test_data["far"]):
    split.update(future_offsets=())  # the probe asks about the present alone
probe.update(type=MovingParkedProbe)
