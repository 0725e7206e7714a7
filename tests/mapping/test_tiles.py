"""Sums per cell in tiles: the same as one dense array, in whatever order, with however few tiles in memory."""

import numpy as np
import pytest

from avjepa.errors import BadFileError
from avjepa.mapping.tiles import TileGrid, TileSums, read_grid, read_tile, read_window, tiles_in

GRID = TileGrid(cell_m=0.5, tile_cells=8)
LAYERS = {"hits": 1, "pair": 2}


def random_adds(seed, calls=6, count=300):
    rng = np.random.default_rng(seed)
    for _ in range(calls):
        # Whole numbers: their float32 sums are exact in any order.
        yield rng.uniform(-11, 9, (count, 2)), rng.integers(0, 9, count), rng.integers(-5, 5, (count, 2))


def dense(adds):
    """The same sums over [-12, 10) m, point by point."""
    hits, pair = np.zeros((1, 44, 44)), np.zeros((2, 44, 44))
    for xy_m, weights, pairs in adds:
        for (x, y), weight, two in zip(xy_m, weights, pairs, strict=True):
            ix, iy = int(np.floor(x / 0.5)) + 24, int(np.floor(y / 0.5)) + 24
            hits[0, iy, ix] += weight
            pair[:, iy, ix] += two
    return hits, pair


@pytest.mark.parametrize("open_tiles", [1, 3, 16])
@pytest.mark.parametrize("backwards", [False, True])
def test_tiles_equal_one_dense_array(tmp_path, open_tiles, backwards):
    adds = list(random_adds(seed=4))
    with TileSums(tmp_path, GRID, LAYERS, open_tiles) as sums:
        for xy_m, weights, pairs in reversed(adds) if backwards else adds:
            sums.add(xy_m, {"hits": weights, "pair": pairs})
            assert len(sums._open) <= open_tiles
    window, corner_m = read_window([tmp_path], (-12, -12, 10, 10))
    hits, pair = dense(adds)
    np.testing.assert_array_equal(window["hits"], hits)
    np.testing.assert_array_equal(window["pair"], pair)
    np.testing.assert_array_equal(corner_m, [-12, -12])
    assert window["hits"].dtype == np.float32
    assert hits.sum() > 0


def test_cells_below_zero_go_down(tmp_path):
    cells = GRID.cells_of(np.array([[-0.1, 0.1], [-0.5, 0.5], [-0.51, -4.0], [-4.01, 3.99]]))
    np.testing.assert_array_equal(cells, [[-1, 0], [-1, 1], [-2, -8], [-9, 7]])
    np.testing.assert_array_equal(GRID.tile_of(cells), [[-1, 0], [-1, 0], [-1, -1], [-2, 0]])
    assert GRID.bounds_m((-1, 2)) == (-4, 8, 0, 12)
    with TileSums(tmp_path, GRID, {"hits": 1}) as sums:
        sums.add(np.array([[-0.1, 0.1], [-0.1, 0.1]]), {"hits": np.ones(2)})
    assert tiles_in(tmp_path) == [(-1, 0)]
    tile = read_tile(tmp_path, (-1, 0))["hits"]
    assert tile[0, 0, 7] == 2
    assert tile.sum() == 2


@pytest.mark.parametrize("cell_m", [0.1, 0.2, 0.3, 0.15])
def test_the_window_of_a_tile_is_the_tile(tmp_path, cell_m):
    grid = TileGrid(cell_m, tile_cells=16)
    with TileSums(tmp_path, grid, {"hits": 1}) as sums:
        for tile in [(3, -7), (-1, 0), (11, 5)]:
            x0, y0, x1, y1 = grid.bounds_m(tile)
            sums.add(np.array([[(x0 + x1) / 2, (y0 + y1) / 2]]), {"hits": np.ones(1)})
    for tile in tiles_in(tmp_path):
        window, corner_m = read_window([tmp_path], grid.bounds_m(tile))
        np.testing.assert_array_equal(window["hits"], read_tile(tmp_path, tile)["hits"])
        np.testing.assert_allclose(corner_m, grid.bounds_m(tile)[:2])


