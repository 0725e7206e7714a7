"""The map of a town as geometry: what the world is built from, and what the map files are written from.

All coordinates are metres in the town's own frame (x east, y north), which is the nuScenes map frame of that town and the
``global`` frame of its scenes. Traffic keeps right. Polygons and lines are shapely geometries.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shapely.geometry import LineString, MultiPolygon, Polygon

from avjepa.city.arc_path import ArcPath


@dataclass(frozen=True)
class Lane:
    """A lane of a road, or (``road`` empty) the way through a junction that joins two lanes: a lane connector.

    Attributes:
        token: unique name.
        path: centre line, in driving direction.
        width_m: width.
        polygon: area.
        road: token of the road it belongs to; "" for a connector.
        junction: token of the junction it crosses; "" for a lane of a road.
        turn: "straight", "left", "right" or "ring" of a connector; "" for a lane of a road.
        successors: tokens of the lanes that follow.
        left_divider, right_divider: tokens of the dividers beside it; "" where there is none (a kerb, a junction).
        speed_mps: limit.
    """

    token: str
    path: ArcPath
    width_m: float
    polygon: Polygon
    road: str
    junction: str
    turn: str
    successors: tuple[str, ...]
    left_divider: str
    right_divider: str
    speed_mps: float


@dataclass(frozen=True)
class Divider:
    """A painted line between lanes.

    Attributes:
        line: centre of the paint.
        separates: "directions" (nuScenes road_divider) or "lanes" (lane_divider).
        colour: "white" or "yellow".
        dashed: 3 m of paint, 6 m of gap; otherwise solid.
        road: token of its road.
    """

    token: str
    line: LineString
    separates: str
    colour: str
    dashed: bool
    road: str


@dataclass(frozen=True)
class Crosswalk:
    """A zebra crossing across a road; ``wear`` in [0, 1] is the share of its paint that is gone."""

    token: str
    polygon: Polygon
    road: str
    wear: float


@dataclass(frozen=True)
class StopLine:
    """A painted bar across the lanes that end there. ``cue`` is TRAFFIC_LIGHT, STOP_SIGN or YIELD."""

    token: str
    polygon: Polygon
    lanes: tuple[str, ...]
    road: str
    cue: str


@dataclass(frozen=True)
class TrafficLight:
    """A signal head for the lanes of one approach: position, height and the direction it faces (towards the traffic)."""

    token: str
    xyz_m: tuple[float, float, float]
    yaw_rad: float
    lanes: tuple[str, ...]
    road: str
    junction: str


@dataclass(frozen=True)
class Area:
    """A named polygon: a walkway, a car park, a road or a junction."""

    token: str
    polygon: Polygon


@dataclass(frozen=True)
class RoadMap:
    """Everything on the map of one town.

    Attributes:
        town: name of the map, such as "minicity-a".
        size_m: width and height of the canvas; everything lies within [0, width] x [0, height].
        lanes: lanes and connectors by token.
        dividers, crosswalks, stop_lines, traffic_lights: by token.
        roads: area of each road between two junctions (a nuScenes road_segment that is no intersection).
        junctions: area of each junction or roundabout (a road_segment that is an intersection).
        walkways, car_parks: areas.
        islands: raised ground inside the road (roundabouts, refuges), not drivable.
        drivable: all that cars may drive on, car parks included.
    """

    town: str
    size_m: tuple[float, float]
    lanes: dict[str, Lane]
    dividers: dict[str, Divider]
    crosswalks: dict[str, Crosswalk]
    stop_lines: dict[str, StopLine]
    traffic_lights: dict[str, TrafficLight]
    roads: dict[str, Area]
    junctions: dict[str, Area]
    walkways: dict[str, Area]
    car_parks: dict[str, Area]
    islands: dict[str, Area] = field(default_factory=dict)
    drivable: MultiPolygon = field(default_factory=MultiPolygon)

    def predecessors(self, token: str) -> tuple[str, ...]:
        """Tokens of the lanes that lead into a lane."""
        return tuple(lane.token for lane in self.lanes.values() if token in lane.successors)
