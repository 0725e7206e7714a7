"""Single edits of any vector map: each step looks for a spot and says how the out-of-date prior differs from the world there.

The counterparts of the mini city's steps (city/change_edits.py, city/change_roads.py), which know their town's lanes and kerbs;
these here know only what every map holds. Names and kinds are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import substring

from avjepa.geometry.bands import TAPER_M, band, line_poses, ramp, shifted
from avjepa.mapping.map_edits import ElementEdit
from avjepa.mapping.vector_map import ElementMap, MapElement

DIVIDERS = ("road_divider", "lane_divider")
TRIES = 8  # stretches tried on one line
CROSSING_DEPTH_M = (3.0, 4.0)
CROSSING_REACH_M = 15.0  # to the edge of the road, on either side
CLEAR_M = 12.0  # between an invented crossing and other paint
STEP_M = 1.0
BLOCK_M = 80.0
EDGE_DETAIL_M = 0.3  # outlines along which strips lie are simplified by so much: a mask's are jagged
BAY_TAPER_M = 1.5  # over which a bay, where one may stop or park, gets its depth
LEAST_SHARE = 0.3  # of a strip's width: less than the overlap
OVERLAP_M = 1.3  # a strip begins so far inside the area that it joins, so that no sliver stays


@dataclass(frozen=True)
class Site:
    """Where a step may work: the world, the part of it that is free, the names of the edit to make, and chance."""

    world: ElementMap
    free: BaseGeometry
    token: str
    kind: str
    step: str
    rng: np.random.Generator

    def near(self, *layers: str) -> list[MapElement]:
        """Elements of the layers that reach into the free part, in random order."""
        found = [element for element in self.world.near(self.free, 0.0) if element.layer in layers]
        return [found[i] for i in self.rng.permutation(len(found))]

    def stretches(self, line: LineString, length_m: float, margin_m: float) -> list[tuple[float, float]]:
        """Stretches (begin_m, end_m) of a line in the free part, ``margin_m`` or more from its ends, in random order."""
        begins_m = [np.zeros(0)]
        for part in shapely.get_parts(line.intersection(self.free)):
            if not isinstance(part, LineString) or part.length < length_m:
                continue
            first_m, last_m = sorted(line.project(Point(part.coords[end])) for end in (0, -1))
            if line.is_closed and part.length > line.length - STEP_M:  # a whole ring: both of its ends are at 0
                first_m, last_m = 0.0, line.length
            if abs(last_m - first_m - part.length) < STEP_M:  # not where a line crosses or closes itself
                begins_m.append(
                    np.arange(max(first_m, margin_m), min(last_m, line.length - margin_m) - length_m, STEP_M)
                )
        return [(float(s), float(s) + length_m) for s in self.rng.permutation(np.concatenate(begins_m))[:TRIES]]

    def edit(
        self,
        layer: str,
        description: str,
        geometry: BaseGeometry,
        world: tuple[BaseGeometry | None, tuple[MapElement, ...]],
        prior: tuple[BaseGeometry | None, tuple[MapElement, ...]],
    ) -> ElementEdit:
        """The edit with this site's names; each side is (geometry, elements)."""
        names = (self.token, "", self.kind, layer, self.step, description)
        return ElementEdit(*names, geometry, world[0], prior[0], world[1], prior[1])


def crosswalk_new(site: Site) -> Iterator[ElementEdit]:
    """The prior lacks a crosswalk."""
    yield from _missing(site, "ped_crossing", "a new crosswalk")


def stop_line_new(site: Site) -> Iterator[ElementEdit]:
    """The prior lacks a stop line."""
    yield from _missing(site, "stop_line", "a new stop line")


def divider_new(site: Site) -> Iterator[ElementEdit]:
    """The prior lacks a whole divider, of those that are not longer than a block."""
    for layer in DIVIDERS:
        yield from _missing(site, layer, "a new line")


