"""Lift-splat (Philion and Fidler 2020): a depth distribution per pixel carries image features to BEV cells.

Geometry becomes an index table (PoolTable) per batch: for every feature pixel and depth bin the cell it falls into. Cameras
change with every augmented sample, so tables are rebuilt each time, which costs little beside the image backbone; a fixed
calibration is recognised and its table kept. Letters: see conventions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from avjepa.bev.bev_pool import PoolTable, bev_pool
from avjepa.geometry.camera import unproject
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import transform_points


@dataclass(frozen=True)
class DepthBins:
    """Depths along the optical axis: bin d is centred at min_m + (d + 0.5) * step_m.

    Raises:
        ValueError: the range is empty or not a whole number of bins.
    """

    min_m: float
    max_m: float
    step_m: float

    def __post_init__(self) -> None:
        bins = (self.max_m - self.min_m) / self.step_m
        if self.min_m <= 0 or bins < 1 or abs(bins - round(bins)) > 1e-6 * bins:
            raise ValueError(
                f"depth [{self.min_m}, {self.max_m}) m in steps of {self.step_m} m is {bins:g} bins; want a whole number"
            )

    @property
    def count(self) -> int:
        """D."""
        return round((self.max_m - self.min_m) / self.step_m)

    def centres(self, device: torch.device | None = None) -> torch.Tensor:
        """Depths (D,) in metres."""
        return self.min_m + (torch.arange(self.count, device=device, dtype=torch.float32) + 0.5) * self.step_m


class LiftSplat(nn.Module):
    """Image features to a BEV map by predicted depth.

    Args:
        in_channels: channels of the image features.
        out_channels: channels of the BEV map.
        depth_bins: the depth distribution's bins.
        grid: the BEV grid; only points inside its z range are splatted.
    """

    def __init__(self, in_channels: int, out_channels: int, depth_bins: DepthBins, grid: BEVGrid) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.depth_bins = depth_bins
        self.grid = grid
        self.depth = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1), nn.GELU(), nn.Conv2d(in_channels, depth_bins.count, 1)
        )
        self.content = nn.Conv2d(in_channels, out_channels, 1)
        self._kept: tuple[tuple[torch.Tensor, ...], tuple, PoolTable] | None = None  # last calibration and its table

    def forward(
        self,
        features: torch.Tensor,
        image_size_px: tuple[int, int],
        pix_T_cam: torch.Tensor,
        bev_T_cam: torch.Tensor,
        camera_present: torch.Tensor,
    ) -> torch.Tensor:
        """BEV map (M, out_channels, Y, X).

        Args:
            features: (M, N, C, h, w).
            image_size_px: (H, W) of the images the features were computed from.
            pix_T_cam: (M, N, 3, 3), of those images.
            bev_T_cam: (M, N, 4, 4), may be mirrored.
            camera_present: (M, N) bool; absent cameras add nothing.
        """
        frames, _, _, rows, columns = features.shape
        flat = features.flatten(0, 1)
        depth = self.depth(flat).float().softmax(1)  # (M * N, D, h, w)
        content = self.content(flat).float()  # (M * N, C, h, w)
        table = self.table((rows, columns), image_size_px, pix_T_cam, bev_T_cam, camera_present)
        pooled = bev_pool(depth.movedim(1, -1).flatten(0, 2), content.movedim(1, -1).flatten(0, 2), table)
        return pooled.view(frames, *self.grid.shape_yx, self.out_channels).movedim(-1, 1).contiguous()

    def table(
        self,
        feature_size: tuple[int, int],
        image_size_px: tuple[int, int],
        pix_T_cam: torch.Tensor,
        bev_T_cam: torch.Tensor,
        camera_present: torch.Tensor,
    ) -> PoolTable:
        """The index table of these cameras; the last one is kept and used again when the cameras are the same."""
        calibration = (pix_T_cam, bev_T_cam, camera_present)
        sizes = (feature_size, image_size_px)
        if self._kept is not None and self._kept[1] == sizes and _all_equal(self._kept[0], calibration):
            return self._kept[2]
        table = lift_table(feature_size, image_size_px, *calibration, self.depth_bins, self.grid)
        # Cloned, or a caller that changes its tensors in place would be compared with itself.
        self._kept = (tuple(part.clone() for part in calibration), sizes, table)
        return table


@torch.no_grad()
def lift_table(
    feature_size: tuple[int, int],
    image_size_px: tuple[int, int],
    pix_T_cam: torch.Tensor,
    bev_T_cam: torch.Tensor,
    camera_present: torch.Tensor,
    depth_bins: DepthBins,
    grid: BEVGrid,
) -> PoolTable:
    """Cell of every (frame, camera, feature pixel, depth bin) inside the grid; shapes as in :class:`LiftSplat`."""
    frames, cameras = camera_present.shape
    rows, columns = feature_size
    depth_m = depth_bins.centres(pix_T_cam.device)
    uv_px = feature_pixels(feature_size, image_size_px, pix_T_cam.device).repeat_interleave(
        len(depth_m), 0
    )  # (h * w * D, 2)
    depth_m = depth_m.repeat(rows * columns)
    num_cells = grid.shape_yx[0] * grid.shape_yx[1]
    entries = torch.arange(len(depth_m), device=depth_m.device)
    places, cells = [], []
    for frame in range(frames):  # a frame at a time bounds the memory of the geometry
        present = camera_present[frame].nonzero()[:, 0]
        if not len(present):
            continue
        many = (len(present), -1)
        xyz_cam = unproject(pix_T_cam[frame, present].float(), uv_px.expand(*many, 2), depth_m.expand(many))
        cell, inside = grid.bev_index(transform_points(bev_T_cam[frame, present].float(), xyz_cam))  # (n, h * w * D)
        camera = frame * cameras + present
        places.append((camera[:, None] * len(entries) + entries)[inside])
        cells.append((frame * num_cells + cell)[inside])
    place = torch.cat(places) if places else entries[:0]
    cell = torch.cat(cells) if cells else entries[:0]
    cell, order = cell.sort(stable=True)
    place = place[order]
    return PoolTable(place, place // depth_bins.count, cell, frames * num_cells)


def feature_pixels(feature_size: tuple[int, int], image_size_px: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Image pixels (h * w, 2) at the centres of feature cells, row by row; pixel (0, 0) is the centre of the first pixel."""
    (rows, columns), (height_px, width_px) = feature_size, image_size_px
    v_px = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * (height_px / rows) - 0.5
    u_px = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * (width_px / columns) - 0.5
    return torch.stack(torch.meshgrid(v_px, u_px, indexing="ij"), -1).flip(-1).view(-1, 2)


def _all_equal(first: tuple[torch.Tensor, ...], second: tuple[torch.Tensor, ...]) -> bool:
    return all(a.device == b.device and torch.equal(a, b) for a, b in zip(first, second, strict=True))
