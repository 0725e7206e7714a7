"""Ways through junctions that the prior map lacks: they leave no paint, but a drive that took one is its trace.

1  track    ego positions and headings every half metre; where keyframes are missing, the track ends
2  lanes    those of the map that the car follows: within half a lane of the centre line, along its direction
3  trust    where drives are beside the map's lanes too often, the map lies off its place, and nothing is told
4  passes   from the end of one lane to the beginning of the next, with a junction between: the first lane leads to connectors;
            or to nothing, in a map whose lanes mostly lead on, and connectors lead to the second
5  known    passes that the prior explains: it leads there, the car kept to a way that it has, or changed lanes on one
6  ways     passes from one lane to another are one way, swept as wide as its lanes

Not told: ways that turn back, ways to a lane beside one that the first lane leads to (a change of lanes looks the same), and
anything in a map without lanes, centre lines or what they lead to.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import STRtree
from shapely.geometry import LineString, Point, Polygon

from avjepa.geometry.bands import line_poses
from avjepa.mapping.survey import SurveyedDrive
from avjepa.mapping.vector_map import ElementMap, MapElement

STEP_M = 0.5
MOST_STEP_M = 15.0  # between keyframes: half a second at 30 m/s; further apart, nobody knows how it went
LANE_M = 3.5  # width of a lane of which the map has a line alone
HALF_LANE_M = (1.2, 2.0)  # whatever mouths and slivers of lanes are as wide as
ALONG_RAD = 0.5  # between the headings of a car and its lane
LEAST_M = 4.0  # of a lane: who crosses or clips one does not follow it
END_M = 6.0  # of a lane, on which a car may already turn, or still
MOST_WAY_M = 60.0
LEAD_ON_SHARE = 0.5  # of a map's lanes: else the map does not say what they lead to
TURNS_BACK_RAD = 2.4
OFF_M = 2.0  # from every known way: more than half a lane
BESIDE_M = 7.5  # two lanes
MAYBE_M = 2.6  # from a centre line: between the middle of a lane and that of the next one
NEAR_M = 10.0  # from a car, a lane that leads its way
ON_SHARE = 0.8  # of the places near lanes that lie on one


@dataclass(frozen=True)
class Pass:
    """One drive's way from lane to lane.

    Attributes:
        path: of the car between the lanes.
        off_m: how far it came from the nearest known way of the first lane.
        upto_us: time of the keyframe by which it had followed the second lane for long enough.
    """

    path: LineString
    off_m: float
    upto_us: int


@dataclass(frozen=True)
class NewWay:
    """A way that the map lacks.

    Attributes:
        from_lane, to_lane: tokens.
        area: swept on the first pass, as wide as the narrower of the lanes.
        turn: "left", "right" or "straight".
        passes: one a drive, in the order of time.
    """

    from_lane: str
    to_lane: str
    area: Polygon
    turn: str
    passes: tuple[Pass, ...]


@dataclass(frozen=True)
class _Track:
    """Places of a drive, STEP_M apart.

    Attributes:
        xy_m, yaw_rad: (n, 2), (n,) poses.
        next_us: (n,) time of the next keyframe.
        lane: (n,) token of the lane that the car is on; "" for none.
        maybe: (n,) tokens of all that it may be on, as far as map and pose can be told apart.
        near: (n,) whether a lane leads its way near it.
    """

    xy_m: np.ndarray
    yaw_rad: np.ndarray
    next_us: np.ndarray
    lane: np.ndarray
    maybe: list[set[str]]
    near: np.ndarray


@dataclass(frozen=True)
class _Run:
    """A stretch of a track along one lane: its first and last place."""

    lane: MapElement
    first: int
    last: int


def new_ways(drives: Sequence[SurveyedDrive], prior: ElementMap) -> list[NewWay]:
    """Ways that drives took from lane to lane through a junction and that the prior lacks.

    Args:
        drives: with ego positions in the map frame.
        prior: the map.
    """
    lanes = [lane for lane in prior.layer("lane") if lane.centre_line is not None and lane.centre_line.length > LEAST_M]
    if not any(_leads_to_connectors(prior, lane) for lane in lanes):
        return []
    lead_on = sum(bool(lane.successors) for lane in lanes) >= LEAD_ON_SHARE * len(lanes)
    tracks = [(drive.scene, track) for drive in drives for track in _tracks(drive, lanes)]
    if not _drives_lie_on_lanes([track for _, track in tracks]):
        return []
    found: dict[tuple[str, str], dict[str, Pass]] = {}
    for scene, track in tracks:
        runs = _runs(track, prior)
        for one, other in itertools.pairwise(runs):
            has_junction = _leads_to_connectors(prior, one.lane) or (lead_on and _may_lead(prior, one.lane, other.lane))
            passed = _new_pass(track, one, other, prior) if has_junction else None
            if passed is not None:
                found.setdefault((one.lane.token, other.lane.token), {}).setdefault(scene, passed)
    return [_way(prior, tokens, list(of_drives.values())) for tokens, of_drives in found.items()]


def _tracks(drive: SurveyedDrive, lanes: Sequence[MapElement]) -> Iterator[_Track]:
    """The parts of a drive between which no keyframes are missing."""
    poses = np.array([[frame.x_m, frame.y_m, frame.yaw_rad] for frame in drive.frames])
    times_us = np.array([frame.timestamp_us for frame in drive.frames])
    if len(poses) < 2:
        return
    steps_m = np.hypot(*np.diff(poses[:, :2], axis=0).T)
    for part in np.split(np.arange(len(poses)), np.flatnonzero(steps_m > MOST_STEP_M) + 1):
        if len(part) < 2:
            continue
        at_m = np.concatenate([[0.0], np.cumsum(steps_m[part[:-1]])])
        s_m = np.arange(0.0, at_m[-1], STEP_M)
        x_m, y_m, yaw_rad = (np.interp(s_m, at_m, row) for row in (*poses[part, :2].T, np.unwrap(poses[part, 2])))
        xy_m = np.column_stack([x_m, y_m])
        yield _Track(xy_m, yaw_rad, times_us[part][np.searchsorted(at_m, s_m)], *_lanes_along(xy_m, yaw_rad, lanes))


def _lanes_along(
    xy_m: np.ndarray, yaw_rad: np.ndarray, lanes: Sequence[MapElement]
) -> tuple[np.ndarray, list[set[str]], np.ndarray]:
    """``lane``, ``maybe`` and ``near`` of the places (n, 2) of a track: lanes that lead the way of the car."""
    nearest_m, lane = np.full(len(xy_m), np.inf), np.full(len(xy_m), "", dtype=object)
    maybe, near = [set() for _ in xy_m], np.zeros(len(xy_m), bool)
    points = shapely.points(xy_m)
    place, which = STRtree([one.centre_line for one in lanes]).query(points, predicate="dwithin", distance=NEAR_M)
    for number in np.unique(which):
        one, here = lanes[number], place[which == number]
        s_m, apart_m = _station(one, points[here]), shapely.distance(one.centre_line, points[here])
        along = np.abs(_turned(yaw_rad[here], line_poses(one.centre_line, s_m)[:, 2])) < ALONG_RAD
        near[here] |= along & (s_m > 0) & (s_m < one.centre_line.length)
        for i in here[along & (apart_m <= MAYBE_M)]:
            maybe[i].add(one.token)
        nearer = along & (apart_m < nearest_m[here])
        nearest_m[here[nearer]] = apart_m[nearer]
        lane[here[nearer]] = np.where(apart_m[nearer] <= _half_m(one), one.token, "")
    return lane, maybe, near


def _drives_lie_on_lanes(tracks: Sequence[_Track]) -> bool:
    near = sum(int(track.near.sum()) for track in tracks)
    on = sum(int((track.near & (track.lane != "")).sum()) for track in tracks)
    return on >= ON_SHARE * near


def _runs(track: _Track, prior: ElementMap) -> list[_Run]:
    """Stretches along one lane of some length, in the order of the track."""
    runs = []
    for token in set(track.lane) - {""}:
        places = np.flatnonzero(track.lane == token)
        for part in np.split(places, np.flatnonzero(np.diff(places) * STEP_M > LEAST_M) + 1):
            run = _Run(prior.elements[token], int(part[0]), int(part[-1]))
            if np.diff(_stations(track, run))[0] >= LEAST_M:
                runs.append(run)
    return sorted(runs, key=lambda run: run.first)


def _new_pass(track: _Track, one: _Run, other: _Run, prior: ElementMap) -> Pass | None:
    """The pass from one run to the next, with a junction between; None of one that is known, or is none."""
    between_m = (other.first - one.last) * STEP_M
    turn_rad = _turned(track.yaw_rad[other.first], track.yaw_rad[one.last])
    leaves_at_end = _stations(track, one)[1] >= one.lane.centre_line.length - END_M
    enters_at_start = _stations(track, other)[0] <= END_M
    if not (leaves_at_end and enters_at_start and 0 < between_m <= MOST_WAY_M and abs(turn_rad) < TURNS_BACK_RAD):
        return None
    # Lanes lie beside and over each other: what any of those explains that it may have come from is not new.
    before = track.maybe[one.last] | {one.lane.token}
    ways = [way for token in sorted(before) for way in _ways_from(prior, token, between_m + 2 * END_M)]
    if any(_leads_there(prior, way, other.lane) for way in ways):
        return None
    upto = min(other.first + round(LEAST_M / STEP_M), other.last)
    places = shapely.points(track.xy_m[one.last : upto + 1])
    lines = [shapely.union_all([_line(prior.elements[token]) for token in way]) for way in ways]
    off_m = min(float(shapely.distance(line, places).max()) for line in lines)
    if off_m < OFF_M:
        return None
    return Pass(_between(track, one, other), off_m, int(track.next_us[upto]))


def _between(track: _Track, one: _Run, other: _Run) -> LineString:
    """The path from where one lane ends, or the car left it before, to where the other begins, or it came onto it behind."""
    out = _station(one.lane, shapely.points(track.xy_m[one.first : one.last + 1])) < one.lane.centre_line.length
    into = _station(other.lane, shapely.points(track.xy_m[other.first : other.last + 1])) > 0
    return LineString(track.xy_m[one.first + np.flatnonzero(out)[-1] : other.first + np.flatnonzero(into)[0] + 1])


def _ways_from(prior: ElementMap, token: str, most_m: float) -> list[tuple[str, ...]]:
    """Where one gets from a lane within some metres: lanes and connectors one after another, the lane itself first."""
    ways, open_ways = [], [((token,), 0.0)]
    while open_ways:
        way, length_m = open_ways.pop()
        following = [
            next_ for next_ in prior.elements[way[-1]].successors if next_ in prior.elements and next_ not in way
        ]
        if not following or length_m > most_m:
            ways.append(way)
            continue
        open_ways += [((*way, next_), length_m + _line(prior.elements[next_]).length) for next_ in following]
    return ways


def _leads_there(prior: ElementMap, way: Sequence[str], lane: MapElement) -> bool:
    """Whether a way leads to a lane, or to one beside it that goes the same way from there on."""
    start = line_poses(lane.centre_line, np.zeros(1))[0]
    for token in way[1:]:
        line = prior.elements[token].centre_line
        if prior.elements[token].layer == "lane" and line is not None and line.distance(Point(start[:2])) <= BESIDE_M:
            yaw_rad = line_poses(line, np.array([line.project(Point(start[:2]))]))[0, 2]
            if abs(_turned(yaw_rad, start[2])) < ALONG_RAD:
                return True
    return False


def _way(prior: ElementMap, tokens: tuple[str, str], passes: list[Pass]) -> NewWay:
    passes = sorted(passes, key=lambda one: one.upto_us)
    path = passes[0].path
    half_m = min(_half_m(prior.elements[token]) for token in tokens)
    begin, end = line_poses(path, np.array([0.0, path.length]))[:, 2]
    turn_rad = _turned(end, begin)
    turn = "straight" if abs(turn_rad) < ALONG_RAD else "left" if turn_rad > 0 else "right"
    return NewWay(*tokens, path.buffer(half_m, cap_style="flat"), turn, tuple(passes))


def _stations(track: _Track, run: _Run) -> np.ndarray:
    """Arc lengths (2,) on the lane of the first and the last place of a run."""
    return _station(run.lane, shapely.points(track.xy_m[[run.first, run.last]]))


def _station(lane: MapElement, points: np.ndarray) -> np.ndarray:
    """Arc lengths (n,) on the centre line next to points (n,)."""
    with np.errstate(invalid="ignore"):  # GEOS, of points that lie on the line
        return shapely.line_locate_point(lane.centre_line, points)


def _leads_to_connectors(prior: ElementMap, lane: MapElement) -> bool:
    following = [prior.elements.get(token) for token in lane.successors]
    return any(element is not None and element.layer == "lane_connector" for element in following)


def _may_lead(prior: ElementMap, one: MapElement, other: MapElement) -> bool:
    """Whether a lane has lost all that it leads to, and connectors lead to the other."""
    return not one.successors and any(
        prior.elements[t].layer == "lane_connector" for t in prior.predecessors(other.token)
    )


def _line(element: MapElement) -> shapely.Geometry:
    return element.geometry if element.centre_line is None else element.centre_line


def _half_m(lane: MapElement) -> float:
    """Half the width of a lane."""
    width_m = lane.geometry.area / lane.centre_line.length or LANE_M
    return float(np.clip(width_m / 2, *HALF_LANE_M))


def _turned(yaw_rad: np.ndarray, from_rad: np.ndarray) -> np.ndarray:
    """Difference of headings in (-pi, pi]."""
    return np.angle(np.exp(1j * (np.asarray(yaw_rad) - from_rad)))
