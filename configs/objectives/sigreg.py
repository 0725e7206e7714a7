"""SIGReg in place of teacher, stop-gradient, variance and covariance (LeJEPA); no grounding."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.sigreg import SIGReg
from avjepa.jepa.target_encoder import SharedTarget

model.jepa.target = dict(type=SharedTarget, stop_gradient=False)
model.jepa.update(sigreg=dict(type=SIGReg), cell_loss="l2")
model.jepa.weights.update(variance=0.0, covariance=0.0, sigreg_times_n=0.1, occupancy=0.0)
probe_config = None  # those of the city are for another model
