"""BEV occupancy in the mini city: fitted on the training drives, tested on other streets (near) and in another town (far)."""

from mmengine.config import read_base

with read_base():
    from .bev_occupancy import *

pretrain_config = "../bev_jepa_city.py"  # relative to this file: the architecture of the checkpoints

data_root = "data/city"  # or $AVJEPA_CITY, or tools/probe.py --data
data_root_variable = "AVJEPA_CITY"
clips.update(root=data_root)
train_data = dict(dataset=dict(**clips, scenes=("train",)))
test_data = dict(near=dict(**clips, scenes=("val_near",)), far=dict(**clips, scenes=("val_far",)))
