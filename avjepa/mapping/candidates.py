"""What strips and areas say, as candidates for changes of the prior map: one function a layer of evidence.

``log_odds`` is how sure a candidate is before it becomes a confidence: zero at the bar, one or two for clear evidence of one drive.
Other drives that saw the place add to a claim, not to a doubt; unseen parts of an area take from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import substring

from avjepa.geometry.bands import line_poses, shifted
from avjepa.mapping import closure_evidence, edge_evidence
from avjepa.mapping.area_evidence import SEARCH_M, AreaReading, moved_stop_line, read_area, searched_share
from avjepa.mapping.bay_evidence import Bay, judge_bays
from avjepa.mapping.line_evidence import LineRun, judge_line
from avjepa.mapping.line_reading import HALF_WIDTH_M, HERE_M, PLAIN_BARS
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.new_lines import KNOWN_LINE_M, LEAST_LENGTH_M, REACH_M, as_one, guides_of, new_lines
from avjepa.mapping.new_paint import MappedGround, around, goes_on, new_crosswalks
from avjepa.mapping.new_stop_lines import as_stop_lines, bar_of_lane
from avjepa.mapping.new_ways import OFF_M, NewWay
from avjepa.mapping.reflectance import FRESH, PLAIN, REFLECTS
from avjepa.mapping.tiles import Tile
from avjepa.mapping.vector_map import ElementMap, MapElement

NO_PAINT = "NIL"  # the map expansion's kind of such a divider
DIVIDERS = ("lane_divider", "road_divider")
PAINTED_AREAS = ("ped_crossing", "stop_line")
KINDS = {"moved": "geometry", "gone": "deletion", "colour": "markings", "dashing": "type"}
SEEN_SHARE = 0.5  # of an area, to judge it
GLIMPSED_SHARE = 0.25  # of a stop line, beside another that is seen clearly
SECOND_DRIVE = 0.7  # log-odds that another drive adds, of the first few; those after them see what these saw
MOST_DRIVES = 4
PIECE_M = 8.0  # runs of one finding that are nearer are one
DRIVEN_THROUGH = 2.5  # log-odds that a car takes that was surveyed where a lane is said to be closed
PLAIN_OFF = 2.5  # times what is off all known ways at all: plainly another one
KERB_MARGIN_M = 0.4  # inside the drivable area's outline: kerbs reflect more than the road
COVERED_M = 0.3  # around other paint of the map: how far map and sensors may disagree about it
PAINT_MARGIN_M = 0.7  # around known paint, where new paint is not looked for


@dataclass(frozen=True)
class Candidate:
    """A change as evidence has it; fields as those of changes.MapChange.

    Attributes:
        log_odds: for the change.
        degraded: worn paint: the element is still there.
    """

    element_id: str | None
    layer: str
    kind: str
    old: BaseGeometry | None
    new: BaseGeometry | None
    log_odds: float
    seen_share: float
    description: str
    old_marking: str = ""
    new_marking: str = ""
    sigma_m: float | None = None
    degraded: bool = False


def surer(log_odds: float, drives: int) -> float:
    """Log-odds of a claim that so many drives looked at together."""
    return log_odds + SECOND_DRIVE * (min(drives, MOST_DRIVES) - 1) if log_odds > 0 and drives > 1 else log_odds


def divider_candidates(mosaic: Mosaic, element: MapElement, taken: BaseGeometry) -> Iterator[Candidate]:
    """Stretches of a painted line that moved, are gone, or look another way; none of a divider that has no paint in the map.

    ``taken`` is other paint of the map: where a crosswalk lies over the line, the line is neither there nor missing.
    """
    if element.subtype == NO_PAINT:
        return
    covered = taken.buffer(COVERED_M)
    for line in lines_of(element.geometry):
        strip = mosaic.strip(line, HALF_WIDTH_M)
        strip = strip.rows(~shapely.contains(covered, shapely.line_interpolate_point(line, strip.s_m)))
        runs = _joined(judge_line(element, strip))
        moved = [(run.from_m, run.to_m) for run in runs if run.finding == "moved"]
        for run in runs:
            hidden = any(run.from_m < to_m and run.to_m > from_m for from_m, to_m in moved)
            if run.finding == "moved" or not hidden:
                yield _line_candidate(element, line, run)


def _line_candidate(element: MapElement, line: LineString, run: LineRun) -> Candidate:
    old = substring(line, run.from_m, run.to_m)
    new = old
    if run.finding == "moved":
        new = LineString(shifted(line_poses(old, np.linspace(0.3, old.length - 0.3, 12)), run.left_m))
    long_enough = 1.0 if run.reflects >= REFLECTS else min(1.0, run.length_m / 12)
    slope, offset = {"moved": (1.5, -1.0), "gone": (5.0, -2.0), "colour": (5.0, -2.5), "dashing": (7.0, -2.0)}[
        run.finding
    ]
    log_odds = surer(offset + slope * run.strength * long_enough, run.drives)
    style = {True: "dashed", False: "solid", None: ""}[run.dashed if run.finding == "dashing" else element.dashed]
    colour = run.colour if run.finding == "colour" else element.colour
    seen = " ".join(filter(None, (style, colour)))
    words = {
        "moved": f"a line moved {abs(run.left_m):.1f} m to the {'left' if run.left_m > 0 else 'right'}",
        "gone": "a line is gone",
        "colour": f"a {element.look} line is now {seen}",
        "dashing": f"a {element.look} line is now {seen}",
    }
    repainted = run.finding in ("colour", "dashing")
    return Candidate(
        element.token,
        element.layer,
        KINDS[run.finding],
        old,
        None if run.finding == "gone" else new,
        log_odds,
        run.seen_share,
        words[run.finding],
        element.look if repainted else "",
        seen if repainted else "",
        None if run.finding == "gone" else 0.15,
    )


def painted_area_candidates(mosaic: Mosaic, element: MapElement, taken: BaseGeometry) -> Iterator[Candidate]:
    """A crosswalk or stop line that is gone, moved or worn. ``taken`` is other paint of the map."""
    reading = read_area(mosaic, element.geometry, element.layer)
    is_stop_line = element.layer == "stop_line"
    if reading.seen_share < SEEN_SHARE or not reading.can_tell:
        # Of a stop line that was hardly seen no paint may show, and another bar must be clear.
        if is_stop_line and reading.seen_share >= GLIMPSED_SHARE and reading.stands_out < 1:
            moved = moved_stop_line(mosaic, element.geometry, taken)
            if moved is not None and moved[1] == 1:
                yield _moved_candidate(element, reading, *moved)
        return
    moved = moved_stop_line(mosaic, element.geometry, taken) if is_stop_line and reading.says_gone else None
    if moved is not None:
        yield _moved_candidate(element, reading, *moved)
    elif reading.says_gone:
        searched = searched_share(mosaic, element.geometry) if is_stop_line else 1.0  # it may lie where nobody saw
        log_odds = _missing(reading) - 2 * (1 - searched)
        words = "a stop line is gone" if is_stop_line else "a crosswalk is gone"
        yield _area_candidate(element, "deletion", None, log_odds, reading, words)
    elif reading.says_worn:  # and is still there
        words = "the paint of a stop line is worn" if is_stop_line else "the paint of a crosswalk is worn"
        yield _area_candidate(element, "deletion", None, -1.0, reading, words, degraded=True)


def _missing(reading: AreaReading) -> float:
    """Log-odds that an area without paint has none."""
    lacking = float(np.nan_to_num(np.clip(1 - reading.stands_out, 0, 1)))  # nan: LiDAR alone tells
    return 2.5 * lacking + (1.2 if reading.reflects < PLAIN else 0.0) - 2 * (1 - reading.seen_share)


def _moved_candidate(element: MapElement, reading: AreaReading, place: Polygon, clear: float) -> Candidate:
    distance_m = place.centroid.distance(element.geometry.centroid)
    words = f"a stop line moved {distance_m:.1f} m along its road"
    return _area_candidate(element, "geometry", place, _missing(reading) + 2 * clear, reading, words)


def _area_candidate(
    element: MapElement,
    kind: str,
    new: BaseGeometry | None,
    log_odds: float,
    reading: AreaReading,
    words: str,
    degraded: bool = False,
) -> Candidate:
    sigma_m = None if new is None else 0.2
    sure = surer(log_odds, reading.drives)
    return Candidate(
        *(element.token, element.layer, kind, element.geometry, new, sure, reading.seen_share, words),
        sigma_m=sigma_m,
        degraded=degraded,
    )


def new_crosswalk_candidates(mosaic: Mosaic, prior: ElementMap, tiles: Iterable[Tile]) -> Iterator[Candidate]:
    """Crosswalks in tiles that the map lacks.

    Without drivable areas there is nowhere to look, and a map without any crosswalk is one that was made without them, not one that
    is out of date.
    """
    if not prior.layer("ped_crossing"):
        return
    for tile in tiles:
        here = shapely.box(*around(tile))
        near = prior.near(here, 0.0)
        areas = [element.geometry for element in near if element.layer == "drivable_area"]
        road = shapely.union_all(shapely.intersection(areas, here.buffer(2 * KERB_MARGIN_M))).buffer(-KERB_MARGIN_M)
        if road.is_empty:
            continue
        lines, known, parking = (
            shapely.union_all([one.geometry.buffer(margin_m) for one in near if one.layer in layers])
            for layers, margin_m in (
                (DIVIDERS, PAINT_MARGIN_M),
                (PAINTED_AREAS, PAINT_MARGIN_M),
                (("carpark_area",), 0.0),
            )
        )
        for found in new_crosswalks(mosaic, tile, MappedGround(road, lines, known, parking)):
            reading = found.reading
            reflects = REFLECTS if np.isnan(reading.reflects) else reading.reflects
            log_odds = surer(3.0 * (reflects - PLAIN) + 1.0 - 2 * (1 - reading.seen_share), reading.drives)
            yield _insertion("ped_crossing", found.area, log_odds, reading.seen_share, "a new crosswalk", 0.3)


def as_one_crosswalk(crosswalks: Iterable[Candidate]) -> list[Candidate]:
    """New crosswalks; pieces of one of which the middle was hidden, such as by cars that wait, as one, as sure as the surest."""
    joined: list[Candidate] = []
    for piece in sorted(crosswalks, key=lambda one: -one.new.area):
        for number, whole in enumerate(joined):
            if goes_on(whole.new, piece.new):
                area = whole.new.union(piece.new).minimum_rotated_rectangle
                joined[number] = replace(whole, new=area, log_odds=max(whole.log_odds, piece.log_odds))
                break
        else:
            joined.append(piece)
    return joined


def _insertion(
    layer: str, new: BaseGeometry, log_odds: float, seen_share: float, words: str, sigma_m: float, marking: str = ""
) -> Candidate:
    return Candidate(
        None,
        layer,
        "insertion",
        None,
        new,
        log_odds,
        seen_share,
        words,
        new_marking=marking,
        sigma_m=sigma_m,
    )


def new_line_candidates(mosaic: Mosaic, prior: ElementMap, near: Iterable[MapElement]) -> Iterator[Candidate]:
    """Painted lines beside lanes and dividers near the drives that the map lacks.

    A map without any divider is one that was made without them, not one that is out of date.
    """
    near = list(near)
    if not prior.layer(*DIVIDERS):
        return
    lanes = [one.centre_line for one in near if one.layer == "lane" and one.centre_line is not None]
    guides = guides_of(lanes, [one.geometry for one in near if one.layer in DIVIDERS])
    lines = as_one(line for guide in guides for line in new_lines(mosaic, guide, *_free_beside(prior, guide)))
    for new in lines:
        long_enough = min(1.0, new.line.length / (2 * LEAST_LENGTH_M))
        clear = 2.0 * (min(new.reflects, FRESH) - PLAIN) + 0.5 * (min(new.strength, PLAIN_BARS) - 1)
        log_odds = surer(long_enough * clear - 2 * (1 - new.seen_share), new.drives)
        seen = " ".join(filter(None, ("dashed" if new.dashed else "solid", new.colour)))
        yield _insertion("lane_divider", new.line, log_odds, new.seen_share, f"a new {seen} line", 0.15, seen)


def new_stop_line_candidates(mosaic: Mosaic, prior: ElementMap, near: Iterable[MapElement]) -> Iterator[Candidate]:
    """Stop lines at the ends of lanes near the drives that the map lacks; one that the map has nearby has moved, and is not new.

    A map without any stop line is one that was made without them, not one that is out of date.
    """
    if not prior.layer("stop_line"):
        return
    bars = []
    for lane in near:
        if lane.layer != "lane" or lane.centre_line is None or not lane.centre_line.length:
            continue
        end = shapely.Point(lane.centre_line.coords[-1])
        painted = [one for one in prior.near(end, 4 * SEARCH_M) if one.layer in PAINTED_AREAS]
        margins_m = [SEARCH_M if one.layer == "stop_line" else PAINT_MARGIN_M for one in painted]
        taken = shapely.union_all(shapely.buffer([one.geometry for one in painted], margins_m))
        width_m = lane.geometry.area / lane.centre_line.length
        bars.append(bar_of_lane(mosaic, lane.centre_line, width_m, taken))
    for area in as_stop_lines(bar for bar in bars if bar is not None):
        reading = read_area(mosaic, area, "stop_line")
        reflects = REFLECTS if np.isnan(reading.reflects) else min(reading.reflects, FRESH)
        log_odds = surer(3.0 * (reflects - PLAIN) + 1.0 - 2 * (1 - reading.seen_share), reading.drives)
        if reading.seen_share >= SEEN_SHARE and reading.stands_out >= 1:
            yield _insertion("stop_line", area, log_odds, reading.seen_share, "a new stop line", 0.2)


def _free_beside(prior: ElementMap, guide: LineString) -> tuple[BaseGeometry, BaseGeometry]:
    """Where a new line may lie beside a guide, and areas of paint of the map."""
    here = guide.buffer(REACH_M + HERE_M)
    near = prior.near(here, KNOWN_LINE_M)
    drivable = [element.geometry for element in near if element.layer == "drivable_area"]
    road = (
        shapely.union_all(shapely.intersection(drivable, here.buffer(1))).buffer(-PAINT_MARGIN_M) if drivable else here
    )
    lines = [element.geometry.buffer(KNOWN_LINE_M) for element in near if element.layer in DIVIDERS]
    others = [one.geometry for one in near if one.layer in (*PAINTED_AREAS, "carpark_area", "road_edge")]
    covered = shapely.union_all([one.geometry for one in near if one.layer in PAINTED_AREAS]).buffer(COVERED_M)
    return road.difference(shapely.union_all([*lines, *shapely.buffer(others, PAINT_MARGIN_M)])), covered


def kerb_candidates(mosaic: Mosaic, prior: ElementMap, outlines: Iterable[LineString]) -> Iterator[Candidate]:
    """Bays of the drivable area's outlines that are gone or new, and other stretches whose kerb lies elsewhere."""
    areas = prior.layer("drivable_area")
    for outline in outlines:
        bays = list(judge_bays(mosaic, outline))
        yield from (_bay_candidate(bay, areas) for bay in bays)
        for run in edge_evidence.judge_edge(mosaic.strip(outline, edge_evidence.HALF_WIDTH_M)):
            strip = run.strip(outline)
            if any(bay.area.intersection(strip).area > strip.area / 2 for bay in bays):
                continue  # the same, told better
            left_m = float(np.median(run.left_m))
            log_odds = _of_kerb(left_m, run.length_m, run.drives)
            words = f"a kerb moved {'out' if run.outwards else 'in'} by {abs(left_m):.1f} m"
            owner = min(areas, key=lambda element: element.geometry.distance(strip))
            sides = (None, strip) if run.outwards else (strip, None)
            yield Candidate(
                owner.token, "drivable_area", "geometry", *sides, log_odds, run.seen_share, words, sigma_m=0.2
            )


