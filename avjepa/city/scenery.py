"""Meshes of what never moves: buildings, trees, hedges, walls, fences, poles, signs, traffic lights."""

from __future__ import annotations

import numpy as np
import trimesh

from avjepa.city.materials import Material
from avjepa.city.shapes import BLACK, Shape, ball, box, cylinder, joined, prism

STEEL = (112, 116, 118)
BARK = (84, 66, 50)


def building(rng: np.random.Generator, width_m: float, depth_m: float, height_m: float, colour, gabled: bool) -> Shape:
    """A house or block on its rectangle, x along its front; flat roof with a parapet, or a gable."""
    tint = tuple(int(np.clip(c * rng.uniform(0.9, 1.08), 0, 255)) for c in colour)
    dark = tuple(int(c * 0.7) for c in tint)
    parts = [box((0, 0, height_m / 2), (width_m, depth_m, height_m), tint, Material.WALL)]
    if gabled:
        ridge = rng.uniform(2.0, 3.5)
        roof = prism(
            [(-depth_m / 2 - 0.4, 0), (depth_m / 2 + 0.4, 0), (0, ridge)],
            width_m + 0.5,
            width_m + 0.5,
            (120, 72, 56),
            Material.PLAIN,
        )
        turn = trimesh.transformations.rotation_matrix(np.pi / 2, [0, 0, 1])
        turn[2, 3] = height_m
        parts.append(roof.moved(turn))
    else:
        parts.append(box((0, 0, height_m + 0.3), (width_m + 0.3, depth_m + 0.3, 0.6), dark, Material.PLAIN))
    door_x = rng.uniform(-0.3, 0.3) * width_m
    parts.append(box((door_x, -depth_m / 2, 1.15), (1.6, 0.25, 2.3), dark, Material.PLAIN))
    if rng.random() < 0.5:
        parts.append(box((0, -depth_m / 2 - 0.6, 3.0), (0.7 * width_m, 1.2, 0.15), dark, Material.PLAIN))
    return joined(parts)


def tree(rng: np.random.Generator) -> Shape:
    """A trunk and a lumpy crown."""
    height, crown = rng.uniform(5.0, 9.0), rng.uniform(1.6, 2.8)
    green = (int(rng.uniform(52, 92)), int(rng.uniform(86, 122)), int(rng.uniform(36, 60)))
    trunk_m = height - crown
    parts = [cylinder((0, 0, trunk_m / 2), rng.uniform(0.11, 0.2), trunk_m, "z", BARK, Material.PLAIN, 7)]
    for _ in range(4):
        centre = np.array([*rng.normal(0, 0.35 * crown, 2), height - crown + rng.normal(0, 0.3 * crown)])
        lump = ball(centre, rng.uniform(0.55, 0.85, 3) * crown, green, Material.FOLIAGE, 2)
        noise = 1 + 0.12 * rng.standard_normal((len(lump.vertices), 1))
        parts.append(Shape(((lump.vertices - centre) * noise + centre).astype(np.float32), *_rest(lump)))
    return joined(parts)


def shrub(rng: np.random.Generator) -> Shape:
    """A bush."""
    radii = rng.uniform(0.35, 0.95, 3)
    green = (int(rng.uniform(48, 96)), int(rng.uniform(80, 118)), int(rng.uniform(36, 60)))
    return ball((0, 0, 0.6 * radii[2]), radii, green, Material.FOLIAGE)


def hedge(rng: np.random.Generator, length_m: float) -> Shape:
    """A clipped hedge along x."""
    height, green = rng.uniform(0.8, 1.7), (int(rng.uniform(50, 80)), int(rng.uniform(82, 104)), 44)
    return box((0, 0, height / 2), (length_m, rng.uniform(0.6, 1.0), height), green, Material.FOLIAGE)


def wall(rng: np.random.Generator, length_m: float) -> Shape:
    """A garden wall along x."""
    height = rng.uniform(1.0, 2.2)
    return box((0, 0, height / 2), (length_m, 0.25, height), (150, 128, 108), Material.PLAIN)


def fence(rng: np.random.Generator, length_m: float) -> Shape:
    """Posts, rails and pickets along x; rays pass between them."""
    height, colour = rng.uniform(1.0, 1.8), ((120, 92, 64), STEEL)[rng.integers(2)]
    parts = [box((0, 0, z), (length_m, 0.05, 0.09), colour, Material.METAL) for z in (0.25 * height, 0.85 * height)]
    for x in np.arange(-length_m / 2, length_m / 2, 0.45):
        parts.append(box((x, 0, height / 2), (0.09, 0.05, height), colour, Material.METAL))
    return joined(parts)


def lamp_post() -> Shape:
    """A street lamp, its arm along x."""
    parts = [
        cylinder((0, 0, 3.6), 0.09, 7.2, "z", STEEL, Material.METAL, 8),
        box((0.9, 0, 7.2), (1.9, 0.1, 0.1), STEEL, Material.METAL),
        box((1.7, 0, 7.12), (0.6, 0.25, 0.12), (250, 236, 190), Material.LAMP),
    ]
    return joined(parts)


def sign(rng: np.random.Generator) -> Shape:
    """A traffic sign that faces +x."""
    colour = ((196, 30, 34), (30, 74, 160), (226, 190, 40))[rng.integers(3)]
    parts = [
        cylinder((0, 0, 1.3), 0.04, 2.6, "z", STEEL, Material.METAL, 8),
        box((0.05, 0, 2.4), (0.03, 0.7, 0.7), colour, Material.REFLECTOR),
    ]
    return joined(parts)


def traffic_light() -> Shape:
    """A signal head at 4.6 m on a mast, facing +x; which lamp burns is not drawn."""
    parts = [
        cylinder((0, 0, 2.6), 0.1, 5.2, "z", STEEL, Material.METAL, 8),
        box((0.18, 0, 4.6), (0.22, 0.36, 1.0), BLACK, Material.PLAIN),
        *[
            ball((0.3, 0, 4.6 + dz), (0.05, 0.11, 0.11), colour, Material.LAMP)
            for dz, colour in ((0.3, (200, 40, 30)), (0.0, (190, 150, 40)), (-0.3, (40, 180, 90)))
        ],
    ]
    return joined(parts)


def _rest(shape: Shape):
    return shape.faces, shape.colours, shape.materials
