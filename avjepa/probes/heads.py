"""Heads trained on frozen embeddings: linear, small convolutional, attentive. Letters: see conventions.py.

    features (B, C, Y, X) on the encoder's grid -> standardise -> trunk -> resample to the answer's grid -> 1 x 1 -> logits

The trunk is nothing (linear), two convolutions (conv), or cross-attention to the whole map (attentive). Beyond the encoder's
grid the answer is learned, but one for all cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import nn

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.resample import Window, covered, resample_bev, whole

HeadKind = Literal["linear", "conv", "attentive"]
HIDDEN_CHANNELS = 32
TOKENS_A_SIDE = 16
MOMENT_ITEMS = 64  # features whose mean and std stand for all


class Features(Protocol):
    """Feature maps of n items, read by index: a tensor (n, C, Y, X), or files on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, items: list[int]) -> torch.Tensor:
        """(b, C, Y, X) float32."""
        ...


@dataclass(frozen=True)
class HeadTraining:
    """How a head is trained.

    Attributes:
        kind: "linear", "conv" (two 3 x 3 convolutions) or "attentive" (cross-attention).
        steps, batch_size, learning_rate, weight_decay: AdamW with a cosine schedule.
        crop_cells: side of the random square of the answer's grid that each step looks at; None for all of it.
    """

    kind: HeadKind = "linear"
    steps: int = 300
    batch_size: int = 8
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    crop_cells: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(HeadKind):
            raise ValueError(f"unknown head {self.kind!r}; want {', '.join(get_args(HeadKind))}")


class DenseHead(nn.Module):
    """Logits (B, K, Y', X') on the answer's grid from features (B, C, Y, X), which it standardises.

    Args:
        kind: the trunk.
        outputs: K, answers per cell.
        src, dst: grids of the features and of the answer, in the same ego frame.
        mean, std: (C,) of the training features.
    """

    def __init__(
        self, kind: HeadKind, outputs: int, src: BEVGrid, dst: BEVGrid, mean: torch.Tensor, std: torch.Tensor
    ) -> None:
        super().__init__()
        self.src, self.dst = src, dst
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])
        self.trunk, channels = _trunk(kind, len(mean), src)
        self.answer = nn.Conv2d(channels, outputs, 1)
        # With one bias for cells with and without features, each would be answered a little like the other.
        self.beyond = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.register_buffer("covered", covered(src, dst), persistent=False)
        self.reaches_all = bool(self.covered.all())

    def forward(self, features: torch.Tensor, window: Window | None = None) -> torch.Tensor:
        """Logits (B, K, h, w) of a window of the answer's grid, of all of it by default."""
        hidden = self.trunk((features - self.mean) / self.std)
        logits = self.answer(resample_bev(hidden, self.src, self.dst, window))
        if self.reaches_all:
            return logits
        return torch.where(self.covered[window or whole(self.dst)], logits, self.beyond)


def _trunk(kind: HeadKind, channels: int, grid: BEVGrid) -> tuple[nn.Module, int]:
    """The layers before the answer, and how many channels they give."""
    if kind == "linear":
        return nn.Identity(), channels
    if kind == "conv":
        first = nn.Conv2d(channels, HIDDEN_CHANNELS, 3, padding=1)
        second = nn.Conv2d(HIDDEN_CHANNELS, HIDDEN_CHANNELS, 3, padding=1)
        return nn.Sequential(first, nn.GELU(), second, nn.GELU()), HIDDEN_CHANNELS
    if kind == "attentive":
        return AttentiveTrunk(channels, grid), 2 * HIDDEN_CHANNELS
    raise ValueError(f"unknown head {kind!r}; want linear, conv or attentive")


