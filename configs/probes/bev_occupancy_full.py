"""BEV occupancy of the full model, to 51.2 m: fitted on the official training scenes, tested on the others. No labels."""

from mmengine.config import read_base

with read_base():
    from .bev_occupancy import *

pretrain_config = "../bev_jepa_nuscenes.py"  # relative to this file: the architecture of the checkpoints

clips.update(context_offsets=(-3, -2, -1, 0), image_size=(256, 704), num_sweeps=5)
train_data = dict(dataset=dict(**clips, scenes=("train",)))
test_data = dict(original=dict(**clips, scenes=("val",)))
probe["grid"].update(x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2))
