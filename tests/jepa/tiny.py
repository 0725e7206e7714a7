"""A BEV JEPA small enough for property tests, and synthetic clips for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from avjepa.bev.camera_features import CameraFeatures, resnet_backbone
from avjepa.bev.encoder import BEVEncoder
from avjepa.bev.lidar_sparse import SparseEncoder
from avjepa.bev.lift_splat import DepthBins, LiftSplat
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import invert, transform_from_se2, transform_points
from avjepa.jepa.extras import Extra
from avjepa.jepa.losses import LossWeights
from avjepa.jepa.masks import GroupMask, SensorDrop
from avjepa.jepa.model import BEVJEPA
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.jepa.sigreg import SIGReg
from avjepa.jepa.target_encoder import EMATarget, SharedTarget
from avjepa.jepa.voxel_decoder import VoxelDecoder
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.sample import Clip, ClipBatch, Frame
from tests.bev.scenes import looking

HALF_M = 12.8
VOXELS = BEVGrid((-HALF_M, HALF_M), (-HALF_M, HALF_M), (-2.0, 4.0), 0.4, 1.0)
BEV = VOXELS.coarsened(2)  # 32 x 32 cells of 0.8 m
CHANNELS = 16
CONTEXT = 2


def encoder(cameras: bool = True) -> BEVEncoder:
    """LiDAR and, if asked for, camera branch."""
    return BEVEncoder(
        voxel_grid=VOXELS,
        lidar=SparseEncoder(VOXELS, (8, 16), 16, blocks_per_stage=1),
        camera=CameraFeatures(resnet_backbone((1, 1), (8, 16), "basic", 8, ("stage2",)), 8, 8) if cameras else None,
        lift=LiftSplat(8, 8, DepthBins(1.0, 13.0, 1.0), BEV) if cameras else None,
        channels=CHANNELS,
    )


def jepa(
    seed: int = 0,
    cameras: bool = True,
    target: EMATarget | SharedTarget | None = None,
    sensor_drop: SensorDrop | None = None,
    weights: LossWeights | None = None,
    sigreg: SIGReg | None = None,
    extras: dict[str, Extra] | None = None,
    ego_motion: bool = True,
) -> BEVJEPA:
    """The whole model."""
    torch.manual_seed(seed)
    return BEVJEPA(
        encoder=encoder(cameras),
        target=target or EMATarget(0.9),
        temporal=TemporalContext(CHANNELS, CONTEXT),
        predictor=WarpPredictor(BEV, CHANNELS, 16, dilations=(1, 2)),
        decoder=VoxelDecoder(BEV, CHANNELS, voxel_m=1.0),
        mask=GroupMask(),
        sensor_drop=sensor_drop,
        weights=weights or LossWeights(),
        sigreg=sigreg,
        extras=extras,
        ego_motion=ego_motion,
    )


def world(seed: int = 0, things: int = 12, half_m: float = 9.0) -> np.ndarray:
    """Points (P, 3) on flat ground and on posts, in the global frame."""
    rng = np.random.default_rng(seed)
    ground = np.c_[rng.uniform(-half_m, half_m, (1500, 2)), np.zeros(1500)]
    posts = np.repeat(rng.uniform(-half_m, half_m, (things, 2)), 12, axis=0)
    return np.concatenate([ground, np.c_[posts, np.tile(np.linspace(0.2, 2.2, 12), things)]])


def frame_of(
    points_global: np.ndarray, global_T_ego: np.ndarray, origin_global: np.ndarray, number: int, seed: int = 0
) -> Frame:
    """A frame that sees these points from a LiDAR at ``origin_global``; images are noise."""
    xyz = transform_points(invert(global_T_ego), points_global)
    rng = np.random.default_rng([seed, number])
    columns = [xyz, np.full((len(xyz), 1), 0.4), np.zeros((len(xyz), 1))]
    return Frame(
        token=f"{seed}-{number}",
        scene=f"scene-{seed}",
        timestamp_us=500_000 * number,
        global_T_ego=global_T_ego,
        points_ego=torch.from_numpy(np.concatenate(columns, 1)).float(),
        lidar_origin_ego=torch.from_numpy(transform_points(invert(global_T_ego), origin_global[None])[0]).float(),
        lidar_present=True,
        images=torch.from_numpy(rng.integers(0, 255, (2, 3, 32, 64), dtype=np.uint8)),
        pix_T_cam=np.tile([[40.0, 0, 31.5], [0, 40, 15.5], [0, 0, 1]], (2, 1, 1)),
        ego_T_cam=np.stack([looking(0.0).double().numpy(), looking(np.pi).double().numpy()]),
        camera_present=torch.ones(2, dtype=torch.bool),
    )


def clip(seed: int = 0, frames: int = 4, step=(0.8, 0.3, 0.02)) -> Clip:
    """Frames of one still world, seen while driving; the LiDAR is on the car."""
    points = world(seed)
    poses = [np.eye(4)]
    for _ in range(frames - 1):
        poses.append(poses[-1] @ transform_from_se2(*step))
    rng = np.random.default_rng(seed)
    seen = [points[rng.random(len(points)) < 0.8] for _ in range(frames)]
    made = [
        frame_of(seen[i], pose, transform_points(pose, np.array([[0, 0, 1.8]]))[0], i, seed)
        for i, pose in enumerate(poses)
    ]
    return Clip(tuple(made), CONTEXT, seed)


def batch(*seeds: int, **settings) -> ClipBatch:
    """A batch of clips."""
    return collate_clips([clip(seed, **settings) for seed in seeds or (0, 1)])


def with_points(clips: ClipBatch, points: torch.Tensor) -> ClipBatch:
    """The batch with other points of the same frames."""
    return replace(clips, points=points)
