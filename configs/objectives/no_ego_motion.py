"""The default that does not know that the car moves: no frame and no prediction is moved."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

model.jepa.update(ego_motion=False)
probe_config = None  # those of the city are for another model
