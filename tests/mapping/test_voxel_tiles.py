"""Sparse sums per voxel: the same as a dictionary, however few tiles are in memory."""

from collections import Counter

import numpy as np
import pytest

from avjepa.mapping.voxel_tiles import VoxelSums


@pytest.mark.parametrize("open_tiles", [1, 2, 12])
def test_sums_equal_a_dictionary(tmp_path, open_tiles):
    rng = np.random.default_rng(2)
    sums = VoxelSums(tmp_path, 0.5, channels=2, tile_voxels=8, open_tiles=open_tiles)
    truth: dict[int, Counter] = {0: Counter(), 1: Counter()}
    for _ in range(6):
        voxels = rng.integers(-14, 14, (200, 3))
        values = rng.integers(0, 5, (200, 2))
        sums.add(voxels, values)
        for voxel, value in zip(voxels.tolist(), values.tolist(), strict=True):
            for channel in (0, 1):
                truth[channel][tuple(voxel)] += value[channel]
    asked = rng.integers(-16, 16, (500, 3))
    wanted = [[truth[0][tuple(voxel)], truth[1][tuple(voxel)]] for voxel in asked.tolist()]
    np.testing.assert_array_equal(sums.read(asked), wanted)
    voxels = np.concatenate([voxels for voxels, _ in sums.tiles()])
    total = np.concatenate([values for _, values in sums.tiles()])
    assert len(voxels) == len({tuple(voxel) for voxel in voxels.tolist()}) == len(truth[0])
    assert [truth[0][tuple(voxel)] for voxel in voxels.tolist()] == total[:, 0].tolist()


def test_tiles_around_voxels(tmp_path):
    """Tiles of 8 voxels: those beside the tile of a voxel, no further."""
    sums = VoxelSums(tmp_path, 0.5, channels=1, tile_voxels=8, open_tiles=1)
    sums.add(np.array([[4, 4, 0], [12, -3, 5], [20, 4, 0], [4, 4, 9]]), np.ones((4, 1)))
    assert sorted(v for voxels, _ in sums.tiles(np.array([[0, 0, 0]])) for v in voxels.tolist()) == [
        [4, 4, 0], [4, 4, 9], [12, -3, 5]
    ]  # fmt: skip
    assert list(sums.tiles(np.zeros((0, 3), np.int64))) == []


def test_reading_makes_no_tiles(tmp_path):
    sums = VoxelSums(tmp_path, 0.2, channels=1)
    assert sums.read(np.array([[1, 2, 3]])).tolist() == [[0]]
    assert list(sums.tiles()) == []
    np.testing.assert_array_equal(sums.voxels_of(np.array([[-0.01, 0.0, 0.41]])), [[-1, 0, 2]])
    sums.add(np.zeros((0, 3), np.int64), np.zeros((0, 1)))
    assert list(sums.tiles()) == []
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2,\)"):
        sums.add(np.zeros((2, 3), np.int64), np.zeros(2))
