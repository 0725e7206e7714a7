"""Edits of the road itself: dividers and kerbs that moved, lanes that are closed, ways through junctions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon
from shapely.ops import substring

from avjepa.city.arc_path import biarc
from avjepa.city.change_edits import CityEdit, Site, layer_of
from avjepa.city.change_shapes import bulged, centre_line, station
from avjepa.city.road_map import Area, Lane
from avjepa.geometry.bands import band, line_poses, ramp, shifted

LANE_MIN_M = 2.2  # what a moved divider leaves of a lane
STRIP_M = (1.5, 3.0)  # how far a kerb moves
WALKWAY_MIN_M = 0.8  # what a moved kerb leaves of a walkway
DRAWING_M = 0.06  # how far the outlines of walkways and roads may be from each other (simplified curves)
OVERLAP_M = 1.3  # more than STRIP_M falls within the metre beyond a taper, so that bands cross the old kerb
CLOSURE_GAP_M = 5.0  # between the barriers and the ends of the lane
TURN_RADIUS_MIN_M = 4.0
TURN_MAX_RAD = 2.2
STRAIGHT_RAD = 0.6


def divider_moved(site: Site) -> Iterator[CityEdit]:
    """A stretch of a divider lies 0.5 to 1 m to one side in the prior, and the two lanes beside it with it."""
    for divider in site.near(site.world.dividers):
        lanes = [lane for lane in site.world.lanes.values() if divider.token in (lane.left_divider, lane.right_divider)]
        room_m = min((lane.width_m for lane in lanes), default=0.0) - LANE_MIN_M
        if len(lanes) != 2 or room_m < 0.5:
            continue
        left_m = float(site.rng.uniform(0.5, min(1.0, room_m)) * site.rng.choice([-1, 1]))
        for begin_m, end_m in site.windows(divider.line, 16, 24, 2.0):
            s_m = np.arange(begin_m - 1, end_m + 1.5)
            poses, offset_m = line_poses(divider.line, s_m), left_m * ramp(s_m, begin_m, end_m)
            piece, moved = substring(divider.line, begin_m, end_m), LineString(shifted(poses, offset_m)[1:-1])
            ends = substring(divider.line, 0.0, begin_m), substring(divider.line, end_m, divider.line.length)
            old_line = LineString(np.concatenate([part.coords for part in (ends[0], moved, ends[1])]))
            # From well inside the lane that gains, so that no sliver stays along the old line.
            gained = band(poses, -0.5 * np.sign(left_m), offset_m)
            old_lanes = [_follow(lane, piece, left_m, gained) for lane in lanes]
            if all(isinstance(lane.polygon, Polygon) for lane in old_lanes):
                yield site.edit(
                    layer_of(divider),
                    f"a line moved {abs(left_m):.1f} m sideways",
                    band(poses[1:-1], 0.0, offset_m[1:-1]),
                    (piece, (("dividers", divider), *(("lanes", lane) for lane in lanes))),
                    (moved, (("dividers", replace(divider, line=old_line)), *(("lanes", lane) for lane in old_lanes))),
                )


def _follow(lane: Lane, piece: LineString, left_m: float, gained: Polygon) -> Lane:
    """A lane beside a piece of divider that goes ``left_m`` to the piece's left; the lane behind the move gets ``gained``."""
    x, y, yaw = line_poses(piece, np.array([piece.length / 2]))[0]
    stations = sorted(station(lane.path, xy) for xy in (piece.coords[0], piece.coords[-1]))
    lane_x, lane_y, lane_yaw = lane.path.poses(np.array([sum(stations) / 2]))[0]
    is_left = np.cos(yaw) * (lane_y - y) > np.sin(yaw) * (lane_x - x)
    grows = is_left != (left_m > 0)
    polygon = lane.polygon.union(gained) if grows else lane.polygon.difference(gained)
    along = 1 if np.cos(lane_yaw - yaw) > 0 else -1
    return replace(lane, polygon=polygon, path=bulged(lane.path, *stations, along * left_m / 2))


