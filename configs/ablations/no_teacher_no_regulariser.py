"""The tiny run without teacher, stop-gradient, regulariser and grounding. It collapses, and the alarm must stop it early."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_nuscenes_tiny import *

from avjepa.jepa.target_encoder import SharedTarget

model.jepa.target = dict(type=SharedTarget, stop_gradient=False)
model.jepa.weights.update(variance=0.0, covariance=0.0, occupancy=0.0)
monitor.update(interval=20)
