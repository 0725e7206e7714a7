"""Where to look for what is worth predicting: named samplers of regions of the present BEV map, and their mixture.

Every sampler reads the context and the car's own route, and never a label. What it draws is hidden from the whole context; its
targets are the observed cells of the region. Letters: see conventions.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F

from avjepa.bev.cell_states import cell_states, tallest_returns
from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.sensors.sample import ClipBatch


@dataclass(frozen=True)
class Scene:
    """What samplers may look at, of one clip, in the present ego frame.

    Attributes:
        grid: of the maps.
        states: (T, Y, X) cell states of the context frames.
        tallest_m: (Y, X) height above the ground of the highest return of each cell; 0 where there is none.
        route_xy_m: (K, 2) where the car stands now and will stand.
    """

    grid: BEVGrid
    states: torch.Tensor
    tallest_m: torch.Tensor
    route_xy_m: torch.Tensor

    @property
    def union(self) -> torch.Tensor:
        """(Y, X) the fullest state of each cell in any context frame."""
        return self.states.amax(0)  # UNOBSERVED < FREE < OCCUPIED


def scenes_of(clips: ClipBatch, grid: BEVGrid, num_context: int) -> list[Scene]:
    """The scene of every clip, from the LiDAR rays of the newest ``num_context`` past and present frames, those that the model
    reads, and the poses.

    Raises:
        ValueError: the clips have fewer frames.
    """
    frames, (batch, _) = clips.context_in_now(num_context), clips.shape
    states = cell_states(frames, grid).unflatten(0, (batch, -1))  # (B, T, Y, X)
    tallest_m = tallest_returns(frames, grid).unflatten(0, (batch, -1)).amax(1)
    route_xy_m = clips.now_T_frame[:, clips.num_context - 1 :, :2, 3]
    return [Scene(grid, *parts) for parts in zip(states, tallest_m, route_xy_m, strict=True)]


class RegionSampler(Protocol):
    """Draws a region (Y, X), bool, of a scene; none at all where the scene has nothing of the kind."""

    def draw(self, scene: Scene, generator: torch.Generator) -> torch.Tensor:
        """(Y, X) bool."""
        ...


@dataclass(frozen=True)
class Blocks:
    """Square blocks of a lattice. Those that hold an occupied cell, other observed ones, and unobserved ones are drawn separately,
    so that half the things and half the free space are hidden whatever their shares are. After AD-L-JEPA (half of non-empty and
    half of empty cells), with the blocks of I-JEPA in place of single cells.

    Attributes:
        block_cells: smallest and largest edge of a block, in cells; drawn per clip.
        hidden_share: share of the blocks of each kind that is hidden.
    """

    block_cells: tuple[int, int] = (2, 4)
    hidden_share: float = 0.5

    def draw(self, scene: Scene, generator: torch.Generator) -> torch.Tensor:
        """(Y, X) bool."""
        union = scene.union
        block = self._lattice(union.shape, generator).to(union.device)
        num_blocks = int(block.max()) + 1
        kind = torch.zeros(num_blocks, dtype=union.dtype, device=union.device)
        kind.scatter_reduce_(0, block.flatten(), union.flatten(), "amax")
        order = torch.rand(num_blocks, generator=generator).to(union.device)
        hidden_block = torch.zeros(num_blocks, dtype=torch.bool, device=union.device)
        for state in (UNOBSERVED, FREE, OCCUPIED):
            members = (kind == state).nonzero()[:, 0]
            count = math.ceil(self.hidden_share * len(members)) if len(members) > 1 else 0
            hidden_block[members[order[members].argsort()[:count]]] = True
        return hidden_block[block]

    def _lattice(self, shape_yx: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        """(Y, X) the block of each cell. Its origin is random, so that borders fall anywhere and the last row is hidden as often
        as any.
        """
        low, high = self.block_cells
        edge = int(torch.randint(low, high + 1, (), generator=generator))
        offset_y, offset_x = torch.randint(0, edge, (2,), generator=generator).tolist()
        block_row = (torch.arange(shape_yx[0]) + offset_y) // edge
        block_column = (torch.arange(shape_yx[1]) + offset_x) // edge
        return block_row[:, None] * (int(block_column[-1]) + 1) + block_column


@dataclass(frozen=True)
class Shadows:
    """What would be hidden if something stood in the way: the sectors behind some of the occupied cells, as seen from the car.

    Attributes:
        count: how many things stand in the way.
        width_m: smallest and largest width of such a thing.
    """

    count: int = 6
    width_m: tuple[float, float] = (0.8, 4.0)

    def draw(self, scene: Scene, generator: torch.Generator) -> torch.Tensor:
        """(Y, X) bool."""
        centres = scene.grid.cell_centres(scene.states.device)  # (Y, X, 2)
        range_m, angle = centres.norm(dim=-1), torch.atan2(centres[..., 1], centres[..., 0])
        region = torch.zeros_like(range_m, dtype=torch.bool)
        things = (scene.union == OCCUPIED).nonzero()
        if not len(things):
            return region
        low, high = self.width_m
        for _ in range(self.count):
            y, x = things[int(torch.randint(len(things), (), generator=generator))].tolist()
            width_m = low + (high - low) * float(torch.rand((), generator=generator))
            half = math.atan2(width_m / 2, float(range_m[y, x]))
            apart = (angle - angle[y, x] + math.pi).remainder(2 * math.pi) - math.pi
            region |= (apart.abs() <= half) & (range_m > range_m[y, x])
        return region


@dataclass(frozen=True)
class RouteAhead:
    """A patch of the map that the car is about to drive over, and what lies beside it.

    Attributes:
        start_m: nearest and farthest beginning of the patch along the route.
        length_m: shortest and longest patch.
        half_width_m: to each side of the route.
    """

    start_m: tuple[float, float] = (4.0, 10.0)
    length_m: tuple[float, float] = (8.0, 16.0)
    half_width_m: float = 6.0

    def draw(self, scene: Scene, generator: torch.Generator) -> torch.Tensor:
        """(Y, X) bool."""
        start, length = (low + (high - low) * float(torch.rand((), generator=generator)) for low, high in self.ranges)
        along_m, beside_m = along_route(scene.grid.cell_centres(scene.states.device), scene.route_xy_m)
        return (along_m >= start) & (along_m <= start + length) & (beside_m <= self.half_width_m)

    @property
    def ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Of beginning and length."""
        return self.start_m, self.length_m


