"""Strips of the ground along lines, and surveys of several drives as one."""

import numpy as np
import pytest
from shapely.geometry import LineString, Polygon, box

from avjepa.mapping.mosaic import SEEN_WEIGHT, Mosaic
from avjepa.mapping.survey import FAR_FOLDER, FAR_LAYERS, GRID, LAYERS
from avjepa.mapping.tiles import TileSums
from tests.mapping.painted_ground import NOISE, WHITE, YELLOW, PaintedGround

ARC_M = 20.0
ARC = LineString([(ARC_M * np.sin(a), ARC_M * (1 - np.cos(a))) for a in np.linspace(0, np.pi / 2, 60)])
BOUNDS = (-4, -4, 24, 24)


@pytest.fixture(scope="module")
def curved(tmp_path_factory):
    ground = PaintedGround(BOUNDS)
    ground.line(ARC, YELLOW)
    return ground.write(tmp_path_factory.mktemp("curved"))


def test_a_strip_straightens_a_curve(curved):
    """A quarter of a circle becomes one column of the strip; a parallel line 1 m to its left is not there."""
    strip = Mosaic([curved]).strip(ARC, 2.0)
    assert strip.s_m[-1] == pytest.approx(ARC_M * np.pi / 2, abs=0.3)
    contrast, yellow = np.nanmean(strip.paint(1), 0), np.nanmean(strip.paint(2), 0)
    assert contrast[np.abs(strip.left_m) < 0.04] == pytest.approx(YELLOW[0], abs=0.02)
    assert yellow[np.abs(strip.left_m) < 0.04] == pytest.approx(YELLOW[1], abs=0.02)
    assert np.abs(contrast[np.abs(strip.left_m) > 0.25]).max() < NOISE
    assert (strip.drives == 1).all()


def test_left_is_left(tmp_path):
    """North of a line that goes east, and west of one that goes north."""
    ground = PaintedGround((0, 0, 12, 12))
    ground.line(LineString([(0, 7), (12, 7)]))
    ground.line(LineString([(5, 0), (5, 12)]))
    mosaic = Mosaic([ground.write(tmp_path / "a")])
    for line in ([(0, 6), (4, 6)], [(6, 0), (6, 6)]):
        strip = mosaic.strip(LineString(line), 2.0)
        assert strip.left_m[np.nanmean(strip.paint(1), 0).argmax()] == pytest.approx(1.0, abs=0.1)


def test_two_drives_add_up(curved, tmp_path):
    """Means are weighted by what each saw; rows count the drives that saw their middle."""
    half = PaintedGround((-4, -4, 10, 24), seed=1)
    half.weight *= 3
    mosaic = Mosaic([curved, half.write(tmp_path / "half")])
    strip = mosaic.strip(ARC, 2.0)
    x_m = ARC_M * np.sin(strip.s_m / ARC_M)
    assert (strip.drives[x_m < 9.5] == 2).all()
    assert (strip.drives[x_m > 10.5] == 1).all()
    middle = strip.paint(2)[:, np.abs(strip.left_m).argmin()]
    assert middle[x_m < 9.5].mean() == pytest.approx(YELLOW[1] / 4, abs=0.02)
    assert middle[x_m > 10.5].mean() == pytest.approx(YELLOW[1], abs=0.02)
    assert (strip.sums["paint"][0][x_m < 8] == 4).all()


def test_little_is_unknown(tmp_path):
    ground = PaintedGround((0, -3, 20, 3))
    ground.weight[:] = SEEN_WEIGHT / 2
    ground.weight[ground.x_m < 10] = SEEN_WEIGHT
    strip = Mosaic([ground.write(tmp_path / "a")]).strip(LineString([(0, 0), (30, 0)]), 2.0)
    known = np.isfinite(strip.paint(1))
    assert known[strip.s_m < 9.8].all()
    assert not known[strip.s_m > 10.2].any()
    assert (strip.drives[strip.s_m < 19.8] == 1).all()
    assert (strip.drives[strip.s_m > 20.2] == 0).all()  # beyond what was seen


def test_cells_of_an_area(tmp_path):
    ground = PaintedGround((-6, -6, 6, 6))
    ground.paint(box(-2, -1, 2, 1))
    mosaic = Mosaic([ground.write(tmp_path / "a"), PaintedGround((-6, -6, 0, 6), seed=2).write(tmp_path / "b")])
    sums, by_drive, xy_m = mosaic.in_area(box(-2, -1, 2, 1))
    assert len(xy_m) == 40 * 20
    np.testing.assert_array_equal(by_drive[0], 1)
    np.testing.assert_array_equal(by_drive[1], xy_m[:, 0] < 0)
    assert sums["paint"][1].mean() == pytest.approx(WHITE[0], abs=0.01)  # both drives' sum: the second saw no paint
    triangle = Polygon([(0, 0), (4, 0), (0, 4)])
    cells = mosaic.in_area(triangle)[2]
    assert len(cells) * 0.01 == pytest.approx(triangle.area, rel=0.03)
    assert (cells.sum(1) < 4).all()


