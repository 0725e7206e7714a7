"""The default without the voxels: embeddings alone."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

model.jepa.weights.update(occupancy=0.0)
