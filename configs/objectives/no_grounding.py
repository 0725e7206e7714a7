"""The city run without the occupancy loss: the embedding is held to nothing but its own prediction."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

model.jepa.weights.update(occupancy=0.0)