def test_a_tile_is_read_again_when_it_was_closed(curved, monkeypatch):
    whole = Mosaic([curved]).strip(ARC, 2.0)
    monkeypatch.setattr("avjepa.mapping.mosaic.OPEN_TILES", 1)
    mosaic = Mosaic([curved])
    for _ in range(2):
        strip = mosaic.strip(ARC, 2.0)
    np.testing.assert_array_equal(strip.sums["paint"], whole.sums["paint"])
    assert len(mosaic._open) == 1
    assert mosaic.tiles() == [(-1, -1), (-1, 0), (0, -1), (0, 0)]


def test_no_cell_in_which_something_stood_is_passed_over(tmp_path):
    """Single cells in a row that are no row of a strip, on both sides of a tile's border; of two drives, near and far."""
    ground, other = PaintedGround((20, 0, 30, 6)), PaintedGround((20, 0, 30, 6), seed=1)
    for number in range(205, 295):
        ground.stand(box(number / 10, 3.0, number / 10 + 0.1, 3.1), keyframes=number % 4)
    other.stand(box(25.0, 3.0, 26.0, 3.1), keyframes=2)
    other.glimpse(box(25.0, 3.0, 25.5, 3.1), keyframes=1)
    mosaic = Mosaic([ground.write(tmp_path / "a"), other.write(tmp_path / "b")])
    xy_m, near, far = mosaic.standing(box(22, 2, 28, 4))
    assert len(mosaic.standing(box(22, 2, 28, 4))[0]) == len(xy_m)  # also of tiles that are open
    x_m = np.array([number for number in range(220, 280) if number % 4 or 250 <= number < 260])
    order = xy_m[:, 0].argsort()
    np.testing.assert_allclose(xy_m[order], np.column_stack([(x_m + 0.5) / 10, np.full(len(x_m), 3.05)]))
    twice = (x_m >= 250) & (x_m < 260)
    np.testing.assert_array_equal(near[order], x_m % 4 + 2 * twice)
    np.testing.assert_array_equal(far[order], twice & (x_m < 255))
    assert [len(values) for values in mosaic.standing(box(100, 100, 101, 101))] == [0, 0, 0]


def test_tiles_are_those_seen_from_near(tmp_path):
    """Nothing is looked for where only LiDAR met something, from afar; parts tell when it did."""
    near_xy_m, far_xy_m = np.array([[5.0, 5.0]]), np.array([[60.05, 5.05]])
    for number in range(2):
        part = tmp_path / f"part_{number:06d}"
        with TileSums(part, GRID, LAYERS) as sums, TileSums(part / FAR_FOLDER, GRID, FAR_LAYERS) as far:
            sums.add(near_xy_m, {"paint": np.ones((1, 3))})
            far.add(far_xy_m, {"far": np.ones(1)})
    mosaic = Mosaic([tmp_path], upto=[1])
    for keyframes in (1, 2):
        assert mosaic.tiles() == [(0, 0)]
        xy_m, near, far = mosaic.standing(box(50, 0, 70, 10))
        np.testing.assert_allclose(xy_m, far_xy_m)
        assert (near.tolist(), far.tolist()) == ([0], [keyframes])
        mosaic.go_on(0, 2)


def test_bare_ground_is_what_drives_saw_without_things(tmp_path):
    """A car stands there during one drive and its place is free in another; a second car drives by and leaves the ground known."""
    parked, passing = box(4, 4, 6, 6), box(8, 4, 10, 6)
    first, second = PaintedGround((0, 0, 12, 12)), PaintedGround((0, 0, 12, 12))
    for area, weight in ((parked, 0.0), (passing, 1.0)):
        first.stand(area)
        first.returns[first.within(area)], first.weight[first.within(area)] = 3, weight
    folders = [ground.write(tmp_path / name) for name, ground in (("first", first), ("second", second))]
    sums, _ = Mosaic(folders).sample(np.array([[5.05, 5.05], [9.05, 5.05], [2.05, 5.05]]))
    assert sums["ground"][0].tolist() == [7, 7, 8]
    assert sums["bare"][0].tolist() == [4, 7, 8]
    assert sums["bare"].shape == (3, 3)