@dataclass(frozen=True)
class ChangeZones:
    """Around cells that were occupied in one context frame and free in another: something moves there, and others react to it.

    Attributes:
        radius_cells: of the zone around a changed cell.
        hidden_share: share of the zones that is hidden, drawn block by block.
    """

    radius_cells: int = 2
    hidden_share: float = 0.75

    def draw(self, scene: Scene, generator: torch.Generator) -> torch.Tensor:
        """(Y, X) bool."""
        changed = (scene.states == OCCUPIED).any(0) & (scene.states == FREE).any(0)
        # One changed cell alone is noise of the rays; a thing that moves changes several.
        changed &= neighbours(changed, 1) >= 3
        zone = grown(changed, self.radius_cells)
        return zone & Blocks((4, 8), self.hidden_share).draw(scene, generator)


@dataclass(frozen=True)
class ThinStructures:
    """Fences, kerb walls, railings, rows of poles: occupied cells whose occupied neighbours lie along a line.

    Attributes:
        window_cells: half the edge of the window that is looked at.
        anisotropy: least (l1 - l2) / (l1 + l2) of the eigenvalues of the neighbours' scatter.
        hidden_share: share of them that is hidden, in blocks of several cells.
    """

    window_cells: int = 3
    anisotropy: float = 0.85
    hidden_share: float = 0.75

    def draw(self, scene: Scene, generator: torch.Generator) -> torch.Tensor:
        """(Y, X) bool."""
        occupied = scene.union == OCCUPIED
        thin = occupied & (line_likeness(occupied, self.window_cells) >= self.anisotropy)
        return grown(thin, 1) & Blocks((4, 8), self.hidden_share).draw(scene, generator)


