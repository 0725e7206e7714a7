"""BEVContrast on the model of the city run: the same data and encoder; nothing is hidden, and the predictor is not trained."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.baselines.bev_contrast import BEVContrast

model.jepa = dict(
    type=BEVContrast,
    encoder=model.jepa.encoder,
    temporal=model.jepa.temporal,
    predictor=model.jepa.predictor,
    sensor_drop=model.jepa.sensor_drop,
)
probe_config = None  # those of the city are for another model
