"""The city run with a mixture of regions to predict in place of blocks alone."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.masks import Region
from avjepa.jepa.target_regions import Blocks, ChangeZones, FutureOnly, RareThings, RouteAhead, Shadows, ThinStructures

model.jepa.mask.regions = dict(
    blocks=dict(type=Region, sampler=dict(type=Blocks), weight=3.0),
    shadows=dict(type=Region, sampler=dict(type=Shadows), weight=2.0),
    route=dict(type=Region, sampler=dict(type=RouteAhead), weight=1.0),
    change=dict(type=Region, sampler=dict(type=ChangeZones), weight=1.0),
    thin=dict(type=Region, sampler=dict(type=ThinStructures), weight=1.0),
    rare=dict(type=Region, sampler=dict(type=RareThings), weight=1.0),
    future=dict(type=Region, sampler=dict(type=FutureOnly), weight=1.0),
)
