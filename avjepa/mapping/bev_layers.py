"""BEV layers of a static map: what each turn adds to the cells, and the layers that the sums give.

Occupancy as OctoMap (Hornung et al., Autonomous Robots 2013): log-odds of a turn that saw something standing in the cell, or
nothing; summed, and clamped where they are read, so that the order of turns does not matter. Means weigh every return alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avjepa.bev.cell_states import OBSTACLE_HEIGHT_M, lidar_cell_states
from avjepa.conventions import FREE, OCCUPIED
from avjepa.files import write_json
from avjepa.mapping.drive_turns import MapTurn
from avjepa.mapping.frames import MapFrame
from avjepa.mapping.tiles import TileGrid, TileSums, read_grid, read_window, tiles_in

HIT, MISS = 0.85, -0.4  # log-odds of p = .7 and .4, OctoMap's defaults
CLAMP = (-2.0, 3.5)  # p = .12 and .97
# Sums by cell. ground: returns on the ground, their heights, their intensities. turns: that saw something standing that stays, that
# saw nothing standing, and those of the latter that have a return on the ground.
SUMS = {"ground": 3, "turns": 3}
LAYERS = {
    "height_m": "mean height of the ground returns, z of the map frame in metres",
    "intensity": "mean LiDAR intensity of the ground returns, 0 to 1, as the sensor gives it",
    "occupancy_log_odds": f"turns with something standing * {HIT} + turns with nothing * {MISS}, within {CLAMP}",
    "ground_probability": "(g + 1) / (g + o + 2), g turns with bare ground, o with something standing; not whether one may drive",
    "observations": "turns that saw the cell; 0 where none did",
    "traversals": "drives that saw the cell; 0 where none did",
}


def add_turn(sums: TileSums, turn: MapTurn, moving: np.ndarray) -> None:
    """Add a turn to the sums of its drive.

    Args:
        sums: with the layers ``SUMS``.
        turn: the turn.
        moving: (P,) bool, which of its returns move. They are left out; that their rays came so far still counts.
    """
    frame, grid, zero_m = turn.around(sums.grid.cell_m)
    ground = ~moving & (turn.height_m < OBSTACLE_HEIGHT_M[0])
    xyz_map = turn.xyz_map[ground]
    values = np.column_stack([np.ones(len(xyz_map)), xyz_map[:, 2], turn.drive_scan.intensity[ground]])
    sums.add(xyz_map[:, :2], {"ground": values})

    states = lidar_cell_states(frame, grid)[0].numpy()
    bev_index, inside = grid.bev_index(frame.points[:, :3])
    inside, bev_index = inside.numpy(), bev_index.numpy()
    has_ground, stays = np.zeros((2, states.size), dtype=bool)
    standing = ~moving & (turn.height_m >= OBSTACLE_HEIGHT_M[0]) & (turn.height_m <= OBSTACLE_HEIGHT_M[1])
    has_ground[bev_index[inside & ground]] = True
    stays[bev_index[inside & standing]] = True
    has_ground, stays = has_ground.reshape(states.shape), stays.reshape(states.shape)
    occupied, free = (states == OCCUPIED) & stays, states == FREE
    seen = occupied | free
    values = np.column_stack([occupied[seen], free[seen], (free & has_ground)[seen]])
    xy_local = grid.cell_centres()[seen].double().numpy()
    sums.add(xy_local + zero_m[:2], {"turns": values})


@dataclass(frozen=True)
class LayerWindow:
    """Where layers lie.

    Attributes:
        cell_m: side of a cell.
        first: (ix, iy) of cell [0, 0] in the map frame.
        shape_yx: cells.
    """

    cell_m: float
    first: tuple[int, int]
    shape_yx: tuple[int, int]

    @property
    def corner_m(self) -> tuple[float, float]:
        """x, y where cell [0, 0] begins."""
        return self.first[0] * self.cell_m, self.first[1] * self.cell_m

    def contract(self, frame: MapFrame) -> dict[str, Any]:
        """What a file of layers says of its frame; after GDAL's geotransform, in metres of the map frame."""
        (x_m, y_m), (rows, columns) = self.corner_m, self.shape_yx
        corners_m = np.array([[x_m, y_m], [x_m + columns * self.cell_m, y_m + rows * self.cell_m]])
        return {
            "crs": frame.contract(),
            "cell_m": self.cell_m,
            "shape_yx": list(self.shape_yx),
            "axes": ["rows grow with y (north)", "columns grow with x (east)"],
            "lower_corner_m": [x_m, y_m],
            "geotransform": [x_m, self.cell_m, 0.0, y_m, 0.0, self.cell_m],
            "centre_of_cell_m": "x = lower_corner[0] + (column + 0.5) * cell, y = lower_corner[1] + (row + 0.5) * cell",
            "corners_lon_lat_deg": frame.to_wgs84(corners_m).tolist(),
        }


