"""The city run with real drives among the generated ones, sensors randomised; watched on real drives.

Data roots: $AVJEPA_CITY and $AVJEPA_NUSCENES, or data/city and data/nuscenes.
"""

from mmengine.config import read_base

with read_base():
    from .bev_jepa_city_randomised import *

from avjepa.sensors.joined_clips import JoinedClips

probe_config = "configs/probes/bev_occupancy.py"
data_root_variable = "AVJEPA_NUSCENES"
generated = train_data.pop("dataset")
real = dict(generated, root="data/nuscenes", scenes=("mini_train", "scene-0523"))
train_data.update(dataset=dict(type=JoinedClips, datasets=[generated, real], repeats=(1, 2)))
monitor.dataset.update(root="data/nuscenes", scenes=("mini_val",))
