"""Sparse 3-D encoder of LiDAR voxels (after SECOND, Yan et al. 2018) with a dense BEV map at its end.

No batch statistics anywhere: each voxel is normalised over its own channels. An EMA teacher then copies all there is, and a
frame's embedding does not depend on its neighbours in the batch. Letters: see conventions.py.
"""

from __future__ import annotations

import torch
from torch import nn

from avjepa.bev.lidar_voxels import NUM_FEATURES, Voxels
from avjepa.bev.spconv_cpu import convolution_types, load_spconv, use_algorithm_for
from avjepa.geometry.grid import BEVGrid

MAX_FEATURE_BYTES = 2**31 - 1  # spconv counts bytes in int32 (spconv#607)


class SparseEncoder(nn.Module):
    """Voxels to a BEV map: a stem, residual blocks at each resolution, and z folded into channels at the end.

    Args:
        grid: the voxel grid; each stage after the first halves x and y (and z while it is more than one cell).
        channels: width of each stage.
        out_channels: channels of the BEV map.
        blocks_per_stage: residual blocks per stage.

    Raises:
        ValueError: the BEV cells do not divide by the stride.
    """

    def __init__(
        self,
        grid: BEVGrid,
        channels: tuple[int, ...] = (16, 32, 64, 128),
        out_channels: int = 256,
        blocks_per_stage: int = 2,
    ) -> None:
        super().__init__()
        subm_conv, sparse_conv = convolution_types()
        self.grid = grid
        self.out_channels = out_channels
        self.stride = 2 ** (len(channels) - 1)
        self.bev_shape = grid.coarsened(self.stride).shape_yx

        self.stem = ConvNormAct(subm_conv(NUM_FEATURES, channels[0], 3, bias=False, indice_key="stem"))
        self.down = nn.ModuleList()
        self.stages = nn.ModuleList()
        cells_z = grid.shape_zyx[0]
        for stage, width in enumerate(channels):
            if stage:
                kernel_z, stride_z, padding_z, cells_z = _halve(cells_z)
                # Windows of 2 x 2 voxels in x and y tile the coarser cells exactly, so a cell sees its own voxels and the map
                # is not shifted by half a voxel per stage, as it is with the usual 3 x 3 window.
                self.down.append(
                    ConvNormAct(
                        sparse_conv(
                            channels[stage - 1],
                            width,
                            (kernel_z, 2, 2),
                            stride=(stride_z, 2, 2),
                            padding=(padding_z, 0, 0),
                            bias=False,
                        )
                    )
                )
            self.stages.append(nn.Sequential(*(SparseBlock(width, f"stage{stage}") for _ in range(blocks_per_stage))))
        self.cells_z = cells_z
        self.project = nn.Conv2d(channels[-1] * cells_z, out_channels, 1)
        self._convolutions = [m for m in self.modules() if isinstance(m, (subm_conv, sparse_conv))]

    def forward(self, voxels: Voxels) -> torch.Tensor:
        """BEV map (M, out_channels, Y / stride, X / stride); zero voxels give the response to empty space."""
        return self.project(self._sparse_to_bev(voxels))

    def _sparse_to_bev(self, voxels: Voxels) -> torch.Tensor:
        """Features of the last stage with z folded into channels, (M, C * Z, Y, X)."""
        channels = self.project.in_channels
        if not len(voxels.features):  # spconv cannot work on nothing
            return voxels.features.new_zeros(voxels.num_frames, channels, *self.bev_shape)
        widest = max(convolution.out_channels for convolution in self._convolutions)
        if len(voxels.features) * widest * 4 > MAX_FEATURE_BYTES:
            raise ValueError(f"{len(voxels.features)} voxels x {widest} channels overflow spconv; use a smaller batch")
        spconv = load_spconv()
        for convolution in self._convolutions:
            use_algorithm_for(convolution, voxels.features.device)
        # The number of frames is given, never read off the indices: the last frame may be empty.
        # spconv reads raw memory, so views with other strides would be taken for something else.
        features, indices = voxels.features.contiguous(), voxels.indices.contiguous()
        x = spconv.SparseConvTensor(features, indices, self.grid.shape_zyx, voxels.num_frames)
        x = self.stages[0](self.stem(x))
        for down, stage in zip(self.down, self.stages[1:], strict=True):
            x = stage(down(x))
        # Not spconv's dense(): it indexes by a list, which torch is giving another meaning. Written into its
        # place in (M, C, Z, Y, X): turning the axes afterwards would copy a map that is mostly empty.
        dense = x.features.new_zeros(voxels.num_frames, x.features.shape[1], self.cells_z, *self.bev_shape).movedim(
            1, -1
        )
        dense = dense.index_put(x.indices.long().unbind(1), x.features)  # (M, Z, Y, X, C)
        return dense.movedim(-1, 1).flatten(1, 2)  # (M, C * Z, Y, X)


class ConvNormAct(nn.Module):
    """Sparse convolution, LayerNorm over the channels of each voxel, GELU."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = nn.LayerNorm(convolution.out_channels)

    def forward(self, x):
        """SparseConvTensor to SparseConvTensor."""
        x = self.convolution(x)
        return x.replace_feature(nn.functional.gelu(self.norm(x.features)))


class SparseBlock(nn.Module):
    """Residual block of two submanifold convolutions, which keep the set of voxels."""

    def __init__(self, channels: int, indice_key: str) -> None:
        super().__init__()
        subm_conv, _ = convolution_types()
        self.first = ConvNormAct(subm_conv(channels, channels, 3, bias=False, indice_key=indice_key))
        self.second = subm_conv(channels, channels, 3, bias=False, indice_key=indice_key)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        """SparseConvTensor to SparseConvTensor."""
        h = self.second(self.first(x))
        return h.replace_feature(nn.functional.gelu(x.features + self.norm(h.features)))


def _halve(cells_z: int) -> tuple[int, int, int, int]:
    """Kernel, stride and padding that halve the z axis (rounding up), and the cells that are left."""
    if cells_z == 1:
        return 1, 1, 0, 1
    if cells_z % 2:
        return 3, 2, 1, (cells_z + 1) // 2
    return 2, 2, 0, cells_z // 2
