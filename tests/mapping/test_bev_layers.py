"""BEV layers of a static map: by hand, over two drives, and where the arrays lie."""

import json

import numpy as np
import pytest

from avjepa.mapping.bev_layers import LAYERS, SUMS, layers_of, write_layers
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.tiles import TileGrid, TileSums

GRID = TileGrid(cell_m=0.5, tile_cells=8)


def write_drive(folder, cells):
    """``cells``: by (x, y), the sums of ground and turns."""
    with TileSums(folder, GRID, SUMS) as sums:
        for xy_m, (ground, turns) in cells.items():
            values = {"ground": np.array([ground]), "turns": np.array([turns])}
            sums.add(np.array([xy_m]), values)
    return folder


@pytest.fixture
def drives(tmp_path):
    """A cell that both drives saw as ground, one that the second saw occupied, and one seen through without a return."""
    first = write_drive(tmp_path / "a", {(-0.2, 0.3): ((2, 1.0, 0.5), (0, 2, 2)), (3.1, 2.6): ((0, 0, 0), (0, 3, 0))})
    second = write_drive(tmp_path / "b", {(-0.2, 0.3): ((6, 5.0, 0.9), (1, 3, 3)), (6.2, -1.4): ((0, 0, 0), (9, 0, 0))})
    return [first, second]


def test_layers_by_hand(drives, tmp_path):
    window = write_layers(tmp_path / "layers", drives, frame_of_city("minicity-a"))
    layers = {name: np.load(tmp_path / "layers" / f"{name}.npy") for name in LAYERS}
    # Cells -1..12 in x and -3..5 in y.
    assert window.first == (-1, -3)
    assert window.shape_yx == (9, 14) == layers["height_m"].shape
    both, occupied, seen_through, unknown = (3, 0), (0, 13), (8, 7), (5, 5)
    # Weighted by observations: (1 + 5) m of 8 returns, not the mean of two means.
    assert layers["height_m"][both] == pytest.approx(6 / 8)
    assert layers["intensity"][both] == pytest.approx(1.4 / 8)
    assert layers["occupancy_log_odds"][both] == pytest.approx(1 * 0.85 - 5 * 0.4)
    assert layers["occupancy_log_odds"][occupied] == 3.5  # clamped
    assert layers["ground_probability"][both] == pytest.approx((5 + 1) / (5 + 1 + 2))
    assert layers["ground_probability"][occupied] == pytest.approx(1 / 11)
    assert np.isnan(layers["ground_probability"][seen_through])
    assert np.isnan(layers["height_m"][seen_through])
    assert [layers["observations"][cell] for cell in (both, occupied, seen_through, unknown)] == [6, 9, 3, 0]
    assert [layers["traversals"][cell] for cell in (both, occupied, seen_through, unknown)] == [2, 1, 1, 0]
    assert np.isnan(layers["occupancy_log_odds"][unknown])
    assert all(layer.dtype == np.float32 for layer in layers.values())


def test_the_contract_places_a_cell(drives, tmp_path):
    frame = frame_of_city("minicity-a")
    write_layers(tmp_path / "layers", drives, frame)
    contract = json.loads((tmp_path / "layers" / "layers.json").read_text())
    occupied = np.load(tmp_path / "layers" / contract["layers"]["occupancy_log_odds"]["file"])
    row, column = np.argwhere(occupied == 3.5)[0]
    x0, width, _, y0, _, height = contract["geotransform"]
    assert x0 + column * width <= 6.2 < x0 + (column + 1) * width
    assert y0 + row * height <= -1.4 < y0 + (row + 1) * height
    assert contract["crs"] == frame.contract()
    lower, upper = frame.to_map(np.array(contract["corners_lon_lat_deg"]))
    np.testing.assert_allclose(lower, contract["lower_corner_m"], atol=1e-6)
    rows, columns = contract["shape_yx"]
    np.testing.assert_allclose(upper - lower, [columns * 0.5, rows * 0.5], atol=1e-6)


def test_order_of_drives_means_nothing(drives):
    """Up to rounding: counts are whole, heights and intensities are not."""
    rng = np.random.default_rng(0)
    three = [
        {
            "ground": rng.uniform(1, 9, (3, 5, 7)).astype(np.float32),
            "turns": rng.integers(0, 4, (3, 5, 7)).astype(np.float32),
        }
        for _ in range(3)
    ]
    forth, back, one = layers_of(three), layers_of(three[::-1]), layers_of(three[:1])
    for name in LAYERS:
        np.testing.assert_allclose(forth[name], back[name], rtol=1e-6)
        assert not np.array_equal(forth[name], one[name], equal_nan=True)
