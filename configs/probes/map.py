"""Drivable area of seen and unseen cells on nuScenes from the official masks: fitted on mini_train, tested on mini_val.

With nuScenes's map expansion beside the tables, take all of MAP_CLASSES.
"""

from mmengine.config import read_base

from avjepa.probes.heads import HeadTraining
from avjepa.probes.map_completion import MapProbe
from avjepa.probes.supervised import SupervisedTraining

with read_base():
    from .bev_occupancy import *

probe = dict(type=MapProbe, classes=("drivable_area",))
heads = dict(
    linear=dict(type=HeadTraining, kind="linear", steps=200, batch_size=4, learning_rate=1e-2, crop_cells=80),
    conv=dict(type=HeadTraining, kind="conv", steps=200, batch_size=4, learning_rate=5e-3, crop_cells=80),
    attentive=dict(type=HeadTraining, kind="attentive", steps=200, batch_size=4, learning_rate=5e-3, crop_cells=80),
)
supervised = dict(type=SupervisedTraining, head="conv", steps=200, batch_size=2, crop_cells=80)  # with --supervised
