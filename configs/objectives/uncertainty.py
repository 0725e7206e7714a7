"""The default that also says how far off each predicted cell will be."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.uncertainty import PredictionUncertainty

model.jepa.update(extras=dict(uncertainty=dict(type=PredictionUncertainty, channels=channels)))
probe_config = None  # those of the city are for another model