def test_logs_add_up(tmp_path):
    everything = list(random_adds(seed=1))
    for folder, adds in [("a", everything[:2]), ("b", everything[2:])]:
        with TileSums(tmp_path / folder, GRID, LAYERS) as sums:
            for xy_m, weights, pairs in adds:
                sums.add(xy_m, {"hits": weights, "pair": pairs})
    window, corner_m = read_window([tmp_path / "a", tmp_path / "b"], (-3.2, 1.1, 4.4, 6))
    hits, pair = dense(everything)
    np.testing.assert_array_equal(corner_m, [-3.5, 1])
    np.testing.assert_array_equal(window["hits"], hits[:, 26:36, 17:33])
    np.testing.assert_array_equal(window["pair"], pair[:, 26:36, 17:33])


def test_other_grids_and_layers_refuse_to_be_summed(tmp_path):
    for folder, grid, layers in [
        ("a", GRID, {"hits": 1}),
        ("b", TileGrid(0.25, 8), {"hits": 1}),
        ("c", GRID, {"hits": 2}),
    ]:
        TileSums(tmp_path / folder, grid, layers).close()
    for other in "bc":
        with pytest.raises(BadFileError, match=f"{other}: another grid or other layers"):
            read_window([tmp_path / "a", tmp_path / other], (0, 0, 1, 1))


def test_a_run_that_fails_leaves_no_whole_folder(tmp_path):
    def broken_run():
        with TileSums(tmp_path, GRID, {"hits": 1}, open_tiles=1) as sums:
            for xy_m in [[0.0, 0], [9.0, 9], [0.0, 0], [np.nan, 0]]:
                sums.add(np.array([xy_m]), {"hits": np.ones(1)})

    with pytest.raises(ValueError, match="finite"):
        broken_run()
    assert tiles_in(tmp_path)  # some were written already,
    with pytest.raises(BadFileError, match="never finished"):
        read_window([tmp_path], (0, 0, 1, 1))
    with TileSums(tmp_path, GRID, {"hits": 1}) as sums:  # and the next run does not add to them
        sums.add(np.array([[0.0, 0]]), {"hits": np.ones(1)})
    assert read_window([tmp_path], (0, 0, 20, 20))[0]["hits"].sum() == 1
    assert read_grid(tmp_path) == (GRID, {"hits": 1})
    with pytest.raises(ValueError, match="already holds whole sums"):
        TileSums(tmp_path, GRID, {"hits": 1})


def test_a_tile_is_written_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    with TileSums(tmp_path, GRID, {"hits": 1}, open_tiles=1) as sums:
        sums.add(np.array([[1.0, 1]]), {"hits": np.ones(1)})
        sums.add(np.array([[9.0, 9]]), {"hits": np.ones(1)})  # the first goes to disk
        sums.add(np.array([[1.0, 1]]), {"hits": np.ones(1)})
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

        def half(path, **arrays):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr(np, "savez_compressed", half)
            with pytest.raises(OSError, match="No space"):
                sums.add(np.array([[9.0, 9]]), {"hits": np.ones(1)})
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert read_window([tmp_path], (0, 0, 12, 12))[0]["hits"][0, 2, 2] == 2  # nothing was lost


def test_damaged_tiles_are_named(tmp_path):
    with TileSums(tmp_path, GRID, {"hits": 1}) as sums:
        sums.add(np.array([[0.0, 0]]), {"hits": np.ones(1)})
    path = tmp_path / "tile_0_0.npz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadFileError, match=r"tile_0_0\.npz: damaged"):
        read_tile(tmp_path, (0, 0))
    np.savez(path, hits=np.zeros((1, 4, 4), np.float32))
    with pytest.raises(BadFileError, match=r"hits is float32 \(1, 4, 4\)"):
        read_tile(tmp_path, (0, 0))
    with pytest.raises(BadFileError, match=r"tile_5_5\.npz: missing"):
        read_tile(tmp_path, (5, 5))


def test_wrong_values_are_refused(tmp_path):
    sums = TileSums(tmp_path, GRID, LAYERS)
    with pytest.raises(ValueError, match="unknown layer 'height'"):
        sums.add(np.zeros((1, 2)), {"height": np.ones(1)})
    with pytest.raises(ValueError, match=r"pair are \(1, 2\), got \(1, 1\)"):
        sums.add(np.zeros((1, 2)), {"pair": np.ones(1)})
    with pytest.raises(ValueError, match="finite"):
        sums.add(np.full((1, 2), np.nan), {"hits": np.ones(1)})
    with pytest.raises(ValueError, match="positive"):
        TileGrid(cell_m=0)
