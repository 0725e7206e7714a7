"""An EMA teacher alone: no variance, no covariance, no grounding."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

model.jepa.weights.update(variance=0.0, covariance=0.0, occupancy=0.0)
