"""Sums over all ranks that gradients flow through, so that training on several processes equals training on the joined batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_reduce


def sum_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """Sum of ``x`` over ranks; the tensor itself in a single process.

    Each rank holds the joined loss, and the backward pass sums the ranks' gradients; DDP's average over ranks then gives the
    gradient of the joined batch.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    return all_reduce(x)
