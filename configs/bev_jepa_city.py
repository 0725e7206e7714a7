"""The small model of bev_jepa_nuscenes_tiny.py on the generated mini city; what `make demo` trains.

Make the data with `python tools/make_city.py --out data/city`. Held out: streets of the same town that no training drive visits.
"""

from mmengine.config import read_base

with read_base():
    from .bev_jepa_nuscenes_tiny import *

data_root = "data/city"  # or $AVJEPA_CITY, or tools/train.py --data
data_root_variable = "AVJEPA_CITY"
probe_config = "configs/probes/bev_occupancy_city.py"
for dataset in (train_data.dataset, monitor.dataset):
    dataset.update(root=data_root)
train_data.dataset.update(scenes=("train",))
monitor.dataset.update(scenes=("val_near",))

iterations = 200
param_scheduler[1].update(end=iterations)
train_cfg.update(max_iters=iterations)
custom_hooks[2].update(interval=100)
