"""What a probe is: a task for frozen embeddings, and the items it is asked about. Letters: see conventions.py."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import torch

from avjepa.files import file_stats
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.resample import Window
from avjepa.probes.frozen import View, clip_fingerprint
from avjepa.sensors.nuscenes_dataset import NuScenesClips

Truth = TypeVar("Truth")
Answer = TypeVar("Answer")

NEAR_M = 25.0  # to each side of the car: what the small model's grid covers, too
KEPT_CLIPS = 256  # truths of clips in memory, those asked for last


@dataclass(frozen=True)
class Panels:
    """Pictures (Y, X, 3) in [0, 1] of one answer on the probe's grid; the truth's has neither error nor uncertainty."""

    answer: np.ndarray
    error: np.ndarray | None = None
    uncertainty: np.ndarray | None = None


class Probe(ABC, Generic[Truth, Answer]):
    """A task for frozen embeddings. An *item* is one BEV map that is answered: a clip has ``items_per_clip`` of them.

    Attributes:
        name: of the folder its results go to.
        columns: titles of the metrics in the table, in order.
        convention: how the metrics are defined, in words, for the record.
        view: which embeddings are read.
        grid: of the answer.
        outputs: K, logits per cell.
        label_files: patterns of the files under the data root, sensor files apart, that the truth is made of.
    """

    name: str
    columns: Mapping[str, str]
    convention: str
    view: View
    grid: BEVGrid
    outputs: int
    label_files: tuple[str, ...] = ()

    def items_per_clip(self, dataset: NuScenesClips) -> int:
        """How many maps are answered for a clip."""
        return 1

    @abstractmethod
    def truth(self, dataset: NuScenesClips, clip: int) -> list[Truth]:
        """Truth of each item of a clip."""

    @abstractmethod
    def loss(self, logits: torch.Tensor, truths: list[Truth], window: Window) -> torch.Tensor:
        """Scalar training loss of logits (b, K, h, w) on a window of the grid."""

    @abstractmethod
    def answer(self, logits: torch.Tensor, truth: Truth) -> Answer:
        """What logits (K, Y, X) say. Of ``truth``, only what an answer is asked for may be read (which points, which rays)."""

    @abstractmethod
    def untrained(self, train: Items, test: Items) -> Iterator[tuple[str, Callable[[], Iterator[Answer]]]]:
        """Rows that need no training: a name, and a function that gives an answer for every test item, in order."""

    @abstractmethod
    def evaluate(self, pairs: Iterable[tuple[Answer, Truth]], threshold: float) -> dict[str, float]:
        """Metrics over a whole split; keys as in ``columns``. nan where a metric is not defined."""

    def tune(self, pairs: Iterable[tuple[Answer, Truth]]) -> float:
        """The decision threshold, from training answers; for scores of rows that need no training it is 0.5 as well."""
        return 0.5

    @abstractmethod
    def truth_panels(self, truth: Truth) -> Panels:
        """Picture of the truth."""

    @abstractmethod
    def panels(self, answer: Answer, truth: Truth, threshold: float, logits: torch.Tensor | None) -> Panels:
        """Pictures of an answer and its errors, and of the uncertainty of its logits (K, Y, X) if there are any."""


@dataclass
class Items(Generic[Truth]):
    """The items of some clips of a data set, with their truths, which are computed when they are asked for."""

    probe: Probe
    dataset: NuScenesClips
    clips: list[int]
    _truths: dict[int, list[Truth]] = field(default_factory=dict)

    def of_clips(self, clips: list[int]) -> Items[Truth]:
        """Items of other clips of the same data set, which keep their truths in the same place."""
        return Items(self.probe, self.dataset, clips, self._truths)

    @property
    def per_clip(self) -> int:
        """Items of a clip."""
        return self.probe.items_per_clip(self.dataset)

    def __len__(self) -> int:
        return len(self.clips) * self.per_clip

    def truth(self, item: int) -> Truth:
        """Truth of one item."""
        clip = self.clips[item // self.per_clip]
        truths = self._truths.pop(clip, None) or self.probe.truth(self.dataset, clip)
        self._truths[clip] = truths  # the last of the dict's order
        if len(self._truths) > KEPT_CLIPS:
            del self._truths[next(iter(self._truths))]
        return truths[item % self.per_clip]

    def truths(self) -> Iterator[Truth]:
        """Every truth, in order."""
        return (self.truth(item) for item in range(len(self)))

    @cached_property
    def fingerprint(self) -> str:
        """Of what the items are made of: the clips' sensor files, and the files of the truth."""
        names = [clip_fingerprint(self.dataset, clip) for clip in self.clips]
        root = self.dataset.root
        labels = sorted(path for pattern in self.probe.label_files for path in root.glob(pattern) if path.is_file())
        return hashlib.sha256("\n".join([*names, repr(file_stats(labels))]).encode()).hexdigest()