def crosswalk_gone(site: Site) -> Iterator[ElementEdit]:
    """The prior has a crosswalk where the world has plain road, away from other paint."""
    world, rng = site.world, site.rng
    paint = world.layer("ped_crossing", "stop_line")
    for lane in site.near("lane"):
        line = _centre(lane)
        if line is None:
            continue
        depth_m = float(rng.uniform(*CROSSING_DEPTH_M))
        for begin_m, end_m in site.stretches(line, depth_m, 0.0):
            poses = line_poses(line, np.array([begin_m, end_m]))
            reach_m = _road_width(world, line, (begin_m + end_m) / 2)
            if reach_m is None:
                continue
            area = band(poses, -reach_m[0], reach_m[1])
            if area.is_valid and all(element.geometry.distance(area) > CLEAR_M for element in paint):
                gone = MapElement(f"{site.token}-crosswalk", "ped_crossing", area)
                yield site.edit(
                    "ped_crossing", "a crosswalk of the prior map is gone", area, (None, ()), (area, (gone,))
                )


def divider_moved(site: Site) -> Iterator[ElementEdit]:
    """A stretch of a divider lies 0.5 to 1 m to one side in the prior."""
    yield from _line_moved(site, DIVIDERS, 0.5, 1.0, "a line")


def road_edge_moved(site: Site) -> Iterator[ElementEdit]:
    """A stretch of the road's edge, where the map holds it as a line, lies 1.5 to 3 m to one side in the prior."""
    yield from _line_moved(site, ("road_edge",), 1.5, 3.0, "a road edge")


def drivable_edge_moved(site: Site) -> Iterator[ElementEdit]:
    """In the prior a stretch of a drivable area's edge lies 1.5 to 3 m further out or further in."""
    for strip in _strips(site, (16, 24), (1.5, 3.0), TAPER_M):
        what = f"a road edge moved {'in' if strip.added else 'out'} by {strip.width_m:.1f} m"
        yield _strip_edit(site, strip, what)


def drivable_bay_new(site: Site) -> Iterator[ElementEdit]:
    """The prior lacks a bay at the edge of a drivable area, 2.2 to 3.5 m deep."""
    for strip in _strips(site, (8, 20), (2.2, 3.5), BAY_TAPER_M):
        if not strip.added:
            yield _strip_edit(site, strip, f"a new bay, {strip.width_m:.1f} m deep")


def drivable_bay_gone(site: Site) -> Iterator[ElementEdit]:
    """The prior has a bay, 2.2 to 3.5 m deep, where a drivable area ends in the world."""
    for strip in _strips(site, (8, 20), (2.2, 3.5), BAY_TAPER_M):
        if strip.added:
            yield _strip_edit(site, strip, f"a bay of the prior map, {strip.width_m:.1f} m deep, is gone")


def stop_line_moved(site: Site) -> Iterator[ElementEdit]:
    """A stop line is 2 to 5 m further along the nearest lane in the prior, or further back."""
    lanes = [lane for lane in site.world.layer("lane") if _centre(lane) is not None]
    for stop in site.near("stop_line"):
        nearest = min(lanes, key=lambda lane: _centre(lane).distance(stop.geometry.centroid), default=None)
        if nearest is None:
            return
        line = _centre(nearest)
        at_m = line.project(stop.geometry.centroid)
        _, _, yaw = line_poses(line, np.array([np.clip(at_m, 0.5, line.length - 0.5)]))[0]
        distance_m = float(site.rng.uniform(2.0, 5.0) * site.rng.choice([-1, 1]))
        step_m = distance_m * np.array([np.cos(yaw), np.sin(yaw)])
        area = shapely.transform(stop.geometry, lambda xy, step_m=step_m: xy + step_m)
        others = [x for x in site.world.layer("stop_line", "ped_crossing") if x.token != stop.token]
        if not any(other.geometry.intersects(area) for other in others):
            what = f"a stop line moved {abs(distance_m):.1f} m {'back' if distance_m > 0 else 'ahead'}"
            sides = ((stop.geometry, (stop,)), (area, (replace(stop, geometry=area),)))
            yield site.edit("stop_line", what, stop.geometry.union(area), *sides)


