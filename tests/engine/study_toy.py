"""A drive and configs for studies of a few steps."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.toy_drive import SCENES, write_toy_drive

ROOT = Path(__file__).resolve().parents[2]
TOY = """
from mmengine.config import read_base

with read_base():
    from .tests.engine.toy_config import *

train_data.dataset.update(scenes=("{scene}",))
monitor.dataset.update(scenes=("{scene}",))
"""
PROBE = """
from avjepa.geometry.grid import BEVGrid
from avjepa.probes.bev_occupancy import BEVOccupancyProbe
from avjepa.probes.heads import HeadTraining
from avjepa.probes.supervised import SupervisedTraining
from avjepa.sensors.nuscenes_dataset import NuScenesClips

pretrain_config = "base.py"
clips = dict(
    type=NuScenesClips, root="nowhere", context_offsets=(-1, 0), future_offsets=(1, 2), image_size=(32, 64), max_bad_share=1.0,
    clip_stride=1,
)
train_data = dict(dataset=dict(**clips, scenes=("{train}",)))
test_data = dict(other=dict(**clips, scenes=("{test}",)))
half_m = (-12.8, 12.8)
grid = dict(type=BEVGrid, x_range_m=half_m, y_range_m=half_m, z_range_m=(-5.0, 3.0), cell_m=0.8, cell_z_m=8.0)
probe = dict(type=BEVOccupancyProbe, grid=grid)
heads = dict(linear=dict(type=HeadTraining, steps=3, batch_size=1), conv=dict(type=HeadTraining, kind="conv", steps=3))
supervised = dict(type=SupervisedTraining, head="linear", steps=1, batch_size=1)
"""
STUDY = """
objectives = dict(
    jepa=dict(config="base.py", title="JEPA", iterations=3),
    ungrounded=dict(config="ungrounded.py", title="no grounding", iterations=4),
)
reference = "jepa"
seeds = 2
label_shares = (0.5, 1.0)
tasks = dict(
    bev=dict(
        config="probe.py", title="BEV occupancy", heads=("linear",), metrics=("auroc_known", "iou_known"),
        options={"heads.linear.steps": 2},
    ),
)
"""
FAILING = """
objectives = dict(
    collapsing=dict(config="collapsing.py", title="collapsing"),
    broken=dict(config="broken.py", title="broken"),
)
reference = "collapsing"
seeds = 1
label_shares = (1.0,)
tasks = dict(bev=dict(
    config="probe.py", title="BEV occupancy", heads=("linear",), metrics=("iou_known",), options={"heads.linear.steps": 2},
))
"""
COLLAPSING = """
from mmengine.config import read_base

with read_base():
    from .base import *

from avjepa.jepa.target_encoder import SharedTarget

model.jepa.target = dict(type=SharedTarget, stop_gradient=False)
model.jepa.weights.update(variance=0.0, covariance=0.0, occupancy=0.0)
train_cfg.update(max_iters=60)
param_scheduler[1].update(end=60)
monitor.update(interval=10)
"""
BROKEN = """
from mmengine.config import read_base

with read_base():
    from .base import *

train_data.dataset.update(scenes=("scene-nowhere",))
"""


def write_studies(folder: Path) -> None:
    """The drive in ``toy``, and the configs study.py (two objectives) and failing.py (one collapses, one has no data)."""
    write_toy_drive(folder / "toy", scenes=2, keyframes=6)
    (folder / "__init__.py").touch()
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "tests" / "engine").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "engine" / "toy_config.py", folder / "tests" / "engine")
    base = TOY.format(scene=SCENES[0])
    (folder / "base.py").write_text(base)
    (folder / "ungrounded.py").write_text(base + "model.jepa.weights.update(occupancy=0.0)\n")
    (folder / "collapsing.py").write_text(COLLAPSING)
    (folder / "broken.py").write_text(BROKEN)
    (folder / "probe.py").write_text(PROBE.format(train=SCENES[0], test=SCENES[1]))
    (folder / "leaky_probe.py").write_text(PROBE.format(train=SCENES[1], test=SCENES[0]))
    (folder / "study.py").write_text(STUDY)
    (folder / "failing.py").write_text(FAILING)
