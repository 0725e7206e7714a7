"""Surveys of several drives as one picture of the ground, read where it is asked for.

A *strip* is the ground along a line, straightened: rows go along it, columns across it. Elements are judged on strips.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import LineString

from avjepa.geometry.bands import line_poses, shifted
from avjepa.mapping.survey import GRID, LAYERS
from avjepa.mapping.tiles import Layers, Tile, read_tile, read_window, tiles_in

OPEN_TILES = 96  # 2.4 MB each
ALONG_M = 0.25
ACROSS_M = 0.1
SEEN_WEIGHT = 0.3  # of a cell of a line, whose neighbours along the line say the same


@dataclass(frozen=True)
class Strip:
    """The ground along a line.

    Attributes:
        s_m: (S,) arc lengths of the rows.
        left_m: (O,) offsets of the columns to the left of the line.
        sums: by layer, (C, S, O) sums over all drives.
        drives: (S,) how many drives saw anything of a row's middle.
    """

    s_m: np.ndarray
    left_m: np.ndarray
    sums: Layers
    drives: np.ndarray

    def paint(self, channel: int) -> np.ndarray:
        """(S, O) mean of a channel of the paint; nan where too little was seen of a cell."""
        weight, total = self.sums["paint"][0], self.sums["paint"][channel]
        return np.where(weight >= SEEN_WEIGHT, total / np.maximum(weight, SEEN_WEIGHT), np.nan)


class Mosaic:
    """The sums of several surveys.

    Args:
        folders: of the surveys, one a drive.
    """

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders
        self._tiles_of = [frozenset(tiles_in(folder)) for folder in folders]
        self._open: OrderedDict[tuple[int, Tile], Layers] = OrderedDict()

    def tiles(self) -> list[Tile]:
        """Tiles that any drive saw."""
        return sorted(frozenset().union(*self._tiles_of))

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
        return Strip(s_m, left_m, {name: x.reshape(-1, *shape) for name, x in sums.items()}, drives)

    def sample(self, xy_m: np.ndarray) -> tuple[Layers, np.ndarray]:
        """Sums of the cells that hold positions (n, 2): by layer (C, n) over all drives, and each drive's paint weight (D, n)."""
        cells = GRID.cells_of(xy_m)
        tiles = GRID.tile_of(cells)
        inside = cells - tiles * GRID.tile_cells
        sums = {name: np.zeros((channels, len(xy_m)), np.float32) for name, channels in LAYERS.items()}
        by_drive = np.zeros((len(self.folders), len(xy_m)), np.float32)
        kinds, which = np.unique(tiles, axis=0, return_inverse=True)
        for number, tile in enumerate(map(tuple, kinds.tolist())):
            chosen = np.flatnonzero(which.reshape(-1) == number)
            x, y = inside[chosen].T
            for drive in range(len(self.folders)):
                if tile in self._tiles_of[drive]:
                    layers = self._tile(drive, tile)
                    for name, total in sums.items():
                        total[:, chosen] += layers[name][:, y, x]
                    by_drive[drive, chosen] = layers["paint"][0, y, x]
        return sums, by_drive

    def window(self, bounds_m: tuple[float, float, float, float]) -> tuple[Layers, np.ndarray]:
        """All sums of a window, see :func:`tiles.read_window`."""
        return read_window(self.folders, bounds_m)

    def in_area(self, area: shapely.geometry.base.BaseGeometry) -> tuple[Layers, np.ndarray, np.ndarray]:
        """Cells inside an area: their sums (C, n) by layer, each drive's paint weight (D, n), and their centres (n, 2)."""
        x0, y0, x1, y1 = area.bounds
        first = np.floor(np.array([x0, y0]) / GRID.cell_m).astype(int)
        last = np.ceil(np.array([x1, y1]) / GRID.cell_m).astype(int)
        x, y = (GRID.cell_m * (np.arange(first[axis], last[axis]) + 0.5) for axis in (0, 1))
        xy_m = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        xy_m = xy_m[shapely.contains_xy(area, *xy_m.T)]
        return *self.sample(xy_m), xy_m

    def _tile(self, drive: int, tile: Tile) -> Layers:
        key = (drive, tile)
        if key not in self._open:
            self._open[key] = read_tile(self.folders[drive], tile)
            if len(self._open) > OPEN_TILES:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]
