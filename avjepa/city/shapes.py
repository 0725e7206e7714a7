"""Meshes of road users and movable things, each filling its box exactly: x forward, y left, z up from the ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import trimesh

from avjepa.city.materials import CAR_COLOURS, CLOTHES, Material

SKIN = (196, 150, 122)
BLACK = (28, 28, 30)
WINDOW = (38, 46, 54)
WHITE_LAMP = (240, 236, 214)
RED_LAMP = (180, 24, 20)
ORANGE = (232, 98, 28)


@dataclass(frozen=True)
class Shape:
    """Triangles with a colour and a material each.

    Attributes:
        vertices: (n, 3) float32 metres.
        faces: (m, 3) int32.
        colours: (m, 3) uint8.
        materials: (m,) uint8, see Material.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    materials: np.ndarray

    def fitted(self, length_m: float, width_m: float, height_m: float) -> Shape:
        """Scaled and moved to fill a box that stands on z = 0, centred at x = y = 0."""
        lower, upper = self.vertices.min(0), self.vertices.max(0)
        size = np.array([length_m, width_m, height_m])
        vertices = (self.vertices - lower) / (upper - lower) * size - size * [0.5, 0.5, 0]
        return Shape(vertices.astype(np.float32), self.faces, self.colours, self.materials)

    def moved(self, world_T_shape: np.ndarray) -> Shape:
        """Under a 4 x 4 transform."""
        vertices = self.vertices @ world_T_shape[:3, :3].T + world_T_shape[:3, 3]
        return Shape(vertices.astype(np.float32), self.faces, self.colours, self.materials)


def joined(shapes: list[Shape]) -> Shape:
    """One shape of many."""
    firsts = np.cumsum([0] + [len(shape.vertices) for shape in shapes[:-1]])
    return Shape(
        np.concatenate([shape.vertices for shape in shapes]).astype(np.float32),
        np.concatenate([shape.faces + first for shape, first in zip(shapes, firsts, strict=True)]).astype(np.int32),
        np.concatenate([shape.colours for shape in shapes]),
        np.concatenate([shape.materials for shape in shapes]),
    )


def _shape(vertices: np.ndarray, faces: np.ndarray, colour, material: Material) -> Shape:
    colours = np.tile(np.array(colour, dtype=np.uint8), (len(faces), 1))
    materials = np.full(len(faces), material, dtype=np.uint8)
    return Shape(np.asarray(vertices, dtype=np.float32), np.asarray(faces, dtype=np.int32), colours, materials)


def box(centre, size, colour, material: Material = Material.PLAIN) -> Shape:
    """An axis-aligned box."""
    vertices, faces = _unit("box", 0)
    return _shape(vertices * size + centre, faces, colour, material)


def cylinder(
    centre, radius_m: float, length_m: float, axis: str, colour, material: Material, sections: int = 10
) -> Shape:
    """A cylinder along "y" (a wheel) or "z" (a post)."""
    vertices, faces = _unit("cylinder", sections)
    vertices = vertices * (radius_m, radius_m, length_m)
    if axis == "y":
        vertices = vertices[:, [0, 2, 1]] * (1, -1, 1)
    return _shape(vertices + centre, faces, colour, material)


def ball(centre, radii, colour, material: Material, subdivisions: int = 1) -> Shape:
    """An ellipsoid."""
    vertices, faces = _unit("ball", subdivisions)
    return _shape(vertices * radii + centre, faces, colour, material)


