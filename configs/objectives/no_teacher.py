"""The default with the encoder's own embedding, its gradient stopped, in place of an EMA teacher."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.target_encoder import SharedTarget

model.jepa.target = dict(type=SharedTarget, stop_gradient=True)
probe_config = None  # those of the city are for another model
