"""Occupancy probe of a model trained with bev_jepa_nuscenes_tiny.py: fitted on one set of scenes, tested in another city."""

from avjepa.probes.heads import HeadTraining
from avjepa.sensors.nuscenes_dataset import NuScenesClips

pretrain_config = "../bev_jepa_nuscenes_tiny.py"  # relative to this file: the architecture of the checkpoints

data_root = "data/nuscenes"  # or $AVJEPA_NUSCENES, or tools/probe.py --data
data_root_variable = "AVJEPA_NUSCENES"
context_offsets = (-2, -1, 0)  # as in pretraining
future_offsets = (1, 2, 3, 4, 5, 6)  # three seconds, for targets only

train_data = dict(
    dataset=dict(
        type=NuScenesClips,
        root=data_root,
        scenes=("mini_train", "scene-0523"),
        context_offsets=context_offsets,
        future_offsets=future_offsets,
        image_size=(64, 176),
        num_sweeps=1,
    ),
)
test_data = dict(
    dataset=dict(
        type=NuScenesClips,
        root=data_root,
        scenes=("mini_val",),
        context_offsets=context_offsets,
        future_offsets=future_offsets,
        image_size=(64, 176),
        num_sweeps=1,
    ),
)

heads = dict(
    linear=dict(type=HeadTraining, kind="linear", steps=300, batch_size=8, learning_rate=1e-2),
    conv=dict(type=HeadTraining, kind="conv", steps=300, batch_size=8, learning_rate=3e-3),
)
