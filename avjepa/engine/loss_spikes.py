"""Skips training steps whose loss is far above the recent ones or not finite: one bad batch must not spoil the weights."""

from __future__ import annotations

import math
from collections import deque
from contextlib import AbstractContextManager
from statistics import fmean, pstdev
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import nn


class LossSpikes:
    """Which losses are spikes: those above mean + ``num_std`` standard deviations of the last ``window`` accepted losses, and
    those that are not finite. Until ``window`` losses were accepted, every finite one is.

    A small batch has a wide and skewed loss: at batch 2, healthy runs of the tiny config reach 7 standard deviations.

    Args:
        num_std: from how many standard deviations above the mean a loss is a spike.
        window: accepted losses to compare with.
        most_in_a_row: more spikes than this in a row are no accident, and the run stops.
    """

    def __init__(self, num_std: float, window: int, most_in_a_row: int) -> None:
        if not (num_std > 0 and window >= 2 and most_in_a_row >= 0):
            raise ValueError(
                f"want num_std > 0, window >= 2 and most_in_a_row >= 0, got {num_std}, {window}, {most_in_a_row}"
            )
        self.num_std = num_std
        self.most_in_a_row = most_in_a_row
        self.accepted: deque[float] = deque(maxlen=window)
        self.in_a_row = 0
        self.skipped = 0

    @property
    def limit(self) -> float:
        """Largest loss that is no spike now."""
        if len(self.accepted) < self.accepted.maxlen:
            return math.inf
        return fmean(self.accepted) + self.num_std * pstdev(self.accepted)

    def accepts(self, loss: float) -> bool:
        """Judge the next loss, and remember it."""
        if math.isfinite(loss) and loss <= self.limit:
            self.accepted.append(loss)
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        self.skipped += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """What the next judgement depends on, as plain values for a checkpoint."""
        return {"accepted": list(self.accepted), "in_a_row": self.in_a_row, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; a window that has become shorter keeps the newest."""
        self.accepted.clear()
        self.accepted.extend(state["accepted"])
        self.in_a_row, self.skipped = state["in_a_row"], state["skipped"]


class GuardedUpdates:
    """What a ``train_step`` uses of mmengine's OptimWrapper, whatever its kind, with steps left out that a spike is part of.

    A skipped step still runs backward, so that DDP, FSDP and gradient accumulation see every iteration; its gradients are then
    dropped. With accumulation, a spike in one batch drops the step of all that were accumulated with it: ``_drop`` remembers it
    until that step is due. All ranks judge the mean of their losses, and so decide alike.

    With a GradScaler (AmpOptimWrapper) the loss is judged before it is scaled. A skipped step calls neither ``step`` nor
    ``update`` of the scaler, whose scale and count of good steps stay as they were. A step that the scaler itself leaves out,
    because scaled gradients overflow, is no spike: it lowers its scale, and the step counts here as one that moved the weights.

    Attributes:
        spiked: the last loss was a spike.
        stepped: the last update moved the weights.
    """

    def __init__(self, optim_wrapper: OptimWrapper, spikes: LossSpikes | None) -> None:
        self.optim_wrapper = optim_wrapper
        self.spikes = spikes
        self.spiked = self.stepped = False
        self._drop = False

    def optim_context(self, model: nn.Module) -> AbstractContextManager:
        """The wrapper's own: mixed precision, and no gradient synchronisation while accumulating."""
        return self.optim_wrapper.optim_context(model)

    def update_params(self, loss: torch.Tensor) -> None:
        """OptimWrapper.update_params, but for the skipped steps."""
        wrapper = self.optim_wrapper
        wrapper.backward(wrapper.scale_loss(loss))
        self.spiked = self.spikes is not None and not self.spikes.accepts(_mean_over_ranks(loss))
        self._drop |= self.spiked
        self.stepped = wrapper.should_update() and not self._drop
        if self.stepped:
            wrapper.step()
        if wrapper.should_update():
            wrapper.zero_grad()
            self._drop = False


def _mean_over_ranks(loss: torch.Tensor) -> float:
    loss = loss.detach().clone()
    all_reduce(loss, "mean")
    return float(loss)