class AttentiveTrunk(nn.Module):
    """Every cell asks the whole map: one cross-attention layer, after the attentive probe of V-JEPA (Bardes et al. 2024,
    section 4.2), whose single query becomes one query a cell here because the answer is a map.

    Gives (B, 2 * HIDDEN_CHANNELS, Y, X): the cell's own projection and what it attended to, among TOKENS_A_SIDE^2 averages.
    """

    def __init__(self, channels: int, grid: BEVGrid, heads: int = 4) -> None:
        super().__init__()
        self.tokens_yx = tuple(min(TOKENS_A_SIDE, cells) for cells in grid.shape_yx)
        self.own = nn.Conv2d(channels, HIDDEN_CHANNELS, 1)
        self.position = nn.Conv2d(4, HIDDEN_CHANNELS, 1)
        self.attention = nn.MultiheadAttention(HIDDEN_CHANNELS, heads, batch_first=True)
        self.norm = nn.LayerNorm(HIDDEN_CHANNELS)
        rows, columns = grid.shape_yx
        y = torch.linspace(-1, 1, rows)[:, None].expand(rows, columns) * torch.pi / 2
        x = torch.linspace(-1, 1, columns)[None].expand(rows, columns) * torch.pi / 2
        self.register_buffer("waves", torch.stack([y.sin(), y.cos(), x.sin(), x.cos()])[None], persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, Y, X) to (B, 2 * HIDDEN_CHANNELS, Y, X)."""
        own = self.own(features)
        placed = own + self.position(self.waves)
        queries = self.norm(placed.flatten(2).transpose(1, 2))  # (B, Y * X, D)
        tokens = self.norm(F.adaptive_avg_pool2d(placed, self.tokens_yx).flatten(2).transpose(1, 2))
        found, _ = self.attention(queries, tokens, tokens, need_weights=False)
        return F.gelu(torch.cat([own, found.transpose(1, 2).unflatten(2, own.shape[-2:])], 1))


def new_head(kind: HeadKind, outputs: int, src: BEVGrid, dst: BEVGrid, features: Features, seed: int) -> DenseHead:
    """A head that standardises by the moments of up to MOMENT_ITEMS items, spread evenly."""
    torch.manual_seed(seed)  # initialisation of the head; the only use of the global generator
    step = -(-len(features) // MOMENT_ITEMS)
    std, mean = torch.std_mean(features[list(range(0, len(features), step))], (0, 2, 3))
    return DenseHead(kind, outputs, src, dst, mean, std.clamp(min=1e-4))


def train_head(
    head: DenseHead,
    features: Features,
    loss: Callable[[torch.Tensor, list[int], Window], torch.Tensor],
    training: HeadTraining,
    seed: int,
) -> DenseHead:
    """Fit a head, in place.

    Args:
        head: a new head.
        features: of the training items.
        loss: scalar loss of logits (b, K, h, w), given the items (b) and the window of the answer's grid they belong to.
        training: schedule.
        seed: of the items and windows drawn.
    """
    optimizer = torch.optim.AdamW(head.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(training.steps):
        items = torch.randint(len(features), (training.batch_size,), generator=generator).tolist()
        window = draw_window(head.dst, training.crop_cells, generator)
        optimizer.zero_grad()
        loss(head(features[items], window), items, window).backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def balanced_bce(logits: torch.Tensor, positive: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of logits on the counted cells, yes and no weighted equally in sum; 0 without any. All of one shape,
    such as (b, h, w), the last two bool.
    """
    cells = counted.sum().clamp(min=1)
    share = ((positive & counted).sum() / cells).clamp(1e-6, 1 - 1e-6)
    weight = torch.where(positive, 0.5 / share, 0.5 / (1 - share)) * counted
    return F.binary_cross_entropy_with_logits(logits, positive.to(logits), weight, reduction="sum") / cells


def draw_window(grid: BEVGrid, crop_cells: int | None, generator: torch.Generator) -> Window:
    """A random square of cells, or all of them."""
    if crop_cells is None:
        return whole(grid)
    slices = []
    for cells in grid.shape_yx:
        side = min(crop_cells, cells)
        start = int(torch.randint(cells - side + 1, (), generator=generator))
        slices.append(slice(start, start + side))
    return tuple(slices)
