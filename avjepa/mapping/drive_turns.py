"""A drive's LiDAR turns in the map frame, read one at a time: the input of everything that fuses drives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from avjepa.bev.cell_states import height_above_ground
from avjepa.errors import BadFileError, DataError
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import transform_from_se2
from avjepa.probes.scans import REACH_M, DriveScan, read_turn, turns_of_scene
from avjepa.sensors.nuscenes_index import NuScenesIndex
from avjepa.sensors.sample import FrameBatch

HALF_RANGE_M = REACH_M + 2  # of a LiDAR that is less than 2 m from the ego frame's origin
Z_RANGE_M = (-5.0, 10.0)


@dataclass(frozen=True)
class MapTurn:
    """One turn in the map frame.

    Attributes:
        drive_scan: its returns, relative to ``origin_m``.
        origin_m: (3,) where the frame of the scan begins in the map frame; its axes are the map's.
        ego_m: (3,) the car in the map frame.
        token: of the keyframe; empty for a sweep between keyframes.
    """

    drive_scan: DriveScan
    origin_m: np.ndarray
    ego_m: np.ndarray
    token: str

    @cached_property
    def xyz_map(self) -> np.ndarray:
        """(P, 3) float64 returns in the map frame."""
        return self.drive_scan.scan.xyz_map.astype(np.float64) + self.origin_m

    @property
    def lidar_m(self) -> np.ndarray:
        """(3,) the LiDAR in the map frame."""
        return self.drive_scan.scan.map_T_lidar[:3, 3] + self.origin_m

    @cached_property
    def height_m(self) -> np.ndarray:
        """(P,) height of each return above its local ground."""
        frame, grid, _ = self.around(0.4)
        return height_above_ground(frame, grid).numpy()

    def around(self, cell_m: float) -> tuple[FrameBatch, BEVGrid, np.ndarray]:
        """The turn as one frame in a grid whose cells are cells of the map, and the grid's zero (3,) in the map frame.

        The frame's axes are the map's, its z begins at the car's.
        """
        zero_m = np.array([*(np.floor(self.ego_m[:2] / cell_m) * cell_m), self.ego_m[2]])
        half_m = (math.ceil(HALF_RANGE_M / cell_m) + 1) * cell_m  # the car is up to a cell from zero
        grid = BEVGrid((-half_m, half_m), (-half_m, half_m), Z_RANGE_M, cell_m, Z_RANGE_M[1] - Z_RANGE_M[0])
        xyz = torch.from_numpy((self.xyz_map - zero_m).astype(np.float32))
        points = torch.cat([xyz, torch.from_numpy(self.drive_scan.intensity)[:, None], xyz.new_zeros(len(xyz), 1)], 1)
        frame = FrameBatch(
            points=points,
            point_frame=torch.zeros(len(points), dtype=torch.long),
            lidar_present=torch.ones(1, dtype=torch.bool),
            lidar_origin=torch.from_numpy((self.lidar_m - zero_m).astype(np.float32))[None],
            images=torch.zeros(1, 0, 3, 1, 1, dtype=torch.uint8),
            pix_T_cam=torch.zeros(1, 0, 4, 4),
            bev_T_cam=torch.zeros(1, 0, 4, 4),
            camera_present=torch.zeros(1, 0, dtype=torch.bool),
        )
        return frame, grid, zero_m


class Drive:
    """One traversal.

    Args:
        root: Data root.
        index: Of that root.
        scene: Number of the scene in the index.
        origin_m: (3,) near the drive; what the turns' float32 points are relative to.
        sweeps: Whether to read the sweeps between keyframes as well.

    Attributes:
        name: Of the scene.
        map_T_recorded: (4, 4) correction of the recorded poses.
        unreadable: What is wrong with it, by LiDAR file that could not be read.

    Raises:
        DataError: the scene has no LiDAR keyframe with a pose.
    """

    def __init__(self, root: Path, index: NuScenesIndex, scene: int, origin_m: np.ndarray, sweeps: bool) -> None:
        self.root, self.name, self.origin_m = root, str(index.scene_name[scene]), origin_m
        self.turns = turns_of_scene(root, index, scene, sweeps)
        self.tokens = index.token
        self.map_T_recorded = np.eye(4)
        self.unreadable: dict[str, str] = {}

    def read(self) -> Iterator[MapTurn]:
        """The turns that can be read, in time order, one in memory at a time.

        Raises:
            DataError: none can be.
        """
        origin_T_map = transform_from_se2(0, 0, 0)
        origin_T_map[:3, 3] = -self.origin_m
        for turn in self.turns:
            try:
                scan = read_turn(self.root, turn, origin_T_map @ self.map_T_recorded)
            except BadFileError as error:
                self.unreadable[turn.lidar_file] = str(error)
                if len(self.unreadable) == len(self.turns):
                    raise DataError(f"{self.name}: no LiDAR file can be read; {error}") from error
                continue
            token = str(self.tokens[turn.keyframe]) if turn.keyframe >= 0 else ""
            yield MapTurn(scan, self.origin_m, (self.map_T_recorded @ turn.global_T_ego)[:3, 3], token)
