"""The tiny model made tinier, for training runs of a few seconds on the toy drive."""

from mmengine.config import read_base

with read_base():
    from ...configs.bev_jepa_nuscenes_tiny import *

for dataset in (train_data.dataset, monitor.dataset):
    dataset.update(context_offsets=(-1, 0), future_offsets=(1, 2), image_size=(32, 64), max_bad_share=1.0)
train_data.update(num_workers=0)
monitor.update(num_clips=2, interval=4)

half_m = (-12.8, 12.8)
voxel_grid.update(x_range_m=half_m, y_range_m=half_m)
bev_grid.update(x_range_m=half_m, y_range_m=half_m)
channels = 16
encoder = model.jepa.encoder
encoder.update(voxel_grid=voxel_grid, channels=channels)
encoder.lidar.update(grid=voxel_grid, channels=(8, 8), out_channels=16)
encoder.camera.backbone.update(hidden_sizes=(8, 8, 16), embedding_size=8)
encoder.camera.update(out_channels=16)
encoder.lift.update(in_channels=16, out_channels=8, grid=bev_grid)
model.jepa.temporal.update(channels=channels, num_context=2)
model.jepa.predictor.update(grid=bev_grid, channels=channels, hidden_channels=16)
model.jepa.decoder.update(grid=bev_grid, channels=channels)

train_cfg.update(max_iters=9)
param_scheduler[0].update(end=3)
param_scheduler[1].update(begin=3, end=9)
default_hooks.checkpoint.update(interval=3)
default_hooks.logger.update(interval=3)
custom_hooks[2].update(interval=6)
