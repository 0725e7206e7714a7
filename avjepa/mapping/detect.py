"""What differs from the prior map: surveys of drives in, a report of changes out. Read this file to understand the detector.

    1  mosaic      the surveys of all drives, added cell by cell (survey.py, mosaic.py)
    2  evidence    each painted line, crosswalk, stop line, kerb and lane of the prior near the drives, judged on what was seen
                   of it (line_evidence.py, area_evidence.py, edge_evidence.py, bay_evidence.py, closure_evidence.py), and
                   crosswalks (new_paint.py), lines (new_lines.py), stop lines (new_stop_lines.py) and ways that cars took
                   (new_ways.py) that the prior lacks
    3  candidates  one for each difference, with its log-odds (candidates.py); what one explains is not told as another:
                   pavement is no crosswalk, its stripes are no line that moved
    4  weighing    with an evidence file: what a frozen encoder says of each, and log-odds that were calibrated (weighing.py)
    5  changes     the surest of candidates that say the same of one place; confidence; who saw it (sightings.py), and when it
                   could first be believed (first_confirmed.py); status

An element that was not seen is unobservable, never gone. Ways through a junction leave no paint: one that the prior lacks is told
where a drive took it, one of the prior where barriers close it; whether one is gone is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import shapely

from avjepa.errors import DataError
from avjepa.mapping.area_evidence import read_area
from avjepa.mapping.candidates import (
    DIVIDERS,
    NO_PAINT,
    PAINTED_AREAS,
    SEEN_SHARE,
    Candidate,
    as_one_crosswalk,
    closure_candidates,
    divider_candidates,
    kerb_candidates,
    lines_of,
    new_crosswalk_candidates,
    new_line_candidates,
    new_stop_line_candidates,
    new_way_candidate,
    painted_area_candidates,
)
from avjepa.mapping.changes import ChangeReport, MapChange, change_id_of
from avjepa.mapping.edge_evidence import outlines
from avjepa.mapping.first_confirmed import first_confirmed
from avjepa.mapping.ground_view import REACH_M
from avjepa.mapping.learned_evidence import EmbeddedFrame, with_readings
from avjepa.mapping.map_evidence import MapEvidence
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.new_lines import lines_lie_as_mapped
from avjepa.mapping.new_ways import new_ways
from avjepa.mapping.sharpness import Views
from avjepa.mapping.sightings import Sightings, sightings_of, utc
from avjepa.mapping.survey import GRID, SurveyedDrive, read_survey
from avjepa.mapping.vector_map import WAY_LAYERS, ElementMap, MapElement
from avjepa.mapping.weighing import Weighed, by_hand, first_sure, weigh
from avjepa.sensors.nuscenes_index import NuScenesIndex

CONFIRMED = 0.6  # confidence from which a change is believed
LEAST = 0.1  # below it a candidate is not worth a look
PAINT_M = 10.0  # paint that is further from a stop line is not taken for it
AROUND_KERB_M = 20.0  # of an outline, to judge a kerb again
NOTHING = shapely.GeometryCollection()
BARRIERS_M = 3.0  # around a closed lane
SAME_PLACE_M = 2.0  # candidates of one layer and kind that are nearer are one change

Watch = Callable[[Iterable, str, int], Iterable]


@dataclass(frozen=True)
class Learned:
    """What a frozen encoder makes of the drives: the evidence file, a function that gives the keyframes, and their number."""

    evidence: MapEvidence
    frames: Callable[[], Iterable[EmbeddedFrame]]
    count: int


def detect_changes(
    surveys: Sequence[Path],
    prior: ElementMap,
    prior_name: str,
    index: NuScenesIndex,
    run_id: str,
    now: datetime,
    watch: Watch,
    learned: Learned | None = None,
) -> ChangeReport:
    """All changes that surveys of drives in one city show. Drives that are nowhere near the map are not in the report's scenes.

    Args:
        surveys: folders, one a drive.
        prior: the map to check, in the frame of the drives' poses.
        prior_name: of the report.
        index: of the drives' data root.
        run_id, now: of the report.
        watch: wraps an iterable, words and its length, to show progress.
        learned: what a frozen encoder makes of the drives; None to judge by hand-made rules alone.

    Raises:
        BadFileError: a survey is damaged.
        DataError: no drive comes near the map.
    """
    surveys, drives = near_the_map(surveys, prior)
    mosaic, near = look(surveys, drives, index, prior)
    weighed = {one.candidate: one for one in judge(mosaic, drives, prior, near, watch, learned)}
    changes = [
        change_of(weighed[candidate], drives, index, believed_from(weighed[candidate], prior, mosaic, surveys, drives))
        for candidate in surest(list(weighed))
    ]
    changes = [change for change in changes if change is not None]
    told = {change.element_id for change in changes}
    changes += [
        unseen for element in near if element.token not in told for unseen in _unseen(mosaic, element, drives, index)
    ]
    unique: dict[str, MapChange] = {}
    for change in sorted(changes, key=lambda change: (-change.confidence, change.change_id)):
        unique.setdefault(change.change_id, change)  # of one place and kind the surest
    scenes = tuple(drive.scene for drive in drives)
    calibrated = learned is not None and learned.evidence.calibration is not None
    return ChangeReport(run_id, prior.frame, prior_name, scenes, now, tuple(unique.values()), calibrated)


def near_the_map(surveys: Sequence[Path], prior: ElementMap) -> tuple[list[Path], list[SurveyedDrive]]:
    """The surveys, and what they were made of, whose drives come near the map's elements.

    Raises:
        BadFileError: a survey is damaged.
        DataError: none does.
    """
    near, far = [], []
    for folder in surveys:
        drive = read_survey(folder)
        try:
            prior.check_overlap(drive.xy_m, drive.scene)
            near.append((folder, drive))
        except DataError as error:
            far.append(error)
    if not near:
        raise far[0] if far else DataError("no survey of a drive is given")
    return [folder for folder, _ in near], [drive for _, drive in near]


def look(
    surveys: Sequence[Path], drives: Sequence[SurveyedDrive], index: NuScenesIndex, prior: ElementMap
) -> tuple[Mosaic, list[MapElement]]:
    """All surveys as one picture, and the elements of the prior near the drives."""
    driven = shapely.union_all([_path(drive) for drive in drives])
    return Mosaic(surveys, views=Views(drives, index)), prior.near(driven, REACH_M)


def judge(
    mosaic: Mosaic,
    drives: Sequence[SurveyedDrive],
    prior: ElementMap,
    near: Sequence[MapElement],
    watch: Watch,
    learned: Learned | None,
) -> list[Weighed]:
    """Candidates of the whole map, weighed."""
    candidates = list(find_candidates(mosaic, drives, prior, near, watch))
    if learned is None:
        return by_hand(candidates)
    frames = watch(learned.frames(), "asking the encoder", learned.count)
    return weigh(candidates, near, learned.evidence, prior, frames)


def find_candidates(
    mosaic: Mosaic, drives: Sequence[SurveyedDrive], prior: ElementMap, near: Sequence[MapElement], watch: Watch
) -> Iterator[Candidate]:
    """Candidates of the elements near the drives, and of what the prior lacks there."""
    seen = shapely.union_all([shapely.box(*GRID.bounds_m(tile)) for tile in mosaic.tiles()])
    kerbs = list(kerb_candidates(mosaic, prior, outlines(_drivable(prior, seen), mosaic)))
    yield from kerbs
    # Pavement where the map has road is bright and reflects, too.
    pavement = _sure([(kerb.old, kerb) for kerb in kerbs])
    crosswalks = [
        crosswalk
        for crosswalk in as_one_crosswalk(new_crosswalk_candidates(mosaic, prior, mosaic.tiles()))
        if crosswalk.new.intersection(pavement).area < crosswalk.new.area / 2
    ]
    yield from crosswalks
    stripes = _sure([(crosswalk.new, crosswalk) for crosswalk in crosswalks])
    elements = watch(near, "judging the map", len(near))
    yield from _doubted([one for element in elements for one in element_candidates(mosaic, prior, element, stripes)])
    yield from new_stop_line_candidates(mosaic, prior, near)
    new = [*new_line_candidates(mosaic, prior, near), *map(new_way_candidate, new_ways(drives, prior))]
    painted = [element.geometry for element in near if element.layer in DIVIDERS and element.subtype != NO_PAINT]
    if new and lines_lie_as_mapped(mosaic, painted):  # a lane aside, all cars drive on lanes, but on others
        yield from new


def _sure(shapes: Iterable[tuple[shapely.Geometry | None, Candidate]]) -> shapely.Geometry:
    """The shapes of candidates that are more likely than not."""
    return shapely.union_all([shape for shape, candidate in shapes if shape is not None and candidate.log_odds > 0])


def _doubted(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates. Paint that turned yellow beside barriers is doubted: these are, too, and images lay them on the ground around."""
    barriers = _sure([(one.new, one) for one in candidates if one.kind == "connectivity"])
    is_beside = [
        one.kind == "markings" and "yellow" in one.new_marking and one.new.distance(barriers) <= BARRIERS_M
        for one in candidates
    ]
    return [
        replace(one, log_odds=min(one.log_odds, 0.0)) if beside else one
        for one, beside in zip(candidates, is_beside, strict=True)
    ]