@lru_cache
def _unit(kind: str, detail: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a box of edge 1, or of a cylinder or ball of radius 1 (and length 1)."""
    if kind == "box":
        mesh = trimesh.creation.box()
    elif kind == "cylinder":
        mesh = trimesh.creation.cylinder(radius=1.0, height=1.0, sections=detail)
    else:
        mesh = trimesh.creation.icosphere(subdivisions=detail)
    return np.array(mesh.vertices), np.array(mesh.faces)


def prism(profile_xz, width_m: float, top_width_m: float, colour, material: Material) -> Shape:
    """A side view (k, 2), extruded across y; the width narrows linearly from the lowest to the highest point."""
    profile = np.asarray(profile_xz, dtype=float)
    low, high = profile[:, 1].min(), profile[:, 1].max()
    half = (width_m + (top_width_m - width_m) * (profile[:, 1] - low) / (high - low)) / 2
    left = np.stack([profile[:, 0], half, profile[:, 1]], 1)
    right = left * [1, -1, 1]
    count = len(profile)
    index = np.arange(count)
    following = (index + 1) % count
    sides = np.concatenate(
        [np.stack([index, following, index + count], 1), np.stack([following, following + count, index + count], 1)]
    )
    fan = np.stack([np.zeros(count - 2, int), index[1:-1], index[2:]], 1)
    faces = np.concatenate([sides, fan, fan[:, ::-1] + count])
    return _shape(np.concatenate([left, right]), faces, colour, material)


def _wheels(xs, radius_m: float, track_m: float, width_m: float = 0.22) -> list[Shape]:
    return [
        cylinder((x, side * (track_m - width_m) / 2, radius_m), radius_m, width_m, "y", BLACK, Material.RUBBER)
        for x in xs
        for side in (-1, 1)
    ]


def _lamps(front: float, back: float, half_width: float, height: float) -> list[Shape]:
    parts = []
    for side in (-1, 1):
        y = side * (half_width - 0.18)
        parts.append(box((front - 0.02, y, height), (0.06, 0.28, 0.14), WHITE_LAMP, Material.LAMP))
        parts.append(box((back + 0.02, y, height + 0.08), (0.06, 0.24, 0.16), RED_LAMP, Material.TAIL_LAMP))
    parts.append(box((back + 0.01, 0, height - 0.12), (0.05, 0.5, 0.12), (230, 230, 220), Material.REFLECTOR))
    return parts


def car(rng: np.random.Generator) -> tuple[Shape, tuple[float, float, float]]:
    """A hatchback, saloon, SUV or van; returns the shape and its (width, length, height)."""
    kind = rng.choice(["saloon", "hatch", "suv", "van"], p=[0.4, 0.25, 0.25, 0.1])
    width, length, height = {
        "saloon": (1.85, 4.7, 1.48),
        "hatch": (1.78, 4.1, 1.52),
        "suv": (1.95, 4.75, 1.75),
        "van": (1.98, 5.1, 2.05),
    }[kind] * np.array([rng.uniform(0.95, 1.05), rng.uniform(0.94, 1.06), rng.uniform(0.96, 1.04)])
    roof = {"saloon": (0.12, -0.22), "hatch": (0.10, -0.36), "suv": (0.14, -0.40), "van": (0.22, -0.45)}[kind]
    nose = {"saloon": 0.24, "hatch": 0.30, "suv": 0.28, "van": 0.36}[kind]
    tail = {"saloon": -0.36, "hatch": -0.47, "suv": -0.47, "van": -0.49}[kind]
    colour = CAR_COLOURS[rng.integers(len(CAR_COLOURS))]
    belt, floor = height * 0.56, height * 0.14
    h = length / 2
    body = [(-h, floor), (h, floor), (h, belt * 0.72), (nose * length, belt), (-h + 0.05, belt), (-h, belt * 0.8)]
    cabin = [(tail * length, belt), (nose * length, belt), (roof[0] * length, height), (roof[1] * length, height)]
    parts = [
        prism(body, width, width * 0.96, colour, Material.PAINT),
        prism(cabin, width * 0.92, width * 0.74, WINDOW, Material.GLASS),
        box(
            ((roof[0] + roof[1]) / 2 * length, 0, height - 0.02),
            ((roof[0] - roof[1]) * length, width * 0.75, 0.04),
            colour,
            Material.PAINT,
        ),
        *_wheels((0.31 * length, -0.30 * length), 0.33, width),
        *_lamps(h, -h, width / 2, belt * 0.66),
    ]
    return joined(parts).fitted(length, width, height), (width, length, height)


def truck(rng: np.random.Generator) -> tuple[Shape, tuple[float, float, float]]:
    """A box truck."""
    width, length, height = 2.5 * rng.uniform(0.94, 1.02), rng.uniform(6.4, 9.5), rng.uniform(2.9, 3.6)
    h, cab = length / 2, 1.9
    colour, cargo = (
        CAR_COLOURS[rng.integers(len(CAR_COLOURS))],
        [(225, 225, 222), (190, 196, 202), (60, 90, 130)][rng.integers(3)],
    )
    front = [(h - cab, 0.5), (h, 0.5), (h, 1.5), (h - 0.35, height * 0.82), (h - cab, height * 0.82)]
    parts = [
        prism(front, width * 0.94, width * 0.9, colour, Material.PAINT),
        box((h - 0.22, 0, height * 0.62), (0.3, width * 0.82, 0.7), WINDOW, Material.GLASS),
        box((-cab / 2 - 0.1, 0, (height + 0.9) / 2), (length - cab - 0.2, width, height - 0.9), cargo, Material.PAINT),
        box((-cab / 2, 0, 0.75), (length - cab, width * 0.5, 0.3), BLACK, Material.METAL),
        *_wheels((h - 1.1, -h + 1.3, -h + 2.4), 0.46, width * 0.96, 0.3),
        *_lamps(h, -h, width / 2, 0.95),
    ]
    return joined(parts).fitted(length, width, height), (width, length, height)


def bus(rng: np.random.Generator) -> tuple[Shape, tuple[float, float, float]]:
    """A city bus."""
    width, length, height = 2.7, rng.uniform(10.5, 12.2), rng.uniform(3.0, 3.4)
    h, colour = length / 2, [(190, 40, 40), (40, 110, 70), (230, 190, 50), (220, 222, 224)][rng.integers(4)]
    parts = [
        box((0, 0, 0.75), (length, width, 0.9), colour, Material.PAINT),
        box((0, 0, 1.85), (length - 0.04, width * 0.985, 1.3), WINDOW, Material.GLASS),
        box((0, 0, (height + 2.5) / 2), (length, width, height - 2.5), colour, Material.PAINT),
        *[box((x, 0, 1.85), (0.16, width, 1.3), colour, Material.PAINT) for x in np.linspace(-h + 0.4, h - 0.4, 7)],
        *_wheels((h - 2.6, -h + 3.0), 0.5, width, 0.3),
        *_lamps(h, -h, width / 2, 0.7),
    ]
    return joined(parts).fitted(length, width, height), (width, length, height)


def trailer(rng: np.random.Generator) -> tuple[Shape, tuple[float, float, float]]:
    """A parked semi-trailer."""
    width, length, height = 2.6, rng.uniform(9.0, 12.5), rng.uniform(3.5, 3.9)
    h = length / 2
    parts = [
        box((0, 0, (height + 1.1) / 2), (length, width, height - 1.1), (214, 214, 210), Material.PAINT),
        box((0.15 * h, 0, 1.0), (length * 0.9, 0.9, 0.25), BLACK, Material.METAL),
        box((0.7 * h, 0.6, 0.5), (0.12, 0.12, 1.0), BLACK, Material.METAL),
        box((0.7 * h, -0.6, 0.5), (0.12, 0.12, 1.0), BLACK, Material.METAL),
        *_wheels((-h + 1.0, -h + 2.2), 0.48, width * 0.96, 0.3),
    ]
    return joined(parts).fitted(length, width, height), (width, length, height)


def construction_vehicle(rng: np.random.Generator) -> tuple[Shape, tuple[float, float, float]]:
    """An excavator."""
    width, length, height = 2.6, rng.uniform(6.0, 7.4), rng.uniform(3.0, 3.5)
    yellow = (222, 166, 40)
    arm = [(0.6, 1.4), (1.0, 1.2), (3.0, 2.7), (4.4, 0.6), (4.7, 0.7), (3.2, 3.2), (2.8, 3.2)]
    parts = [
        box((-0.3, 1.0, 0.45), (3.6, 0.6, 0.9), BLACK, Material.RUBBER),
        box((-0.3, -1.0, 0.45), (3.6, 0.6, 0.9), BLACK, Material.RUBBER),
        box((-0.8, 0, 1.5), (2.8, 2.3, 1.1), yellow, Material.PAINT),
        box((0.3, 0.6, 2.3), (1.2, 1.0, 1.5), WINDOW, Material.GLASS),
        prism(arm, 0.4, 0.3, yellow, Material.PAINT),
        box((4.4, 0, 0.6), (0.7, 1.1, 0.6), BLACK, Material.METAL),
    ]
    return joined(parts).fitted(length, width, height), (width, length, height)


def two_wheeler(rng: np.random.Generator, motor: bool, rider: bool) -> tuple[Shape, tuple[float, float, float]]:
    """A bicycle or a motorcycle, with or without rider."""
    length, width = (2.1, 0.75) if motor else (1.75, 0.6)
    height = (1.65 if motor else 1.75) if rider else (1.15 if motor else 1.1)
    wheel = 0.31 if motor else 0.34
    colour = CAR_COLOURS[rng.integers(len(CAR_COLOURS))]
    axle = length / 2 - wheel
    thick = 0.16 if motor else 0.05
    parts = [
        cylinder((axle, 0, wheel), wheel, thick, "y", BLACK, Material.RUBBER, 12),
        cylinder((-axle, 0, wheel), wheel, thick, "y", BLACK, Material.RUBBER, 12),
        box((axle - 0.1, 0, 1.02), (0.06, width, 0.06), BLACK, Material.METAL),
        box((axle - 0.08, 0, 0.7), (0.06, 0.06, 0.66), BLACK, Material.METAL),
        box(
            (0, 0, 0.55 if motor else 0.58),
            (1.2 * axle, 0.32 if motor else 0.05, 0.4 if motor else 0.06),
            colour,
            Material.PAINT,
        ),
        box((-0.3, 0, 0.85), (0.4, 0.2, 0.1), BLACK, Material.RUBBER),
        box((-0.25, 0, 0.68), (0.06, 0.05, 0.4), BLACK, Material.METAL),
        box((-axle - wheel + 0.03, 0, 0.7), (0.05, 0.1, 0.08), RED_LAMP, Material.TAIL_LAMP),
    ]
    if rider:
        cloth = CLOTHES[rng.integers(len(CLOTHES))]
        torso = [(-0.40, 0.85), (-0.12, 0.85), (0.16, 1.42), (-0.08, 1.46)]
        parts += [
            prism(torso, 0.42, 0.40, cloth, Material.CLOTH),
            ball((0.08, 0, 1.6), (0.13, 0.12, 0.15), SKIN if not motor else BLACK, Material.CLOTH),
            box((0.3, 0.22, 1.18), (0.5, 0.09, 0.09), cloth, Material.CLOTH),
            box((0.3, -0.22, 1.18), (0.5, 0.09, 0.09), cloth, Material.CLOTH),
            box((0.0, 0.17, 0.62), (0.16, 0.13, 0.55), BLACK, Material.CLOTH),
            box((0.08, -0.17, 0.56), (0.16, 0.13, 0.5), BLACK, Material.CLOTH),
        ]
    return joined(parts).fitted(length, width, height), (width, length, height)


def pedestrian(rng: np.random.Generator, walking: bool) -> tuple[Shape, tuple[float, float, float]]:
    """A person; one that walks has its legs apart."""
    height, width = rng.uniform(1.5, 1.92), rng.uniform(0.55, 0.72)
    length = 0.7 if walking else 0.45
    cloth, legs = CLOTHES[rng.integers(len(CLOTHES))], CLOTHES[rng.integers(2)]
    stride = 0.24 if walking else 0.0
    front = [(-0.08, 0.85), (0.08, 0.85), (stride + 0.09, 0.0), (stride - 0.07, 0.0)]
    back = [(-0.08, 0.85), (0.08, 0.85), (0.07 - stride, 0.0), (-stride - 0.09, 0.0)]
    left, right = prism(front, 0.15, 0.15, legs, Material.CLOTH), prism(back, 0.15, 0.15, legs, Material.CLOTH)
    parts = [
        left.moved(trimesh.transformations.translation_matrix((0, 0.1, 0))),
        right.moved(trimesh.transformations.translation_matrix((0, -0.1, 0))),
        ball((0, 0, 1.15), (0.14, 0.21, 0.35), cloth, Material.CLOTH),
        box((0.03 - stride / 2, 0.27, 1.1), (0.1 + stride, 0.1, 0.55), cloth, Material.CLOTH),
        box((0.03 + stride / 2, -0.27, 1.1), (0.1 + stride, 0.1, 0.55), cloth, Material.CLOTH),
        ball((0, 0, 1.63), (0.11, 0.1, 0.14), SKIN, Material.CLOTH),
    ]
    return joined(parts).fitted(length, width, height), (width, length, height)


def barrier() -> tuple[Shape, tuple[float, float, float]]:
    """A concrete road barrier, long across its way: x is its thin side, as in nuScenes."""
    width, length, height = 2.0, 0.5, 1.0
    profile = [(-0.25, 0), (0.25, 0), (0.1, 0.5), (0.07, 1.0), (-0.07, 1.0), (-0.1, 0.5)]
    parts = [
        prism(profile, width, width, (200, 196, 186), Material.PLAIN),
        box((0, 0, 0.8), (0.18, width * 0.98, 0.16), ORANGE, Material.REFLECTOR),
    ]
    return joined(parts).fitted(length, width, height), (width, length, height)


def cone() -> tuple[Shape, tuple[float, float, float]]:
    """A traffic cone."""
    width, length, height = 0.42, 0.42, 0.78
    body = trimesh.creation.cone(radius=0.16, height=0.76, sections=10)
    parts = [
        _shape(body.vertices, body.faces, ORANGE, Material.PLAIN),
        cylinder((0, 0, 0.42), 0.085, 0.12, "z", (235, 235, 230), Material.REFLECTOR),
        box((0, 0, 0.02), (0.42, 0.42, 0.04), ORANGE, Material.PLAIN),
    ]
    return joined(parts).fitted(length, width, height), (width, length, height)
