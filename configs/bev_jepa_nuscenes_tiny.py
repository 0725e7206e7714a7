"""The full model, small enough to train on two CPU cores in minutes: the same code on 64 x 64 cells of 0.8 m.

Context t-1, -.5, 0 s; targets t (masked cells), t+.5, +1 s. The scenes are those of v1.0-mini; scene-0523 is for the two-scene
extract that the project is tested on. Scenes that a data root does not hold are left out.
"""

from mmengine.config import read_base

with read_base():
    from .bev_jepa_nuscenes import *

probe_config = "configs/probes/bev_occupancy.py"

# ---------------------------------------------------------------------------------------------------------------- grids
half_m = (-25.6, 25.6)
voxel_grid.update(x_range_m=half_m, y_range_m=half_m, cell_m=0.4, cell_z_m=0.5)
bev_grid.update(x_range_m=half_m, y_range_m=half_m)

# ----------------------------------------------------------------------------------------------------------------- data
context_offsets = (-2, -1, 0)
future_offsets = (1, 2)
train_data.update(batch_size=2, num_workers=1)
train_data.dataset.update(scenes=("mini_train", "scene-0523"))
monitor.update(num_clips=4, interval=50)
monitor.dataset.update(scenes=("mini_val",))
for dataset in (train_data.dataset, monitor.dataset):
    dataset.update(context_offsets=context_offsets, future_offsets=future_offsets, image_size=(64, 176), num_sweeps=1)
train_data.dataset.augment.update(yaw_range_rad=(-3.14159, 3.14159), image_crop_px=4)

# ---------------------------------------------------------------------------------------------------------------- model
channels = 32
encoder = model.jepa.encoder
encoder.update(voxel_grid=voxel_grid, channels=channels)
encoder.lidar.update(grid=voxel_grid, channels=(16, 32), out_channels=32, blocks_per_stage=1)
encoder.camera.update(
    backbone=dict(
        type=resnet_backbone,
        depths=(1, 1, 1),
        hidden_sizes=(16, 32, 64),
        layer_type="basic",
        embedding_size=16,
        out_stages=("stage2", "stage3"),
    ),
    out_channels=32,
    checkpointing=False,
)
encoder.lift.update(in_channels=32, out_channels=16, grid=bev_grid)
encoder.lift.depth_bins.update(max_m=31.0, step_m=1.0)
model.jepa.target.update(momentum_start=0.99)  # a short schedule needs a fast teacher
model.jepa.temporal.update(channels=channels, num_context=3)
model.jepa.predictor.update(grid=bev_grid, channels=channels, hidden_channels=32)
model.jepa.decoder.update(grid=bev_grid, channels=channels)

# ------------------------------------------------------------------------------------------------------------- schedule
iterations = 250
optim_wrapper.optimizer.update(lr=2e-3)
optim_wrapper.clip_grad.update(max_norm=1.0)
optim_wrapper.paramwise_cfg.lr_mult.update({"camera.backbone": 1.0})  # it starts from random weights
param_scheduler[0].update(end=40)
param_scheduler[1].update(begin=40, end=iterations)
train_cfg.update(max_iters=iterations)

# -------------------------------------------------------------------------------------------------------------- runtime
default_hooks.logger.update(interval=10)
default_hooks.checkpoint.update(interval=50)
custom_hooks[2].update(interval=125)
log_processor.update(window_size=10)
