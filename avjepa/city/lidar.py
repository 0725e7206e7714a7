"""A spinning LiDAR on a moving car: each ray from where the sensor was, and to where things were, when it fired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from avjepa.city.materials import Material, ground_reflectivity, surface_table
from avjepa.city.rig import BEAMS, COLUMNS, ELEVATION_DEG, TURN_US, column_azimuths_rad
from avjepa.city.weather import Weather
from avjepa.city.world import SCENERY, World
from avjepa.geometry.rigid import invert

RANGE_M = (0.4, 100.0)
NOISE_M = 0.02
REACH_M, FADE_M = 62.0, 6.0  # where half of the returns of a surface of 10 % are lost, and how gradually
FOLIAGE_DEPTH_M, FOLIAGE_DEEPEST_M = 0.18, 0.5  # how far beams get into leaves


@dataclass(frozen=True)
class Sweep:
    """One turn of the LiDAR, P = COLUMNS * BEAMS firings in their order.

    As in nuScenes's files, a ray that does not come back is kept, at the LiDAR's own place.

    Attributes:
        points: (P, 5) float32: x, y, z in the LiDAR frame at the *end* of the turn, intensity 0 to 255, ring.
        labels: (P,) uint8 lidarseg index; 0, noise, where nothing came back.
        things: (P,) int32 number of the thing, or world.SCENERY.
        age_s: (P,) float32 how long before the end of the turn it was measured.
        seen_m: (COLUMNS, BEAMS) float32 how far each ray saw: inf into the sky, 0 where it was lost.
    """

    points: np.ndarray
    labels: np.ndarray
    things: np.ndarray
    age_s: np.ndarray
    seen_m: np.ndarray


def spin(
    world: World,
    states_at: Callable[[float], np.ndarray],
    ego_at: Callable[[np.ndarray], np.ndarray],
    ego_T_lidar: np.ndarray,
    end_us: int,
    weather: Weather,
    rng: np.random.Generator,
) -> Sweep:
    """The turn that ends at ``end_us``.

    Args:
        world: scenery and things.
        states_at: (n, 4) x, y, z, yaw of all things at a time in seconds.
        ego_at: (k, 4, 4) ``town_T_ego`` at times (k,) in seconds.
        ego_T_lidar: mounting.
        end_us: end of the turn.
        weather: rain swallows rays.
        rng: noise.
    """
    end_s, turn_s = end_us * 1e-6, TURN_US * 1e-6
    column_s = end_s - turn_s + turn_s * (np.arange(COLUMNS) + 1) / COLUMNS
    town_T_lidar = ego_at(column_s) @ ego_T_lidar  # (COLUMNS, 4, 4)
    directions_lidar = _directions(ego_T_lidar)  # (COLUMNS, BEAMS, 3)
    directions = np.einsum("cij,cbj->cbi", town_T_lidar[:, :3, :3], directions_lidar)
    origins = np.broadcast_to(town_T_lidar[:, None, :3, 3], directions.shape)
    directions = directions.reshape(-1, 3)
    world.place(states_at(float(column_s[0])), states_at(float(column_s[-1])))
    share = np.repeat((column_s - column_s[0]) / (column_s[-1] - column_s[0]), BEAMS)
    hits = world.cast(origins.reshape(-1, 3), directions, share)
    distance, xyz, material, ground = hits.distance_m, hits.xyz, hits.material, hits.ground
    facing = np.abs((hits.normal * directions).sum(1))
    returned = _returned(distance, facing, material, ground, weather, rng)
    intensity = _intensity(distance, facing, material, ground, weather, rng)
    into = np.minimum(rng.exponential(FOLIAGE_DEPTH_M, len(xyz)), FOLIAGE_DEEPEST_M) * (material == Material.FOLIAGE)
    noisy = xyz + directions * (rng.normal(0, NOISE_M, len(xyz)) + into)[:, None]
    lidar_T_town = invert(town_T_lidar[-1])
    xyz_lidar = noisy @ lidar_T_town[:3, :3].T + lidar_T_town[:3, 3]
    ring = np.tile(np.arange(BEAMS), COLUMNS)
    age = np.repeat(end_s - column_s, BEAMS)
    points = np.column_stack([np.where(returned[:, None], xyz_lidar, 0.0), intensity, ring]).astype(np.float32)
    thing = np.where(returned, hits.thing, SCENERY)
    beyond = distance >= RANGE_M[1]
    seen_m = np.where(beyond, np.inf, np.where(returned, distance, 0.0)).reshape(COLUMNS, BEAMS).astype(np.float32)
    return Sweep(points, np.where(returned, hits.label, 0).astype(np.uint8), thing, age.astype(np.float32), seen_m)


def _directions(ego_T_lidar: np.ndarray) -> np.ndarray:
    """(COLUMNS, BEAMS, 3) unit vectors in the LiDAR frame (x right, y ahead)."""
    azimuth = column_azimuths_rad() + np.pi / 2  # from the ego's x axis to the LiDAR's
    elevation = np.radians(np.linspace(*ELEVATION_DEG, BEAMS))
    flat = np.stack([np.cos(azimuth), np.sin(azimuth)], 1)
    return np.concatenate(
        [
            flat[:, None] * np.cos(elevation)[None, :, None],
            np.broadcast_to(np.sin(elevation)[None, :, None], (COLUMNS, BEAMS, 1)),
        ],
        2,
    )


def _returned(distance, facing, material, ground, weather: Weather, rng) -> np.ndarray:
    """Rays that come back: not too near or far for how much the surface reflects, not through glass, rarely lost."""
    reflected = _reflectivity(material, ground, weather) * (0.3 + 0.7 * facing)
    reach_m = np.clip(REACH_M * np.sqrt(reflected / 0.1), 12.0, RANGE_M[1])
    lost = surface_table("miss")[material] + 1 / (1 + np.exp(np.clip((reach_m - distance) / FADE_M, -30, 30)))
    lost = lost + weather.rain_miss * np.clip(distance, 0, 100) / 100
    inside = (distance > RANGE_M[0]) & (distance < RANGE_M[1])
    return inside & (rng.random(len(distance)) > lost)


def _reflectivity(material, ground, weather: Weather) -> np.ndarray:
    """(R,) in [0, 1]; a wet road reflects the beam away."""
    of_ground = ground_reflectivity()[ground] * (1 - 0.4 * weather.wetness)
    return np.where(material == Material.GROUND, of_ground, surface_table("reflectivity")[material])


def _intensity(distance, facing, material, ground, weather: Weather, rng) -> np.ndarray:
    """0 to 255, whole numbers as the HDL-32E's; it calibrates for distance, less so for angle."""
    reflectivity = _reflectivity(material, ground, weather)
    grazing = np.where(material == Material.REFLECTOR, 1.0, 0.45 + 0.55 * facing)
    fading = np.clip(1.15 - np.where(np.isfinite(distance), distance, 0) / 120, 0.3, 1.0)
    value = 255 * reflectivity * grazing * fading * rng.gamma(9.0, 1 / 9.0, len(distance))
    return np.clip(np.round(value), 0, 255)
