"""The default, and what it predicts must also say which voxels are occupied: the targets of Occupancy-MAE beside the JEPA's."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

from avjepa.jepa.voxel_grounding import VoxelDecoder, VoxelGrounding

model.jepa.update(
    extras=dict(
        voxels=dict(type=VoxelGrounding, decoder=dict(type=VoxelDecoder, grid=bev_grid, channels=channels, voxel_m=0.5))
    )
)
model.jepa.weights.update(occupancy=0.0)  # the same question, asked better
probe_config = None  # those of the city are for another model
