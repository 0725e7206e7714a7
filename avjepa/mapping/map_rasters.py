"""A vector map around the car as shares of BEV cells, and the same map with a difference.

Classes are those of the map probe (probes/map_labels.py), drawn FINE times finer than the BEV cells and averaged: a painted line is
thinner than a cell. Elements are counted, not painted over each other, so that one can be taken away where two lie.
Letters: see conventions.py; K classes, Yf = FINE * Y.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from shapely.geometry import Point
from shapely.geometry.base import BaseGeometry

from avjepa.geometry.grid import BEVGrid
from avjepa.mapping.vector_map import ElementMap
from avjepa.probes.map_labels import DIVIDER, VectorMap
from avjepa.probes.metrics.map_iou import MAP_CLASSES

FINE = 4
CLASS_OF = {name: name for name in MAP_CLASSES if name != DIVIDER} | {"road_divider": DIVIDER, "lane_divider": DIVIDER}
NO_LINES = np.zeros(0, dtype=object)


@dataclass(frozen=True)
class MapDifference:
    """What a change says of the drawn map. Shapes in metres of the map frame.

    Attributes:
        layer: of the shapes, a key of CLASS_OF.
        removed, added: what the map has and the world has not, and the other way round; None for nothing.
        clears: ``removed`` is nothing of the layer, whatever elements lie there; otherwise it is a piece of one element.
    """

    layer: str
    removed: BaseGeometry | None = None
    added: BaseGeometry | None = None
    clears: bool = False


def drawn(layer: str, shape: BaseGeometry, global_T_ego: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """One shape alone, (Yf, Xf) bool, at the pose ``global_T_ego`` (4, 4)."""
    name, alone = CLASS_OF[layer], np.array([shape], dtype=object)
    one = VectorMap({}, alone) if name == DIVIDER else VectorMap({name: alone}, NO_LINES)
    fine = replace(grid, cell_m=grid.cell_m / FINE)
    return one.labels(global_T_ego, fine)[MAP_CLASSES.index(name)].numpy()


def counted(prior: ElementMap, global_T_ego: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """How many elements cover each fine cell, (K, Yf, Xf) uint8."""
    rows, columns = grid.shape_yx
    counts = np.zeros((len(MAP_CLASSES), FINE * rows, FINE * columns), dtype=np.uint8)
    corner_m = np.hypot(*(np.abs(side).max() for side in (grid.x_range_m, grid.y_range_m)))
    for element in prior.near(Point(global_T_ego[:2, 3]), float(corner_m)):
        if element.layer in CLASS_OF:
            number = MAP_CLASSES.index(CLASS_OF[element.layer])
            counts[number] += drawn(element.layer, element.geometry, global_T_ego, grid)
    return counts


def with_difference(
    counts: np.ndarray, difference: MapDifference, global_T_ego: np.ndarray, grid: BEVGrid
) -> tuple[int, np.ndarray]:
    """The class (of K) that a difference is in, and its counts (Yf, Xf) with the difference, of counts (K, Yf, Xf)."""
    number = MAP_CLASSES.index(CLASS_OF[difference.layer])
    layer = counts[number].copy()
    if difference.removed is not None:
        gone = drawn(difference.layer, difference.removed, global_T_ego, grid) & (layer > 0)
        layer[gone] = 0 if difference.clears else layer[gone] - 1
    if difference.added is not None:
        layer += drawn(difference.layer, difference.added, global_T_ego, grid)
    return number, layer


def shares(counts: np.ndarray) -> torch.Tensor:
    """Share of each BEV cell that is covered, (K, Y, X) in [0, 1], of counts (K, Yf, Xf)."""
    return F.avg_pool2d(torch.from_numpy((counts > 0).astype(np.float32)), FINE)
