"""Occupancy-MAE on the model of the city run: the same data, masks, encoder and predictor, and voxels in place of embeddings."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.baselines.occupancy_mae import OccupancyMAE

model.jepa = dict(
    type=OccupancyMAE,
    encoder=model.jepa.encoder,
    temporal=model.jepa.temporal,
    predictor=model.jepa.predictor,
    mask=model.jepa.mask,
    sensor_drop=model.jepa.sensor_drop,
    decoder=model.jepa.decoder,
)
probe_config = None  # those of the city are for another model
