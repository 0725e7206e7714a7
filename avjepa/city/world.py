"""Triangles of a town and of what moves in it, and rays cast against them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from avjepa.city.furnish import furnish
from avjepa.city.ground import CELL_M, ground_mesh, ground_raster
from avjepa.city.layout import TownPlan, plan_town
from avjepa.city.materials import Ground, Material, ground_labels, label_of
from avjepa.city.movers import Movers, embree_scene
from avjepa.city.road_map import RoadMap
from avjepa.city.roads import build_town
from avjepa.city.shapes import Shape, joined
from avjepa.city.streets import StreetShape, shape_streets

SCENERY = -1  # thing number of everything that is not annotated


@dataclass(frozen=True)
class Faces:
    """Triangles with all that a sensor can see of them.

    Attributes:
        shape: geometry, colours, materials.
        labels: (m,) uint8 lidarseg index; of ground faces it is looked up per hit.
        things: (m,) int32 number of the annotated thing, or SCENERY.
    """

    shape: Shape
    labels: np.ndarray
    things: np.ndarray


@dataclass(frozen=True)
class Town:
    """A town without traffic.

    Attributes:
        raster: (rows, columns) uint8 of Ground, see ground.py.
        scenery: everything that stands, the ground included.
    """

    plan: TownPlan
    road_map: RoadMap
    streets: list[StreetShape]
    raster: np.ndarray
    scenery: Faces


@dataclass(frozen=True)
class Hits:
    """Where R rays end.

    Attributes:
        distance_m: (R,) float32; inf where a ray meets nothing.
        xyz: (R, 3) float64 in the town's frame; undefined there.
        normal: (R, 3) float32 unit, towards the ray's origin.
        face: (R,) int64 row of the colour table, -1 for nothing.
        material, label: (R,) uint8; of the ground as the raster has it.
        ground: (R,) uint8 of Ground; meaningful where the material is GROUND.
        thing: (R,) int32.
    """

    distance_m: np.ndarray
    xyz: np.ndarray
    normal: np.ndarray
    face: np.ndarray
    material: np.ndarray
    label: np.ndarray
    ground: np.ndarray
    thing: np.ndarray

    @property
    def any(self) -> np.ndarray:
        """(R,) bool: the ray meets something."""
        return self.face >= 0


@lru_cache(maxsize=2)
def load_town(town: str, seed: int) -> Town:
    """Build a town; kept, because every drive in it needs it."""
    plan, road_map = plan_town(town, seed), build_town(town, seed)
    streets = shape_streets(plan)
    things = furnish(plan, road_map, streets, seed)
    ground = ground_mesh(road_map)
    shapes = [ground] + [shape for shape, _ in things]
    labels = [np.zeros(len(ground.faces), dtype=np.uint8)]
    labels += [np.full(len(shape.faces), label_of(category), dtype=np.uint8) for shape, category in things]
    whole = joined(shapes)
    scenery = Faces(whole, np.concatenate(labels), np.full(len(whole.faces), SCENERY, dtype=np.int32))
    return Town(plan, road_map, streets, ground_raster(road_map, seed), scenery)


class World:
    """Scenery near a drive, and things at one moment after another.

    Args:
        town: the town.
        things: shapes of all things of the drive in their own frames (on z = 0), with their lidarseg categories.
        town_T_parked: (n, 4, 4) where the things stand that never move, nan for the others.
        path_xy: (k, 2) where the ego goes; scenery farther from it than ``reach_m`` is left out.
        reach_m: as far as any sensor sees.
    """

    def __init__(
        self,
        town: Town,
        things: list[tuple[Shape, str]],
        town_T_parked: np.ndarray,
        path_xy: np.ndarray,
        reach_m: float = 120.0,
    ) -> None:
        self.raster = town.raster
        near = _near(town.scenery.shape, path_xy, reach_m)
        scenery = town.scenery
        self.thing_shapes = [shape for shape, _ in things]
        labels = [label_of(category) for _, category in things]
        is_parked = np.isfinite(town_T_parked).all((1, 2))
        parked, self._mover_numbers = np.flatnonzero(is_parked), np.flatnonzero(~is_parked)
        self._vertices, self._scenery_faces = scenery.shape.vertices, scenery.shape.faces[near]
        self._scenery_labels, self._scenery_materials = scenery.labels[near], scenery.shape.materials[near]
        standing = [self.thing_shapes[n].moved(town_T_parked[n]) for n in parked]
        fixed = joined(
            [
                Shape(self._vertices, self._scenery_faces, scenery.shape.colours[near], self._scenery_materials),
                *standing,
            ]
        )
        self._fixed = embree_scene(fixed.vertices, fixed.faces)
        order = [*parked, *self._mover_numbers]
        counts = [len(self.thing_shapes[n].faces) for n in order]
        moving = [self.thing_shapes[n] for n in self._mover_numbers]
        self._movers = Movers(moving, reach_m)
        self._first_face = len(fixed.faces) + np.cumsum([0] + [len(shape.faces) for shape in moving])
        self.colours = np.concatenate([fixed.colours] + [shape.colours for shape in moving])
        self._materials = np.concatenate([fixed.materials] + [shape.materials for shape in moving])
        thing_labels = np.repeat(np.array([labels[n] for n in order], dtype=np.uint8), counts)
        self._labels = np.concatenate([self._scenery_labels, thing_labels])
        self._numbers = np.concatenate([scenery.things[near], np.repeat(np.array(order, dtype=np.int32), counts)])
        self._ground_labels = ground_labels()

    def place(self, states: np.ndarray, later: np.ndarray | None = None) -> None:
        """Put things where they are, (n, 4) x, y, z, yaw (nan hides one); ``later``, at the last rays of a turn."""
        chosen = self._mover_numbers
        self._movers.place(states[chosen, :4], None if later is None else later[chosen, :4])

    def cast(self, origins: np.ndarray, directions: np.ndarray, share: np.ndarray | None = None) -> Hits:
        """First hits of rays.

        Args:
            origins, directions: (R, 3) in the town's frame; directions of unit length.
            share: (R,) when each ray goes, from 0 (the first moment of :meth:`place`) to 1 (the later one).
        """
        origins32, directions32 = _float32(origins), _float32(directions)
        hit = self._fixed.run(origins32, directions32, output=1)
        distance = np.where(hit["primID"] >= 0, hit["tfar"], np.inf)
        moving_m, mover, moving_face, moving_normal = self._movers.cast(origins32, directions32, share)
        nearer = moving_m < distance
        distance = np.where(nearer, moving_m, distance)
        face = np.where(nearer, self._first_face[mover] + moving_face, hit["primID"])
        normal = np.where(nearer[:, None], moving_normal, hit["Ng"])
        return self._hits(origins, directions, distance, face, normal)

    def blocked(self, origins: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """(R,) bool: whether anything lies in direction (3,) of points (R, 3), however far; at the first moment."""
        origins32 = _float32(origins)
        directions32 = _float32(np.broadcast_to(direction, origins.shape))
        return (self._fixed.run(origins32, directions32, query="OCCLUDED") == 0) | self._movers.blocked(
            origins32, direction
        )

    def above(self, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance (R,) and material (R,) of the scenery straight above points (R, 3); GROUND where there is only sky."""
        up = np.broadcast_to(np.array([0, 0, 1], np.float32), origins.shape)
        hit = self._fixed.run(_float32(origins), _float32(up), output=1)
        any_hit = hit["primID"] >= 0
        material = self._materials[np.where(any_hit, hit["primID"], 0)]
        return hit["tfar"], np.where(any_hit, material, np.uint8(Material.GROUND))

    def fixed_surfaces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (n, 3), faces (m, 3) and labels (m,) of the scenery near the drive, the ground left out."""
        standing = self._scenery_materials != Material.GROUND
        return self._vertices, self._scenery_faces[standing], self._scenery_labels[standing]

    def ground_at(self, xy: np.ndarray) -> np.ndarray:
        """Ground class (...,) at points (..., 2)."""
        rows, columns = self.raster.shape
        column, row = np.floor(xy[..., 0] / CELL_M).astype(np.int64), np.floor(xy[..., 1] / CELL_M).astype(np.int64)
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        found = self.raster[row.clip(0, rows - 1), column.clip(0, columns - 1)]
        return np.where(inside, found, np.uint8(Ground.GRASS))

    def _hits(self, origins, directions, distance, face, normal) -> Hits:
        any_hit = face >= 0
        safe = np.where(any_hit, face, 0)
        xyz = origins + directions * np.where(any_hit, distance, 0.0)[:, None]
        length = np.sqrt(np.einsum("ri,ri->r", normal, normal)).clip(1e-9)
        away = np.einsum("ri,ri->r", normal, directions) > 0
        normal = normal * (np.where(away, -1.0, 1.0) / length)[:, None]
        material, label = self._materials[safe], self._labels[safe]
        ground = self.ground_at(xyz[:, :2])
        is_ground = material == Material.GROUND
        is_kerb = is_ground & (np.abs(normal[:, 2]) < 0.5)
        ground = np.where(is_kerb, np.uint8(Ground.KERB), ground)
        label = np.where(is_ground, self._ground_labels[ground], label)
        return Hits(
            distance_m=np.where(any_hit, distance, np.inf).astype(np.float32),
            xyz=xyz,
            normal=normal.astype(np.float32),
            face=np.where(any_hit, face, -1),
            material=material,
            label=np.where(any_hit, label, 0).astype(np.uint8),
            ground=ground,
            thing=np.where(any_hit, self._numbers[safe], SCENERY),
        )


def _near(shape: Shape, path_xy: np.ndarray, reach_m: float) -> np.ndarray:
    """Faces within reach of a path's bounding box; ground faces, which may be huge, always."""
    lower, upper = path_xy.min(0) - reach_m, path_xy.max(0) + reach_m
    corners = shape.vertices[shape.faces][:, :, :2]
    inside = ((corners >= lower) & (corners <= upper)).all(2).any(1)
    return inside | (shape.materials == Material.GROUND)


def _float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)
