"""Mean squared error in place of smooth-L1."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

model.jepa.update(cell_loss="l2")
