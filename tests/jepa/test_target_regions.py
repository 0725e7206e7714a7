import math

import pytest
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.jepa.masks import clip_generator
from avjepa.jepa.target_regions import (
    Blocks,
    ChangeZones,
    FutureOnly,
    RareThings,
    RouteAhead,
    Scene,
    Shadows,
    ThinStructures,
    along_route,
    grown,
    line_likeness,
    neighbours,
)

GRID = BEVGrid((-16.0, 16.0), (-16.0, 16.0), (-2.0, 4.0), 0.5, 1.0)  # 64 x 64
AHEAD = torch.tensor([[0.0, 0.0], [3.0, 0.0], [6.0, 0.0]])


def scene(states: torch.Tensor | None = None, tallest_m: torch.Tensor | None = None, route=AHEAD) -> Scene:
    states = torch.full((2, 64, 64), FREE, dtype=torch.uint8) if states is None else states
    return Scene(GRID, states, torch.zeros(64, 64) if tallest_m is None else tallest_m, route)


def cell(x_m: float, y_m: float) -> tuple[int, int]:
    return int((y_m + 16) / 0.5), int((x_m + 16) / 0.5)


def draws(sampler, of: Scene, number: int = 40) -> torch.Tensor:
    return torch.stack([sampler.draw(of, clip_generator(seed, "test")) for seed in range(number)])


def with_thing(*cells: tuple[int, int], frames=(0, 1)) -> torch.Tensor:
    states = torch.full((2, 64, 64), FREE, dtype=torch.uint8)
    for frame in frames:
        for y, x in cells:
            states[frame, y, x] = OCCUPIED
    return states


# -------------------------------------------------------------------------------------------------------------- shadows
def test_a_shadow_lies_behind_its_thing_and_nowhere_else():
    y, x = cell(6.2, 0.2)
    region = draws(Shadows(count=1, width_m=(2.0, 2.0)), scene(with_thing((y, x))))
    assert (region == region[0]).all()  # one thing, one width
    centres = GRID.cell_centres()
    range_m, angle = centres.norm(dim=-1), torch.atan2(centres[..., 1], centres[..., 0])
    assert range_m[region[0]].min() > range_m[y, x]
    assert (angle[region[0]] - angle[y, x]).abs().max() <= math.atan2(1.0, float(range_m[y, x])) + 1e-6
    assert region[0, cell(14.2, 0.2)[0], cell(14.2, 0.2)[1]]
    assert not region[0, y, x]  # the thing itself stays in sight
    assert not region[0, :, :32].any()  # behind the car


def test_a_shadow_behind_the_car_crosses_the_turn_of_angles():
    region = draws(Shadows(count=1, width_m=(4.0, 4.0)), scene(with_thing(cell(-6.2, 0.2))), 1)[0]
    above, below = region[33:, :16].any(), region[:31, :16].any()
    assert above
    assert below
    assert not region[:, 33:].any()


def test_nothing_stands_in_the_way():
    assert not draws(Shadows(), scene()).any()


# ---------------------------------------------------------------------------------------------------------------- route
def test_along_a_bent_route_by_hand():
    """Ten metres ahead, then to the left without end."""
    route = torch.tensor([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0]])
    places = torch.tensor([[4.0, 1.0], [10.0, 3.0], [13.0, 30.0], [-3.0, 0.5]])
    along, beside = along_route(places, route)
    assert along.tolist() == pytest.approx([4.0, 13.0, 40.0, -3.0])
    assert beside.tolist() == pytest.approx([1.0, 0.0, 3.0, 0.5])


@pytest.mark.parametrize("route", [torch.zeros(3, 2), torch.tensor([[0.0, 0.0], [0.05, 0.0], [0.3, 0.1]])])
def test_a_standing_car_looks_straight_ahead(route):
    along, beside = along_route(torch.tensor([[7.0, 2.0]]), route)
    assert (float(along), float(beside)) == pytest.approx((7.0, 2.0))