def layers_of(drives: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """``LAYERS`` by name, (Y, X) float32 with nan where nothing is known, of the sums of each drive."""
    returns, heights, intensities = sum(sums["ground"] for sums in drives)
    occupied, free, bare = sum(sums["turns"] for sums in drives)
    seen = occupied + free > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        layers = {
            "height_m": heights / returns,
            "intensity": intensities / returns,
            "occupancy_log_odds": np.where(seen, np.clip(occupied * HIT + free * MISS, *CLAMP), np.nan),
            "ground_probability": np.where(bare + occupied > 0, (bare + 1) / (bare + occupied + 2), np.nan),
            "observations": occupied + free,
            "traversals": sum((sums["turns"][:2].sum(0) > 0).astype(np.float32) for sums in drives),
        }
    return {name: layer.astype(np.float32) for name, layer in layers.items()}


def write_layers(folder: Path, drives: Sequence[Path], frame: MapFrame) -> LayerWindow:
    """Write ``NAME.npy`` (Y, X) float32 for each of ``LAYERS``, tile by tile, and ``layers.json``, their contract.

    Args:
        folder: made if it is not there.
        drives: whole folders of sums, one for each drive, on the same cells.
        frame: of the map.

    Raises:
        BadFileError: a folder of sums is not whole or damaged.
    """
    grid, _ = read_grid(drives[0])
    tiles = np.array(sorted({tile for drive in drives for tile in tiles_in(drive)}))
    window = _around_tiles(drives, tiles, grid)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=window.shape_yx)
        for name in LAYERS
    }
    for name, file in files.items():
        file[:] = 0 if name in ("observations", "traversals") else np.nan
    for tile in tiles.tolist():
        layers = layers_of([read_window([drive], grid.bounds_m(tuple(tile)))[0] for drive in drives])
        first = np.array(tile) * grid.tile_cells - window.first
        lower, upper = np.maximum(first, 0), np.minimum(first + grid.tile_cells, window.shape_yx[::-1])
        inside = tuple(slice(*bounds) for bounds in zip((lower - first)[::-1], (upper - first)[::-1], strict=True))
        for name, layer in layers.items():
            files[name][lower[1] : upper[1], lower[0] : upper[0]] = layer[inside]
    for file in files.values():
        file.flush()
    descriptions = {name: {"file": f"{name}.npy", "dtype": "float32", "means": text} for name, text in LAYERS.items()}
    write_json(folder / "layers.json", {**window.contract(frame), "no_data": "nan", "layers": descriptions})
    return window


def _around_tiles(drives: Sequence[Path], tiles: np.ndarray, grid: TileGrid) -> LayerWindow:
    """The cells with something in them, as far as a look at each tile tells."""
    lower, upper = [], []
    for tile in tiles.tolist():
        sums, _ = read_window(drives, grid.bounds_m(tuple(tile)))
        rows, columns = np.nonzero((sums["ground"][0] > 0) | (sums["turns"][:2].sum(0) > 0))
        if len(rows):
            first = np.array(tile) * grid.tile_cells
            lower.append(first + np.array([columns.min(), rows.min()]))
            upper.append(first + np.array([columns.max(), rows.max()]) + 1)
    first, end = np.min(lower, 0), np.max(upper, 0)
    return LayerWindow(grid.cell_m, (int(first[0]), int(first[1])), (int(end[1] - first[1]), int(end[0] - first[0])))
