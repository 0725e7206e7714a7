"""From the occupancy of a future moment to the sweep that a LiDAR would take of it: the range along each given ray."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.voxel_traversal import cast_rays


@dataclass(frozen=True)
class RayDepths:
    """Answers to R rays.

    Attributes:
        depth_m: (R,) float64 along the ray: where it leaves the first occupied voxel, as in 4D-Occ's renderer and in
            RayIoU; without one, where it leaves the grid; nan if it never meets the grid (4D-Occ leaves such rays out
            of both clouds).
        hit: (R,) bool, there is an occupied voxel.
    """

    depth_m: torch.Tensor
    hit: torch.Tensor


def ray_depths(
    occupancy: torch.Tensor, grid: BEVGrid, origin: torch.Tensor, directions: torch.Tensor, threshold: float = 0.5
) -> RayDepths:
    """Depth of the first occupied voxel along each ray; the predicted sweep is ``origin + depth_m * directions``.

    Args:
        occupancy: (Z, Y, X) bool, or the probability that a voxel is occupied.
        grid: its voxels, in the frame of the rays.
        origin: (3,) of the LiDAR, inside the grid or not.
        directions: (R, 3) unit vectors; for forecasting those of the true future rays.
        threshold: a voxel counts as occupied above this probability.

    Raises:
        ValueError: shapes do not fit, a ray is not finite or not of unit length, or a probability is not one.
    """
    directions = directions.double()
    if not torch.allclose(directions.norm(dim=-1), directions.new_ones(()), atol=1e-4):
        raise ValueError("directions must have unit length")
    if occupancy.dtype != torch.bool:
        if not bool(((occupancy >= 0) & (occupancy <= 1)).all()):
            raise ValueError("occupancy must be bool or probabilities in [0, 1]; apply the sigmoid to logits first")
        occupancy = occupancy > threshold
    hits = cast_rays(grid, occupancy[None], origin.double().expand_as(directions), directions)
    return RayDepths(hits.leave[0], hits.hit[0])