def drivable_edge_moved(site: Site) -> Iterator[CityEdit]:
    """In the prior the kerb on the right of a road lies 1.5 to 3 m further out or further in for a stretch."""
    world = site.world
    kerb_lanes = {token: lane for token, lane in world.lanes.items() if lane.road and not lane.right_divider}
    crosswalks = shapely.union_all([crosswalk.polygon for crosswalk in world.crosswalks.values()])
    for lane in site.near(kerb_lanes):
        line = centre_line(lane.path)
        for begin_m, end_m in site.windows(line, 14, 24, 6.0):
            s_m = np.arange(begin_m - 1, end_m + 1.5)
            poses, road = lane.path.poses(s_m), world.roads[lane.road]
            kerb_m = _kerb_m(poses, road.polygon)
            if kerb_m is None or band(poses, 0.0, -kerb_m).distance(crosswalks) < 2:
                continue
            share = ramp(s_m, begin_m, end_m)
            for outwards in site.rng.permutation([True, False]):
                make = _kerb_out if outwards else _kerb_in
                yield from make(site, lane, poses, kerb_m, share)


def _kerb_m(poses: np.ndarray, road: Polygon) -> np.ndarray | None:
    """Distance (k,) from poses to the edge of their road on the right; None where it is not one smooth kerb."""
    rays = shapely.linestrings(np.stack([poses[:, :2], shifted(poses, -12.0)], 1))
    inside = shapely.intersection(rays, road)
    kerb_m = shapely.length(inside)
    smooth = (shapely.get_type_id(inside) == 1).all() and np.ptp(kerb_m) < 0.3 and kerb_m.max() < 11
    return kerb_m if smooth else None


def _kerb_out(site: Site, lane: Lane, poses: np.ndarray, kerb_m: np.ndarray, share: np.ndarray) -> Iterator[CityEdit]:
    """The prior's road is wider: a strip of the walkway is road there."""
    world, road = site.world, site.world.roads[lane.road]
    for width_m in (float(site.rng.uniform(*STRIP_M)), STRIP_M[0]):
        beyond = band(poses[1:-1], -kerb_m[1:-1] - DRAWING_M, -(kerb_m + width_m * share)[1:-1] - WALKWAY_MIN_M)
        walkway = _covering(world.walkways, beyond)
        if walkway is None or beyond.intersects(world.drivable):
            continue
        corridor = band(poses, OVERLAP_M - kerb_m, -kerb_m - width_m * share)
        strip = corridor.difference(world.drivable)
        old_road, old_walkway = corridor.union(road.polygon), walkway.polygon.difference(corridor)
        if all(isinstance(shape, Polygon) for shape in (strip, old_road, old_walkway)):
            old = (("roads", replace(road, polygon=old_road)), ("walkways", replace(walkway, polygon=old_walkway)))
            new = (("roads", road), ("walkways", walkway))
            yield site.edit(
                "drivable_area", f"a kerb moved in by {width_m:.1f} m", strip, (None, new), (strip, old), corridor
            )


def _kerb_in(site: Site, lane: Lane, poses: np.ndarray, kerb_m: np.ndarray, share: np.ndarray) -> Iterator[CityEdit]:
    """The prior's road is narrower: a strip beside its lanes is walkway there, and no parking."""
    world, road = site.world, site.world.roads[lane.road]
    shoulder_m = float(kerb_m.min()) - lane.width_m / 2
    walkway = _covering(world.walkways, band(poses, -kerb_m - DRAWING_M, -kerb_m - OVERLAP_M))
    if shoulder_m < STRIP_M[0] or walkway is None:
        return
    width_m = float(site.rng.uniform(STRIP_M[0], min(STRIP_M[1], shoulder_m)))
    corridor = band(poses, -kerb_m - OVERLAP_M, width_m * share - kerb_m)
    strip = world.drivable.intersection(corridor)
    parks = [park for park in world.car_parks.values() if park.polygon.intersects(strip)]
    if not all(road.polygon.buffer(DRAWING_M).covers(park.polygon) for park in parks):
        return  # a driveway
    no_parking = band(poses[1:-1], -kerb_m[1:-1] - OVERLAP_M, shoulder_m - kerb_m[1:-1])
    old_parks = [piece for park in parks for piece in _pieces(park, no_parking)]
    old_road, old_walkway = road.polygon.difference(corridor), corridor.union(walkway.polygon)
    if all(isinstance(shape, Polygon) for shape in (strip, old_road, old_walkway)):
        new = [("roads", road), ("walkways", walkway), *(("car_parks", park) for park in parks)]
        old = [("roads", replace(road, polygon=old_road)), ("walkways", replace(walkway, polygon=old_walkway))]
        old += [("car_parks", piece) for piece in old_parks]
        sides = (strip, tuple(new)), (None, tuple(old))
        yield site.edit("drivable_area", f"a kerb moved out by {width_m:.1f} m", strip, *sides, corridor)


def _covering(areas: dict[str, Area], shape: Polygon) -> Area | None:
    return next((area for area in areas.values() if area.polygon.covers(shape)), None)


