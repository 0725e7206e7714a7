"""Sums over all ranks that gradients flow through, so that training on several processes equals training on the joined batch."""

from __future__ import annotations

import torch
import torch.distributed as dist


def sum_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """Sum of ``x`` over ranks; the tensor itself in a single process.

    Each rank holds the joined loss, and the backward pass sums the ranks' gradients; DDP's average over ranks then gives the
    gradient of the joined batch.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    return _SumOverRanks.apply(x)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return _all_reduced(x)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        return _all_reduced(grad)


def _all_reduced(x: torch.Tensor) -> torch.Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x
