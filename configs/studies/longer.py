"""Three times the steps of city.py: do the EMA teacher, and the JEPA beside its rivals, need longer runs?

    python tools/study.py configs/studies/longer.py --data data/city24 --out work_dirs/longer

Heads see all labels; models trained from scratch on labels are those of city.py and are not trained again.
"""

from mmengine.config import read_base

with read_base():
    from .city import *

# as in city.py, about equal core-minutes
steps = dict(jepa=600, no_teacher=600, occupancy_mae=810, bev_contrast=975)
objectives = {name: {**objectives[name], "iterations": count} for name, count in steps.items()}
label_shares = (1.0,)
for name in ("bev_occupancy", "moving_parked", "map"):
    tasks[name].supervised = False
