"""What surfaces are made of: LiDAR reflectivity, how much a LiDAR misses them, texture; and the lidarseg numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Material(IntEnum):
    """Material of a face of the world."""

    GROUND = 0  # looked up in the ground raster, see ground.py
    WALL = 1  # a façade: windows in rows
    PLAIN = 2
    FOLIAGE = 3
    GLASS = 4
    PAINT = 5  # of vehicles
    RUBBER = 6
    CLOTH = 7
    METAL = 8
    REFLECTOR = 9  # signs, number plates
    LAMP = 10  # shines at night
    TAIL_LAMP = 11


class Ground(IntEnum):
    """Class of a cell of the ground raster."""

    GRASS = 0
    ASPHALT = 1
    WALKWAY = 2
    WHITE = 3
    YELLOW = 4
    PARKING = 5
    KERB = 6
    ISLAND = 7


@dataclass(frozen=True)
class Surface:
    """How a material looks.

    Attributes:
        reflectivity: of the LiDAR's light, in [0, 1]; nuScenes intensity is 255 times that, before distance and angle.
        miss: share of LiDAR rays that come back empty.
        texture: relative amplitude of the colour's variation.
        gloss: share of the sky's colour that it mirrors.
    """

    reflectivity: float
    miss: float
    texture: float
    gloss: float


SURFACES = {
    Material.GROUND: Surface(0.05, 0.02, 0.40, 0.0),
    Material.WALL: Surface(0.13, 0.01, 0.30, 0.02),
    Material.PLAIN: Surface(0.14, 0.01, 0.30, 0.0),
    Material.FOLIAGE: Surface(0.16, 0.08, 0.95, 0.0),
    Material.GLASS: Surface(0.03, 0.75, 0.05, 0.45),
    Material.PAINT: Surface(0.12, 0.06, 0.03, 0.22),
    Material.RUBBER: Surface(0.03, 0.10, 0.10, 0.0),
    Material.CLOTH: Surface(0.11, 0.02, 0.20, 0.0),
    Material.METAL: Surface(0.20, 0.04, 0.06, 0.12),
    Material.REFLECTOR: Surface(0.90, 0.0, 0.02, 0.0),
    Material.LAMP: Surface(0.10, 0.20, 0.0, 0.2),
    Material.TAIL_LAMP: Surface(0.40, 0.05, 0.0, 0.1),
}

# Class of ground: albedo (0 to 255), reflectivity, lidarseg category.
GROUND = {
    Ground.GRASS: ((92, 106, 58), 0.14, "flat.terrain"),
    Ground.ASPHALT: ((104, 104, 106), 0.045, "flat.driveable_surface"),
    Ground.WALKWAY: ((160, 154, 146), 0.10, "flat.sidewalk"),
    Ground.WHITE: ((222, 222, 216), 0.28, "flat.driveable_surface"),
    Ground.YELLOW: ((214, 172, 52), 0.22, "flat.driveable_surface"),
    Ground.PARKING: ((88, 88, 92), 0.05, "flat.driveable_surface"),
    Ground.KERB: ((176, 172, 166), 0.12, "flat.sidewalk"),
    Ground.ISLAND: ((110, 116, 70), 0.13, "flat.other"),
}

# Index of a category in nuScenes-lidarseg.
CATEGORIES = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck", "flat.driveable_surface",
    "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade", "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip


def label_of(category: str) -> int:
    """Lidarseg index of a category."""
    return CATEGORIES.index(category)


def surface_table(field: str) -> np.ndarray:
    """One number of every material, indexed by Material, float32."""
    return np.array([getattr(SURFACES[material], field) for material in Material], dtype=np.float32)


def ground_colours() -> np.ndarray:
    """(8, 3) float32 albedo in [0, 1], indexed by Ground."""
    return np.array([GROUND[kind][0] for kind in Ground], dtype=np.float32) / 255


def ground_reflectivity() -> np.ndarray:
    """(8,) float32, indexed by Ground."""
    return np.array([GROUND[kind][1] for kind in Ground], dtype=np.float32)


def ground_labels() -> np.ndarray:
    """(8,) uint8 lidarseg index, indexed by Ground."""
    return np.array([label_of(GROUND[kind][2]) for kind in Ground], dtype=np.uint8)


CAR_COLOURS = (
    (200, 200, 205), (60, 62, 66), (24, 25, 28), (168, 26, 28), (32, 60, 118), (228, 228, 226), (120, 126, 130),
    (86, 98, 78), (180, 150, 96),
)  # fmt: skip
CLOTHES = ((40, 44, 60), (150, 40, 40), (70, 90, 60), (200, 190, 170), (60, 60, 64), (40, 80, 140), (210, 150, 40))
BUILDINGS = {
    "glass": ((150, 158, 166), (176, 170, 160), (128, 132, 140), (196, 190, 182), (150, 132, 118)),
    "brick": ((146, 84, 66), (172, 120, 88), (198, 176, 140), (120, 70, 58), (210, 200, 180)),
}
