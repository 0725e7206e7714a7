"""Occupancy truth in the Occ3D format: every voxel around the ego, also those that nothing sees.

Tian et al., "Occ3D", 2023: 200 x 200 x 16 voxels of 0.4 m, [x, y, z], in the ego frame of the keyframe, 17 classes and free;
``mask_lidar`` and ``mask_camera`` tell what the sensors observe at that keyframe. Occ3D gathers its occupied voxels from LiDAR
returns of a whole scene; here they are sampled from the surfaces themselves, with buildings and things filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avjepa.city.materials import CATEGORIES, Material, ground_labels
from avjepa.city.records import Calibration
from avjepa.city.rig import BEAMS, COLUMNS, ELEVATION_DEG, FIRST_AZIMUTH_RAD
from avjepa.city.world import World
from avjepa.geometry.occ3d import FREE, OCC3D_GRID
from avjepa.geometry.occ3d import SHAPE_XYZ as SHAPE
from avjepa.geometry.rigid import invert, transform_points

LOWER_M = np.array([OCC3D_GRID.x_range_m[0], OCC3D_GRID.y_range_m[0], OCC3D_GRID.z_range_m[0]])
VOXEL_M = OCC3D_GRID.cell_m
SAMPLE_M = 0.2  # spacing of surface samples
MASK_SLACK_M = 0.35  # a voxel is seen if a ray ends less than this before its centre
_R2 = np.array(
    [0.7548776662466927, 0.5698402909980532]
)  # steps of a sequence that leaves no holes (Roberts, "R2", 2018)

# Occ3D class of a lidarseg category, where it has one; everything else is 0, "others".
_CLASSES = {
    "movable_object.barrier": 1, "vehicle.bicycle": 2, "vehicle.bus.bendy": 3, "vehicle.bus.rigid": 3, "vehicle.car": 4,
    "vehicle.construction": 5, "vehicle.motorcycle": 6, "human.pedestrian.adult": 7, "human.pedestrian.child": 7,
    "human.pedestrian.construction_worker": 7, "human.pedestrian.police_officer": 7, "movable_object.trafficcone": 8,
    "vehicle.trailer": 9, "vehicle.truck": 10, "flat.driveable_surface": 11, "flat.other": 12, "flat.sidewalk": 13,
    "flat.terrain": 14, "static.manmade": 15, "static.vegetation": 16,
}  # fmt: skip
OCC3D_OF_LABEL = np.array([_CLASSES.get(category, 0) for category in CATEGORIES], dtype=np.uint8)


@dataclass(frozen=True)
class Samples:
    """Points on surfaces: (P, 3) in some frame, and their Occ3D class (P,)."""

    xyz: np.ndarray
    kind: np.ndarray


def sample_surfaces(vertices, faces, labels, rng: np.random.Generator, highest_m: float) -> Samples:
    """Points evenly spread over triangles (m, 3), about SAMPLE_M apart, below a height."""
    corners = vertices[faces].astype(np.float64)
    low = corners[:, :, 2].min(1) < highest_m
    corners, labels = corners[low], labels[low]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    count = np.ceil(area / SAMPLE_M**2).astype(np.int64) + 1
    face = np.repeat(np.arange(len(corners)), count)
    number = np.arange(len(face)) - (np.cumsum(count) - count)[face]
    a, b = (rng.random((2, len(corners)))[:, face] + number * _R2[:, None]) % 1
    over = a + b > 1
    a, b = np.where(over, 1 - a, a)[:, None], np.where(over, 1 - b, b)[:, None]
    xyz = corners[face, 0] * (1 - a - b) + corners[face, 1] * a + corners[face, 2] * b
    keep = xyz[:, 2] < highest_m
    return Samples(xyz[keep].astype(np.float32), OCC3D_OF_LABEL[labels[face]][keep])


class OccupancyTruth:
    """Makes the labels of one drive.

    Args:
        world: of the drive.
        rig: its sensors.
        thing_labels: (n,) lidarseg labels of the things.
        rng: places the samples.
    """

    def __init__(
        self, world: World, rig: tuple[Calibration, ...], thing_labels: np.ndarray, rng: np.random.Generator
    ) -> None:
        self.world, self.rig = world, rig
        vertices, faces, labels = world.fixed_surfaces()
        self._fixed = sample_surfaces(vertices, faces, labels, rng, LOWER_M[2] + SHAPE[2] * VOXEL_M + 0.2)
        self._things = [
            sample_surfaces(shape.vertices, shape.faces, np.full(len(shape.faces), label), rng, 10.0)
            for shape, label in zip(world.thing_shapes[: len(thing_labels)], thing_labels, strict=True)
        ]
        index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1).reshape(-1, 3)
        self._centres_ego = ((index + 0.5) * VOXEL_M + LOWER_M).astype(np.float32)

    def labels(self, town_T_ego: np.ndarray, town_T_things: np.ndarray) -> np.ndarray:
        """(200, 200, 16) uint8 of classes, with the things where they are now (nan: not here)."""
        grid = np.full(SHAPE, FREE, dtype=np.uint8)
        ego_T_town = invert(town_T_ego)
        self._ground(grid, town_T_ego)
        self._interiors(grid, town_T_ego)
        x_m, y_m = self._fixed.xyz[:, 0] - town_T_ego[0, 3], self._fixed.xyz[:, 1] - town_T_ego[1, 3]
        near = (np.abs(x_m) < 58) & (np.abs(y_m) < 58)  # the corners of the grid are 57 m away
        index, inside = _voxel(transform_points(ego_T_town, self._fixed.xyz[near]))
        grid[tuple(index[inside].T)] = self._fixed.kind[near][inside]
        for samples, town_T_thing in zip(self._things, town_T_things, strict=True):
            if np.abs(town_T_thing[:2, 3] - town_T_ego[:2, 3]).max() < 65:
                self._fill_thing(grid, transform_points(ego_T_town @ town_T_thing, samples.xyz), samples.kind[0])
        return grid

    def mask_lidar(
        self, xyz_ego: np.ndarray, seen_m: np.ndarray, now_T_columns: np.ndarray, ego_T_lidar: np.ndarray
    ) -> np.ndarray:
        """(200, 200, 16) bool: voxels that hold a return of the turn, or whose middle a ray passes closely.

        Args:
            xyz_ego: (P, 3) returns in the ego frame of the keyframe.
            seen_m: (COLUMNS, BEAMS) how far each ray saw, inf into the sky, 0 where it was lost.
            now_T_columns: (COLUMNS, 4, 4) the ego at each firing, in the ego frame of the keyframe.
            ego_T_lidar: mounting.
        """
        origins = (now_T_columns @ ego_T_lidar)[:, :3, 3].astype(np.float32)
        first = self._centres_ego - origins[-1]
        turned = (FIRST_AZIMUTH_RAD - np.arctan2(first[:, 1], first[:, 0])) % (2 * np.pi)
        column = np.round(turned / (2 * np.pi) * COLUMNS).astype(np.int64) % COLUMNS
        ray = self._centres_ego - origins[column]
        distance = np.linalg.norm(ray, axis=1)
        low, high = np.radians(ELEVATION_DEG)
        beam = (np.arcsin(ray[:, 2] / distance) - low) / (high - low) * (BEAMS - 1)
        nearest = np.round(beam).clip(0, BEAMS - 1).astype(np.int64)
        off_m = np.abs(beam - nearest) * (high - low) / (BEAMS - 1) * distance
        seen = ((off_m < VOXEL_M / 2) & (distance < seen_m[column, nearest] + MASK_SLACK_M)).reshape(SHAPE)
        index, inside = _voxel(xyz_ego)
        seen[tuple(index[inside].T)] = True
        return seen

    def mask_camera(self, distances_m: list[np.ndarray], now_T_exposures: list[np.ndarray]) -> np.ndarray:
        """(200, 200, 16) bool: voxels that a pixel of a camera sees.

        Args:
            distances_m: (H, W) along the rays, of each camera of the rig.
            now_T_exposures: (4, 4) the ego at each exposure, in the ego frame of the keyframe.
        """
        seen = np.zeros(len(self._centres_ego), dtype=bool)
        for camera, distance_m, now_T_ego in zip(self.rig[1:], distances_m, now_T_exposures, strict=True):
            height, width = camera.size_px
            cam_T_now = invert(now_T_ego @ camera.ego_T_sensor).astype(np.float32)
            # Of an upright camera's view only a sector of columns (x, y) matters; the layers above follow.
            ahead = np.flatnonzero(self._in_sector(cam_T_now, camera))
            xyz_cam = transform_points(cam_T_now, self._centres_ego[ahead])
            depth = xyz_cam[:, 2]
            u = xyz_cam[:, 0] / depth * np.float32(camera.pix_T_cam[0, 0]) + np.float32(camera.pix_T_cam[0, 2])
            v = xyz_cam[:, 1] / depth * np.float32(camera.pix_T_cam[1, 1]) + np.float32(camera.pix_T_cam[1, 2])
            column, row = np.floor(u + 0.5).astype(np.int32), np.floor(v + 0.5).astype(np.int32)
            inside = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height))
            reach = distance_m[row[inside], column[inside]] + MASK_SLACK_M
            far = np.einsum("pi,pi->p", xyz_cam[inside], xyz_cam[inside])
            seen[ahead[inside[far < reach * reach]]] = True
        return seen.reshape(SHAPE)

    def _in_sector(self, cam_T_now: np.ndarray, camera: Calibration) -> np.ndarray:
        """(voxels,) bool: columns of voxels that may lie in a camera's image."""
        xy = self._centres_ego[:: SHAPE[2]].copy()
        xy[:, 2] = 0.0
        xyz_cam = transform_points(cam_T_now, xy)
        half_width = np.float32((camera.size_px[1] / 2 + 0.1 * camera.size_px[1]) / camera.pix_T_cam[0, 0])
        depth = xyz_cam[:, 2]
        columns = (depth > 0.3) & (np.abs(xyz_cam[:, 0]) < half_width * depth + 1.0)
        return np.repeat(columns, SHAPE[2])

    def _ground(self, grid: np.ndarray, town_T_ego: np.ndarray) -> None:
        xy_ego = self._centres_ego.reshape(*SHAPE, 3)[:, :, 0]
        xy_town = transform_points(town_T_ego, xy_ego.reshape(-1, 3))[:, :2].reshape(*SHAPE[:2], 2)
        layer = int(np.floor(-LOWER_M[2] / VOXEL_M))  # road and walkway alike: a kerb is lower than half a voxel
        ground = self.world.ground_at(xy_town)
        grid[:, :, layer] = OCC3D_OF_LABEL[ground_labels()[ground]]

    def _interiors(self, grid: np.ndarray, town_T_ego: np.ndarray) -> None:
        """Buildings are solid: a ray that leaves the ground inside one meets its ceiling first."""
        base = self._centres_ego.reshape(*SHAPE, 3)[:, :, 0].reshape(-1, 3).copy()
        base[:, 2] = 0.5
        origins = transform_points(town_T_ego, base.astype(np.float64))
        roof_m, material = self.world.above(origins)
        inside = (material == Material.WALL).reshape(SHAPE[:2])
        top = np.ceil((roof_m.reshape(SHAPE[:2]) + 0.5 - LOWER_M[2]) / VOXEL_M).clip(0, SHAPE[2])
        layers = np.arange(SHAPE[2])
        solid = inside[:, :, None] & (layers < top[:, :, None]) & (layers >= int(-LOWER_M[2] / VOXEL_M))
        grid[solid] = _CLASSES["static.manmade"]

    def _fill_thing(self, grid: np.ndarray, xyz_ego: np.ndarray, kind: int) -> None:
        """Voxels of a thing, filled between the lowest and the highest of each column."""
        index, inside = _voxel(xyz_ego)
        index = index[inside]
        if not len(index):
            return
        key = index[:, 0] * SHAPE[1] + index[:, 1]
        columns, place = np.unique(key, return_inverse=True)
        low, high = np.full(len(columns), SHAPE[2]), np.zeros(len(columns), dtype=np.int64)
        np.minimum.at(low, place, index[:, 2])
        np.maximum.at(high, place, index[:, 2])
        layers = np.arange(SHAPE[2])
        filled = (layers >= low[:, None]) & (layers <= high[:, None])
        grid.reshape(-1, SHAPE[2])[columns] = np.where(filled, kind, grid.reshape(-1, SHAPE[2])[columns])


def _voxel(xyz_ego: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index (P, 3) and whether it is inside."""
    index = np.floor((xyz_ego - LOWER_M) / VOXEL_M).astype(np.int64)
    return index, ((index >= 0) & (index < SHAPE)).all(1)
