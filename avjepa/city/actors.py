"""Who and what a drive meets: moving, standing and parked things with their tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapely.geometry import Point

from avjepa.city import shapes
from avjepa.city.furnish import pose_beside
from avjepa.city.ground import BAY_M, bay_rows
from avjepa.city.road_map import RoadMap
from avjepa.city.shapes import Shape
from avjepa.city.streets import PARKING_M
from avjepa.city.world import Town

SLOT_M = 6.4  # of a parking strip
PARKED_SHARE = 0.72


@dataclass(frozen=True)
class Actor:
    """One annotated thing of a drive.

    Attributes:
        category: nuScenes category.
        family: which attributes it has: "vehicle", "cycle", "rider", "pedestrian" or "" for none.
        is_parked: a vehicle that nobody drives.
        shape: mesh in its own frame, on z = 0.
        size_wlh_m: of its box.
        track: (T, 4) x, y, yaw, speed at multiples of traffic.STEP_S, or (1, 4) for what stays.
    """

    category: str
    family: str
    is_parked: bool
    shape: Shape
    size_wlh_m: tuple[float, float, float]
    track: np.ndarray


@dataclass(frozen=True)
class Closure:
    """A lane that barriers close, between two arc lengths of it."""

    lane: str
    begin_m: float
    end_m: float


def vehicle_of(kind: str, rng: np.random.Generator) -> tuple[str, str, Shape, tuple[float, float, float]]:
    """(category, family, shape, size w l h) of a vehicle; bicycles and motorcycles have a rider unless "-alone" follows."""
    if kind == "car":
        return "vehicle.car", "vehicle", *shapes.car(rng)
    if kind == "truck":
        return "vehicle.truck", "vehicle", *shapes.truck(rng)
    if kind == "bus":
        return "vehicle.bus.rigid", "vehicle", *shapes.bus(rng)
    if kind == "trailer":
        return "vehicle.trailer", "vehicle", *shapes.trailer(rng)
    if kind == "construction":
        return "vehicle.construction", "vehicle", *shapes.construction_vehicle(rng)
    motor, rider = kind.startswith("motorcycle"), not kind.endswith("-alone")
    category = "vehicle.motorcycle" if motor else "vehicle.bicycle"
    return category, "rider" if rider else "cycle", *shapes.two_wheeler(rng, motor, rider)


def parked_actors(town: Town, rng: np.random.Generator) -> list[Actor]:
    """Cars along the kerbs and in the car parks, a few large vehicles, bicycles on the walkways."""
    actors = []
    for street in town.streets:
        if street.street.parking:
            for side in (1, -1):
                for s_m in np.arange(street.begin_m + 13, street.end_m - 13, SLOT_M):
                    if rng.random() < PARKED_SHARE and not _near_crosswalk(town.road_map, street, s_m):
                        left = side * (street.half_width_m - PARKING_M / 2 + rng.uniform(-0.1, 0.15))
                        pose = pose_beside(street, s_m, left, (0.0 if side < 0 else np.pi) + rng.normal(0, 0.02), 0.0)
                        actors.append(_parked(_parked_kind(rng), pose, rng))
        for s_m in np.arange(street.begin_m + 15, street.end_m - 15, 9.0):
            if rng.random() < 0.10:
                side = 1 if rng.random() < 0.5 else -1
                kind = "bicycle-alone" if rng.random() < 0.7 else "motorcycle-alone"
                pose = pose_beside(
                    street, s_m, side * (street.half_width_m + rng.uniform(1.9, 2.3)), rng.normal(0, 0.1)
                )
                actors.append(_parked(kind, pose, rng))
    for token, area in town.road_map.car_parks.items():
        if token.endswith("car-park"):
            driveway = town.road_map.car_parks[token.replace("car-park", "driveway")].polygon
            actors += _in_bays(area.polygon, driveway, rng)
    return actors


def _in_bays(lot, driveway, rng: np.random.Generator) -> list[Actor]:
    actors = []
    for base, direction, inward, length in bay_rows(lot):
        for s in np.arange(BAY_M[0] / 2, length, BAY_M[0]):
            centre = base + direction * s + inward * BAY_M[1] / 2
            if Point(centre).distance(driveway) > 3.5 and rng.random() < PARKED_SHARE:
                yaw = np.arctan2(inward[1], inward[0]) + (np.pi if rng.random() < 0.6 else 0.0) + rng.normal(0, 0.02)
                pose = np.eye(4)
                pose[:2, 3] = centre
                pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
                actors.append(_parked("car", pose, rng))
    return actors


def _parked_kind(rng: np.random.Generator) -> str:
    return str(rng.choice(["car", "truck", "trailer", "construction"], p=[0.87, 0.07, 0.04, 0.02]))


def _parked(kind: str, pose: np.ndarray, rng: np.random.Generator) -> Actor:
    category, family, shape, size = vehicle_of(kind, rng)
    if kind in ("truck", "trailer", "construction") and size[1] > SLOT_M - 0.5:
        factor = (SLOT_M - 0.6) / size[1]
        size = (min(size[0], PARKING_M + 0.1), size[1] * factor, size[2])
        shape = shape.fitted(size[1], size[0], size[2])
    yaw = float(np.arctan2(pose[1, 0], pose[0, 0]))
    return Actor(category, family, True, shape, size, np.array([[pose[0, 3], pose[1, 3], yaw, 0.0]]))


def _near_crosswalk(road_map: RoadMap, street, s_m: float) -> bool:
    here = Point(street.path.poses(np.array([s_m]))[0][:2])
    road = f"{street.street.name}-road"
    return any(here.distance(walk.polygon) < 6.0 for walk in road_map.crosswalks.values() if walk.road == road)


def obstacles(town: Town, street_name: str, closures: tuple[Closure, ...], rng: np.random.Generator) -> list[Actor]:
    """Barriers and cones that close lanes, for good; and temporary works beside streets, which are no map change."""
    actors = []
    for closure in closures:
        lane = town.road_map.lanes[closure.lane]
        begin, end = closure.begin_m, closure.end_m
        for s_m in (begin + 0.5, begin + 1.6, end - 0.5):
            actors.append(_placed(shapes.barrier(), lane.path, s_m, 0.0, "movable_object.barrier"))
        for s_m in np.arange(begin + 4, end - 2, 4.0):
            actors.append(_placed(shapes.cone(), lane.path, s_m, lane.width_m / 2 - 0.3, "movable_object.trafficcone"))
    for street in town.streets:
        if street.street.name == street_name or rng.random() < 0.5:
            actors += _works(street, rng)
    return actors


def _works(street, rng: np.random.Generator) -> list[Actor]:
    """Works on a walkway: barriers along the kerb, cones before them, perhaps an excavator behind. Gone by the next drive."""
    actors, side = [], 1 if rng.random() < 0.5 else -1
    s_m = rng.uniform(street.begin_m + 18, max(street.end_m - 26, street.begin_m + 19))
    left = side * (street.half_width_m + 0.9)
    for number in range(int(rng.integers(3, 7))):
        actors.append(
            _placed(shapes.barrier(), street.path, s_m + 2.2 * number, left, "movable_object.barrier", np.pi / 2)
        )
    for number in range(int(rng.integers(2, 6))):
        actors.append(_placed(shapes.cone(), street.path, s_m - 2 - 2 * number, left, "movable_object.trafficcone"))
    if rng.random() < 0.3:
        made = shapes.construction_vehicle(rng)
        place = side * (street.half_width_m + 2.9)
        actors.append(_placed(made, street.path, s_m + 5, place, "vehicle.construction", 0.0, "vehicle"))
    return actors


def _placed(made, path, s_m: float, left_m: float, category: str, turn_rad: float = 0.0, family: str = "") -> Actor:
    shape, size = made
    x, y, yaw = path.poses(np.array([s_m]))[0]
    track = np.array([[x - left_m * np.sin(yaw), y + left_m * np.cos(yaw), yaw + turn_rad, 0.0]])
    return Actor(category, family, True, shape, size, track)
