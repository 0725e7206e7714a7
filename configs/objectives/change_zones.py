"""Half of the masks hide where things move, in place of blocks anywhere."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.masks import Region
from avjepa.jepa.target_regions import Blocks, ChangeZones

model.jepa.mask.regions = dict(
    blocks=dict(type=Region, sampler=dict(type=Blocks)), change=dict(type=Region, sampler=dict(type=ChangeZones))
)
