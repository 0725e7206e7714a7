"""What stands in a town for years: buildings, trees, hedges, walls, lamp posts, signs and signals, placed along its streets."""

from __future__ import annotations

import numpy as np
from shapely import STRtree, prepare
from shapely.geometry import Point, Polygon

from avjepa.city import scenery
from avjepa.city.ground import KERB_M
from avjepa.city.layout import TownPlan
from avjepa.city.materials import BUILDINGS
from avjepa.city.road_map import RoadMap
from avjepa.city.roads import WALKWAY_M
from avjepa.city.shapes import Shape
from avjepa.city.streets import StreetShape

LAMP_GAP_M = 27.0
SHRUB_GAP_M = 3.5
CLEAR_M = 1.0  # between a building and anything else


def furnish(plan: TownPlan, road_map: RoadMap, streets: list[StreetShape], seed: int) -> list[tuple[Shape, str]]:
    """Scenery in the town's frame, each with its lidarseg category."""
    rng = np.random.default_rng([seed, 23])
    kept_free, kerb = road_map.drivable.buffer(WALKWAY_M + CLEAR_M), road_map.drivable.buffer(0.5)
    prepare([kept_free, kerb])
    buildings, footprints = _buildings(plan, streets, kept_free, rng)
    things = [(shape, "static.manmade") for shape in buildings]
    blocked = STRtree([*footprints])
    for street in streets:
        for side in (1, -1):
            things += _along_kerb(plan, kerb, street, side, blocked, rng)
    things += _islands(road_map, rng)
    things += _signals_and_signs(road_map, streets, rng)
    return things


def pose_beside(
    street: StreetShape, s_m: float, left_m: float, turn_rad: float = 0.0, z_m: float = KERB_M
) -> np.ndarray:
    """``town_T_thing`` (4, 4) at an arc length of a street and an offset to its left."""
    x, y, yaw = street.path.poses(np.array([s_m]))[0]
    return planar(x - left_m * np.sin(yaw), y + left_m * np.cos(yaw), z_m, yaw + turn_rad)


def planar(x_m: float, y_m: float, z_m: float, yaw_rad: float) -> np.ndarray:
    """A 4 x 4 transform without roll or pitch."""
    pose = np.eye(4)
    cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
    pose[:2, :2] = [[cosine, -sine], [sine, cosine]]
    pose[:3, 3] = x_m, y_m, z_m
    return pose


def _buildings(plan, streets, kept_free, rng) -> tuple[list[Shape], list[Polygon]]:
    """Two rows along both sides of every street, wherever there is room."""
    style, shapes, footprints = plan.style, [], []
    for row_m in (0.0, 24.0):
        for street in streets:
            for side in (1, -1):
                s_m = 2.0 if row_m == 0 else rng.uniform(0, 10)
                while s_m < street.path.length_m:
                    width, depth = rng.uniform(9, 21), rng.uniform(8, 14)
                    front = street.half_width_m + WALKWAY_M + row_m + rng.uniform(1.5, 6.5)
                    pose = pose_beside(street, s_m + width / 2, side * (front + depth / 2), 0.0 if side > 0 else np.pi)
                    footprint = _footprint(pose, width, depth)
                    s_m += width + rng.uniform(1.5, 7.0)
                    if not _inside(footprint, plan.size_m) or kept_free.intersects(footprint):
                        continue
                    if any(footprint.distance(other) < CLEAR_M for other in footprints):
                        continue
                    low, high = style.building_height_m
                    height = low + (high - low) * rng.beta(1.4, 2.6)
                    colour = BUILDINGS[style.palette][rng.integers(len(BUILDINGS[style.palette]))]
                    gabled = style.palette == "brick" and height < 11
                    shapes.append(scenery.building(rng, width, depth, height, colour, gabled).moved(pose))
                    footprints.append(footprint)
    return shapes, footprints


