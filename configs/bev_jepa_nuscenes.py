"""BEV JEPA on nuScenes, full size: six cameras at 256 x 704, LiDAR to 51.2 m at 0.1 m, BEV cells of 0.8 m.

Context t-1.5, -1, -.5, 0 s; targets t (masked cells), t+.5, +1, +2 s. The schedule is for a global batch of 32 and about 30
epochs of the 700 training scenes; it has not been trained to its end yet.
"""

from mmengine.hooks import IterTimerHook, LoggerHook, ParamSchedulerHook, RuntimeInfoHook
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from mmengine.runner import LogProcessor
from mmengine.visualization import TensorboardVisBackend, Visualizer
from torch.optim import AdamW

from avjepa.bev.camera_features import CameraFeatures, resnet_backbone
from avjepa.bev.encoder import BEVEncoder
from avjepa.bev.lidar_sparse import SparseEncoder
from avjepa.bev.lift_splat import DepthBins, LiftSplat
from avjepa.engine.hooks import CheckpointHook, LossCurveHook, PictureHook, TeacherHook
from avjepa.engine.loss_spikes import LossSpikes
from avjepa.engine.model import JEPATrainingModel
from avjepa.engine.optim import TrainedParameters
from avjepa.engine.runner import ClipTrainLoop
from avjepa.geometry.grid import BEVGrid
from avjepa.jepa.losses import LossWeights
from avjepa.jepa.masks import GroupMask, Region, SensorDrop
from avjepa.jepa.model import BEVJEPA
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.jepa.target_encoder import EMATarget
from avjepa.jepa.target_regions import Blocks
from avjepa.jepa.voxel_decoder import VoxelDecoder
from avjepa.sensors.augment import Augmentation
from avjepa.sensors.nuscenes_dataset import NuScenesClips

# ---------------------------------------------------------------------------------------------------------------- grids
x_range_m = y_range_m = (-51.2, 51.2)
z_range_m = (-5.0, 3.0)
voxel_grid = dict(type=BEVGrid, x_range_m=x_range_m, y_range_m=y_range_m, z_range_m=z_range_m, cell_m=0.1, cell_z_m=0.2)
bev_grid = dict(type=BEVGrid, x_range_m=x_range_m, y_range_m=y_range_m, z_range_m=z_range_m, cell_m=0.8, cell_z_m=8.0)

# ----------------------------------------------------------------------------------------------------------------- data
data_root = "data/nuscenes"  # or $AVJEPA_NUSCENES, or tools/train.py --data
data_root_variable = "AVJEPA_NUSCENES"
probe_config = "configs/probes/bev_occupancy_full.py"  # what to type next
context_offsets = (-3, -2, -1, 0)  # keyframes at 2 Hz
future_offsets = (1, 2, 4)

train_data = dict(
    dataset=dict(
        type=NuScenesClips,
        root=data_root,
        scenes=("train",),
        context_offsets=context_offsets,
        future_offsets=future_offsets,
        image_size=(256, 704),
        num_sweeps=5,
        augment=dict(
            type=Augmentation,
            yaw_range_rad=(-0.39, 0.39),
            flip_x=0.5,
            flip_y=0.5,
            image_resize=(0.95, 1.1),
            image_crop_px=16,
            image_flip=0.5,
            image_rotate_rad=0.09,
        ),
    ),
    batch_size=4,  # per GPU
    num_workers=8,
)
monitor = dict(
    dataset=dict(
        type=NuScenesClips,
        root=data_root,
        scenes=("val",),
        context_offsets=context_offsets,
        future_offsets=future_offsets,
        image_size=(256, 704),
        num_sweeps=5,
    ),
    num_clips=4,
    interval=500,
    alarm_std=0.1,
)

# ---------------------------------------------------------------------------------------------------------------- model
channels = 256
model = dict(
    type=JEPATrainingModel,
    jepa=dict(
        type=BEVJEPA,
        encoder=dict(
            type=BEVEncoder,
            voxel_grid=voxel_grid,
            lidar=dict(type=SparseEncoder, grid=voxel_grid, channels=(16, 32, 64, 128), out_channels=256),
            camera=dict(
                type=CameraFeatures,
                backbone=dict(type=resnet_backbone),
                out_channels=256,
                feature_stride=8,
                checkpointing=True,
            ),
            lift=dict(
                type=LiftSplat,
                in_channels=256,
                out_channels=80,
                depth_bins=dict(type=DepthBins, min_m=1.0, max_m=60.0, step_m=0.5),
                grid=bev_grid,
            ),
            channels=channels,
        ),
        target=dict(type=EMATarget, momentum_start=0.996),
        temporal=dict(type=TemporalContext, channels=channels, num_context=4),
        predictor=dict(type=WarpPredictor, grid=bev_grid, channels=channels, hidden_channels=256),
        decoder=dict(type=VoxelDecoder, grid=bev_grid, channels=channels, voxel_m=0.5),
        mask=dict(
            type=GroupMask,
            regions=dict(blocks=dict(type=Region, sampler=dict(type=Blocks, block_cells=(2, 4), hidden_share=0.5))),
        ),
        sensor_drop=dict(type=SensorDrop, whole_sensor=0.3, camera=0.1, sector=0.3),
        weights=dict(type=LossWeights),
    ),
)

# ------------------------------------------------------------------------------------------------------------- schedule
iterations = 26_000
optim_wrapper = dict(
    type=OptimWrapper,
    constructor=TrainedParameters,
    optimizer=dict(type=AdamW, lr=3e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=10.0),
    paramwise_cfg=dict(lr_mult={"camera.backbone": 0.1}),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, by_epoch=False, begin=0, end=1000),
    dict(type=CosineAnnealingLR, eta_min_ratio=0.05, by_epoch=False, begin=1000, end=iterations),
]
train_cfg = dict(
    type=ClipTrainLoop,
    max_iters=iterations,
    skip_spikes=dict(type=LossSpikes, num_std=10.0, window=100, most_in_a_row=20),
)
parallel = "ddp"  # or "fsdp"; under tools/train.py --launcher only
randomness = dict(seed=0)

# -------------------------------------------------------------------------------------------------------------- runtime
default_hooks = dict(
    runtime_info=dict(type=RuntimeInfoHook),
    timer=dict(type=IterTimerHook),
    sampler_seed=None,
    logger=dict(type=LoggerHook, interval=20, ignore_last=False),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, interval=1000, keep=3),
)
custom_hooks = [
    dict(type=TeacherHook),
    dict(type=LossCurveHook),
    dict(type=PictureHook, interval=1000),
]
visualizer = dict(type=Visualizer, vis_backends=[dict(type=TensorboardVisBackend)])
log_processor = dict(type=LogProcessor, by_epoch=False, window_size=20)
