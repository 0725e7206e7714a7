import dataclasses

import pytest
import torch

from avjepa.geometry.grid import BEVGrid

GRID = BEVGrid((-8.0, 8.0), (-4.0, 4.0), (-2.0, 2.0), 0.5, 1.0)


def test_derived_sizes():
    assert GRID.shape_zyx == (4, 16, 32)
    assert GRID.shape_yx == (16, 32)
    assert GRID.coarsened(4).shape_zyx == (1, 4, 8)


@pytest.mark.parametrize(
    ("xyz", "index_zyx", "inside"),
    [
        ((-8.0, -4.0, -2.0), (0, 0, 0), True),
        ((7.99, 3.99, 1.99), (3, 15, 31), True),
        ((-8.01, 0.0, 0.0), None, False),  # truncation towards zero would put it into cell 0
        ((8.0, 0.0, 0.0), None, False),
        ((0.0, 0.0, 0.0), (2, 8, 16), True),
        ((-0.01, -0.01, -0.01), (1, 7, 15), True),
        ((float("nan"), 0.0, 0.0), None, False),
        ((float("inf"), 0.0, 0.0), None, False),
    ],
)
def test_floor_rule(xyz, index_zyx, inside):
    found, found_inside = GRID.cell_index(torch.tensor(xyz))
    assert bool(found_inside) is inside
    if inside:
        assert tuple(found.tolist()) == index_zyx


def test_centres_are_in_their_cells():
    centres = GRID.cell_centres()
    assert centres.shape == (16, 32, 2)
    assert centres[0, 0].tolist() == [-7.75, -3.75]
    assert centres[0, 1].tolist() == [-7.25, -3.75]  # columns grow with x
    flat, inside = GRID.bev_index(torch.nn.functional.pad(centres, (0, 1)))
    assert inside.all()
    assert torch.equal(flat, torch.arange(16 * 32).view(16, 32))


def test_extents_must_divide():
    with pytest.raises(ValueError, match=r"axis x.*32\.\d+ cells"):
        BEVGrid((-8.0, 8.3), (-4.0, 4.0), (-2.0, 2.0), 0.5, 1.0)
    with pytest.raises(ValueError, match="axis y"):
        BEVGrid((-8.0, 8.0), (4.0, -4.0), (-2.0, 2.0), 0.5, 1.0)
    with pytest.raises(ValueError, match="whole number"):
        GRID.coarsened(3)


def test_float_division_does_not_lose_a_cell():
    assert BEVGrid((0.0, 0.7), (0.0, 0.7), (0.0, 0.1), 0.1, 0.1).shape_yx == (7, 7)  # int(0.7 / 0.1) is 6


def test_immutable_and_comparable():
    assert dataclasses.replace(GRID) == GRID
    with pytest.raises(dataclasses.FrozenInstanceError):
        GRID.cell_m = 1.0
