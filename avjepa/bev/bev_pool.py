"""Splatting camera features into BEV cells: a weighted sum over index tables, forward and backward, without a frustum tensor.

    bev[cell] = sum over entries e of that cell of  depth[ranks_depth[e]] * features[ranks_feature[e]]

is the product of a sparse matrix (cells x pixels, its values depth probabilities) and the features. Written out it would take
(entries, C) numbers, 638 MB for six 256 x 704 cameras (BEVPoolv2, Huang and Huang 2022, removes the same tensor with a CUDA
kernel); here chunks of it live for a moment. Letters: see conventions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

CHUNK_NUMBERS = 1 << 22  # of the (entries, C) product that exist at a time: 16 MB in float32


@dataclass(frozen=True)
class PoolTable:
    """Which depth value weighs which pixel's features into which cell; E entries, ascending by cell.

    Attributes:
        ranks_depth: (E,) int64, place in the flattened depth (pixels * D), pixel-major.
        ranks_feature: (E,) int64, the pixel.
        ranks_cell: (E,) int64, the cell.
        num_cells: number of cells of the result.
    """

    ranks_depth: torch.Tensor
    ranks_feature: torch.Tensor
    ranks_cell: torch.Tensor
    num_cells: int


def bev_pool(depth: torch.Tensor, features: torch.Tensor, table: PoolTable) -> torch.Tensor:
    """Pooled features (num_cells, C), differentiable in both inputs; deterministic on the CPU.

    Args:
        depth: (pixels, D) probabilities.
        features: (pixels, C), of the same dtype.
        table: entries to add up.
    """
    if depth.dim() != 2 or features.dim() != 2 or len(depth) != len(features) or depth.dtype != features.dtype:
        raise ValueError(
            f"want (pixels, D) and (pixels, C) of one dtype, got {tuple(depth.shape)} {depth.dtype}, "
            f"{tuple(features.shape)} {features.dtype}"
        )
    return _BEVPool.apply(depth, features, table)


def bev_pool_reference(depth: torch.Tensor, features: torch.Tensor, table: PoolTable) -> torch.Tensor:
    """The same by way of the whole frustum (pixels, D, C) and autograd: what the fast one is tested against."""
    frustum = (depth[:, :, None] * features[:, None, :]).flatten(0, 1)  # (pixels * D, C)
    pooled = features.new_zeros(table.num_cells, features.shape[1])
    return pooled.index_add(0, table.ranks_cell, frustum[table.ranks_depth])


class _BEVPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, depth: torch.Tensor, features: torch.Tensor, table: PoolTable) -> torch.Tensor:
        ctx.save_for_backward(depth, features)
        ctx.table = table
        weights = depth.reshape(-1)
        pooled = features.new_zeros(table.num_cells, features.shape[1])
        for ranks_depth, ranks_feature, ranks_cell in _chunks(table, features.shape[1]):
            pooled.index_add_(0, ranks_cell, weights[ranks_depth, None] * features[ranks_feature])
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_pooled: torch.Tensor):
        depth, features = ctx.saved_tensors
        grad_pooled = grad_pooled.contiguous()
        weights = depth.reshape(-1)
        grad_depth = torch.zeros_like(weights)
        grad_features = torch.zeros_like(features)
        for ranks_depth, ranks_feature, ranks_cell in _chunks(ctx.table, features.shape[1]):
            grad_entry = grad_pooled[ranks_cell]  # (chunk, C)
            grad_depth.index_add_(0, ranks_depth, (grad_entry * features[ranks_feature]).sum(1))
            grad_features.index_add_(0, ranks_feature, weights[ranks_depth, None] * grad_entry)
        return grad_depth.view_as(depth), grad_features, None


def _chunks(table: PoolTable, channels: int):
    """The table in pieces of at most CHUNK_NUMBERS / channels entries."""
    size = max(1, CHUNK_NUMBERS // channels)
    return zip(
        table.ranks_depth.split(size), table.ranks_feature.split(size), table.ranks_cell.split(size), strict=True
    )
