"""Future cells whose occupancy changed count four times: what stands still is predicted by the warp alone."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

model.jepa.update(changed_weight=4.0)