def _of_kerb(left_m: float, length_m: float, drives: int) -> float:
    """Log-odds of a kerb so far from where the map has it, along so much of it."""
    return surer(-1.5 + 1.5 * abs(left_m) + 0.1 * length_m, drives)


def _bay_candidate(bay: Bay, areas: Iterable[MapElement]) -> Candidate:
    log_odds = _of_kerb(bay.depth_m, bay.length_m, bay.drives)
    if bay.is_new:
        names, sides = (None, "drivable_area", "insertion"), (None, bay.area)
    else:
        owner = min(areas, key=lambda element: element.geometry.distance(bay.area))
        names, sides = (owner.token, "drivable_area", "deletion"), (bay.area, None)
    words = f"a new bay, {bay.depth_m:.1f} m deep" if bay.is_new else f"a bay, {bay.depth_m:.1f} m deep, is gone"
    return Candidate(*names, *sides, log_odds, bay.seen_share, words, sigma_m=0.3 if bay.is_new else None)


def closure_candidates(mosaic: Mosaic, element: MapElement) -> Iterator[Candidate]:
    """A stretch of a lane, or of a way through a junction, that barriers close."""
    line = closure_evidence.lane_line(element.centre_line)
    if line is None:
        return
    closure = closure_evidence.judge_closure(mosaic, line)
    if closure is not None:
        stretch = substring(line, closure.from_m, closure.to_m).buffer(closure_evidence.HALF_WIDTH_M, cap_style="flat")
        log_odds = surer(1.0 + 0.1 * min(closure.keyframes, 15), closure.drives)
        if mosaic.views is not None and shapely.intersects_xy(stretch, *mosaic.views.xy_m.T).any():
            log_odds -= DRIVEN_THROUGH
        words = f"a {'lane' if element.layer == 'lane' else 'way through'} is closed by barriers"
        yield Candidate(
            *(element.token, element.layer, "connectivity", stretch, stretch, log_odds, closure.seen_share, words),
            sigma_m=0.3,
        )


