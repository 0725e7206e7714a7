"""Small heads trained on frozen features, one answer per BEV cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class HeadTraining:
    """How a head is trained.

    Attributes:
        kind: "linear" (1 x 1 convolution) or "conv" (two 3 x 3 convolutions of 32 channels before it).
        steps, batch_size, learning_rate, weight_decay: AdamW with a cosine schedule.
    """

    kind: Literal["linear", "conv"] = "linear"
    steps: int = 300
    batch_size: int = 8
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3


class BinaryHead(nn.Module):
    """Logits (B, Y, X) from features (B, C, Y, X), which it standardises by the training set's mean and std."""

    def __init__(self, kind: Literal["linear", "conv"], mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        channels = len(mean)
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])
        if kind == "linear":
            self.layers = nn.Conv2d(channels, 1, 1)
        elif kind == "conv":
            self.layers = nn.Sequential(
                nn.Conv2d(channels, 32, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(32, 32, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(32, 1, 1),
            )
        else:
            raise ValueError(f"unknown head {kind!r}; want linear or conv")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (B, Y, X)."""
        return self.layers((features - self.mean) / self.std)[:, 0]


def train_head(
    features: torch.Tensor, answer: torch.Tensor, known: torch.Tensor, training: HeadTraining, seed: int
) -> BinaryHead:
    """Fit a head to ``answer`` (n, Y, X) on the ``known`` cells of features (n, C, Y, X), both answers weighted equally."""
    torch.manual_seed(seed)  # initialisation of the head; the only use of the global generator
    std, mean = torch.std_mean(features, (0, 2, 3))
    head = BinaryHead(training.kind, mean, std.clamp(min=1e-4)).to(features.device)
    optimizer = torch.optim.AdamW(head.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    positive_share = (answer & known).sum() / known.sum().clamp(min=1)
    weight = (
        torch.where(answer, 0.5 / positive_share.clamp(min=1e-6), 0.5 / (1 - positive_share).clamp(min=1e-6)) * known
    )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(training.steps):
        chosen = torch.randint(len(features), (training.batch_size,), generator=generator)
        logits = head(features[chosen])
        loss = F.binary_cross_entropy_with_logits(logits, answer[chosen].to(logits), weight[chosen], reduction="sum")
        optimizer.zero_grad()
        (loss / known[chosen].sum().clamp(min=1)).backward()
        optimizer.step()
        schedule.step()
    return head.eval()


@torch.no_grad()
def head_scores(head: BinaryHead, features: torch.Tensor) -> torch.Tensor:
    """Probability (n, Y, X) of the positive answer, clip by clip."""
    return torch.cat([head(part).sigmoid() for part in features.split(1)])
