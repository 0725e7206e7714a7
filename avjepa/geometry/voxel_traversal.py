"""Rays through voxels: the first occupied voxel of every ray, exactly, for all rays in step.

Amanatides and Woo, "A fast voxel traversal algorithm for ray tracing", 1987: a ray goes from voxel to voxel over the face it
meets next. Where it meets an edge or a corner the last of the axes goes first. All numbers are float64, on CPU and GPU.
Letters: V volumes, R rays, A B C the three axes of a volume, in whatever order the caller has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from avjepa.geometry.grid import BEVGrid

MAX_VOLUMES = 7
_OUTSIDE = 1 << MAX_VOLUMES  # code of the voxels around the grid; the bits below tell which volumes are occupied
_PADDING = 8  # voxels around the grid, and steps between two looks at which rays are done


@dataclass(frozen=True)
class RayHits:
    """What V volumes answer to R rays.

    Attributes:
        voxel: (V, R, 3) int64 index of the first occupied voxel, in the order of the volume's axes; of the last voxel inside
            the grid when none is occupied; -1 when the ray never meets the grid.
        entry: (V, R) float64 distance at which the ray enters that voxel (0 if it starts there); nan without a voxel.
        leave: (V, R) float64 distance at which it leaves the voxel, so without a hit that of leaving the grid; nan likewise.
        hit: (V, R) bool, the voxel is occupied.
    """

    voxel: torch.Tensor
    entry: torch.Tensor
    leave: torch.Tensor
    hit: torch.Tensor


def cast_rays(
    grid: BEVGrid, occupied: torch.Tensor, origins: torch.Tensor, directions: torch.Tensor, chunk_rays: int = 1 << 17
) -> RayHits:
    """First hits in metres: rays of a frame through occupancy (V, Z, Y, X) of ``grid`` in the same frame.

    Args:
        grid: says where the voxels are.
        occupied: (V, Z, Y, X) bool, at most MAX_VOLUMES; one walk serves all volumes.
        origins: (R, 3) xyz in metres, inside the grid or not.
        directions: (R, 3) xyz of any length but 0.
        chunk_rays: rays that walk in step.

    Returns:
        Distances in metres, voxels as (iz, iy, ix).

    Raises:
        ValueError: shapes do not fit, or a ray is not finite or has no direction.
    """
    if tuple(occupied.shape[1:]) != grid.shape_zyx:
        raise ValueError(f"occupancy must be (V, {', '.join(map(str, grid.shape_zyx))}), got {tuple(occupied.shape)}")
    lower_m = origins.new_tensor([grid.x_range_m[0], grid.y_range_m[0], grid.z_range_m[0]], dtype=torch.float64)
    cell_m = origins.new_tensor([grid.cell_m, grid.cell_m, grid.cell_z_m], dtype=torch.float64)
    unit = directions.double() / directions.double().norm(dim=-1, keepdim=True)
    return first_hits(
        occupied, ((origins.double() - lower_m) / cell_m).flip(-1), (unit / cell_m).flip(-1), chunk_rays=chunk_rays
    )


def first_hits(
    occupied: torch.Tensor, origins: torch.Tensor, directions: torch.Tensor, chunk_rays: int = 1 << 17
) -> RayHits:
    """First hits in voxel units: voxel i of an axis is [i, i + 1), and distances are multiples of ``directions``.

    Args:
        occupied: (V, A, B, C) bool, at most MAX_VOLUMES; one walk serves all volumes.
        origins: (R, 3) in the order of the axes, inside the grid or not.
        directions: (R, 3).
        chunk_rays: rays that walk in step.

    Raises:
        ValueError: shapes do not fit, or a ray is not finite or has no direction.
    """
    _check(occupied, origins, directions)
    codes = _padded_codes(occupied)
    parts = [
        _walk(codes, len(occupied), origin.double(), direction.double())
        for origin, direction in zip(origins.split(chunk_rays), directions.split(chunk_rays), strict=True)
    ]
    return RayHits(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))


def _check(occupied: torch.Tensor, origins: torch.Tensor, directions: torch.Tensor) -> None:
    if occupied.ndim != 4 or not 1 <= len(occupied) <= MAX_VOLUMES or occupied.dtype != torch.bool:
        raise ValueError(
            f"occupancy must be bool (V <= {MAX_VOLUMES}, A, B, C), got {occupied.dtype} {tuple(occupied.shape)}"
        )
    if math.prod(size + 2 * _PADDING for size in occupied.shape[1:]) > torch.iinfo(torch.int32).max:
        raise ValueError(f"{tuple(occupied.shape[1:])} are too many voxels for an int32 index")
    if origins.ndim != 2 or origins.shape[1] != 3 or origins.shape != directions.shape:
        raise ValueError(f"rays must be (R, 3) twice, got {tuple(origins.shape)} and {tuple(directions.shape)}")
    if not bool(torch.isfinite(origins).all() & torch.isfinite(directions).all() & (directions != 0).any(-1).all()):
        raise ValueError("a ray is not finite, or its direction is 0")


def _padded_codes(occupied: torch.Tensor) -> torch.Tensor:
    """(A, B, C) uint8 with _PADDING voxels around: bit v where volume v is occupied, _OUTSIDE in the padding."""
    inside = torch.zeros(occupied.shape[1:], dtype=torch.uint8, device=occupied.device)
    for number, volume in enumerate(occupied):
        inside |= volume.to(torch.uint8) << number
    return torch.nn.functional.pad(inside, (_PADDING,) * 6, value=_OUTSIDE)


def _walk(codes: torch.Tensor, volumes: int, origins: torch.Tensor, directions: torch.Tensor) -> tuple:
    """The fields of :class:`RayHits` for one chunk of rays."""
    rays = len(origins)
    voxel, entered, meets = _enter_grid(origins, directions, [size - 2 * _PADDING for size in codes.shape])
    ray = meets.nonzero()[:, 0]
    origins, directions, voxel = (x[ray].T.contiguous() for x in (origins, directions, voxel))
    entered = entered[ray]

    # (3, R): distance at which a ray crosses the next face of each axis, between two such faces, and the jump in `codes`.
    ahead = directions >= 0
    next_face = torch.where(directions == 0, torch.inf, (voxel + ahead - origins) / directions)
    between = directions.reciprocal().abs()
    strides = torch.tensor(codes.stride(), dtype=torch.int32, device=codes.device)[:, None]
    jump = torch.where(ahead, strides, -strides)
    place = ((voxel.int() + _PADDING) * strides).sum(0, dtype=torch.int32)

    flat_codes = codes.view(-1)
    code = flat_codes[place]
    wanted = torch.full_like(code, (1 << volumes) - 1)  # bits of the volumes whose answer is still open
    answers = []
    while len(ray):
        # A ray that is done goes on for less than _PADDING steps, so it never needs a bound.
        for _ in range(_PADDING):
            first, second, third = next_face
            nearer = torch.minimum(first, second)
            leave = torch.minimum(nearer, third)
            over_third = third <= nearer
            over_first = (first < second).gt(over_third)
            not_second = over_first | over_third
            next_place = place + torch.where(over_third, jump[2], torch.where(over_first, jump[0], jump[1]))
            next_code = flat_codes.index_select(0, next_place)

            # Answered: the volumes occupied here, and all that are open when the next voxel is outside.
            answered = (code | (next_code >> MAX_VOLUMES) * (_OUTSIDE - 1)) & wanted
            done = answered.nonzero()[:, 0]
            if len(done):
                answers.append([x.index_select(0, done) for x in (ray, answered, code, place, entered, leave)])
                wanted ^= answered

            place, code, entered = next_place, next_code, leave
            first += torch.where(over_first, between[0], 0)
            second += torch.where(not_second, 0, between[1])
            third += torch.where(over_third, between[2], 0)
        going = wanted.nonzero()[:, 0]
        ray, place, code, wanted, entered = (x.index_select(0, going) for x in (ray, place, code, wanted, entered))
        next_face, between, jump = (x.index_select(1, going) for x in (next_face, between, jump))
    return _by_volume(answers, volumes, rays, codes)


def _by_volume(answers: list, volumes: int, rays: int, codes: torch.Tensor) -> tuple:
    """Sort the answers of all steps by volume and ray."""
    voxel = torch.full((volumes, rays, 3), -1, dtype=torch.int64, device=codes.device)
    entry, leave = torch.full((2, volumes, rays), torch.nan, dtype=torch.float64, device=codes.device)
    hit = torch.zeros((volumes, rays), dtype=torch.bool, device=codes.device)
    if answers:
        ray, answered, code, place, entered, left = map(torch.cat, zip(*answers, strict=True))
        _, b, c = codes.shape
        place = torch.stack([place // (b * c), place // c % b, place % c], -1).long() - _PADDING
        for number in range(volumes):
            mine = (answered >> number & 1).nonzero()[:, 0]
            to = ray[mine]
            voxel[number, to], entry[number, to], leave[number, to] = place[mine], entered[mine], left[mine]
            hit[number, to] = (code[mine] >> number & 1).bool()
    return voxel, entry, leave, hit


def _enter_grid(origins: torch.Tensor, directions: torch.Tensor, shape: list[int]) -> tuple[torch.Tensor, ...]:
    """First voxel inside (R, 3) as floats, the distance of entering it (R,), and whether there is one, bool (R,)."""
    size = torch.tensor(shape, device=origins.device)
    starts_between = (origins >= 0) & (origins < size)
    to_lower, to_upper = -origins / directions, (size - origins) / directions
    along = directions == 0
    near = torch.where(along, -torch.inf, torch.minimum(to_lower, to_upper)).amax(-1)
    far = torch.where(along, torch.inf, torch.maximum(to_lower, to_upper)).amin(-1)
    entered = near.clamp(min=0)
    voxel = (origins + entered[:, None] * directions).floor()
    meets = starts_between.all(-1) | ((entered < far) & (starts_between | ~along).all(-1))
    return voxel.clamp(min=0).minimum(size - 1), entered, meets


def first_hits_reference(
    occupied: np.ndarray, origins: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same in plain numpy: one volume (A, B, C) bool, rays (R, 3) float64 that start inside it.

    Returns:
        (voxel, entry, leave, hit) as in :class:`RayHits`, without the axis V.
    """
    voxel = np.floor(origins).astype(np.int64)
    step = np.where(directions >= 0, 1, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        next_face = np.where(directions == 0, np.inf, (voxel + (step > 0) - origins) / directions)
        between = np.abs(1 / directions)
    rays = np.arange(len(origins))
    entry, leave, hit = np.zeros(len(rays)), np.zeros(len(rays)), np.zeros(len(rays), dtype=bool)
    going = rays
    while len(going):
        axis = 2 - next_face[going, ::-1].argmin(1)  # on a tie the last axis
        leave[going] = next_face[going, axis]
        hit[going] = occupied[tuple(voxel[going].T)]
        following = voxel[going]
        following[np.arange(len(going)), axis] += step[going, axis]
        inside = ((following >= 0) & (following < occupied.shape)).all(1) & ~hit[going]
        next_face[going, axis] += between[going, axis]
        going = going[inside]
        voxel[going], entry[going] = following[inside], leave[going]
    return voxel, entry, leave, hit
