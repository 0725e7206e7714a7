"""What an edit of a town's map is, and the edits of paint: crosswalks, dividers and stop lines (road edits: change_roads.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import shapely
from shapely.affinity import affine_transform
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import substring

from avjepa.city.change_shapes import centre_line, station
from avjepa.city.road_map import Area, Crosswalk, Divider, Lane, RoadMap, StopLine
from avjepa.geometry.bands import band
from avjepa.geometry.map_edit import MapEdit

MID_BLOCK_M = 15.0  # from the ends of a road and from other crosswalks and stop lines
REMNANT_M = 6.0  # an end of a divider shorter than this is repainted too
TRIES = 6  # spots tried on one element

Element = Lane | Divider | Crosswalk | StopLine | Area
Elements = tuple[tuple[str, Element], ...]  # each with the RoadMap field that holds it
T = TypeVar("T", bound=Element)


@dataclass(frozen=True)
class CityEdit(MapEdit):
    """An edit of a town's map.

    ``world_geometry`` of a closed lane is the stretch where the barriers stand.

    Attributes:
        world_tokens, prior_tokens: the elements that differ, on each side; a closed lane, which is the same on both, on both.
        world_elements, prior_elements: the elements that differ, whole, each with its RoadMap field.
        corridor: of a moved drivable edge, a strip that overlaps the world's drivable area, so that adding or cutting it
            leaves no sliver along the kerb; None otherwise.
    """

    world_tokens: tuple[str, ...]
    prior_tokens: tuple[str, ...]
    world_elements: Elements
    prior_elements: Elements
    corridor: Polygon | None = None


@dataclass(frozen=True)
class Site:
    """Where a step may work.

    Attributes:
        world: the map.
        place: name of the place.
        free: the part of it where the edit may lie.
        token, step, kind: of the edit to make.
        rng: chance.
    """

    world: RoadMap
    place: str
    free: BaseGeometry
    token: str
    step: str
    kind: str
    rng: np.random.Generator

    def near(self, elements: dict[str, T]) -> list[T]:
        """Elements that reach into the free part of the place, in random order."""
        found = [element for element in elements.values() if footprint(element).intersects(self.free)]
        return [found[i] for i in self.rng.permutation(len(found))]

    def windows(self, line: LineString, low_m: int, high_m: int, gap_m: float) -> list[tuple[float, float]]:
        """Stretches (begin_m, end_m) of a line with free ends, ``gap_m`` or more from the line's own."""
        size_m = float(self.rng.integers(low_m, high_m + 1))
        begins = np.arange(gap_m, line.length - size_m - gap_m, 1.0)
        ends = shapely.line_interpolate_point(line, np.stack([begins, begins + size_m]))
        begins = begins[shapely.within(ends, self.free).all(0)]
        return [(float(begin), float(begin) + size_m) for begin in self.rng.permutation(begins)[:TRIES]]

    def edit(
        self,
        layer: str,
        description: str,
        geometry: BaseGeometry,
        world: tuple[BaseGeometry | None, Elements],
        prior: tuple[BaseGeometry | None, Elements],
        corridor: Polygon | None = None,
    ) -> CityEdit:
        """The edit with this site's names; each side is (geometry, elements)."""
        tokens = [tuple(element.token for _, element in elements) for _, elements in (world, prior)]
        return CityEdit(
            *(self.token, self.place, self.kind, layer, self.step, description, geometry),
            *(world[0], prior[0], *tokens, world[1], prior[1], corridor),
        )


def crosswalk_new(site: Site) -> Iterator[CityEdit]:
    """The prior lacks a crosswalk."""
    for crosswalk in site.near(site.world.crosswalks):
        area = crosswalk.polygon
        yield site.edit("ped_crossing", "a new crosswalk", area, (area, (("crosswalks", crosswalk),)), (None, ()))