def _along_kerb(plan, kerb, street, side, blocked, rng) -> list[tuple[Shape, str]]:
    """Trees and lamp posts on the walkway's edges, and hedges, walls and fences behind it."""
    things = []
    behind = street.half_width_m + WALKWAY_M + 0.8
    for s_m in np.arange(street.begin_m, street.end_m, plan.style.tree_gap_m):
        pose = pose_beside(
            street, s_m + rng.uniform(-2, 2), side * (behind + rng.uniform(0, 0.8)), rng.uniform(0, 6.28)
        )
        if rng.random() < 0.75 and _is_free(pose, 0.8, kerb, blocked):
            things.append((scenery.tree(rng).moved(pose), "static.vegetation"))
    for s_m in np.arange(street.begin_m, street.end_m, SHRUB_GAP_M):
        pose = pose_beside(street, s_m + rng.uniform(-2, 2), side * (behind + rng.uniform(0.5, 5.0)))
        if rng.random() < 0.7 and _is_free(pose, 1.0, kerb, blocked):
            things.append((scenery.shrub(rng).moved(pose), "static.vegetation"))
    for s_m in np.arange(street.begin_m + 6, street.end_m, LAMP_GAP_M):
        pose = pose_beside(street, s_m, side * (street.half_width_m + 0.7), -side * np.pi / 2)
        if not kerb.contains(Point(pose[:2, 3])):
            things.append((scenery.lamp_post().moved(pose), "static.manmade"))
    for s_m in np.arange(street.begin_m + 3, street.end_m - 12, 13.0):
        pose = pose_beside(street, s_m + 5, side * (behind + 0.6))
        kind = rng.choice(["hedge", "wall", "fence", "none"], p=[0.25, 0.15, 0.2, 0.4])
        footprint = _footprint(pose, 10.0, 0.8)
        if kind == "none" or kerb.intersects(footprint) or len(blocked.query(footprint.buffer(0.2), "intersects")):
            continue
        make = {"hedge": scenery.hedge, "wall": scenery.wall, "fence": scenery.fence}[kind]
        things.append((make(rng, 10.0).moved(pose), "static.vegetation" if kind == "hedge" else "static.manmade"))
    return things


def _islands(road_map: RoadMap, rng) -> list[tuple[Shape, str]]:
    things = []
    for area in road_map.islands.values():
        centre, radius = area.polygon.centroid, np.sqrt(area.polygon.area / np.pi)
        for angle in np.arange(0, 6.28, 1.3):
            x, y = centre.x + 0.5 * radius * np.cos(angle), centre.y + 0.5 * radius * np.sin(angle)
            things.append((scenery.tree(rng).moved(planar(x, y, 0, angle)), "static.vegetation"))
            hedge = scenery.hedge(rng, 3.0).moved(
                planar(
                    centre.x + 0.75 * radius * np.cos(angle),
                    centre.y + 0.75 * radius * np.sin(angle),
                    0,
                    angle + np.pi / 2,
                )
            )
            things.append((hedge, "static.vegetation"))
    return things


def _signals_and_signs(road_map: RoadMap, streets, rng) -> list[tuple[Shape, str]]:
    things = []
    for light in road_map.traffic_lights.values():
        x, y, _ = light.xyz_m
        things.append((scenery.traffic_light().moved(planar(x, y, KERB_M, light.yaw_rad)), "static.manmade"))
    for street in streets:
        for side, s_m in ((1, street.begin_m + 8.5), (-1, street.end_m - 8.5)):
            pose = pose_beside(street, s_m, side * (street.half_width_m + 0.7), 0.0 if side > 0 else np.pi)
            things.append((scenery.sign(rng).moved(pose), "static.manmade"))
    return things


def _footprint(pose: np.ndarray, width_m: float, depth_m: float) -> Polygon:
    corners = np.array([[-width_m, -depth_m], [width_m, -depth_m], [width_m, depth_m], [-width_m, depth_m]]) / 2
    return Polygon(corners @ pose[:2, :2].T + pose[:2, 3])


def _inside(footprint: Polygon, size_m: tuple[float, float]) -> bool:
    x0, y0, x1, y1 = footprint.bounds
    return x0 > -40 and y0 > -40 and x1 < size_m[0] + 40 and y1 < size_m[1] + 40


def _is_free(pose, radius_m: float, kerb, blocked: STRtree) -> bool:
    spot = Point(pose[:2, 3]).buffer(radius_m)
    return not kerb.intersects(spot) and len(blocked.query(spot, "intersects")) == 0