def divider_colour(site: Site) -> Iterator[ElementEdit]:
    """A stretch of a divider is white on one side and yellow on the other; only where the map knows the colour."""
    yield from _repainted(site, lambda x: replace(x, colour="yellow" if x.colour == "white" else "white"))


def divider_dashing(site: Site) -> Iterator[ElementEdit]:
    """A stretch of a divider is dashed on one side and solid on the other; only where the map knows it."""
    yield from _repainted(site, lambda x: replace(x, dashed=not x.dashed))


def connector_new(site: Site) -> Iterator[ElementEdit]:
    """The prior lacks one of several ways that a lane has through a junction."""
    for way in site.near("lane_connector"):
        before = [site.world.elements[token] for token in site.world.predecessors(way.token)]
        if len(before) != 1 or len(before[0].successors) < 2:
            continue
        rest = tuple(token for token in before[0].successors if token != way.token)
        world, prior = (before[0], way), (replace(before[0], successors=rest),)
        yield site.edit("lane_connector", "a new way through", way.geometry, (way.geometry, world), (None, prior))


STEPS: dict[Callable[[Site], Iterator[ElementEdit]], str] = {
    crosswalk_new: "insertion",
    stop_line_new: "insertion",
    divider_new: "insertion",
    drivable_bay_new: "insertion",
    crosswalk_gone: "deletion",
    drivable_bay_gone: "deletion",
    divider_moved: "geometry",
    road_edge_moved: "geometry",
    drivable_edge_moved: "geometry",
    stop_line_moved: "geometry",
    divider_colour: "markings",
    divider_dashing: "type",
    connector_new: "connectivity",
}


def _whole_metres(site: Site, low_m: int, high_m: int) -> float:
    """A length of whole steps: poses a step apart meet both ends of the stretch."""
    return float(site.rng.integers(low_m, high_m + 1))


def _missing(site: Site, layer: str, description: str) -> Iterator[ElementEdit]:
    for element in site.near(layer):
        shape = element.geometry
        if max(shape.bounds[2] - shape.bounds[0], shape.bounds[3] - shape.bounds[1]) > BLOCK_M:
            continue
        yield site.edit(layer, description, shape, (shape, (element,)), (None, ()))


def _line_moved(site: Site, layers: tuple[str, ...], low_m: float, high_m: float, what: str) -> Iterator[ElementEdit]:
    for element in site.near(*layers):
        line = element.geometry
        if not isinstance(line, LineString):
            continue
        left_m = float(site.rng.uniform(low_m, high_m) * site.rng.choice([-1, 1]))
        for begin_m, end_m in site.stretches(line, _whole_metres(site, 16, 24), STEP_M):
            s_m = np.arange(begin_m - STEP_M, end_m + 1.5 * STEP_M)
            poses, offset_m = line_poses(line, s_m), left_m * ramp(s_m, begin_m, end_m)
            piece, moved = substring(line, begin_m, end_m), LineString(shifted(poses, offset_m)[1:-1])
            ends = substring(line, 0.0, begin_m), substring(line, end_m, line.length)
            old = LineString(np.concatenate([part.coords for part in (ends[0], moved, ends[1])]))
            area = band(poses[1:-1], 0.0, offset_m[1:-1])
            if old.is_simple and moved.is_simple and area.is_valid:
                sides = ((piece, (element,)), (moved, (replace(element, geometry=old),)))
                yield site.edit(element.layer, f"{what} moved {abs(left_m):.1f} m sideways", area, *sides)


@dataclass(frozen=True)
class _Strip:
    """A strip along an area's edge: the element, its shape in the prior, and whether the prior has the strip or lacks it."""

    element: MapElement
    prior: Polygon
    shape: Polygon
    width_m: float
    added: bool