def crosswalk_gone(site: Site) -> Iterator[CityEdit]:
    """The prior has a crosswalk where the world has plain road, away from the ends of the road."""
    world, depth_m = site.world, site.rng.uniform(3.0, 4.0)
    paint = [element.polygon for element in (*world.crosswalks.values(), *world.stop_lines.values())]
    busy = shapely.union_all([*paint, *(island.polygon for island in world.islands.values())])
    for lane in site.near({token: lane for token, lane in world.lanes.items() if lane.road}):
        for begin_m, end_m in site.windows(centre_line(lane.path), 4, 4, MID_BLOCK_M):
            middle_m = (begin_m + end_m) / 2 + np.array([-0.5, 0.5]) * depth_m
            area = band(lane.path.poses(middle_m), -25.0, 25.0).intersection(world.roads[lane.road].polygon)
            if isinstance(area, Polygon) and not area.is_empty and area.distance(busy) > MID_BLOCK_M:
                gone = Crosswalk(f"{site.token}-crosswalk", area, lane.road, 0.0)
                description = "a crosswalk of the prior map is gone"
                yield site.edit("ped_crossing", description, area, (None, ()), (area, (("crosswalks", gone),)))


def divider_dashing(site: Site) -> Iterator[CityEdit]:
    """A stretch of a divider is dashed on one side and solid on the other."""
    return _repainted(site, lambda divider: replace(divider, dashed=not divider.dashed))


def divider_colour(site: Site) -> Iterator[CityEdit]:
    """A stretch of a divider is white on one side and yellow on the other."""
    return _repainted(site, lambda divider: replace(divider, colour="yellow" if divider.colour == "white" else "white"))


def _repainted(site: Site, before: Callable[[Divider], Divider]) -> Iterator[CityEdit]:
    """In the prior the divider is cut: the stretch keeps its token (lanes name it), the unchanged ends get new ones."""
    for divider in site.near(site.world.dividers):
        line = divider.line
        for begin_m, end_m in site.windows(line, 12, 20, 0.0):
            begin_m = 0.0 if begin_m < REMNANT_M else begin_m
            end_m = line.length if line.length - end_m < REMNANT_M else end_m
            piece = substring(line, begin_m, end_m)
            old = before(replace(divider, line=piece))
            ends = (("before", substring(line, 0.0, begin_m)), ("after", substring(line, end_m, line.length)))
            rest = [replace(divider, token=f"{divider.token}-{name}", line=end) for name, end in ends if end.length > 0]
            yield site.edit(
                layer_of(divider),
                f"a {_look(old)} line is now {_look(divider)}",
                piece,
                (piece, (("dividers", divider),)),
                (piece, (("dividers", old), *(("dividers", end) for end in rest))),
            )


def stop_line_moved(site: Site) -> Iterator[CityEdit]:
    """A stop line is 2 to 5 m further along its road in the prior, or further back."""
    world = site.world
    paint = shapely.union_all([crosswalk.polygon for crosswalk in world.crosswalks.values()])
    for stop in site.near(world.stop_lines):
        if not stop.lanes:
            continue
        path, centre = world.lanes[stop.lanes[0]].path, stop.polygon.centroid
        at_m, distance_m = station(path, centre), site.rng.uniform(2.0, 5.0)
        for ahead_m in site.rng.permutation([-distance_m, distance_m]):
            area = _carried(stop.polygon, *path.poses(np.array([at_m, at_m + ahead_m])))
            others = shapely.union_all([x.polygon for x in world.stop_lines.values() if x.token != stop.token])
            on_road = area.intersection(world.roads[stop.road].polygon).area > 0.98 * area.area
            if on_road and not area.intersects(paint) and not area.intersects(others):
                yield site.edit(
                    "stop_line",
                    f"a stop line moved {distance_m:.1f} m {'back' if ahead_m > 0 else 'ahead'}",
                    stop.polygon.union(area),
                    (stop.polygon, (("stop_lines", stop),)),
                    (area, (("stop_lines", replace(stop, polygon=area)),)),
                )


def _carried(shape: Polygon, old: np.ndarray, new: np.ndarray) -> Polygon:
    """A shape that moves with a pose (3,)."""
    cos, sin = np.cos(new[2] - old[2]), np.sin(new[2] - old[2])
    rotation = np.array([[cos, -sin], [sin, cos]])
    return affine_transform(shape, [*rotation.ravel(), *(new[:2] - rotation @ old[:2])])


def layer_of(divider: Divider) -> str:
    """The nuScenes layer of a divider."""
    return "road_divider" if divider.separates == "directions" else "lane_divider"


def footprint(element: Element) -> BaseGeometry:
    """Where an element lies."""
    return element.line if isinstance(element, Divider) else element.polygon


def _look(divider: Divider) -> str:
    return f"{'dashed' if divider.dashed else 'solid'} {divider.colour}"
