"""The row that says what labels alone can do: encoder and head trained together from random weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from avjepa.jepa.world_model import BEVWorldModel
from avjepa.probes.heads import DenseHead, HeadKind, draw_window
from avjepa.probes.task import Items
from avjepa.sensors.collate import collate_clips


@dataclass(frozen=True)
class SupervisedTraining:
    """How encoder and head are trained from scratch.

    Attributes:
        head: kind of the head.
        steps, batch_size, learning_rate, weight_decay: AdamW with a cosine schedule; a batch is of clips.
        crop_cells: as in HeadTraining.
        max_grad_norm: gradients are clipped to it.
    """

    head: HeadKind = "conv"
    steps: int = 200
    batch_size: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    crop_cells: int | None = None
    max_grad_norm: float = 1.0


def train_supervised(
    jepa: BEVWorldModel, head: DenseHead, train: Items, training: SupervisedTraining, seed: int
) -> None:
    """Fit a model and a head to the labels of the training items, in place; no augmentation, no mask.

    Args:
        jepa: random weights; frozen again afterwards.
        head: a new head on this model's features.
        train: the training items; their probe's view and loss are used.
        training: schedule.
        seed: of the clips and windows drawn.
    """
    jepa.requires_grad_(True).train()
    parameters = [*jepa.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(training.steps):
        drawn = torch.randint(len(train.clips), (training.batch_size,), generator=generator).tolist()
        clips = collate_clips([train.dataset[train.clips[number]] for number in drawn])
        truths = [train.truth(number * train.per_clip + item) for number in drawn for item in range(train.per_clip)]
        window = draw_window(head.dst, training.crop_cells, generator)
        logits = head(train.probe.view.embed(jepa, clips), window)
        optimizer.zero_grad()
        train.probe.loss(logits, truths, window).backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
        optimizer.step()
        schedule.step()
    jepa.requires_grad_(False).eval()
    head.eval()
