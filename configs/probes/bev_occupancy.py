"""BEV occupancy of seen and hidden cells, from LiDAR rays: fitted on mini_train, tested on mini_val. No labels."""

from avjepa.geometry.grid import BEVGrid
from avjepa.probes.bev_occupancy import BEVOccupancyProbe
from avjepa.probes.heads import HeadTraining
from avjepa.probes.supervised import SupervisedTraining
from avjepa.sensors.nuscenes_dataset import NuScenesClips

pretrain_config = "../bev_jepa_nuscenes_tiny.py"  # relative to this file: the architecture of the checkpoints

data_root = "data/nuscenes"  # or $AVJEPA_NUSCENES, or tools/probe.py --data
data_root_variable = "AVJEPA_NUSCENES"
clips = dict(
    type=NuScenesClips,
    root=data_root,
    context_offsets=(-2, -1, 0),  # as in pretraining
    future_offsets=(1, 2, 3, 4, 5, 6),  # three seconds, for targets only
    image_size=(64, 176),
    num_sweeps=1,
    clip_stride=1,
)
# Of the two-scene extract that is scene-0523 in Boston against scene-0916 in Singapore; v1.0-mini has both cities on both sides.
train_data = dict(dataset=dict(**clips, scenes=("mini_train", "scene-0523")))
test_data = dict(original=dict(**clips, scenes=("mini_val",)))

half_m = (-25.6, 25.6)
probe = dict(
    type=BEVOccupancyProbe,
    grid=dict(type=BEVGrid, x_range_m=half_m, y_range_m=half_m, z_range_m=(-5.0, 3.0), cell_m=0.8, cell_z_m=8.0),
)
heads = dict(
    linear=dict(type=HeadTraining, kind="linear", steps=300, batch_size=8, learning_rate=1e-2),
    conv=dict(type=HeadTraining, kind="conv", steps=300, batch_size=8, learning_rate=3e-3),
    attentive=dict(type=HeadTraining, kind="attentive", steps=300, batch_size=8, learning_rate=3e-3),
)
supervised = dict(type=SupervisedTraining, head="conv", steps=200, batch_size=2)  # with --supervised
