"""VICReg: variance and covariance in place of teacher and stop-gradient, and nothing else; prediction, variance and covariance
weigh 25 : 25 : 1 as in the paper (Bardes et al. 2022), which has them on both branches and not, as here, on the context's alone.
"""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.target_encoder import SharedTarget

model.jepa.target = dict(type=SharedTarget, stop_gradient=False)
model.jepa.update(cell_loss="l2")
model.jepa.weights.update(masked=0.4, future=0.4, rollout=0.2, occupancy=0.0)
probe_config = None  # those of the city are for another model
