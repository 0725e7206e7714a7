"""Town plans: where junctions are, which streets join them, and the style that tells one town from the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOWNS = {"A": "minicity-a", "B": "minicity-b"}


@dataclass(frozen=True)
class TownStyle:
    """What differs between towns.

    Attributes:
        lane_m: lane width.
        centre_colour, centre_dashed: paint between the directions of travel.
        spacing_m: distance of neighbouring junctions in x and y.
        jitter_m: how far a junction may be off the grid.
        bend_rad: how much streets swing out of the straight line.
        island_m: radius of the roundabout's island.
        building_height_m: lowest and highest building.
        palette: name of the building colours in materials.py.
        tree_gap_m: distance of the trees along a street.
    """

    lane_m: float
    centre_colour: str
    centre_dashed: bool
    spacing_m: tuple[float, float]
    jitter_m: float
    bend_rad: float
    island_m: float
    building_height_m: tuple[float, float]
    palette: str
    tree_gap_m: float


@dataclass(frozen=True)
class Node:
    """Where streets meet: ``kind`` is "signals", "stop", "yield" or "roundabout"."""

    name: str
    xy_m: tuple[float, float]
    kind: str


@dataclass(frozen=True)
class Street:
    """A street between two nodes.

    Attributes:
        name: its name; also that of the place where drives on it happen.
        a, b: numbers of its nodes.
        lanes_ab, lanes_ba: lanes in each direction; 0 for a one-way street.
        speed_mps: limit.
        parking: strips for parked cars on both sides.
        car_park: a car park on its left, seen from a to b.
        crossing: a crosswalk half-way.
        yaw_a_rad, yaw_b_rad: direction of travel from a to b at its ends.
    """

    name: str
    a: int
    b: int
    lanes_ab: int
    lanes_ba: int
    speed_mps: float
    parking: bool
    car_park: bool
    crossing: bool
    yaw_a_rad: float
    yaw_b_rad: float


@dataclass(frozen=True)
class TownPlan:
    """Nodes and streets of a town, in metres within ``size_m``."""

    town: str
    size_m: tuple[float, float]
    style: TownStyle
    nodes: tuple[Node, ...]
    streets: tuple[Street, ...]


STYLES = {
    "minicity-a": TownStyle(3.5, "yellow", False, (112.0, 104.0), 5.0, 0.0, 9.0, (7.0, 26.0), "glass", 16.0),
    "minicity-b": TownStyle(3.1, "white", True, (106.0, 110.0), 9.0, 0.30, 11.0, (6.0, 14.0), "brick", 11.0),
}

# column, row, kind
_NODES = {
    "minicity-a": (
        (1, 0, "stop"), (2, 0, "yield"), (0, 1, "stop"), (1, 1, "signals"), (2, 1, "roundabout"), (3, 1, "stop"),
        (1, 2, "stop"), (2, 2, "signals"),
    ),
    "minicity-b": (
        (1, 0, "yield"), (2, 0, "yield"), (0, 1, "yield"), (1, 1, "roundabout"), (2, 1, "signals"), (3, 1, "yield"),
        (1, 2, "signals"), (2, 2, "yield"),
    ),
}  # fmt: skip

# a, b, lanes a to b, lanes b to a, speed, parking, car park, crossing; corner streets join two nodes by a bend.
_STREETS = {
    "minicity-a": (
        (2, 3, 3, 3, 12.0, False, False, True), (3, 4, 2, 2, 11.0, False, True, False), (4, 5, 2, 1, 11.0, True, False, False),
        (0, 1, 2, 0, 9.0, True, False, False), (7, 6, 2, 0, 9.0, True, False, True),
        (0, 3, 1, 1, 9.0, True, False, True), (3, 6, 2, 2, 11.0, False, True, False),
        (1, 4, 1, 1, 9.0, True, True, False), (4, 7, 1, 1, 9.0, True, False, True),
        (0, 2, 1, 1, 11.0, True, False, False), (2, 6, 2, 1, 11.0, False, False, False),
        (7, 5, 1, 1, 11.0, True, False, False), (5, 1, 1, 2, 11.0, False, False, False),
    ),
    "minicity-b": (
        (2, 3, 1, 1, 10.0, True, False, True), (3, 4, 2, 2, 11.0, False, False, False), (4, 5, 1, 1, 9.0, True, True, True),
        (1, 0, 1, 0, 8.0, True, False, False), (6, 7, 1, 1, 9.0, True, False, True),
        (0, 3, 1, 1, 9.0, True, False, False), (3, 6, 1, 1, 9.0, False, True, True),
        (1, 4, 1, 1, 9.0, True, False, True), (4, 7, 3, 2, 11.0, False, False, False),
        (0, 2, 1, 1, 9.0, True, False, False), (2, 6, 1, 1, 11.0, False, False, False),
        (7, 5, 2, 2, 11.0, False, False, False), (5, 1, 1, 1, 9.0, True, False, False),
    ),
}  # fmt: skip

_MARGIN_M = 62.0


def plan_town(town: str, seed: int) -> TownPlan:
    """The plan of a town; the seed moves its junctions and bends its streets.

    Raises:
        ValueError: the town is unknown.
    """
    if town not in STYLES:
        raise ValueError(f"unknown town {town!r}; want one of {', '.join(STYLES)}")
    style = STYLES[town]
    rng = np.random.default_rng([seed, sorted(STYLES).index(town)])
    nodes, columns, rows = [], 4, 3
    for number, (column, row, kind) in enumerate(_NODES[town]):
        xy = np.array([column, row]) * style.spacing_m + _MARGIN_M + rng.uniform(-style.jitter_m, style.jitter_m, 2)
        nodes.append(Node(f"{town}-n{number}", (float(xy[0]), float(xy[1])), kind))
    streets = []
    for number, (a, b, lanes_ab, lanes_ba, *rest) in enumerate(_STREETS[town]):
        cells = [_NODES[town][node][:2] for node in (a, b)]
        is_corner = cells[0][0] != cells[1][0] and cells[0][1] != cells[1][1]
        yaws = _corner_yaws(*cells) if is_corner else _yaws(nodes[a], nodes[b], style.bend_rad, rng)
        streets.append(Street(f"{town}-s{number:02d}", a, b, lanes_ab, lanes_ba, *rest, *yaws))
    size = tuple(float(2 * _MARGIN_M + (n - 1) * s) for n, s in zip((columns, rows), style.spacing_m, strict=True))
    return TownPlan(town, size, style, tuple(nodes), tuple(streets))


def _yaws(a: Node, b: Node, bend_rad: float, rng: np.random.Generator) -> tuple[float, float]:
    """Straight from a to b, or swinging out to one side and back."""
    bearing = float(np.arctan2(b.xy_m[1] - a.xy_m[1], b.xy_m[0] - a.xy_m[0]))
    bend = float(rng.uniform(-bend_rad, bend_rad)) if bend_rad else 0.0
    return bearing + bend, bearing - bend


def _corner_yaws(cell_a: tuple[int, int], cell_b: tuple[int, int]) -> tuple[float, float]:
    """A quarter turn about a missing grid corner: along the outer row at one end, along the outer column at the other."""
    dx, dy = np.sign(np.subtract(cell_b, cell_a))
    along_row, along_column = float(np.arctan2(0, dx)), float(np.arctan2(dy, 0))
    starts_on_row = cell_a[1] in (0, 2)
    return (along_row, along_column) if starts_on_row else (along_column, along_row)
