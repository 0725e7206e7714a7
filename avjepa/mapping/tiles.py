"""Sums per cell of the map frame, held in tiles on disk: memory does not grow with the area, nor disk with the frames.

A log adds what it saw (counts, log-odds, heights times weights) to the cells it saw it in. At most ``open_tiles`` tiles are in
memory; the least recently used one goes to its file and comes back when it is touched again. Since all are sums, the folders of
several logs are joined by adding them (``read_window``), and every log can be its own task.

Arrays are (C, Y, X), y and x growing with the map's. A folder is whole when it holds ``grid.json``, which is written last.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from avjepa.errors import BadFileError
from avjepa.files import replacing, write_json

Tile = tuple[int, int]  # (ix, iy)
Layers = dict[str, NDArray[np.float32]]  # name -> (C, Y, X)

GRID_FILE = "grid.json"
TILE_NAME = re.compile(r"tile_(-?\d+)_(-?\d+)\.npz")
ROUNDING_CELLS = 1e-6  # bounds this near to a cell's edge are on it


@dataclass(frozen=True)
class TileGrid:
    """Square cells of the map frame, cell (0, 0) beginning at its origin, in square tiles.

    Tile (ix, iy) covers x from ``ix * tile_cells * cell_m`` up to the next tile, y alike.

    Args:
        cell_m: Side of a cell.
        tile_cells: Cells along the side of a tile.

    Raises:
        ValueError: a side is not positive.
    """

    cell_m: float = 0.2
    tile_cells: int = 256

    def __post_init__(self) -> None:
        if not (np.isfinite(self.cell_m) and self.cell_m > 0 and self.tile_cells >= 1):
            raise ValueError(f"cells of {self.cell_m} m and tiles of {self.tile_cells} cells; both must be positive")

    def cells_of(self, xy_m: NDArray[np.floating]) -> NDArray[np.int64]:
        """(n, 2) positions in the map frame -> (n, 2) cells (ix, iy), by floor.

        Raises:
            ValueError: a wrong shape, or positions that are not finite.
        """
        xy_m = np.asarray(xy_m, np.float64)
        if xy_m.ndim != 2 or xy_m.shape[1] != 2:
            raise ValueError(f"positions are (n, 2), got {xy_m.shape}")
        if not np.isfinite(xy_m).all():
            raise ValueError("positions must be finite")
        return np.floor(xy_m / self.cell_m).astype(np.int64)

    def tile_of(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 2) cells -> (n, 2) tiles (ix, iy) that hold them."""
        return np.floor_divide(cells, self.tile_cells)

    def bounds_m(self, tile: Tile) -> tuple[float, float, float, float]:
        """x_min, y_min, x_max, y_max of a tile."""
        side_m = self.tile_cells * self.cell_m
        return tile[0] * side_m, tile[1] * side_m, (tile[0] + 1) * side_m, (tile[1] + 1) * side_m


