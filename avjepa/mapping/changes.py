"""One difference between the prior map and the world, as it is found, reported and reviewed; and the report that holds them all.

Directions
    A change is told from the prior map to the world: an insertion is in the world and not in the prior.
    ``world_change`` says the same in the words of TbV's labels (delete_crosswalk: the crosswalk is gone from the road).
    ``map_edit`` is its dual: the edit of a true map that would make this prior (insert_crosswalk), in the words of the synthetic
    edits that TbV trains on. All other kinds are their own dual.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.conventions import ATOMIC_CHANGES, CAMERAS
from avjepa.mapping.frames import MapFrame
from avjepa.mapping.vector_map import LAYERS

# confirmed: believed. candidate: seen, not yet believed. degraded: worn paint, the element is still there.
# unobservable: the drives could not see enough of the element to say.
STATUSES = ("confirmed", "candidate", "degraded", "unobservable")
DECISIONS = ("undecided", "accepted", "rejected")
NOUNS = {"ped_crossing": "crosswalk", "carpark_area": "car_park"}
VERBS = {
    **{"insertion": "insert", "deletion": "delete", "geometry": "move"},
    **{"markings": "repaint", "type": "retype", "connectivity": "reconnect"},
}
DUALS = {"insertion": "delete", "deletion": "insert"}
# TbV's own names for the paint of dividers.
DIVIDERS = ("road_divider", "lane_divider")
DIVIDER_PAINT = {"markings": "change_lane_marking_color", "type": "change_lane_boundary_dash_solid"}


@dataclass(frozen=True)
class Evidence:
    """What one frame of a drive says of a change.

    Attributes:
        frame: token of the keyframe (nuScenes ``sample``).
        scene: name of the drive.
        seen: when, UTC.
        camera: which camera shows it best; "" where none does.
        distance_m: from the ego position to the change.
        jepa_residual_log_odds, map_belief_log_odds: for the change, from a frozen encoder (learned_evidence.py); None where it was
            not asked or the frame does not show it.

    Raises:
        ValueError: a name is missing or unknown, a figure is not finite, or the time is not UTC.
    """

    frame: str
    scene: str
    seen: datetime
    camera: str = ""
    distance_m: float = 0.0
    jepa_residual_log_odds: float | None = None
    map_belief_log_odds: float | None = None

    def __post_init__(self) -> None:
        _check(
            bool(self.frame and self.scene), f"evidence wants a frame and a scene, got {self.frame!r}, {self.scene!r}"
        )
        _check(self.camera in ("", *CAMERAS), f"evidence of {self.frame}: unknown camera {self.camera!r}")
        _check_utc(self.seen, f"evidence of {self.frame}")
        log_odds = (self.jepa_residual_log_odds, self.map_belief_log_odds)
        figures = (self.distance_m, *(value for value in log_odds if value is not None))
        _check(
            all(map(math.isfinite, figures)) and self.distance_m >= 0,
            f"evidence of {self.frame}: bad figures {figures}",
        )


@dataclass(frozen=True)
class Review:
    """What a person said of a change.

    Raises:
        ValueError: an unknown decision, a decision without a time or the other way round, or a time that is not UTC.
    """

    decision: str = "undecided"
    note: str = ""
    reviewed: datetime | None = None

    def __post_init__(self) -> None:
        _check(self.decision in DECISIONS, f"want a decision of {', '.join(DECISIONS)}, got {self.decision!r}")
        said = self.decision != "undecided" or bool(self.note)
        _check(said == (self.reviewed is not None), "a decision or note has a time, and nothing else has")
        if self.reviewed is not None:
            _check_utc(self.reviewed, "a review")


@dataclass(frozen=True)
class MapChange:
    """One change of one map element. Shapes in metres of the map frame.

    Attributes:
        change_id: names the change in files and decisions; see :func:`change_id_of`.
        element_id: token of the element of the prior map; None of an insertion.
        layer: one of the map's layers.
        atomic_change: one of ATOMIC_CHANGES.
        status: one of STATUSES.
        confidence: probability, in [0, 1], that the world differs here as told.
        n_traversals, n_frames: drives and keyframes within reach of the place, whether or not something stood in the way.
        first_seen, last_seen: first and last of those frames, UTC; None where no frame saw it.
        observed_fraction: share of the element, in [0, 1], that the frames saw.
        old_geometry: the changed piece as the prior map has it; None where the prior has none.
        new_geometry: as the world has it; None where the world has none.
        old_marking, new_marking: paint, such as "solid white"; "" where it is not known or did not change.
        position_sigma_m: standard deviation of the position of the new geometry; None where it has none.
        description: one line for people.
        evidence: the frames that say most.
        review: what a person said.
        confirmed_seen: time of the frame with which the running confidence first passed the bar of ``confirmed``, UTC; None where
            it never did, or where nobody kept a running one.

    Raises:
        ValueError: a field has a value that it cannot have, or two contradict each other: a deletion that has a new geometry, a
            change that nobody saw and is yet more than unobservable.
    """

    change_id: str
    element_id: str | None
    layer: str
    atomic_change: str
    status: str
    confidence: float
    n_traversals: int
    n_frames: int
    first_seen: datetime | None
    last_seen: datetime | None
    observed_fraction: float
    old_geometry: BaseGeometry | None
    new_geometry: BaseGeometry | None
    old_marking: str = ""
    new_marking: str = ""
    position_sigma_m: float | None = None
    description: str = ""
    evidence: tuple[Evidence, ...] = ()
    review: Review = field(default_factory=Review)
    confirmed_seen: datetime | None = None

    def __post_init__(self) -> None:
        _check(bool(self.change_id), "a change wants an id")
        for name, allowed in (("layer", LAYERS), ("atomic_change", ATOMIC_CHANGES), ("status", STATUSES)):
            value = getattr(self, name)
            _check(value in allowed, f"{self.change_id}: unknown {name} {value!r}; want one of {', '.join(allowed)}")
        for name in ("confidence", "observed_fraction"):
            value = getattr(self, name)
            _check(0 <= value <= 1, f"{self.change_id}: {name} is in [0, 1], got {value}")
        sigma_m = self.position_sigma_m
        _check(sigma_m is None or (math.isfinite(sigma_m) and sigma_m >= 0), f"{self.change_id}: bad sigma {sigma_m}")
        self._check_sides()
        self._check_observation()

    def _check_sides(self) -> None:
        old, new, kind = self.old_geometry, self.new_geometry, self.atomic_change
        for shape in (side for side in (old, new) if side is not None):
            finite = np.isfinite(shapely.get_coordinates(shape)).all()
            _check(not shape.is_empty and finite, f"{self.change_id}: a geometry that is empty or not finite")
        wanted = {"insertion": (False, True), "deletion": (True, False), "markings": (True, True), "type": (True, True)}
        sides = (old is not None, new is not None)
        _check(any(sides), f"{self.change_id}: a change has a geometry, old or new")
        _check(
            sides == wanted.get(kind, sides),
            f"{self.change_id}: a change of kind {kind} with (old, new) geometry {sides}",
        )
        _check(
            (self.element_id is None) == (kind == "insertion"),
            f"{self.change_id}: all but insertions name their element",
        )

    def _check_observation(self) -> None:
        name, seen = self.change_id, self.n_frames > 0
        _check(0 <= self.n_traversals <= self.n_frames, f"{name}: {self.n_traversals} drives of {self.n_frames} frames")
        _check(seen == (self.n_traversals > 0), f"{name}: {self.n_traversals} drives of {self.n_frames} frames")
        times = (self.first_seen, self.last_seen)
        _check(seen == all(time is not None for time in times), f"{name}: frames and times of sight do not agree")
        _check(seen or not any(times), f"{name}: times of sight without frames")
        if seen:
            _check_utc(self.first_seen, name)
            _check_utc(self.last_seen, name)
            _check(self.first_seen <= self.last_seen, f"{name}: last seen before it was first seen")
        if self.confirmed_seen is not None:
            _check_utc(self.confirmed_seen, name)
            within = seen and self.first_seen <= self.confirmed_seen <= self.last_seen
            _check(within, f"{name}: confirmed at a time when nobody saw it")
        told = self.status != "unobservable"
        _check(
            not told or (seen and self.observed_fraction > 0), f"{name}: {self.status}, though nothing of it was seen"
        )

    @property
    def world_change(self) -> str:
        """What the world did, such as delete_crosswalk; "" of what nobody saw."""
        return self._named(VERBS)

    @property
    def map_edit(self) -> str:
        """The edit of a true map that makes this prior, such as insert_crosswalk; "" of what nobody saw."""
        return self._named(VERBS | DUALS)

    @property
    def hausdorff_m(self) -> float | None:
        """Hausdorff distance between the old and the new geometry; None where one is missing."""
        if self.old_geometry is None or self.new_geometry is None:
            return None
        return float(shapely.hausdorff_distance(self.old_geometry, self.new_geometry, densify=0.25))

    @property
    def geometry(self) -> BaseGeometry:
        """Where to look: the new geometry, or the old one of what is gone."""
        return self.old_geometry if self.new_geometry is None else self.new_geometry

    def _named(self, verbs: Mapping[str, str]) -> str:
        if self.status == "unobservable":
            return ""
        if self.layer in DIVIDERS and self.atomic_change in DIVIDER_PAINT:
            return DIVIDER_PAINT[self.atomic_change]
        return f"{verbs[self.atomic_change]}_{NOUNS.get(self.layer, self.layer)}"


@dataclass(frozen=True)
class ChangeReport:
    """All changes that one run found in one city.

    Attributes:
        run_id: names the run; decisions are accepted for this run alone.
        frame: of all shapes.
        prior_map: name of the map that was checked.
        scenes: drives that were looked at.
        created: when, UTC.
        changes: of different ids.
        calibrated: the confidences were fitted to known changes; otherwise their log-odds are set by hand.
        warnings: what a reader must know of the evidence, in words: that it was made with these drives, say.

    Raises:
        ValueError: no run id, a time that is not UTC, or two changes have one id.
    """

    run_id: str
    frame: MapFrame
    prior_map: str
    scenes: tuple[str, ...]
    created: datetime
    changes: tuple[MapChange, ...]
    calibrated: bool = False
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(bool(self.run_id), "a report wants a run id")
        _check_utc(self.created, "a report")
        twice = [name for name, count in Counter(change.change_id for change in self.changes).items() if count > 1]
        _check(not twice, f"several changes have one id: {twice[:3]}")

    def reviewed(self, reviews: Mapping[str, Review]) -> ChangeReport:
        """The report with some changes reviewed.

        Raises:
            KeyError: a change is not in the report.
        """
        unknown = set(reviews) - {change.change_id for change in self.changes}
        if unknown:
            raise KeyError(sorted(unknown)[0])
        said = [replace(change, review=reviews.get(change.change_id, change.review)) for change in self.changes]
        return replace(self, changes=tuple(said))


def change_id_of(layer: str, atomic_change: str, element_id: str | None, geometry: BaseGeometry) -> str:
    """A name for a change that stays the same when the same data are looked at again.

    From the element, where there is one, and the metre of the map on which the middle falls: of one element, several pieces may
    change.

    Args:
        layer, atomic_change, element_id: as :class:`MapChange` has them.
        geometry: the piece of the prior that changed; of an insertion the new shape. Metres of the map.
    """
    middle = shapely.centroid(geometry)
    where = f"{element_id or ''}\n{math.floor(middle.x)},{math.floor(middle.y)}"
    digest = hashlib.sha256(f"{layer}\n{atomic_change}\n{where}".encode(errors="surrogatepass")).hexdigest()
    return f"{atomic_change}-{layer}-{digest[:10]}"


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _check_utc(time: datetime, what: str) -> None:
    _check(time.utcoffset() == timedelta(0), f"{what}: want a time in UTC, got {time}")
