"""What a frozen encoder says of a change: two kinds of evidence, frame by frame, fused over frames and drives.

    residual  log-likelihood ratio of the observed embedding under the map with the change against the map without, for each
              observed cell in which the two maps differ (map_conditioned.py)
    belief    log-odds of the map read from the embedding, beside the class's rate, in those cells: for what the change adds,
              against what it removes

Both are 0 where nothing was observed or nothing drawn differs (a repainted line). Frames of one drive see the same thing from
almost the same places, so they count as one, their mean; drives are independent, and add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
import torch

from avjepa.mapping.candidates import Candidate
from avjepa.mapping.changes import Evidence
from avjepa.mapping.map_conditioned import context_of, is_observed
from avjepa.mapping.map_evidence import MapEvidence, present_and_states
from avjepa.mapping.map_rasters import CLASS_OF, MapDifference, counted, shares, with_difference
from avjepa.mapping.vector_map import ElementMap

LEAST_CELLS = 1.0  # of a difference, observed: less of it says nothing


@dataclass(frozen=True)
class EmbeddedFrame:
    """A keyframe as the encoder sees it.

    Attributes:
        token, scene: names.
        timestamp_us: LiDAR time.
        global_T_ego: (4, 4).
        features: (2 C + 1, Y, X), of probes/frozen.py: ObservedView.
    """

    token: str
    scene: str
    timestamp_us: int
    global_T_ego: np.ndarray
    features: torch.Tensor


@dataclass(frozen=True)
class Reading:
    """What one keyframe says of one difference; ``cells`` of it were observed, in units of whole cells that differ."""

    token: str
    scene: str
    timestamp_us: int
    residual: float
    belief: float
    cells: float


@dataclass(frozen=True)
class LearnedOdds:
    """Readings fused: both in log-odds for the change, not calibrated; 0 of nothing. ``drives`` saw something of it."""

    residual: float = 0.0
    belief: float = 0.0
    drives: int = 0


def difference_of(candidate: Candidate) -> MapDifference | None:
    """What a candidate says of the drawn map; None where it says nothing (paint of another colour, say)."""
    kind, layer, old, new = candidate.kind, candidate.layer, candidate.old, candidate.new
    if kind == "connectivity" and old is None:  # a way: where it leads through, one can drive on both sides
        return None
    if kind == "connectivity":  # nothing drives there: the nearest that the drawn map can say
        return MapDifference("drivable_area", removed=old, clears=True)
    if layer not in CLASS_OF or kind not in ("deletion", "insertion", "geometry"):
        return None
    return MapDifference(layer, old, new, clears=layer == "drivable_area")


def read_differences(
    evidence: MapEvidence, prior: ElementMap, differences: Sequence[MapDifference], frames: Iterable[EmbeddedFrame]
) -> list[list[Reading]]:
    """Readings of every difference, in the order of the frames; one pass over the frames, the map drawn once for each."""
    found: list[list[Reading]] = [[] for _ in differences]
    shapes = [shapely.union_all([x for x in (one.removed, one.added) if x is not None]) for one in differences]
    tree = shapely.STRtree(shapes)
    for frame in frames:
        outline = _outline(frame.global_T_ego, evidence)
        near = sorted(tree.query(outline, predicate="intersects"))
        if not near:
            continue
        view = _View(evidence, prior, frame)
        for number in near:
            reading = view.reading(differences[number])
            if reading is not None:
                found[number].append(reading)
    return found


class _View:
    """One keyframe and the prior around it."""

    def __init__(self, evidence: MapEvidence, prior: ElementMap, frame: EmbeddedFrame) -> None:
        self.evidence, self.frame = evidence, frame
        self.counts = counted(prior, frame.global_T_ego, evidence.grid)
        self.cover = shares(self.counts)
        z, states = present_and_states(frame.features[None])
        self.z, self.context = z[0], context_of(states, evidence.grid)[0]
        self.observed = is_observed(states)[0]
        self.belief = evidence.belief_log_odds(frame.features)

    def reading(self, difference: MapDifference) -> Reading | None:
        """Of the map with a difference; None where too little of that was observed."""
        frame = self.frame
        number, layer = with_difference(self.counts, difference, frame.global_T_ego, self.evidence.grid)
        changed = self.cover.clone()
        changed[number] = shares(layer[None])[0]
        delta = (changed[number] - self.cover[number]) * self.observed  # (Y, X)
        cells = float(delta.abs().sum())
        if cells < LEAST_CELLS:
            return None
        ratio = self.evidence.conditioned.log_ratio(self.z, self.context, self.observed, self.cover, changed)
        belief = float((delta * self.belief[number]).sum())
        return Reading(frame.token, frame.scene, frame.timestamp_us, ratio / cells, belief / cells, cells)


def fused(readings: Sequence[Reading], upto_us: int | None = None) -> LearnedOdds:
    """All readings, or those up to a time, as one: means over the frames of a drive, by observed cells, summed over drives."""
    told = [one for one in readings if upto_us is None or one.timestamp_us <= upto_us]
    by_drive: dict[str, list[Reading]] = {}
    for one in told:
        by_drive.setdefault(one.scene, []).append(one)
    residual = belief = 0.0
    for drive in by_drive.values():
        total = sum(one.cells for one in drive)
        residual += sum(one.cells * one.residual for one in drive) / total
        belief += sum(one.cells * one.belief for one in drive) / total
    return LearnedOdds(residual, belief, len(by_drive))


def with_readings(shown: Iterable[Evidence], readings: Sequence[Reading]) -> Iterator[Evidence]:
    """Evidence of keyframes, with what the encoder says of the change there."""
    of_frame = {reading.token: reading for reading in readings}
    for one in shown:
        reading = of_frame.get(one.frame)
        yield (
            one
            if reading is None
            else replace(one, jepa_residual_log_odds=reading.residual, map_belief_log_odds=reading.belief)
        )


def _outline(global_T_ego: np.ndarray, evidence: MapEvidence) -> shapely.Geometry:
    grid = evidence.grid
    box = shapely.box(grid.x_range_m[0], grid.y_range_m[0], grid.x_range_m[1], grid.y_range_m[1])
    return shapely.transform(box, lambda xy: xy @ global_T_ego[:2, :2].T + global_T_ego[:2, 3])
