import math
from dataclasses import replace

import pytest
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.jepa.masks import GroupMask, Region, SensorDrop, clip_generator
from avjepa.jepa.target_regions import Blocks, ChangeZones, FutureOnly, Scene, Shadows
from tests.jepa import tiny


def states(seed: int = 0, clips: int = 1, frames: int = 2, size: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(clips, frames, size, size, generator=generator)
    return torch.where(drawn > 0.95, OCCUPIED, torch.where(drawn > 0.3, FREE, UNOBSERVED)).to(torch.uint8)


def scenes_of(context: torch.Tensor) -> list[Scene]:
    """Scenes of cell states (B, T, Y, X)."""
    half = context.shape[-1] / 2
    grid = BEVGrid((-half, half), (-half, half), (0.0, 1.0), 1.0, 1.0)
    route = torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    return [Scene(grid, states, torch.zeros(states.shape[1:]), route) for states in context]


def block_mask(block_cells: tuple[int, int] = (2, 4), hidden_share: float = 0.5) -> GroupMask:
    return GroupMask({"blocks": Region(Blocks(block_cells, hidden_share))})


def draw(mask: GroupMask, context: torch.Tensor, seeds: tuple[int, ...]) -> torch.Tensor:
    """Hidden cells (B, Y, X)."""
    return mask.draw(scenes_of(context), seeds).hidden


def test_every_cell_is_hidden_about_equally_often():
    """I-JEPA's sampler never hides the last row and column; this one must."""
    context = states()
    share = torch.stack([draw(block_mask(), context, (seed,))[0] for seed in range(400)]).float().mean(0)
    assert share.min() > 0.35
    assert share.max() < 0.75
    for border in (share[0], share[-1], share[:, 0], share[:, -1]):
        assert abs(float(border.mean() - share.mean())) < 0.05


@pytest.mark.parametrize("edge", [1, 2, 3, 4])
def test_half_of_the_blocks_of_each_kind(edge):
    context = states(frames=1, size=24)
    hidden = draw(block_mask((edge, edge)), context, (7,))[0]
    # Recover the lattice: its offset is the first draw of the generator.
    generator = clip_generator(7, "mask")
    torch.randint(edge, edge + 1, (), generator=generator)
    offset_y, offset_x = torch.randint(0, edge, (2,), generator=generator).tolist()
    counts = {UNOBSERVED: [0, 0], FREE: [0, 0], OCCUPIED: [0, 0]}
    for top in range(-offset_y, 24, edge):
        for left in range(-offset_x, 24, edge):
            rows, columns = slice(max(top, 0), top + edge), slice(max(left, 0), left + edge)
            block = hidden[rows, columns]
            assert block.all() or not block.any()
            kind = int(context[0, 0, rows, columns].max())
            counts[kind][int(block.all())] += 1
    for seen, hid in counts.values():
        assert hid == math.ceil((seen + hid) / 2) or seen + hid <= 1


def test_the_union_over_frames_decides_the_kind():
    context = torch.full((1, 2, 8, 8), FREE, dtype=torch.uint8)
    context[0, 1, 1, 1] = OCCUPIED
    context[0, 0, 6, 6] = OCCUPIED
    hidden_things = [
        bool(draw(block_mask((2, 2)), context, (seed,))[0, 1, 1])
        + bool(draw(block_mask((2, 2)), context, (seed,))[0, 6, 6])
        for seed in range(30)
    ]
    assert hidden_things == [1] * 30  # exactly one of the two occupied blocks, each time


def test_a_clip_is_masked_alike_in_any_batch():
    a, b = states(1), states(2)
    alone = draw(block_mask(), a, (5,))
    assert torch.equal(draw(block_mask(), torch.cat([b, a]), (9, 5))[1:], alone)
    assert not torch.equal(draw(block_mask(), a, (6,)), alone)


def test_share_is_as_asked():
    hidden = torch.stack([draw(block_mask((2, 2), 0.25), states(), (seed,))[0] for seed in range(50)])
    assert abs(float(hidden.float().mean()) - 0.25) < 0.02


def context_of(clips: int):
    return tiny.batch(*range(clips)).context_in_now()


def test_sensor_drop_never_takes_both_and_keeps_its_rates():
    drop = SensorDrop(whole_sensor=0.4, camera=0.0, sector=0.0)
    context = context_of(1)
    outcomes = []
    for seed in range(300):
        dropped = drop.apply(context, (seed,))
        lidar, cameras = bool(dropped.lidar_present.any()), bool(dropped.camera_present.any())
        assert lidar or cameras
        assert lidar == bool(len(dropped.points))
        assert bool(dropped.lidar_present.all()) == lidar  # the whole clip, not a frame of it
        outcomes.append((lidar, cameras))
    no_lidar, no_camera = outcomes.count((False, True)) / 300, outcomes.count((True, False)) / 300
    assert abs(no_lidar - 0.2) < 0.07
    assert abs(no_camera - 0.2) < 0.07


def test_the_only_sensor_is_never_dropped():
    drop = SensorDrop(whole_sensor=1.0, camera=0.0, sector=0.0)
    context = context_of(1)
    no_cameras = replace(context, camera_present=torch.zeros_like(context.camera_present))
    no_lidar = replace(context, lidar_present=torch.zeros_like(context.lidar_present))
    for seed in range(20):
        assert drop.apply(no_cameras, (seed,)).lidar_present.all()
        assert drop.apply(no_lidar, (seed,)).camera_present.all()


def test_one_camera_is_dropped_through_the_whole_clip():
    drop = SensorDrop(whole_sensor=0.0, camera=1.0, sector=0.0)
    context = context_of(2)
    present = drop.apply(context, (3, 4)).camera_present.view(2, tiny.CONTEXT, 2)
    assert (present.sum(-1) == 1).all()
    assert torch.equal(present[:, 0], present[:, 1])


def test_a_sector_loses_its_points_and_no_others():
    drop = SensorDrop(whole_sensor=0.0, camera=0.0, sector=1.0, sector_rad=math.pi / 2)
    context = context_of(1)
    kept = drop.apply(context, (11,))
    start = 2 * math.pi * torch.rand(6, generator=clip_generator(11, "sensor drop"))[5]
    offset = context.points[:, :2] - context.lidar_origin[context.point_frame, :2]
    inside = (torch.atan2(offset[:, 1], offset[:, 0]) - start).remainder(2 * math.pi) < math.pi / 2
    assert 0.1 < inside.float().mean() < 0.5
    assert torch.equal(kept.points, context.points[~inside])
    assert torch.equal(SensorDrop(0.0, 0.0, 0.0).apply(context, (11,)).points, context.points)


def test_regions_are_drawn_by_weight():
    context = states(frames=2, size=32)
    regions = {"blocks": Region(Blocks(), 1.0), "future": Region(FutureOnly(), 2.0), "shadows": Region(Shadows(), 1.0)}
    mask = GroupMask(regions, least_observed=1, least_occupied=0)
    seeds = tuple(range(600))
    kinds = mask.draw(scenes_of(context) * 600, seeds).kinds
    for name, share in (("blocks", 0.25), ("future", 0.5), ("shadows", 0.25)):
        assert abs(kinds.count(name) / 600 - share) < 0.06, name
    assert mask.draw(scenes_of(context), (seeds[17],)).kinds == (kinds[17],)  # whatever the batch


def test_a_region_with_too_little_in_it_gives_way_to_blocks():
    still = torch.full((1, 2, 32, 32), FREE, dtype=torch.uint8)
    still[:, :, 4:8, 4:8] = OCCUPIED
    mask = GroupMask({"zones": Region(ChangeZones())})
    drawn = mask.draw(scenes_of(still), (3,))
    assert drawn.kinds == ("blocks for zones",)
    assert 0.3 < drawn.hidden.float().mean() < 0.7
    moving = still.clone()
    moving[:, 1, 4:8, 4:8] = FREE
    moving[:, 1, 4:8, 8:12] = OCCUPIED
    assert GroupMask({"zones": Region(ChangeZones(hidden_share=1.0))}).draw(scenes_of(moving), (3,)).kinds == ("zones",)
    free = torch.full((1, 2, 32, 32), FREE, dtype=torch.uint8)
    assert GroupMask({"route": Region(Shadows())}).draw(scenes_of(free), (3,)).kinds == ("blocks for route",)
    assert GroupMask({"future": Region(FutureOnly())}).draw(scenes_of(free), (3,)).kinds == ("future",)


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one region"):
        GroupMask({})
    with pytest.raises(ValueError, match="positive weight"):
        GroupMask({"blocks": Region(Blocks(), 0.0)})
