"""VICReg: variance and covariance in place of teacher and stop-gradient; 25 : 25 : 1 as in the paper (Bardes et al. 2022)."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.target_encoder import SharedTarget

model.jepa.target = dict(type=SharedTarget, stop_gradient=False)
model.jepa.update(cell_loss="l2")