def element_candidates(
    mosaic: Mosaic, prior: ElementMap, element: MapElement, stripes: shapely.Geometry = NOTHING
) -> Iterator[Candidate]:
    """Candidates of one element of the prior. ``stripes`` are of crosswalks that it lacks: no lines."""
    if element.layer in (*DIVIDERS, *PAINTED_AREAS):
        near = [other for other in prior.near(element.geometry, PAINT_M) if other.layer in PAINTED_AREAS]
        taken = shapely.union_all([stripes, *(other.geometry for other in near if other.token != element.token)])
        candidates_of = divider_candidates if element.layer in DIVIDERS else painted_area_candidates
        yield from candidates_of(mosaic, element, taken)
    elif element.layer in WAY_LAYERS:
        yield from closure_candidates(mosaic, element)


def surest(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates worth a look, without those that a surer one of the same layer and kind tells of the same place."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: -one.log_odds):
        if confidence_of(candidate.log_odds) < LEAST:
            continue
        twins = (other for other in kept if _may_be_one(other, candidate))
        if all(_shape(other).distance(_shape(candidate)) > SAME_PLACE_M for other in twins):
            kept.append(candidate)
    return kept


def _may_be_one(a: Candidate, b: Candidate) -> bool:
    """Two candidates that would tell one change of the world. Lines and kerbs go on from element to element; areas do not.

    Ways through a junction share its ground: barriers close several at once, but new ones are told one by one.
    """
    if a.layer == b.layer == "lane_connector":
        return a.old is not None and b.old is not None
    areas = (*PAINTED_AREAS, "lane")
    same_element = a.element_id == b.element_id or a.layer not in areas
    return same_element and (a.layer, a.kind, a.degraded) == (b.layer, b.kind, b.degraded)


def confidence_of(log_odds: float) -> float:
    """Probability."""
    return float(1 / (1 + np.exp(-log_odds)))


def believed_from(
    one: Weighed, prior: ElementMap, mosaic: Mosaic, surveys: Sequence[Path], drives: Sequence[SurveyedDrive]
) -> datetime | None:
    """When the evidence so far was first enough to confirm a candidate, UTC; None if it is not."""
    bar, candidate = float(np.log(CONFIRMED / (1 - CONFIRMED))), one.candidate
    if candidate.log_odds < bar or candidate.degraded:
        return None
    if one.hand is None:
        time_us = first_sure(one, bar)
        return None if time_us is None else utc(time_us)
    if candidate.layer == "lane_connector" and candidate.old is None:
        return _driven_from(one, bar, prior, drives)
    shape = _shape(candidate)
    if candidate.layer == "drivable_area":
        around = shape.buffer(AROUND_KERB_M)
        lines = [
            line.intersection(around) for line in outlines(_drivable(prior, around), mosaic) if line.intersects(shape)
        ]
        judge_again = partial(
            kerb_candidates, prior=prior, outlines=[part for line in lines for part in lines_of(line)]
        )
    elif candidate.element_id is None and candidate.layer != "ped_crossing":
        again = new_stop_line_candidates if candidate.layer == "stop_line" else new_line_candidates
        judge_again = partial(again, prior=prior, near=prior.near(shape, PAINT_M))
    elif candidate.element_id is None:
        tiles = [tile for tile in mosaic.tiles() if shapely.box(*GRID.bounds_m(tile)).intersects(shape)]
        judge_again = partial(new_crosswalk_candidates, prior=prior, tiles=tiles)
    else:
        judge_again = partial(element_candidates, prior=prior, element=prior.elements[candidate.element_id])
    return first_confirmed(
        candidate,
        judge_again,
        bar,
        surveys,
        drives,
        mosaic.views,
        lambda again, upto_us: one.log_odds_at(again.log_odds, upto_us),
    )


def _driven_from(one: Weighed, bar: float, prior: ElementMap, drives: Sequence[SurveyedDrive]) -> datetime | None:
    """When enough drives had taken a new way, UTC."""
    (way,) = (way for way in new_ways(drives, prior) if way.area.equals(one.candidate.new))
    for passed in way.passes:
        upto_us = passed.upto_us
        if one.log_odds_at(new_way_candidate(way, upto_us).log_odds, upto_us) >= bar:
            return utc(upto_us)
    return None


def change_of(
    one: Weighed, drives: Sequence[SurveyedDrive], index: NuScenesIndex, believed: datetime | None = None
) -> MapChange | None:
    """A candidate as a change; None where no keyframe was near enough to see it.

    Args:
        one: what evidence says.
        drives: that were surveyed.
        index: of their data root.
        believed: when it was first sure enough.
    """
    candidate = one.candidate
    seen = sightings_of(_shape(candidate), drives, index)
    if not seen.frames:
        return None
    seen = replace(seen, evidence=tuple(with_readings(seen.evidence, one.readings)))
    confidence = confidence_of(candidate.log_odds)
    status = "degraded" if candidate.degraded else "confirmed" if confidence >= CONFIRMED else "candidate"
    return _change(candidate, seen, status, confidence, believed)


def _unseen(
    mosaic: Mosaic, element: MapElement, drives: Sequence[SurveyedDrive], index: NuScenesIndex
) -> Iterator[MapChange]:
    """A crosswalk or stop line of the prior that the drives passed and could not see enough of."""
    if element.layer not in PAINTED_AREAS:
        return
    reading = read_area(mosaic, element.geometry, element.layer)
    if reading.seen_share >= SEEN_SHARE and reading.can_tell:
        return
    words = f"only {reading.seen_share:.0%} of it was seen"
    if reading.seen_share >= SEEN_SHARE:
        words = "it was not seen sharply enough to show paint"
    candidate = Candidate(
        *(element.token, element.layer, "deletion", element.geometry, None, -np.inf, reading.seen_share, words)
    )
    yield _change(candidate, sightings_of(element.geometry, drives, index), "unobservable", 0.0)


def _change(
    candidate: Candidate, seen: Sightings, status: str, confidence: float, believed: datetime | None = None
) -> MapChange:
    place = candidate.new if candidate.old is None else candidate.old
    return MapChange(
        change_id=change_id_of(candidate.layer, candidate.kind, candidate.element_id, place),
        element_id=candidate.element_id,
        layer=candidate.layer,
        atomic_change=candidate.kind,
        status=status,
        confidence=confidence,
        n_traversals=len(seen.drives),
        n_frames=seen.frames,
        first_seen=seen.first,
        last_seen=seen.last,
        confirmed_seen=believed if status == "confirmed" else None,
        observed_fraction=candidate.seen_share,
        old_geometry=candidate.old,
        new_geometry=candidate.new,
        old_marking=candidate.old_marking,
        new_marking=candidate.new_marking,
        position_sigma_m=candidate.sigma_m,
        description=candidate.description,
        evidence=seen.evidence,
    )


def _drivable(prior: ElementMap, around: shapely.Geometry) -> shapely.Geometry:
    """The drivable area there; a little beyond, so that areas that go on outside do not end at its border."""
    near = prior.near(around.buffer(AROUND_KERB_M), 0.0)
    return shapely.union_all([element.geometry for element in near if element.layer == "drivable_area"])


def _shape(candidate: Candidate) -> shapely.Geometry:
    return candidate.old if candidate.new is None else candidate.new


def _path(drive: SurveyedDrive) -> shapely.Geometry:
    """Where a drive was: a line, or a point of a car that stood still, of which no line can be made."""
    xy_m = drive.xy_m
    return shapely.linestrings(xy_m) if np.ptp(xy_m, axis=0).any() else shapely.points(xy_m[0])
