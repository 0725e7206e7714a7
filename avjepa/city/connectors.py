"""Ways through the junctions: which lane leads to which, and along what path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avjepa.city.arc_path import ArcPath, biarc
from avjepa.city.layout import TownPlan
from avjepa.city.road_map import Lane
from avjepa.city.streets import RING_LANE_M, StreetShape, approaches, ring_radius_m, strip

STRAIGHT_RAD = 0.6
UTURN_RAD = 2.6
RING_ENTRY_RAD = 0.55  # at most, between the axis of a street and the point where its traffic joins or leaves the ring
RING_PIECE_RAD = 0.15  # at least, from where one street's traffic joins to where that of the next one leaves
CONNECTOR_MPS = {"straight": 9.0, "left": 6.0, "right": 5.0, "ring": 6.0}


def connect_lanes(plan: TownPlan, shapes: list[StreetShape], lanes: dict[str, Lane]) -> dict[str, Lane]:
    """All lanes with their successors, and the connectors between them."""
    lanes = dict(lanes)
    for node in range(len(plan.nodes)):
        make = _roundabout if plan.nodes[node].kind == "roundabout" else _junction
        connectors, successors = make(plan, node, lanes)
        lanes.update(connectors)
        for token, following in successors.items():
            lanes[token] = replace(lanes[token], successors=following)
    return lanes


def _at_node(plan: TownPlan, node: int, lanes: dict[str, Lane]):
    """Per approach: direction away from the node, tokens of its incoming lanes and of its outgoing ones, inner lane first."""
    found = []
    for number, starts, yaw in approaches(plan, node):
        street = plan.streets[number]
        counts = {"ab": street.lanes_ab, "ba": street.lanes_ba}
        into, out = ("ba", "ab") if starts else ("ab", "ba")
        tokens = {way: [f"{street.name}-{way}{i}" for i in range(counts[way])] for way in counts}
        found.append((yaw, tokens[into], tokens[out]))
    return found


def _junction(plan: TownPlan, node: int, lanes: dict[str, Lane]):
    """Left from the innermost lane, right from the outermost, straight on from any; a lane left without a way gets one."""
    around, name = _at_node(plan, node, lanes), plan.nodes[node].name
    connectors, successors = {}, {}
    for yaw_in, incoming, _ in around:
        ways = {}
        for yaw_out, _, outgoing in around:
            turn_rad = float(np.angle(np.exp(1j * (yaw_out - yaw_in - np.pi))))
            if outgoing and abs(turn_rad) < UTURN_RAD:
                turn = "straight" if abs(turn_rad) < STRAIGHT_RAD else "left" if turn_rad > 0 else "right"
                ways[turn] = outgoing
        for position, lane in enumerate(incoming):
            following = []
            for turn, outgoing in ways.items():
                if turn in _turns_of(position, len(incoming), ways):
                    target = _target(turn, position, len(incoming), outgoing)
                    token = f"{name}-{lane.rsplit('-', 2)[-2]}{lane.rsplit('-', 1)[-1]}-{turn}"
                    path = biarc(lanes[lane].path.end, lanes[target].path.start)
                    width_m = min(lanes[lane].width_m, lanes[target].width_m)
                    connectors[token] = _connector(token, path, width_m, name, turn, (target,))
                    following.append(token)
            successors[lane] = tuple(following)
    return connectors, successors


def _turns_of(position: int, count: int, ways: dict[str, list[str]]) -> set[str]:
    """Turns allowed from a lane: 0 is the innermost (left) one."""
    allowed = {"straight"} & set(ways)
    if position == 0 or ("straight" not in ways and position < count / 2):
        allowed |= {"left"} & set(ways)
    if position == count - 1 or ("straight" not in ways and position >= count / 2):
        allowed |= {"right"} & set(ways)
    return allowed or set(list(ways)[:1])


def _target(turn: str, position: int, count: int, outgoing: list[str]) -> str:
    if turn == "left":
        return outgoing[min(position, len(outgoing) - 1)]
    if turn == "right":
        return outgoing[max(len(outgoing) - (count - position), 0)]
    return outgoing[min(position, len(outgoing) - 1)]


def _roundabout(plan: TownPlan, node: int, lanes: dict[str, Lane]):
    """A one-lane ring, counter-clockwise: entries join it right of each street's axis, exits leave it on the left."""
    around, name, radius = _at_node(plan, node, lanes), plan.nodes[node].name, ring_radius_m(plan)
    centre = np.array(plan.nodes[node].xy_m)
    connectors, successors = {}, {}

    def ring_pose(angle: float) -> tuple[float, float, float]:
        x, y = centre + radius * np.array([np.cos(angle), np.sin(angle)])
        return float(x), float(y), float(angle + np.pi / 2)

    count = len(around)
    for number, (yaw, incoming, outgoing) in enumerate(around):
        following = (number + 1) % count
        since, until = (yaw - around[number - 1][0]) % (2 * np.pi), (around[following][0] - yaw) % (2 * np.pi)
        before, after = (min(RING_ENTRY_RAD, (gap - RING_PIECE_RAD) / 2) for gap in (since, until))
        leave, enter = yaw - before, yaw + after
        past, between = f"{name}-ring{number}-past", f"{name}-ring{number}-on"
        exits = tuple(f"{name}-exit{number}-{i}" for i in range(len(outgoing)))
        next_exits = tuple(f"{name}-exit{following}-{i}" for i in range(len(around[following][2])))
        arc = ArcPath(ring_pose(leave), ((1 / radius, (before + after) * radius),))
        connectors[past] = _connector(past, arc, RING_LANE_M, name, "ring", (between,))
        arc = ArcPath(ring_pose(enter), ((1 / radius, (until - 2 * after) * radius),))
        ring_next = f"{name}-ring{following}-past"
        connectors[between] = _connector(between, arc, RING_LANE_M, name, "ring", (ring_next, *next_exits))
        for lane in incoming:
            token = f"{name}-entry{number}-{lane[-1]}"
            path = biarc(lanes[lane].path.end, ring_pose(enter))
            connectors[token] = _connector(token, path, lanes[lane].width_m, name, "right", (between,))
            successors[lane] = (token,)
        for token, lane in zip(exits, outgoing, strict=True):
            path = biarc(ring_pose(leave), lanes[lane].path.start)
            connectors[token] = _connector(token, path, lanes[lane].width_m, name, "right", (lane,))
    return connectors, successors


def _connector(token: str, path: ArcPath, width_m: float, node: str, turn: str, successors: tuple[str, ...]) -> Lane:
    half = min(width_m, 3.5) / 2
    tightest = max(abs(curvature) for curvature, _ in path.segments)
    half = min(half, 0.95 / tightest) if tightest > 0 else half
    return Lane(
        token=token,
        path=path,
        width_m=2 * half,
        polygon=strip(path, -half, half).buffer(0),
        road="",
        junction=f"{node}-junction",
        turn=turn,
        successors=successors,
        left_divider="",
        right_divider="",
        speed_mps=CONNECTOR_MPS[turn],
    )