def test_the_patch_lies_ahead_and_beside_the_route():
    sampler = RouteAhead(start_m=(4.0, 6.0), length_m=(5.0, 5.0), half_width_m=3.0)
    region = draws(sampler, scene())
    centres = GRID.cell_centres()
    for one in region:
        x_m, y_m = centres[one].unbind(-1)
        assert 4.0 <= x_m.min() <= 6.5
        assert x_m.max() - x_m.min() <= 5.0
        assert y_m.abs().max() <= 3.0
        assert one.sum() >= 9 * 11
    assert len({tuple(one.nonzero()[0].tolist()) for one in region}) > 1
    backwards = draws(sampler, scene(route=-AHEAD), 1)[0]
    assert centres[backwards][:, 0].max() < 0


# --------------------------------------------------------------------------------------------------------------- change
def test_zones_are_where_something_moved():
    states = with_thing(*[(20 + i, 20 + j) for i in (0, 1) for j in (0, 1)], frames=(0,))  # gone in the second frame
    states[1, 24:26, 20:22] = OCCUPIED  # come in the second
    states[:, 40:44, 40:44] = OCCUPIED  # stays
    states[0, 50, 50] = OCCUPIED  # one cell: noise
    states[0, 10:12, 50:52] = OCCUPIED
    states[1, 10:12, 50:52] = UNOBSERVED  # nobody looks there any more
    region = draws(ChangeZones(radius_cells=2, hidden_share=1.0), scene(states))
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[18:24, 18:24] = True
    expected[22:28, 18:24] = True
    assert (region == expected).all()
    share = draws(ChangeZones(hidden_share=0.5), scene(states))[:, expected].float().mean()
    assert 0.3 < share < 0.9
    assert not draws(ChangeZones(), scene()).any()


# -------------------------------------------------------------------------------------------------------------- shapes
def test_a_fence_is_thin_and_a_house_is_not():
    states = with_thing(*[(30, x) for x in range(5, 40)])  # along x
    for step in range(20):
        states[:, 40 + step, 20 + step] = OCCUPIED  # diagonal
    states[:, 5:15, 45:55] = OCCUPIED  # a block
    states[:, 60, 5] = OCCUPIED  # alone
    likeness = line_likeness(states.amax(0) == OCCUPIED, 3)
    assert likeness[30, 10:35].min() > 0.99
    assert likeness[50, 30] > 0.99
    assert likeness[10, 50] < 0.1
    assert likeness[60, 5] == 0
    region = draws(ThinStructures(hidden_share=1.0), scene(states))
    assert region[:, 30, 5:40].all()
    assert region[:, 29:32, 10].all()  # with a margin
    assert not region[:, 7:13, 47:53].any()
    assert not region[:, 60, 5].any()
    assert 0.3 < draws(ThinStructures(hidden_share=0.5), scene(states))[:, 30, 5:40].float().mean() < 0.9


def test_rare_things_are_those_of_a_rare_height():
    states = with_thing(*[(y, x) for y in (10, 30, 50) for x in range(2, 62, 2)], (20, 20), (20, 44))
    tallest = torch.where(states[0] == OCCUPIED, 1.2, 0.0)
    tallest[20, 20] = tallest[20, 44] = 2.9
    region = draws(RareThings(rarest_share=2 / 92, radius_cells=1), scene(states, tallest))
    expected = grown(
        torch.zeros(64, 64, dtype=torch.bool).index_put_(
            (torch.tensor([20, 20]), torch.tensor([20, 44])), torch.tensor(True)
        ),
        1,
    )
    assert (region == expected).all()
    assert not draws(RareThings(), scene()).any()


def test_the_future_alone_hides_nothing():
    assert not draws(FutureOnly(), scene(with_thing((3, 3)))).any()


def test_blocks_hide_half_of_each_kind():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(2, 64, 64, generator=generator)
    states = torch.where(drawn > 0.97, OCCUPIED, torch.where(drawn > 0.3, FREE, UNOBSERVED)).to(torch.uint8)
    region = draws(Blocks((3, 3)), scene(states), 200)
    assert 0.45 < region.float().mean() < 0.55
    assert 0.33 < region.float().mean(0).min()


# ------------------------------------------------------------------------------------------------------------- building
def test_windows_and_growth():
    cells = torch.zeros(8, 8, dtype=torch.bool)
    cells[0, 0] = cells[4, 4] = cells[4, 5] = True
    assert neighbours(cells, 1)[4, 4] == 2
    assert neighbours(cells, 1)[0, 0] == 1
    assert grown(cells, 1).sum() == 4 + 12
