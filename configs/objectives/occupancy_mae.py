"""Occupancy-MAE on the model of the city run: the same data, masks, encoder and predictor, and voxels in place of embeddings.

Probe it with `--cfg-options pretrain_config=../objectives/occupancy_mae.py`.
"""

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
    voxel_m=0.5,
)
del probe_config  # noqa: F821 - it is of another architecture