def _strips(site: Site, length_m: tuple[int, int], width_m: tuple[float, float], taper_m: float) -> Iterator[_Strip]:
    """Strips of a random length and width that the prior has beyond an area's edge, or lacks within it."""
    for element in site.near("drivable_area"):
        area = element.geometry
        for ring in shapely.get_parts(shapely.get_rings(shapely.get_parts(area))):
            line = LineString(ring.coords).simplify(EDGE_DETAIL_M)
            sides_m = float(site.rng.uniform(*width_m)) * site.rng.permutation([-1.0, 1.0])
            stretches = site.stretches(line, _whole_metres(site, *length_m), STEP_M)
            for left_m, (begin_m, end_m) in itertools.product(sides_m, stretches):
                s_m = np.arange(begin_m - STEP_M, end_m + 1.5 * STEP_M)
                # A little beyond the edge at both ends, but never as far as the corridor's other side.
                share = np.maximum(ramp(s_m, begin_m, end_m, taper_m), -LEAST_SHARE)
                poses, offset_m = line_poses(line, s_m), left_m * share
                corridor = band(poses, -OVERLAP_M * np.sign(left_m), offset_m)
                if not corridor.is_valid:  # around a corner
                    continue
                added = not area.contains(Point(shifted(poses, left_m / 2)[len(poses) // 2]))
                prior = area.union(corridor) if added else area.difference(corridor)
                shape = shapely.set_precision(prior.symmetric_difference(area), 1e-6)
                if not (isinstance(prior, Polygon) and isinstance(shape, Polygon) and prior.is_valid):
                    continue
                is_wide = shape.area > abs(left_m) * (end_m - begin_m) / 3
                if is_wide and shape.within(site.free) and not _on_other_road(site, element, shape):
                    yield _Strip(element, prior, shape, float(abs(left_m)), added)


def _on_other_road(site: Site, element: MapElement, shape: Polygon) -> bool:
    """Whether a strip overlaps another drivable area: there, nobody sees whether it is there or not."""
    others = [x for x in site.world.near(shape, 0.0) if x.layer == "drivable_area" and x.token != element.token]
    return any(other.geometry.intersection(shape).area > 0 for other in others)


def _strip_edit(site: Site, strip: _Strip, description: str) -> ElementEdit:
    world, prior = (None, (strip.element,)), (strip.shape, (replace(strip.element, geometry=strip.prior),))
    if not strip.added:
        world, prior = (strip.shape, world[1]), (None, prior[1])
    return site.edit("drivable_area", description, strip.shape, world, prior)


def _repainted(site: Site, before: Callable[[MapElement], MapElement]) -> Iterator[ElementEdit]:
    """In the prior the divider is cut: the stretch keeps its token, the unchanged ends get new ones."""
    for element in site.near(*DIVIDERS):
        line = element.geometry
        if not (element.colour and element.dashed is not None and isinstance(line, LineString)):
            continue
        for begin_m, end_m in site.stretches(line, _whole_metres(site, 12, 20), STEP_M):
            piece = substring(line, begin_m, end_m)
            old = before(replace(element, geometry=piece))
            ends = (("before", substring(line, 0.0, begin_m)), ("after", substring(line, end_m, line.length)))
            rest = [replace(element, token=f"{element.token}-{name}", geometry=end) for name, end in ends]
            what = f"a {old.look} line is now {element.look}"
            yield site.edit(element.layer, what, piece, (piece, (element,)), (piece, (old, *rest)))


def _centre(lane: MapElement) -> LineString | None:
    return lane.centre_line if lane.centre_line is not None and lane.centre_line.length > 2 * STEP_M else None


def _road_width(world: ElementMap, line: LineString, at_m: float) -> tuple[float, float] | None:
    """How far the road reaches to the right and to the left of a lane's middle; None where no edge is near."""
    pose = line_poses(line, np.array([at_m]))
    middle = Point(pose[0, :2])
    found = world.near(middle, CROSSING_REACH_M)
    edges = [
        x.geometry if x.layer == "road_edge" else x.geometry.boundary
        for x in found
        if x.layer in ("road_edge", "drivable_area")
    ]
    reach_m = []
    for side in (-1.0, 1.0):
        ray = LineString([pose[0, :2], shifted(pose, side * CROSSING_REACH_M)[0]])
        hits = shapely.union_all([edge.intersection(ray) for edge in edges])
        if hits.is_empty:
            return None
        reach_m.append(hits.distance(middle))
    return (reach_m[0], reach_m[1]) if min(reach_m) > 1.0 else None
