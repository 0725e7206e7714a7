"""Data loading whose every draw is a pure function of (seed, iteration), so that a resumed run continues exactly."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import DataLoader, Dataset, Sampler

from avjepa.engine.registry import build
from avjepa.errors import ConfigError
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.sample import ClipBatch


class ClipBatchSampler(Sampler[list[tuple[int, int]]]):
    """Endless batches of (clip index, draw seed) for one rank.

    Epochs of clips, each in an order of its own, follow one another as one stream. Iteration i takes the next
    ``batch_size * world_size`` places of it, and rank r its r-th share, so that W ranks with batch b see what one process
    with batch W * b sees. Set ``first_iteration`` before iterating to start anywhere at no cost.
    """

    def __init__(self, num_clips: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        if num_clips < 1 or batch_size < 1:
            raise ConfigError(
                f"training needs at least one clip and a batch of one, got {num_clips} clips, batch {batch_size}"
            )
        self.num_clips = num_clips
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.first_iteration = 0

    def __len__(self) -> int:
        """Mmengine asks; the stream has no end."""
        return sys.maxsize

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        place = (self.first_iteration * self.world_size + self.rank) * self.batch_size
        while True:
            yield [self._draw(place + offset) for offset in range(self.batch_size)]
            place += self.world_size * self.batch_size

    def _draw(self, place: int) -> tuple[int, int]:
        epoch, position = divmod(place, self.num_clips)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(self.num_clips, generator=generator)
        return int(order[position]), self.seed * 1_000_000_007 + place


def build_train_loader(dataset: dict | Dataset, batch_size: int, num_workers: int, seed: int) -> DataLoader:
    """Loader of ClipBatches for this rank. ``batch_size`` is per rank."""
    dataset = build(dataset)
    sampler = ClipBatchSampler(len(dataset), batch_size, seed, get_rank(), get_world_size())
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate_clips,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def held_out_batch(dataset: dict | Dataset, num_clips: int) -> ClipBatch:
    """A fixed batch: ``num_clips`` clips spread evenly over the data set, not augmented."""
    dataset = build(dataset)
    places = torch.linspace(0, len(dataset) - 1, min(num_clips, len(dataset))).long().unique().tolist()
    return collate_clips([dataset[place] for place in places])
