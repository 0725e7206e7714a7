"""Deep self-supervision: four levels of the encoder are predicted, and visible cells count, too (V-JEPA 2.1)."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.deep import DeepSupervision

model.jepa.update(
    extras=dict(deep=dict(type=DeepSupervision, channels=channels, lidar_channels=encoder.lidar.out_channels))
)
probe_config = None  # those of the city are for another model