class TileSums:
    """Adds to cells; use it as a context manager, which writes everything when its block ends well.

    Args:
        folder: Where the tiles go; leftovers of a run that never ended are removed.
        grid: The cells.
        layers: Channels of each layer by its name.
        open_tiles: How many tiles are in memory at most.

    Raises:
        ValueError: the folder is already whole, or no tile may be open.
    """

    def __init__(self, folder: Path, grid: TileGrid, layers: Mapping[str, int], open_tiles: int = 16) -> None:
        if open_tiles < 1:
            raise ValueError(f"open_tiles is {open_tiles}; at least one tile must be open")
        if (folder / GRID_FILE).exists():
            raise ValueError(f"{folder}: already holds whole sums")
        folder.mkdir(parents=True, exist_ok=True)
        for tile in tiles_in(folder):
            _tile_path(folder, tile).unlink()
        self.folder, self.grid, self.layers, self.open_tiles = folder, grid, dict(layers), open_tiles
        self._open: OrderedDict[Tile, Layers] = OrderedDict()

    def __enter__(self) -> TileSums:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def add(self, xy_m: NDArray[np.floating], sums: Mapping[str, NDArray]) -> None:
        """Add each value to the cell of its position; any number of positions may share a cell.

        Args:
            xy_m: (n, 2) positions in the map frame.
            sums: By layer, (n,) for layers of one channel or (n, C); layers that are not named are left alone.

        Raises:
            ValueError: a wrong shape, an unknown layer, or positions that are not finite.
        """
        cells = self.grid.cells_of(xy_m)
        values = {name: self._channels(name, array, len(cells)) for name, array in sums.items()}
        if not len(cells):
            return
        side = self.grid.tile_cells
        tile_xy = self.grid.tile_of(cells)
        lowest, across = tile_xy.min(0), int(np.ptp(tile_xy[:, 0])) + 1
        # Tile by tile, and row by row in each: one number that sorts so.
        number = (tile_xy[:, 1] - lowest[1]) * across + tile_xy[:, 0] - lowest[0]
        inside = cells - tile_xy * side
        keys, cell_index = np.unique((number * side + inside[:, 1]) * side + inside[:, 0], return_inverse=True)
        # Summed over this call in float64, in one go per channel: (C, cells)
        totals = {
            name: np.stack([np.bincount(cell_index.reshape(-1), channel, len(keys)) for channel in array.T])
            for name, array in values.items()
        }
        numbers, starts = np.unique(keys // side**2, return_index=True)
        for number, start, end in zip(numbers, starts, [*starts[1:], len(keys)], strict=True):
            layers = self._touch((int(number % across + lowest[0]), int(number // across + lowest[1])))
            rows, columns = np.divmod(keys[start:end] % side**2, side)
            for name, total in totals.items():
                layers[name][:, rows, columns] += total[:, start:end].astype(np.float32)

    def close(self) -> None:
        """Write every open tile, and last what makes the folder whole."""
        while self._open:
            self._write_oldest()
        write_json(self.folder / GRID_FILE, {**asdict(self.grid), "layers": self.layers})

    def _channels(self, name: str, array: NDArray, count: int) -> NDArray[np.float64]:
        if name not in self.layers:
            raise ValueError(f"unknown layer {name!r}; there are {', '.join(self.layers)}")
        array = np.asarray(array, np.float64)
        array = array[:, None] if array.ndim == 1 else array
        if array.shape != (count, self.layers[name]):
            raise ValueError(f"values of {name} are ({count}, {self.layers[name]}), got {array.shape}")
        return array

    def _touch(self, tile: Tile) -> Layers:
        if tile not in self._open:
            while len(self._open) >= self.open_tiles:
                self._write_oldest()
            if _tile_path(self.folder, tile).exists():
                self._open[tile] = _load(self.folder, tile, self.grid, self.layers)
            else:
                self._open[tile] = _zeros(self.layers, self.grid.tile_cells, self.grid.tile_cells)
        self._open.move_to_end(tile)
        return self._open[tile]

    def _write_oldest(self) -> None:
        tile, layers = next(iter(self._open.items()))
        with replacing(_tile_path(self.folder, tile)) as temporary:
            np.savez_compressed(temporary, **layers)
        del self._open[tile]  # only now: a full disk must not lose it


def read_grid(folder: Path) -> tuple[TileGrid, dict[str, int]]:
    """The grid of a whole folder, and channels by layer.

    Raises:
        BadFileError: the folder is not whole, or its ``grid.json`` is damaged.
    """
    path = folder / GRID_FILE
    try:
        data = json.loads(path.read_text())
        layers = {str(name): int(channels) for name, channels in data["layers"].items()}
        return TileGrid(float(data["cell_m"]), int(data["tile_cells"])), layers
    except FileNotFoundError:
        raise BadFileError(f"{path}: missing; the sums in this folder were never finished, make them again") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFileError(f"{path}: damaged ({error}); make the sums in this folder again") from None


def tiles_in(folder: Path) -> list[Tile]:
    """Tiles (ix, iy) with a file in the folder, sorted."""
    names = (TILE_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted((int(name[1]), int(name[2])) for name in names if name)


def read_tile(folder: Path, tile: Tile) -> Layers:
    """(C, Y, X) sums of one tile by layer.

    Raises:
        BadFileError: the file is missing or damaged, or the folder is not whole.
    """
    return _load(folder, tile, *read_grid(folder))


def read_window(
    folders: Sequence[Path], bounds_m: tuple[float, float, float, float]
) -> tuple[Layers, NDArray[np.float64]]:
    """Sums over several logs of all cells that a window touches; zeros where nothing was added.

    Args:
        folders: Whole folders of one grid and the same layers.
        bounds_m: x_min, y_min, x_max, y_max in the map frame.

    Returns:
        (C, Y, X) by layer, and x, y of the corner where cell [0, 0] begins.

    Raises:
        ValueError: no folder, or an empty window.
        BadFileError: a folder is not whole or damaged, or has another grid or other layers than the first.
    """
    if not folders:
        raise ValueError("no folder to read sums from")
    grid, layers = read_grid(folders[0])
    lower = np.floor(np.array(bounds_m[:2]) / grid.cell_m + ROUNDING_CELLS).astype(np.int64)
    upper = np.ceil(np.array(bounds_m[2:]) / grid.cell_m - ROUNDING_CELLS).astype(np.int64)
    if not (upper > lower).all():
        raise ValueError(f"an empty window: {bounds_m}")
    window = _zeros(layers, *(upper - lower)[::-1])
    for folder in folders:
        if read_grid(folder) != (grid, layers):
            raise BadFileError(
                f"{folder}: another grid or other layers than {folders[0]}; make both with the same options"
            )
        for tile in tiles_in(folder):
            first = np.array(tile) * grid.tile_cells
            start, end = np.maximum(first, lower), np.minimum(first + grid.tile_cells, upper)
            if (end <= start).any():
                continue
            (x0, y0), (x1, y1) = start - lower, end - lower
            (u0, v0), (u1, v1) = start - first, end - first
            for name, array in _load(folder, tile, grid, layers).items():
                window[name][:, y0:y1, x0:x1] += array[:, v0:v1, u0:u1]
    return window, lower * grid.cell_m


def _zeros(layers: Mapping[str, int], rows: int, columns: int) -> Layers:
    return {name: np.zeros((channels, rows, columns), np.float32) for name, channels in layers.items()}


def _tile_path(folder: Path, tile: Tile) -> Path:
    return folder / f"tile_{tile[0]}_{tile[1]}.npz"


def _load(folder: Path, tile: Tile, grid: TileGrid, layers: Mapping[str, int]) -> Layers:
    path = _tile_path(folder, tile)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in layers}
    except FileNotFoundError:
        raise BadFileError(f"{path}: missing; make the sums in this folder again") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadFileError(f"{path}: damaged ({error}); make the sums in this folder again") from None
    for name, channels in layers.items():
        shape = (channels, grid.tile_cells, grid.tile_cells)
        if arrays[name].shape != shape or arrays[name].dtype != np.float32:
            found = f"{arrays[name].dtype} {arrays[name].shape}"
            raise BadFileError(f"{path}: {name} is {found}, not float32 {shape}; make the sums in this folder again")
    return arrays
