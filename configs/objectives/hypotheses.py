"""Four hypotheses of the future beside the one that is expected; the best of them counts."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.hypotheses import FutureHypotheses

model.jepa.update(
    extras=dict(hypotheses=dict(type=FutureHypotheses, count=4, hidden_channels=model.jepa.predictor.hidden_channels))
)
probe_config = None  # those of the city are for another model
