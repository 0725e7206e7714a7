"""Causal next-embedding prediction alone (NEPA): nothing masked, no teacher, no regulariser, cosine.

Its predictor is never asked about another place of the car: the monitors' ratios tell what it is worth there untrained.
"""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.causal import CausalPrediction
from avjepa.jepa.masks import Region
from avjepa.jepa.target_encoder import SharedTarget
from avjepa.jepa.target_regions import FutureOnly

model.jepa.target = dict(type=SharedTarget, stop_gradient=True)
model.jepa.update(cell_loss="cosine", extras=dict(causal=dict(type=CausalPrediction)))
model.jepa.mask.regions = dict(future=dict(type=Region, sampler=dict(type=FutureOnly)))
model.jepa.weights.update(masked=0.0, future=0.0, rollout=0.0, variance=0.0, covariance=0.0, occupancy=0.0)
probe_config = None  # those of the city are for another model
