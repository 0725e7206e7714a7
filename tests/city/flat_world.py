"""An endless flat car park with a few boxes: a world in which every ray can be computed by hand."""

from __future__ import annotations

import numpy as np

from avjepa.city.materials import CATEGORIES, Ground, Material
from avjepa.city.rig import LIDAR_XYZ_M
from avjepa.city.shapes import Shape, box, joined
from avjepa.city.weather import Weather, make_weather
from avjepa.city.world import SCENERY, Faces, Town, World

SIZE_M = 400.0
EGO_XY = np.array([200.0, 200.0])


def flat_town(*scenery: tuple[Shape, str], ground: Ground = Ground.ASPHALT, raster=None) -> Town:
    """A flat town of 400 x 400 m with some shapes in town coordinates."""
    corners = np.array([[-100, -100, 0], [500, -100, 0], [500, 500, 0], [-100, 500, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    plane = Shape(corners, faces, np.zeros((2, 3), np.uint8), np.full(2, Material.GROUND, np.uint8))
    whole = joined([plane, *(shape for shape, _ in scenery)])
    labels = [0, 0] + [CATEGORIES.index(c) for shape, c in scenery for _ in shape.faces]
    faces = Faces(whole, np.array(labels, np.uint8), np.full(len(labels), SCENERY, np.int32))
    if raster is None:
        raster = np.full((int(SIZE_M * 10), int(SIZE_M * 10)), ground, np.uint8)
    return Town(None, None, [], raster, faces)


def make_world(town: Town, *things: tuple[Shape, str], standing=None) -> World:
    """A world around EGO_XY; things move unless ``standing`` (n, 4, 4) says where they stay."""
    standing = np.full((len(things), 4, 4), np.nan) if standing is None else standing
    return World(town, list(things), standing, EGO_XY[None])


def cube(size=(1.0, 1.0, 1.0), colour=(200, 30, 30), material=Material.PLAIN) -> Shape:
    """A box (length, width, height) on z = 0."""
    return box((0, 0, size[2] / 2), size, colour, material)


def at(x_m: float, y_m: float, yaw_rad: float = 0.0, z_m: float = 0.0) -> np.ndarray:
    """x, y, z, yaw of a thing, relative to EGO_XY."""
    return np.array([EGO_XY[0] + x_m, EGO_XY[1] + y_m, z_m, yaw_rad])


def pose(state: np.ndarray) -> np.ndarray:
    """(4, 4) of x, y, z, yaw."""
    matrix = np.eye(4)
    cosine, sine = np.cos(state[3]), np.sin(state[3])
    matrix[:2, :2] = [[cosine, -sine], [sine, cosine]]
    matrix[:3, 3] = state[:3]
    return matrix


def ego_T_lidar() -> np.ndarray:
    """Mounting without errors: x right, y ahead."""
    matrix = pose(np.array([*LIDAR_XYZ_M, -np.pi / 2]))
    return matrix


def weather(name: str = "day", seed: int = 0) -> Weather:
    """A weather of a fixed hour."""
    return make_weather(name, np.random.default_rng(seed))