def _pieces(area: Area, cut: Polygon) -> list[Area]:
    """What a cut leaves of an area; the first piece keeps its token."""
    rest = area.polygon.difference(cut)
    polygons = [rest] if isinstance(rest, Polygon) else list(rest.geoms)
    tokens = [area.token, *(f"{area.token}-{number}" for number in range(1, len(polygons)))]
    return [Area(token, polygon) for token, polygon in zip(tokens, polygons, strict=True) if not polygon.is_empty]


def lane_closed(site: Site) -> Iterator[CityEdit]:
    """A lane with a neighbour in its direction is closed by barriers in the world; the prior says nothing of it."""
    world = site.world
    paint = shapely.union_all([element.polygon for element in (*world.crosswalks.values(), *world.stop_lines.values())])
    for lane in site.near(world.lanes):
        beside = [world.dividers.get(token) for token in (lane.left_divider, lane.right_divider)]
        if not any(divider is not None and divider.separates == "lanes" for divider in beside):
            continue
        for begin_m, end_m in site.windows(centre_line(lane.path), 15, 25, CLOSURE_GAP_M):
            poses = lane.path.poses(np.arange(begin_m, end_m + 0.5))
            stretch = band(poses, -lane.width_m / 2, lane.width_m / 2)
            if not stretch.intersects(paint):
                edit = site.edit("lane", "a lane is closed by barriers", stretch, (stretch, ()), (stretch, ()))
                yield replace(edit, world_tokens=(lane.token,), prior_tokens=(lane.token,))


def connector_new(site: Site) -> Iterator[CityEdit]:
    """The prior lacks one of several ways that a lane has through a junction."""
    lanes = site.world.lanes
    for way in site.near({token: lane for token, lane in lanes.items() if lane.turn in ("left", "right", "straight")}):
        before = [lanes[token] for token in site.world.predecessors(way.token)]
        if len(before) != 1 or not before[0].road or len(before[0].successors) < 2:
            continue
        old = replace(before[0], successors=tuple(token for token in before[0].successors if token != way.token))
        new = (way.polygon, (("lanes", before[0]), ("lanes", way)))
        yield site.edit("lane_connector", f"a new way through: {way.turn}", way.polygon, new, (None, (("lanes", old),)))


def connector_gone(site: Site) -> Iterator[CityEdit]:
    """The prior has a way through a junction that the world does not allow."""
    lanes = site.world.lanes
    for junction in site.near(site.world.junctions):
        ways = [lane for lane in lanes.values() if lane.junction == junction.token]
        if any(way.turn == "ring" for way in ways):
            continue
        into = [lane for lane in lanes.values() if lane.road and any(way.token in lane.successors for way in ways)]
        out = [lanes[token] for token in dict.fromkeys(token for way in ways for token in way.successors)]
        pairs = [(lane, following) for lane in into for following in out if lane.road != following.road]
        for number in site.rng.permutation(len(pairs)):
            lane, following = pairs[number]
            if any(following.token in lanes[way].successors for way in lane.successors):
                continue
            way = _new_way(site, lane, following, junction)
            if way is not None:
                old = (("lanes", replace(lane, successors=(*lane.successors, way.token))), ("lanes", way))
                description = f"a way through is gone: {way.turn}"
                yield site.edit(
                    "lane_connector", description, way.polygon, (None, (("lanes", lane),)), (way.polygon, old)
                )


def _new_way(site: Site, lane: Lane, following: Lane, junction: Area) -> Lane | None:
    """A connector between two lanes; None where it would be too tight or leave the road."""
    path = biarc(lane.path.end, following.path.start)
    turn_rad = sum(curvature * length for curvature, length in path.segments)
    radius_m = 1 / max(1e-9, *(abs(curvature) for curvature, _ in path.segments))
    if radius_m < TURN_RADIUS_MIN_M or abs(turn_rad) > TURN_MAX_RAD or min(length for _, length in path.segments) <= 0:
        return None
    width_m = min(lane.width_m, following.width_m)
    area = band(path.sampled(1.0), -width_m / 2, width_m / 2)
    if not area.is_valid or area.difference(site.world.drivable).area > 0.02 * area.area:
        return None
    return Lane(
        token=f"{site.token}-connector",
        path=path,
        width_m=width_m,
        polygon=area,
        road="",
        junction=junction.token,
        turn="straight" if abs(turn_rad) < STRAIGHT_RAD else "left" if turn_rad > 0 else "right",
        successors=(following.token,),
        left_divider="",
        right_divider="",
        speed_mps=min(lane.speed_mps, following.speed_mps),
    )
