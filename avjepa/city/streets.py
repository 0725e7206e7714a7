"""Cross sections: where the lanes, kerbs and mouths of each street of a plan lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapely.geometry import LineString, Polygon

from avjepa.city.arc_path import ArcPath, biarc
from avjepa.city.layout import Street, TownPlan

GUTTER_M = 0.4
PARKING_M = 2.3
CORNER_M = 4.0  # radius of a kerb at a corner
RING_LANE_M = 5.0
CROSSWALK_M = (1.0, 4.0)  # begin and end along the street, from its mouth
STOP_BAR_M = (5.2, 5.6)


@dataclass(frozen=True)
class StreetShape:
    """A street as built.

    Attributes:
        street: its plan.
        path: middle of the carriageway from node a to node b.
        begin_m, end_m: arc lengths of its mouths; between them lie the lanes, beyond them the junctions.
        half_width_m: from the middle to the kerb, parking included.
        forward_left_m: how far left of ``path`` the border between the directions is.
    """

    street: Street
    path: ArcPath
    begin_m: float
    end_m: float
    half_width_m: float
    forward_left_m: float

    def lane_offset_m(self, number: int, forward: bool, lane_m: float) -> float:
        """Centre of a lane, left of ``path``; lane 0 is next to the border between the directions."""
        return self.forward_left_m + (-(number + 0.5) if forward else number + 0.5) * lane_m

    def across(self, begin_m: float, end_m: float, right_m: float, left_m: float) -> Polygon:
        """The area between two arc lengths and two offsets (both to the left, so the right one is negative)."""
        return strip(self.path.part(begin_m, end_m), right_m, left_m)


def strip(path: ArcPath, right_m: float, left_m: float) -> Polygon:
    """The area between two parallels of a path."""
    step = 1.0
    left, right = path.offset(left_m).sampled(step)[:, :2], path.offset(right_m).sampled(step)[:, :2]
    return Polygon(np.concatenate([left, right[::-1]]))


def as_line(path: ArcPath, step_m: float = 1.0) -> LineString:
    """A path as a polyline."""
    return LineString(path.sampled(step_m)[:, :2])


def shape_streets(plan: TownPlan) -> list[StreetShape]:
    """Paths, widths and mouths of all streets."""
    half_widths = [_half_width_m(street, plan.style.lane_m) for street in plan.streets]
    trims = _mouths_m(plan, half_widths)
    shapes = []
    for number, street in enumerate(plan.streets):
        path = biarc(
            (*plan.nodes[street.a].xy_m, street.yaw_a_rad),
            (*plan.nodes[street.b].xy_m, street.yaw_b_rad),
        )
        forward_left_m = (street.lanes_ab - street.lanes_ba) / 2 * plan.style.lane_m
        begin_m, end_m = trims[number][0], path.length_m - trims[number][1]
        shapes.append(StreetShape(street, path, begin_m, end_m, half_widths[number], forward_left_m))
    return shapes


def approaches(plan: TownPlan, node: int) -> list[tuple[int, bool, float]]:
    """Streets at a node, counter-clockwise: (number, starts here, direction away from the node)."""
    found = []
    for number, street in enumerate(plan.streets):
        if street.a == node:
            found.append((number, True, street.yaw_a_rad))
        if street.b == node:
            found.append((number, False, street.yaw_b_rad + np.pi))
    return sorted(found, key=lambda item: item[2] % (2 * np.pi))


def ring_radius_m(plan: TownPlan) -> float:
    """Radius of the middle of the roundabout's lane."""
    return plan.style.island_m + RING_LANE_M / 2


def _half_width_m(street: Street, lane_m: float) -> float:
    lanes = (street.lanes_ab + street.lanes_ba) * lane_m
    return lanes / 2 + GUTTER_M + (PARKING_M if street.parking else 0.0)


def _mouths_m(plan: TownPlan, half_widths: list[float]) -> list[list[float]]:
    """Distance of each street's two mouths from their nodes: past the kerbs of its neighbours, with room for the corners."""
    trims = [[0.0, 0.0] for _ in plan.streets]
    for node in range(len(plan.nodes)):
        around = approaches(plan, node)
        for place, (number, starts, yaw) in enumerate(around):
            if plan.nodes[node].kind == "roundabout":
                trim = ring_radius_m(plan) + RING_LANE_M / 2 + 9.0
            else:
                neighbours = (around[place - 1], around[(place + 1) % len(around)])
                trim = max(_past_kerb_m(half_widths[number], half_widths[n], yaw - other) for n, _, other in neighbours)
                trim += CORNER_M
            trims[number][0 if starts else 1] = trim
    return trims


def _past_kerb_m(half_m: float, other_half_m: float, angle_rad: float) -> float:
    """How far along one street its kerb meets that of another at this angle; opposite streets meet at the node."""
    sine, cosine = abs(np.sin(angle_rad)), np.cos(angle_rad)
    if sine < 0.5:
        return 0.0
    return max(float((other_half_m + half_m * cosine) / sine), 0.0)