@dataclass(frozen=True)
class RareThings:
    """Occupied cells whose shape is rare in the scene: by the height of their highest return and how full their surroundings are.

    Attributes:
        rarest_share: share of the occupied cells that counts as rare.
        radius_cells: of what is hidden around each.
    """

    rarest_share: float = 0.15
    radius_cells: int = 1

    def draw(self, scene: Scene, generator: torch.Generator) -> torch.Tensor:
        """(Y, X) bool."""
        occupied = scene.union == OCCUPIED
        if not bool(occupied.any()):
            return occupied
        height = (scene.tallest_m[occupied] / 0.5).clamp(0, 7).long()
        around = neighbours(occupied, 1)[occupied].clamp(max=9).long()
        kind = height * 10 + around
        count = torch.bincount(kind, minlength=80)[kind].float()
        # Ties in random order, so that not the same corner of the map is taken each time.
        count += torch.rand(len(count), generator=generator).to(count)
        rare = torch.zeros_like(occupied)
        chosen = count.argsort()[: max(1, round(self.rarest_share * len(count)))]
        rare[tuple(occupied.nonzero()[chosen].unbind(1))] = True
        return grown(rare, self.radius_cells)


@dataclass(frozen=True)
class FutureOnly:
    """Nothing of the present is hidden: the clip's targets are the future frames alone."""

    def draw(self, scene: Scene, generator: torch.Generator) -> torch.Tensor:
        """(Y, X) bool, false everywhere."""
        return torch.zeros_like(scene.union, dtype=torch.bool)


def along_route(xy_m: torch.Tensor, route_xy_m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far along a route places (..., 2) lie, and how far beside it, in metres.

    The route goes on straight at its end; a route shorter than a metre (a standing car) goes along +x, which is straight ahead but
    for the augmentation, and then any way.
    """
    route = route_xy_m.to(xy_m)
    if float((route[-1] - route[0]).norm()) < 1.0:
        route = torch.stack([route[0], route[0] + route.new_tensor([1.0, 0.0])])
    step = route[1:] - route[:-1]
    route = torch.cat([route[:1], route[1:][step.norm(dim=1) > 0.1]])
    last = route[-1] - route[-2]
    route = torch.cat([route, (route[-1] + 200.0 * last / last.norm())[None]])
    start, step = route[:-1], route[1:] - route[:-1]  # (S, 2)
    length = step.norm(dim=1)
    offset = xy_m[..., None, :] - start  # (..., S, 2)
    share = ((offset * step).sum(-1) / length.square()).clamp(max=1)
    share = torch.cat([share[..., :1], share[..., 1:].clamp(min=0)], -1)  # behind the car counts as behind
    beside = (offset - share[..., None] * step).norm(dim=-1)
    nearest = beside.argmin(-1, keepdim=True)
    along = share * length + torch.cat([length.new_zeros(1), length.cumsum(0)[:-1]])
    return along.gather(-1, nearest)[..., 0], beside.gather(-1, nearest)[..., 0]


def neighbours(cells: torch.Tensor, radius: int) -> torch.Tensor:
    """(Y, X) how many cells of the square window around each are true, itself included."""
    edge = 2 * radius + 1
    padded = F.pad(cells[None, None].float(), (radius,) * 4)
    return (F.avg_pool2d(padded, edge, stride=1)[0, 0] * edge**2).round()


def grown(cells: torch.Tensor, radius: int) -> torch.Tensor:
    """(Y, X) true within ``radius`` cells, along both axes, of a true cell."""
    return F.max_pool2d(cells[None, None].float(), 2 * radius + 1, stride=1, padding=radius)[0, 0] > 0


def line_likeness(occupied: torch.Tensor, radius: int) -> torch.Tensor:
    """(Y, X) anisotropy (l1 - l2) / (l1 + l2) in [0, 1] of the scatter of the occupied cells in the window around each; 0 where
    there are fewer than four.
    """
    edge = 2 * radius + 1
    ramp = torch.arange(-radius, radius + 1, dtype=torch.float32, device=occupied.device)
    y, x = ramp[:, None].expand(edge, edge), ramp[None].expand(edge, edge)
    kernels = torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y])[:, None]  # (6, 1, edge, edge)
    n, sx, sy, sxx, syy, sxy = F.conv2d(occupied[None, None].float(), kernels, padding=radius)[0]
    n = n.clamp(min=1)
    vxx, vyy, vxy = sxx / n - (sx / n) ** 2, syy / n - (sy / n) ** 2, sxy / n - sx * sy / n**2
    spread = ((vxx - vyy) ** 2 + 4 * vxy**2).sqrt()
    return torch.where(n >= 4, spread / (vxx + vyy).clamp(min=1e-6), 0.0)