def new_way_candidate(way: NewWay, upto_us: float = np.inf) -> Candidate | None:
    """A way through a junction that the map lacks, as far as it was driven up to a time; None if it was not.

    Drivers of a fleet keep to the rules, so one is believed whose path leads plainly elsewhere than all ways of the map. A path not
    far from one of them may be that one, driven badly: a candidate, until another drive says the same.
    """
    passes = [one for one in way.passes if one.upto_us <= upto_us]
    if not passes:
        return None
    plain = min(max(one.off_m for one in passes) / OFF_M, PLAIN_OFF)
    log_odds = surer(plain - 1.0, len(passes))
    words = f"a new way through: {way.turn}, taken by {len(passes)} drive{'s' if len(passes) > 1 else ''}"
    sides = (way.from_lane, "lane_connector", "connectivity", None, way.area)
    return Candidate(*sides, log_odds, 1.0, words, sigma_m=0.5)


def lines_of(geometry: BaseGeometry) -> list[LineString]:
    """The lines of a line element, each of a length that can be judged."""
    return [part for part in shapely.get_parts(geometry) if isinstance(part, LineString) and part.length > 3]


def _joined(runs: list[LineRun]) -> list[LineRun]:
    """Runs of one finding with little between them as one."""
    joined: list[LineRun] = []
    for run in sorted(runs, key=lambda run: (run.finding, run.from_m)):
        last = joined[-1] if joined else None
        if last is not None and last.finding == run.finding and run.from_m - last.to_m < PIECE_M:
            joined[-1] = last.joined(run)
        else:
            joined.append(run)
    return joined
