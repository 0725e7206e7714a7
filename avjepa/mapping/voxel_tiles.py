"""Sums per voxel of the map frame: sparse, in tiles on disk, so that memory does not grow with the area.

The three-dimensional fellow of ``tiles.py`` for things that are there in few voxels (surfaces, or space that rays cross). It is
working storage of one run: nothing promises that its folder is whole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Z_OFFSET = 1 << 20  # voxels below the map's zero have positive keys too
Tile = tuple[int, int]
Voxels = tuple[NDArray[np.int64], NDArray[np.float32]]  # sorted keys (n,) inside the tile, and sums (n, C)


class VoxelSums:
    """Adds to voxels, and reads them back.

    Voxel (ix, iy, iz) begins at that multiple of its edge in the map frame.

    Args:
        folder: Made if it is not there; must hold no tiles.
        voxel_m: Edge of a voxel.
        channels: C, values of each voxel.
        tile_voxels: Voxels along the side of a tile, which is a square column of the map.
        open_tiles: How many tiles are in memory at most.
    """

    def __init__(
        self, folder: Path, voxel_m: float, channels: int, tile_voxels: int = 256, open_tiles: int = 12
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.voxel_m, self.channels = folder, voxel_m, channels
        self.tile_voxels, self.open_tiles = tile_voxels, open_tiles
        self._open: OrderedDict[Tile, Voxels] = OrderedDict()
        self._on_disk: set[Tile] = set()

    def voxels_of(self, xyz_map: NDArray[np.floating]) -> NDArray[np.int64]:
        """(n, 3) points in the map frame -> (n, 3) voxels, by floor."""
        return np.floor(np.asarray(xyz_map, np.float64) / self.voxel_m).astype(np.int64)

    def add(self, voxels: NDArray[np.int64], values: NDArray) -> None:
        """Add (n, C) values to (n, 3) voxels; any number of rows may name the same voxel.

        Raises:
            ValueError: a wrong shape.
        """
        if voxels.ndim != 2 or voxels.shape[1] != 3 or values.shape != (len(voxels), self.channels):
            raise ValueError(f"want (n, 3) and (n, {self.channels}), got {voxels.shape} and {values.shape}")
        for tile, rows, keys in self._by_tile(voxels):
            new_keys, row_of = np.unique(keys, return_inverse=True)
            sums = [np.bincount(row_of.reshape(-1), channel, len(new_keys)) for channel in values[rows].T]
            self._open[tile] = _merge(self._touch(tile), new_keys, np.stack(sums, 1).astype(np.float32))

    def read(self, voxels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Sums (n, C) of (n, 3) voxels; zeros where nothing was added."""
        found = np.zeros((len(voxels), self.channels), np.float32)
        for tile, rows, wanted in self._by_tile(voxels):
            if tile in self._open or tile in self._on_disk:
                keys, sums = self._touch(tile)
                place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
                there = keys[place] == wanted
                found[rows[there]] = sums[place[there]]
        return found

    def tiles(self, around: NDArray[np.int64] | None = None) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Voxels (n, 3) and their sums (n, C), tile by tile in a fixed order; with voxels (m, 3) only the tiles that hold one of
        them, and the eight around each of these.
        """
        tiles = self._on_disk | set(self._open)
        if around is not None:
            held = np.unique(np.floor_divide(around[:, :2], self.tile_voxels), axis=0).tolist()
            tiles &= {(ix + dx, iy + dy) for ix, iy in held for dx, dy in product((-1, 0, 1), repeat=2)}
        for tile in sorted(tiles):
            keys, sums = self._touch(tile)
            layer, inside = np.divmod(keys, self.tile_voxels**2)
            row, column = np.divmod(inside, self.tile_voxels)
            first = np.array(tile) * self.tile_voxels
            yield np.stack([column + first[0], row + first[1], layer - Z_OFFSET], 1), sums

    def _by_tile(self, voxels: NDArray[np.int64]) -> Iterator[tuple[Tile, NDArray[np.int64], NDArray[np.int64]]]:
        """Each tile, which rows lie in it, and their keys there."""
        if not len(voxels):
            return
        tile_xy = np.floor_divide(voxels[:, :2], self.tile_voxels)
        column, row = (voxels[:, :2] - tile_xy * self.tile_voxels).T
        keys = ((voxels[:, 2] + Z_OFFSET) * self.tile_voxels + row) * self.tile_voxels + column
        lowest, highest = tile_xy.min(0), tile_xy.max(0)
        tile_of = np.ravel_multi_index(tuple((tile_xy - lowest).T), tuple(highest - lowest + 1))
        order = np.argsort(tile_of.astype(np.min_scalar_type(tile_of.max())), kind="stable")  # few tiles: a radix sort
        counts = np.bincount(tile_of)
        for number, rows in zip(
            np.flatnonzero(counts), np.split(order, np.cumsum(counts[counts > 0])[:-1]), strict=True
        ):
            ix, iy = np.unravel_index(number, tuple(highest - lowest + 1)) + lowest
            yield (int(ix), int(iy)), rows, keys[rows]

    def _touch(self, tile: Tile) -> Voxels:
        if tile not in self._open:
            while len(self._open) >= self.open_tiles:
                oldest, (keys, sums) = next(iter(self._open.items()))
                np.savez(self._path(oldest), keys=keys, sums=sums)
                self._on_disk.add(oldest)
                del self._open[oldest]
            if tile in self._on_disk:
                with np.load(self._path(tile), allow_pickle=False) as file:
                    self._open[tile] = file["keys"], file["sums"]
            else:
                self._open[tile] = np.zeros(0, np.int64), np.zeros((0, self.channels), np.float32)
        self._open.move_to_end(tile)
        return self._open[tile]

    def _path(self, tile: Tile) -> Path:
        return self.folder / f"voxels_{tile[0]}_{tile[1]}.npz"


def _merge(old: Voxels, new_keys: NDArray[np.int64], new_sums: NDArray[np.float32]) -> Voxels:
    """Sums of both; all keys sorted, each once."""
    keys, sums = old
    place = np.searchsorted(keys, new_keys)
    known = place < len(keys)
    known[known] = keys[place[known]] == new_keys[known]
    sums[place[known]] += new_sums[known]
    if known.all():
        return keys, sums
    keys, sums = np.concatenate([keys, new_keys[~known]]), np.concatenate([sums, new_sums[~known]])
    order = np.argsort(keys, kind="stable")  # two sorted runs: merged, not sorted anew
    return keys[order], sums[order]
