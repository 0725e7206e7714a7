"""Surveys of several drives as one picture of the ground, read where it is asked for.

A *strip* is the ground along a line, straightened: rows go along it, columns across it. Elements are judged on strips.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import LineString

from avjepa.geometry.bands import line_poses, shifted
from avjepa.mapping.sharpness import Views
from avjepa.mapping.survey import GRID, LAYERS, far_of, parts_of
from avjepa.mapping.tiles import Layers, Tile, read_tile, tiles_in

OPEN_TILES = 96  # 2.4 MB each
ALONG_M = 0.25
ACROSS_M = 0.1
LINE_M = 0.15  # half a line or a double line
SIDES_M = (0.35, 0.65)  # where the ground beside a line is
SEEN_WEIGHT = 0.3  # of a cell of a line, whose neighbours along the line say the same
FREE_WEIGHT = 0.5  # of the cameras' views of a cell: one from 8 m


@dataclass(frozen=True)
class Strip:
    """The ground along a line.

    Attributes:
        s_m: (S,) arc lengths of the rows.
        left_m: (O,) offsets of the columns to the left of the line.
        sums: by layer, (C, S, O) sums over all drives; ``bare`` as :meth:`Mosaic.sample` has it.
        drives: (S,) how many drives saw anything of a row's middle.
        sharp: (S,) share of a painted line's ridge that the cameras' pixels leave, in [0, 1]; see sharpness.py.
    """

    s_m: np.ndarray
    left_m: np.ndarray
    sums: Layers
    drives: np.ndarray
    sharp: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """(S, O) bool: a camera looked at the cell, or LiDAR met its ground or what stands there."""
        return (self.sums["paint"][0] > 0) | (self.sums["ground"][0] > 0) | (self.sums["stands"][0] > 0)

    def paint(self, channel: int) -> np.ndarray:
        """(S, O) mean of a channel of the paint; nan where too little was seen of a cell."""
        weight, total = self.sums["paint"][0], self.sums["paint"][channel]
        return np.where(weight >= SEEN_WEIGHT, total / np.maximum(weight, SEEN_WEIGHT), np.nan)

    def rows(self, kept: np.ndarray) -> Strip:
        """The kept rows (S,) bool alone, as if the line went on behind the others at once."""
        sums = {name: total[:, kept] for name, total in self.sums.items()}
        return Strip(self.s_m[kept], self.left_m, sums, self.drives[kept], self.sharp[kept])


class Mosaic:
    """The sums of several surveys.

    Args:
        folders: of the surveys, one a drive.
        upto: how many parts of each count, as if the drives had ended there; None for all. :meth:`go_on` lets them go on.
        views: the cameras of all drives, of which strips know how sharply they saw a line; None for perfect ones.
    """

    def __init__(self, folders: Sequence[Path], upto: Sequence[int] | None = None, views: Views | None = None) -> None:
        self.folders = list(folders)
        self.views = views
        self._parts = [parts_of(folder) for folder in folders]
        self._upto = [0] * len(self._parts)
        self._parts_of: list[dict[Tile, list[Path]]] = [{} for _ in self._parts]
        self._far_of: list[dict[Tile, list[Path]]] = [{} for _ in self._parts]
        self._open: OrderedDict[tuple[int, Tile, bool], tuple[int, Layers]] = OrderedDict()  # sums of that many parts
        for drive, count in enumerate(map(len, self._parts) if upto is None else upto):
            self.go_on(drive, count)

    def go_on(self, drive: int, upto: int) -> None:
        """Count the parts of a drive up to that many; sums of tiles that are open are kept, and grow by the new parts alone."""
        for part in self._parts[drive][self._upto[drive] : upto]:
            for tile in tiles_in(part):
                self._parts_of[drive].setdefault(tile, []).append(part)
            for tile in tiles_in(far_of(part)):
                self._far_of[drive].setdefault(tile, []).append(far_of(part))
        self._upto[drive] = max(self._upto[drive], upto)

    def tiles(self) -> list[Tile]:
        """Tiles that any drive saw from near."""
        return sorted(set().union(*self._parts_of))

    def strip(self, line: LineString, half_width_m: float) -> Strip:
        """The ground along a line, from its start to its end."""
        s_m = np.arange(ALONG_M / 2, line.length, ALONG_M)
        left_m = np.arange(-half_width_m, half_width_m + ACROSS_M / 2, ACROSS_M)
        poses = line_poses(line, s_m)
        xy_m = np.stack([shifted(poses, offset) for offset in left_m], 1)  # (S, O, 2)
        sums, by_drive = self.sample(xy_m.reshape(-1, 2))
        shape = (len(s_m), len(left_m))
        middle = np.abs(left_m) <= 0.35
        drives = (by_drive.reshape(-1, *shape)[..., middle] > 0).any(-1).sum(0)
        sharp = np.ones(len(s_m)) if self.views is None else self.views.ridge_share(poses, LINE_M, SIDES_M)
        return Strip(s_m, left_m, {name: x.reshape(-1, *shape) for name, x in sums.items()}, drives, sharp)

    def sample(self, xy_m: np.ndarray) -> tuple[Layers, np.ndarray]:
        """Sums of the cells that hold positions (n, 2): by layer (C, n) over all drives, and each drive's paint weight (D, n).

        One layer more, ``bare``, is the ground as the drives met it during which nothing stayed on it: where one drive meets the
        wheels and bumpers of a parked car, another may see the ground.
        """
        cells = GRID.cells_of(xy_m)
        tiles = GRID.tile_of(cells)
        inside = cells - tiles * GRID.tile_cells
        channels_of = {**LAYERS, "bare": LAYERS["ground"]}
        sums = {name: np.zeros((channels, len(xy_m)), np.float32) for name, channels in channels_of.items()}
        by_drive = np.zeros((len(self.folders), len(xy_m)), np.float32)
        kinds, which = np.unique(tiles, axis=0, return_inverse=True)
        for number, tile in enumerate(map(tuple, kinds.tolist())):
            chosen = np.flatnonzero(which.reshape(-1) == number)
            x, y = inside[chosen].T
            for drive in range(len(self.folders)):
                if tile in self._parts_of[drive]:
                    layers = {name: layer[:, y, x] for name, layer in self._tile(drive, tile).items()}
                    layers["bare"] = layers["ground"] * ~stays(layers)
                    for name, total in sums.items():
                        total[:, chosen] += layers[name]
                    by_drive[drive, chosen] = layers["paint"][0]
        return sums, by_drive

    def window(self, bounds_m: tuple[float, float, float, float]) -> tuple[Layers, np.ndarray]:
        """All sums of the cells that a window (x_min, y_min, x_max, y_max) touches: (C, Y, X) by layer, and the corner (2,) where
        cell [0, 0] begins.
        """
        low = np.floor(np.array(bounds_m[:2]) / GRID.cell_m).astype(int)
        high = np.ceil(np.array(bounds_m[2:]) / GRID.cell_m).astype(int)
        sums = {name: np.zeros((c, *(high - low)[::-1]), np.float32) for name, c in LAYERS.items()}
        first, last = GRID.tile_of(np.stack([low, high - 1]))
        for tile in product(range(first[0], last[0] + 1), range(first[1], last[1] + 1)):
            corner = np.array(tile) * GRID.tile_cells
            (x0, y0), (x1, y1) = np.maximum(low, corner), np.minimum(high, corner + GRID.tile_cells)
            there = np.s_[:, y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]]
            here = np.s_[:, y0 - corner[1] : y1 - corner[1], x0 - corner[0] : x1 - corner[0]]
            for drive, parts in enumerate(self._parts_of):
                if tile in parts:
                    for name, layer in self._tile(drive, tile).items():
                        sums[name][there] += layer[here]
        return sums, low * GRID.cell_m

    def in_area(self, area: shapely.geometry.base.BaseGeometry) -> tuple[Layers, np.ndarray, np.ndarray]:
        """Cells inside an area: their sums (C, n) by layer, each drive's paint weight (D, n), and their centres (n, 2)."""
        x0, y0, x1, y1 = area.bounds
        first = np.floor(np.array([x0, y0]) / GRID.cell_m).astype(int)
        last = np.ceil(np.array([x1, y1]) / GRID.cell_m).astype(int)
        x, y = (GRID.cell_m * (np.arange(first[axis], last[axis]) + 0.5) for axis in (0, 1))
        xy_m = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        shapely.prepare(area)  # many points of one area
        xy_m = xy_m[shapely.contains_xy(area, *xy_m.T)]
        return *self.sample(xy_m), xy_m

    def standing(self, area: shapely.geometry.base.BaseGeometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells inside an area where something stood: their centres (n, 2), in how many keyframes it was met within the cameras'
        reach (n,), and in how many from further away (n,). None is passed over, as a strip does between its rows.
        """
        parts = [(np.zeros((0, 2)), np.zeros(0), np.zeros(0))]
        for tile in sorted(set().union(*self._parts_of, *self._far_of)):
            if not area.intersects(shapely.box(*GRID.bounds_m(tile))):
                continue
            near, far = np.zeros((2, GRID.tile_cells, GRID.tile_cells))
            for drive in range(len(self.folders)):
                if tile in self._parts_of[drive]:
                    near += self._tile(drive, tile)["stands"][1]
                if tile in self._far_of[drive]:
                    far += self._tile(drive, tile, is_far=True)["far"][0]
            rows, columns = np.nonzero(near + far)
            xy_m = (np.array(tile) * GRID.tile_cells + np.column_stack([columns, rows]) + 0.5) * GRID.cell_m
            inside = shapely.contains_xy(area, *xy_m.T)
            parts.append((xy_m[inside], near[rows, columns][inside], far[rows, columns][inside]))
        xy_m, near, far = (np.concatenate(values) for values in zip(*parts, strict=True))
        return xy_m, near, far

    def _tile(self, drive: int, tile: Tile, is_far: bool = False) -> Layers:
        """Sums of a drive, of all parts that count; those of what it met beyond the cameras' reach are apart."""
        parts = (self._far_of if is_far else self._parts_of)[drive][tile]
        done, sums = self._open.pop((drive, tile, is_far), (0, {}))
        for part in parts[done:]:
            new = read_tile(part, tile)
            sums = {name: sums[name] + new[name] for name in new} if sums else new
        self._open[drive, tile, is_far] = len(parts), sums  # the latest one
        if len(self._open) > OPEN_TILES:
            self._open.popitem(last=False)
        return sums


def stays(sums: Layers) -> np.ndarray:
    """Bool, of the shape of the cells: something stands there that never left. Who walks or drives over a cell shows its ground at
    other times; what cameras did not look at may have stayed.
    """
    return (sums["stands"][0] > 0) & (sums["paint"][0] < FREE_WEIGHT)
