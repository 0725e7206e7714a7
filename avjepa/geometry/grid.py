"""The one description of a BEV (or voxel) grid: ranges, cell sizes, the floor rule, and sizes derived from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class BEVGrid:
    """A regular grid in an ego frame. Immutable and hashable.

    Attributes:
        x_range_m, y_range_m, z_range_m: half-open ranges [lower, upper) in metres.
        cell_m: edge of a (square) cell in x and y.
        cell_z_m: height of a voxel.

    Raises:
        ValueError: a range is empty, or its extent is not a whole number of cells.
    """

    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]
    z_range_m: tuple[float, float]
    cell_m: float
    cell_z_m: float

    def __post_init__(self) -> None:
        for axis, (lower, upper), cell in self._axes():
            cells = (upper - lower) / cell if cell > 0 else 0.0
            if cells < 1 or abs(cells - round(cells)) > _TOLERANCE * max(cells, 1):
                raise ValueError(
                    f"grid axis {axis}: [{lower}, {upper}) m is {cells:g} cells of {cell} m; want a whole number"
                )

    def _axes(self):
        return zip(
            "xyz",
            (self.x_range_m, self.y_range_m, self.z_range_m),
            (self.cell_m, self.cell_m, self.cell_z_m),
            strict=True,
        )

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Number of cells (Z, Y, X)."""
        x, y, z = (round((upper - lower) / cell) for _, (lower, upper), cell in self._axes())
        return z, y, x

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Number of BEV cells (Y, X)."""
        return self.shape_zyx[1:]

    def coarsened(self, stride: int) -> BEVGrid:
        """The grid over the same ranges whose BEV cells are ``stride`` times as wide (the z axis becomes one cell).

        Raises:
            ValueError: ``stride`` does not divide the number of cells.
        """
        z_extent_m = self.z_range_m[1] - self.z_range_m[0]
        return replace(self, cell_m=self.cell_m * stride, cell_z_m=z_extent_m)

    def cell_index(self, xyz: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cell (iz, iy, ix) of points ``xyz`` (..., 3) in metres, int64 (..., 3), and whether it is inside, bool (...).

        Floors, so a point just below a lower bound is outside; points that are not finite are outside, with index 0.
        """
        lower = xyz.new_tensor([self.x_range_m[0], self.y_range_m[0], self.z_range_m[0]])
        cell = xyz.new_tensor([self.cell_m, self.cell_m, self.cell_z_m])
        index_zyx = torch.floor((xyz - lower) / cell).flip(-1)
        size = index_zyx.new_tensor(self.shape_zyx)
        inside = ((index_zyx >= 0) & (index_zyx < size)).all(-1)
        return torch.where(inside[..., None], index_zyx, 0).long(), inside

    def bev_index(self, xyz: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Flat BEV index iy * X + ix of points (..., 3), int64 (...), and whether the cell is inside, z included."""
        index_zyx, inside = self.cell_index(xyz)
        return index_zyx[..., 1] * self.shape_yx[1] + index_zyx[..., 2], inside

    def cell_centres(self, device: torch.device | None = None) -> torch.Tensor:
        """Centres (Y, X, 2) of the BEV cells as (x, y) in metres, float32."""
        rows, columns = self.shape_yx
        y_m = self.y_range_m[0] + (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * self.cell_m
        x_m = self.x_range_m[0] + (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * self.cell_m
        return torch.stack(torch.meshgrid(y_m, x_m, indexing="ij"), -1).flip(-1)

    def voxel_centres(self, device: torch.device | None = None) -> torch.Tensor:
        """Centres (Z, Y, X, 3) of the voxels as (x, y, z) in metres, float64."""
        x_m, y_m, z_m = (
            lower + (torch.arange(round((upper - lower) / cell), device=device, dtype=torch.float64) + 0.5) * cell
            for _, (lower, upper), cell in self._axes()
        )
        return torch.stack(torch.meshgrid(z_m, y_m, x_m, indexing="ij"), -1).flip(-1)
