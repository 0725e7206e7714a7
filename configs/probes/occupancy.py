"""Semantic occupancy on nuScenes with Occ3D's ``gts/`` beside the tables, of the full model: official train and val scenes."""

from avjepa.probes.heads import HeadTraining
from avjepa.probes.occupancy import OccupancyProbe
from avjepa.probes.supervised import SupervisedTraining
from avjepa.sensors.nuscenes_dataset import NuScenesClips

pretrain_config = "../bev_jepa_nuscenes.py"  # relative to this file: the architecture of the checkpoints

data_root = "data/nuscenes"  # or $AVJEPA_NUSCENES, or tools/probe.py --data
data_root_variable = "AVJEPA_NUSCENES"
clips = dict(
    type=NuScenesClips,
    root=data_root,
    context_offsets=(-3, -2, -1, 0),  # as in pretraining
    future_offsets=(),
    image_size=(256, 704),
    num_sweeps=5,
)
train_data = dict(dataset=dict(**clips, scenes=("train",)))
test_data = dict(original=dict(**clips, scenes=("val",)))

probe = dict(type=OccupancyProbe, train_mask="camera", with_rays=True)
heads = dict(
    linear=dict(type=HeadTraining, kind="linear", steps=200, batch_size=4, learning_rate=1e-2, crop_cells=80),
    conv=dict(type=HeadTraining, kind="conv", steps=200, batch_size=4, learning_rate=5e-3, crop_cells=80),
    attentive=dict(type=HeadTraining, kind="attentive", steps=200, batch_size=4, learning_rate=5e-3, crop_cells=80),
)
supervised = dict(type=SupervisedTraining, head="conv", steps=200, batch_size=2, crop_cells=80)  # with --supervised
