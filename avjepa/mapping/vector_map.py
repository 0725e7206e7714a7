"""One typed vector map, whatever file it came from: elements with identity, shape, look and what they lead to.

Layers are those of nuScenes's map expansion, and ``road_edge``: the outline of the drivable area as lines, for maps that hold no
areas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import shapely
from shapely import STRtree
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from avjepa.errors import DataError
from avjepa.mapping.frames import MapFrame

AREA_LAYERS = (
    *("drivable_area", "road_segment", "road_block", "lane", "lane_connector"),
    *("ped_crossing", "walkway", "stop_line", "carpark_area"),
)
LINE_LAYERS = ("road_divider", "lane_divider", "road_edge", "traffic_light")
LAYERS = AREA_LAYERS + LINE_LAYERS
WAY_LAYERS = ("lane", "lane_connector")  # areas of which some sources know the centre line alone
COLOURS = ("white", "yellow")
OVERLAP_M = 50.0  # from the driven path: as far as a map element is worth looking at


def fits_layer(shape: BaseGeometry, layer: str) -> bool:
    """Whether a shape is of the layer's kind: an area, a line, or for lanes and connectors either; one or several of it."""
    is_area, is_line = (shape.geom_type in (kind, f"Multi{kind}") for kind in ("Polygon", "LineString"))
    return (is_area and layer in AREA_LAYERS) or (is_line and layer in LINE_LAYERS + WAY_LAYERS)


@dataclass(frozen=True)
class MapElement:
    """One element of a map. Shapes in metres of the map frame.

    Attributes:
        token: its name, unique in the map and stable over versions of it.
        layer: one of LAYERS.
        geometry: a polygon of an area, a line of a line; a lane or connector of some sources has its centre line alone.
        centre_line: of a lane or connector, in driving direction; None where the source has none.
        successors: tokens of the lanes and connectors that follow.
        colour: of paint, "white" or "yellow"; "" where the source does not say.
        dashed: of a painted line; None where the source does not say.
        subtype: what the source calls it more closely (stop_line_type, segment_type, lane_type, ...); "" for nothing.
        wear: share of the paint that is gone, in [0, 1]; None where the source does not say.
        height_m: of a traffic light, above the road; its line points where it faces.

    Raises:
        ValueError: an unknown layer or colour, no token, a shape that is empty, invalid, not finite or of another kind than the
            layer's, or wear out of range.
    """

    token: str
    layer: str
    geometry: BaseGeometry
    centre_line: LineString | None = None
    successors: tuple[str, ...] = ()
    colour: str = ""
    dashed: bool | None = None
    subtype: str = ""
    wear: float | None = None
    height_m: float | None = None

    def __post_init__(self) -> None:
        if not self.token or self.layer not in LAYERS or self.colour not in ("", *COLOURS):
            raise ValueError(
                f"want a token, a known layer and colour, got {self.token!r}, {self.layer!r}, {self.colour!r}"
            )
        if self.geometry.is_empty or not np.isfinite(shapely.get_coordinates(self.geometry)).all():
            raise ValueError(f"{self.token}: an element wants a shape that is not empty and finite")
        if not fits_layer(self.geometry, self.layer):
            raise ValueError(f"{self.token}: a {self.geometry.geom_type} is no shape of the layer {self.layer}")
        if not self.geometry.is_valid:
            raise ValueError(f"{self.token}: {shapely.is_valid_reason(self.geometry)}")
        if self.wear is not None and not 0 <= self.wear <= 1:
            raise ValueError(f"{self.token}: wear is a share in [0, 1], got {self.wear}")

    @property
    def look(self) -> str:
        """Its paint in words, such as "dashed white"; "" where nothing is known of it."""
        style = {True: "dashed", False: "solid", None: ""}[self.dashed]
        return " ".join(filter(None, (style, self.colour)))


@dataclass(frozen=True)
class ElementMap:
    """A vector map of one city, element by element.

    Attributes:
        frame: the frame of all shapes.
        elements: by token.
    """

    frame: MapFrame
    elements: Mapping[str, MapElement]

    @classmethod
    def of(cls, frame: MapFrame, elements: Iterable[MapElement]) -> ElementMap:
        """From elements of different tokens.

        Raises:
            ValueError: two have one token.
        """
        elements = list(elements)
        twice = [token for token, count in Counter(element.token for element in elements).items() if count > 1]
        if twice:
            raise ValueError(f"a token names one element; these name several: {twice[:3]}")
        return cls(frame, {element.token: element for element in elements})

    def layer(self, *names: str) -> list[MapElement]:
        """Elements of the layers, in the order of the map."""
        return [element for element in self.elements.values() if element.layer in names]

    def near(self, shape: BaseGeometry, distance_m: float) -> list[MapElement]:
        """Elements not further than a distance from a shape, in the order of the map."""
        if distance_m > 0:
            found = self._tree.query(shape, predicate="dwithin", distance=distance_m)
        else:  # much faster for a large shape
            found = self._tree.query(shape, predicate="intersects")
        ordered = list(self.elements.values())
        return [ordered[i] for i in sorted(found)]

    def predecessors(self, token: str) -> list[str]:
        """Tokens of the lanes and connectors that lead into one."""
        return [element.token for element in self.elements.values() if token in element.successors]

    def exchanged(self, old: Iterable[str], new: Iterable[MapElement]) -> ElementMap:
        """The map without some elements and with others.

        Raises:
            KeyError: it lacks an old one.
            ValueError: it has a new one already.
        """
        elements = dict(self.elements)
        for token in old:
            del elements[token]
        return ElementMap.of(self.frame, [*elements.values(), *new])

    def within(self, shape: BaseGeometry) -> ElementMap:
        """The part of the map that touches a shape: whole elements, leading only to elements of the part."""
        kept = {element.token: element for element in self.near(shape, 0.0)}
        cut = [replace(x, successors=tuple(t for t in x.successors if t in kept)) for x in kept.values()]
        return ElementMap.of(self.frame, cut)

    def check_overlap(self, xy_m: np.ndarray, what: str) -> float:
        """The share of positions (n, 2) in metres of the map that have an element within 50 m.

        Raises:
            DataError: none has: another city's map, or another frame.
        """
        points = shapely.points(np.asarray(xy_m, dtype=np.float64).reshape(-1, 2))
        covered = np.unique(self._tree.query(points, predicate="dwithin", distance=OVERLAP_M)[0])
        if len(covered) == 0:
            west, south, east, north = shapely.total_bounds([element.geometry for element in self.elements.values()])
            raise DataError(
                f"{what}: nowhere near the map. It drives about {_middle(points)}; the map of {self.frame.name} spans "
                f"({west:.0f}, {south:.0f}) to ({east:.0f}, {north:.0f}) m; take the map of the drive's city"
            )
        return len(covered) / len(points)

    @cached_property
    def _tree(self) -> STRtree:
        return STRtree([element.geometry for element in self.elements.values()])


def _middle(points: np.ndarray) -> str:
    x, y = np.median(shapely.get_coordinates(points), axis=0) if len(points) else (np.nan, np.nan)
    return f"({x:.0f}, {y:.0f}) m"
