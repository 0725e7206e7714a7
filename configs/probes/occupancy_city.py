"""Occupancy probe of a model of bev_jepa_city.py: fitted on the training drives, tested on other streets and another town."""

from mmengine.config import read_base

with read_base():
    from .occupancy import *

pretrain_config = "../bev_jepa_city.py"  # relative to this file: the architecture of the checkpoints

data_root = "data/city"  # or $AVJEPA_CITY, or tools/probe.py --data
data_root_variable = "AVJEPA_CITY"
train_data.dataset.update(root=data_root, scenes=("train",))
test_data.dataset.update(root=data_root, scenes=("val_near", "val_far"))
