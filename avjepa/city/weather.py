"""Light and air of a drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NAMES = ("day", "rain", "dusk", "night", "overcast")


@dataclass(frozen=True)
class Weather:
    """What the sensors see through.

    Attributes:
        name: one of NAMES.
        sun: (3,) unit vector towards the sun, in the town's frame.
        sun_rgb, sky_rgb: light of the sun on a surface that faces it, and of the sky on one that faces up; (3,).
        zenith_rgb, horizon_rgb: colour of the sky; (3,).
        has_shadows: the sun is out.
        headlights: vehicles' lamps and street lamps burn.
        wetness: of the ground, in [0, 1].
        visibility_m: distance at which contrast falls to 5 %.
        exposure: brightness of the image.
        noise: of a pixel.
        rain_miss: share of LiDAR rays lost per 100 m.
    """

    name: str
    sun: np.ndarray
    sun_rgb: np.ndarray
    sky_rgb: np.ndarray
    zenith_rgb: np.ndarray
    horizon_rgb: np.ndarray
    has_shadows: bool
    headlights: bool
    wetness: float
    visibility_m: float
    exposure: float
    noise: float
    rain_miss: float


def make_weather(name: str, rng: np.random.Generator) -> Weather:
    """A weather with its own hour of the day.

    Raises:
        ValueError: the name is unknown.
    """
    azimuth = rng.uniform(0, 2 * np.pi)
    if name == "day":
        sun = _direction(azimuth, rng.uniform(0.5, 1.0))
        light = ((1.75, 1.62, 1.40), (0.50, 0.55, 0.65), (0.42, 0.62, 0.98), (1.25, 1.32, 1.40))
        return Weather(name, sun, *map(np.array, light), True, False, 0.0, 2500.0, 0.86, 0.012, 0.0)
    if name == "overcast":
        sun = _direction(azimuth, 1.0)
        light = ((0.25, 0.25, 0.25), (0.85, 0.87, 0.90), (1.25, 1.28, 1.32), (1.55, 1.57, 1.60))
        return Weather(name, sun, *map(np.array, light), False, False, 0.0, 1200.0, 0.86, 0.014, 0.0)
    if name == "rain":
        sun = _direction(azimuth, 1.1)
        light = ((0.05, 0.05, 0.05), (0.72, 0.76, 0.80), (0.85, 0.88, 0.92), (1.05, 1.08, 1.11))
        return Weather(name, sun, *map(np.array, light), False, True, 0.9, 260.0, 0.80, 0.022, 0.10)
    if name == "dusk":
        sun = _direction(azimuth, rng.uniform(0.10, 0.2))
        light = ((1.40, 0.80, 0.40), (0.42, 0.42, 0.54), (0.36, 0.44, 0.70), (1.25, 0.85, 0.60))
        return Weather(name, sun, *map(np.array, light), True, True, 0.0, 1500.0, 0.95, 0.020, 0.0)
    if name == "night":
        sun = _direction(azimuth, 0.8)
        light = ((0.0, 0.0, 0.0), (0.035, 0.04, 0.06), (0.01, 0.012, 0.025), (0.045, 0.042, 0.05))
        return Weather(name, sun, *map(np.array, light), False, True, 0.1, 900.0, 1.7, 0.035, 0.0)
    raise ValueError(f"unknown weather {name!r}; want one of {', '.join(NAMES)}")


def _direction(azimuth_rad: float, elevation_rad: float) -> np.ndarray:
    return np.array(
        [
            np.cos(elevation_rad) * np.cos(azimuth_rad),
            np.cos(elevation_rad) * np.sin(azimuth_rad),
            np.sin(elevation_rad),
        ]
    )
