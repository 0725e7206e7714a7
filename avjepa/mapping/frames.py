"""The coordinate-frame contract: metres of a city's map frame to WGS84 longitude and latitude, and back.

nuScenes publishes the origins (south-western corners) of its four maps, and no projection. We follow nuscenes-devkit
(``scripts/export_poses.py``): distance and bearing from the origin, walked along a great circle of a sphere with WGS84's equatorial
radius. Users report that nuScenes maps so placed lie tens of metres off other maps in places (nuscenes-devkit, issues 960 and
1010); that is in the data. Within one map the frame is exact: there and back is the same point to less than a micrometre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.errors import ConfigError

EARTH_RADIUS_M = 6378137.0
REACH_M = 1e6  # a map ends long before
PROJECTION = (
    "azimuthal equidistant about the origin, on a sphere of radius 6378137 m, as nuscenes-devkit's export_poses.py"
)


@dataclass(frozen=True)
class MapFrame:
    """A map frame: x east, y north, in metres from an origin.

    Attributes:
        name: the city, as a log's ``location`` names it.
        latitude_deg, longitude_deg: WGS84 position of the origin.
        fictitious: no such place exists; the coordinates serve file formats that want some.

    Raises:
        ValueError: no name, or an origin that is not on the Earth or within a degree of a pole.
    """

    name: str
    latitude_deg: float
    longitude_deg: float
    fictitious: bool = False

    def __post_init__(self) -> None:
        if not self.name or not (abs(self.latitude_deg) <= 89 and abs(self.longitude_deg) <= 180):
            raise ValueError(
                f"want a name, latitude in +-89 and longitude in +-180 degrees, got {self.name!r}, "
                f"{self.latitude_deg}, {self.longitude_deg}"
            )

    def to_wgs84(self, xy_m: np.ndarray) -> np.ndarray:
        """(n, 2) metres of the map to (n, 2) longitude, latitude in degrees; longitudes from -180 to 180.

        Raises:
            ValueError: a point is not finite or 1000 km or more away, or the shape is another.
        """
        x, y = _columns(xy_m, REACH_M).T
        angle, bearing = np.hypot(x, y) / EARTH_RADIUS_M, np.arctan2(x, y)
        sin_0, cos_0 = math.sin(math.radians(self.latitude_deg)), math.cos(math.radians(self.latitude_deg))
        sin_1 = sin_0 * np.cos(angle) + cos_0 * np.sin(angle) * np.cos(bearing)
        turn = np.arctan2(np.sin(bearing) * np.sin(angle) * cos_0, np.cos(angle) - sin_0 * sin_1)
        longitude = self.longitude_deg + np.degrees(turn)
        longitude -= 360.0 * (longitude > 180.0) - 360.0 * (longitude < -180.0)
        return np.column_stack([longitude, np.degrees(np.arcsin(sin_1))])

    def to_map(self, lon_lat_deg: np.ndarray) -> np.ndarray:
        """(n, 2) longitude, latitude in degrees to (n, 2) metres of the map; the inverse of :meth:`to_wgs84`.

        Raises:
            ValueError: a point is not finite or 360 degrees or more, or the shape is another.
        """
        turn, latitude = np.radians(_columns(lon_lat_deg, 360.0) - [self.longitude_deg, 0.0]).T
        latitude_0 = math.radians(self.latitude_deg)
        sin_0, cos_0 = math.sin(latitude_0), math.cos(latitude_0)
        # East and north components of the target's unit vector in the tangent plane. The north one is written with the small
        # differences themselves, which the difference of two products would lose near the origin.
        east = np.cos(latitude) * np.sin(turn)
        north = np.sin(latitude - latitude_0) + 2.0 * sin_0 * np.cos(latitude) * np.sin(turn / 2) ** 2
        up = sin_0 * np.sin(latitude) + cos_0 * np.cos(latitude) * np.cos(turn)
        sine = np.hypot(east, north)
        length_m = EARTH_RADIUS_M * np.arctan2(sine, up)
        return np.column_stack([east, north]) * (length_m / np.where(sine > 0, sine, 1.0))[:, None]

    def shape_to_wgs84(self, shape: BaseGeometry) -> BaseGeometry:
        """A shape in metres of the map, in degrees (longitude, latitude); it is not cut where it crosses the 180th meridian."""
        return shapely.transform(shape, self.to_wgs84)

    def shape_to_map(self, shape: BaseGeometry) -> BaseGeometry:
        """A shape in degrees (longitude, latitude), in metres of the map."""
        return shapely.transform(shape, self.to_map)

    def contract(self) -> dict[str, Any]:
        """What a file says of its frame, so that a stranger can use it; :func:`frame_of_contract` reads it."""
        return {
            "type": "name",
            "properties": {
                "name": self.name,
                "axes": ["x east", "y north"],
                "unit": "metre",
                "origin": {"longitude_deg": self.longitude_deg, "latitude_deg": self.latitude_deg},
                "datum": "WGS84",
                "projection": PROJECTION,
                "fictitious": self.fictitious,
            },
        }


# Origins from nuscenes-devkit (scripts/export_poses.py). The mini city's towns lie in the middle of the South Pacific.
FRAMES = {
    frame.name: frame
    for frame in (
        MapFrame("boston-seaport", 42.336849169438615, -71.05785369873047),
        MapFrame("singapore-onenorth", 1.2882100868743724, 103.78475189208984),
        MapFrame("singapore-hollandvillage", 1.2993652317780957, 103.78217697143555),
        MapFrame("singapore-queenstown", 1.2782562240223188, 103.76741409301758),
        MapFrame("minicity-a", -48.0, -123.5, fictitious=True),
        MapFrame("minicity-b", -48.0, -123.0, fictitious=True),
    )
}


def frame_of_city(city: str) -> MapFrame:
    """The frame of a known city.

    Raises:
        ConfigError: its origin is not known.
    """
    if city not in FRAMES:
        raise ConfigError(
            f"{city}: no origin is known for this city; known are {', '.join(FRAMES)}. "
            "Give the map a `frame` member with an origin, or name the city's origin"
        )
    return FRAMES[city]


def frame_of_contract(contract: Any) -> MapFrame:
    """The frame that a file's contract describes; where it holds no origin, that of the known city it names.

    Raises:
        ValueError: it is no contract, other axes or units, or another origin than the known city has.
        ConfigError: it holds no origin, and its city is not known.
    """
    properties = contract.get("properties") if isinstance(contract, dict) else None
    if not isinstance(properties, dict) or not isinstance(properties.get("name"), str):
        raise ValueError("a frame wants properties with a name")
    axes, unit = properties.get("axes", ["x east", "y north"]), properties.get("unit", "metre")
    if axes != ["x east", "y north"] or unit != "metre":
        raise ValueError(f"a frame of x east, y north in metres is wanted, got {axes} in {unit}")
    origin = properties.get("origin")
    if origin is None:
        return frame_of_city(properties["name"])
    try:
        latitude_deg, longitude_deg = float(origin["latitude_deg"]), float(origin["longitude_deg"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the origin of a frame wants latitude_deg and longitude_deg") from error
    frame = MapFrame(properties["name"], latitude_deg, longitude_deg, properties.get("fictitious") is True)
    if frame.name in FRAMES and frame != FRAMES[frame.name]:
        raise ValueError(f"the file places {frame.name} elsewhere than nuScenes does")
    return frame


def _columns(points: np.ndarray, limit: float) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) < limit).all():  # False for NaN
        raise ValueError(f"want (n, 2) finite points below {limit:g}, got shape {points.shape}")
    return points
