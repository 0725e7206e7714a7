"""The city run with randomised sensors, for use on real drives."""

from mmengine.config import read_base

with read_base():
    from .bev_jepa_city import *

from avjepa.sensors.randomise import SensorRandomisation

train_data.dataset.augment.update(sensors=dict(type=SensorRandomisation))
