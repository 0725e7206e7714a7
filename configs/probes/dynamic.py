"""Dynamic filtering on nuScenes, moving things by the attributes of their boxes: fitted on mini_train, tested on mini_val."""

from mmengine.config import read_base

from avjepa.probes.dynamic import DynamicProbe
from avjepa.probes.heads import HeadTraining
from avjepa.probes.supervised import SupervisedTraining

with read_base():
    from .bev_occupancy import *

for split in (train_data["dataset"], test_data["original"]):
    split.update(future_offsets=())  # the probe asks about the present alone
voxels = dict(type=BEVGrid, x_range_m=half_m, y_range_m=half_m, z_range_m=(-2.0, 4.0), cell_m=0.8, cell_z_m=0.5)
probe = dict(type=DynamicProbe, grid=voxels, labels="boxes", whole_drive_rows=True)
heads = dict(
    linear=dict(type=HeadTraining, kind="linear", steps=200, batch_size=8, learning_rate=1e-2),
    conv=dict(type=HeadTraining, kind="conv", steps=100, batch_size=8, learning_rate=3e-3),
    attentive=dict(type=HeadTraining, kind="attentive", steps=100, batch_size=8, learning_rate=3e-3),
)
supervised = dict(type=SupervisedTraining, head="conv", steps=200, batch_size=2)  # with --supervised
