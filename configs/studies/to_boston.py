"""to_singapore.py the other way round: heads are fitted on scene-0916 in Singapore and tested on scene-0523 in Boston."""

from mmengine.config import read_base

with read_base():
    from .to_singapore import *

seen, unseen = ("mini_val",), ("scene-0523",)
with_real.update({"train_data.dataset.datasets.1.scenes": seen, "monitor.dataset.scenes": unseen})
halves = {"train_data.dataset.scenes": seen, "test_data.original.scenes": unseen}
for task in tasks.values():
    task.options.update(halves)
for name in ("jepa", "occupancy_mae", "bev_contrast"):
    objectives[name].options.update(with_real)
