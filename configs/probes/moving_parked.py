"""Which of the vehicles and people that stand around move, by the attributes of boxes: fitted on mini_train, tested on mini_val."""

from mmengine.config import read_base

from avjepa.probes.moving_parked import MovingParkedProbe

with read_base():
    from .bev_occupancy import *

for split in (train_data["dataset"], test_data["original"]):
    split.update(future_offsets=())  # the probe asks about the present alone
probe.update(type=MovingParkedProbe)
