"""A probe study: every row of one task's table, each under the same heads. Rows that are done are kept, so that a study that
was stopped goes on.

    truth and features of every item -> answers that need no training -> heads on raw input, random-init and pretrained
    features -> metrics on every test split
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from avjepa.errors import CheckpointError
from avjepa.files import replacing, write_json
from avjepa.geometry.resample import Window
from avjepa.probes.frozen import CODE, Source, code_fingerprint, embed_clips
from avjepa.probes.heads import DenseHead, Features, HeadKind, HeadTraining, new_head, train_head
from avjepa.probes.supervised import SupervisedTraining, train_supervised
from avjepa.probes.task import Items, Probe
from avjepa.sensors.nuscenes_dataset import NuScenesClips

RAW_INPUT, RANDOM_INIT, SUPERVISED = "raw input", "random init", "supervised from scratch"
ANSWERS = "answers without training"  # all rows without a head
ENCODER_SUFFIX = ".encoder.pth"
ROW_CODE = (*CODE, "probes", "probes/metrics")


class RowKey(NamedTuple):
    """Which row of a table, as in :class:`Row`."""

    name: str
    head: str
    label_share: float
    seed: int


@dataclass(frozen=True)
class Row:
    """One row, seed and label share of a table.

    Attributes:
        name: that of a source ("raw input", "random init", "JEPA"), "supervised from scratch", or that of an answer that
            needs no training.
        head: kind of the head; empty if it needs none.
        label_share: share of the training scenes whose labels the head saw.
        seed: of the head, and of the encoder where it has one.
        metrics: by test split, then by metric; a split is missing where the row has no answer (no prior map, say).
        threshold: chosen on the training items.
        head_file: weights of the head, relative to the study's folder; empty if there is none.
    """

    name: str
    head: str
    label_share: float
    seed: int
    metrics: dict[str, dict[str, float]]
    threshold: float
    head_file: str

    @property
    def title(self) -> str:
        """As the table shows it."""
        return ", ".join([self.name, *([f"{self.head} head"] if self.head else [])])


@dataclass(frozen=True)
class Study:
    """One task's table in the making.

    Attributes:
        probe: the task.
        train: clips that heads are trained on.
        tests: clips of each test split.
        sources: by row name, one source for each seed, None where there is no such encoder; RANDOM_INIT is one of them.
        heads: how each kind of head is trained.
        supervised: how encoder and head are trained from scratch, or None to leave that row out.
        label_shares: shares of the training scenes that heads see, each its own set of rows.
        folder: of results; rows are kept in ``rows/``.
        features: folder of kept embeddings.
        progress: wraps an iterable with a bar: (iterable, description, total).
    """

    probe: Probe
    train: NuScenesClips
    tests: dict[str, NuScenesClips]
    sources: dict[str, list[Source | None]]
    heads: dict[str, HeadTraining]
    supervised: SupervisedTraining | None
    label_shares: tuple[float, ...]
    folder: Path
    features: Path
    progress: Callable[[Iterable, str, int], Iterable]
    _labelled_items: dict[tuple[float, int], Items] = field(default_factory=dict, init=False, repr=False, compare=False)
    _opened: dict[str, tuple[Source, DenseHead]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def seeds(self) -> int:
        """Of every trained row."""
        return len(next(iter(self.sources.values())))

    @property
    def trained_names(self) -> list[str]:
        """Names of the rows with a head."""
        return [*self.sources, *([SUPERVISED] if self.supervised is not None else [])]

    def rows(self) -> Iterator[Row]:
        """Every row, the untrained ones first; those that were done before are read."""
        yield from self.untrained_rows()
        yield from self.trained_rows(self.trained_names, range(self.seeds))

    def untrained_rows(self) -> Iterator[Row]:
        """Answers that need no training."""
        train, tests = self._all_items
        untrained = self._untrained(train, tests)
        for name in _names(untrained):
            path = self._untrained_file(name, train, tests)
            row = read_row(path)
            if row is None:
                metrics = {}
                for split, test in tests.items():
                    if name in untrained[split]:
                        pairs = zip(untrained[split][name](), test.truths(), strict=True)
                        metrics[split] = self.probe.evaluate(self.progress(pairs, f"{name}, {split}", len(test)), 0.5)
                row = Row(name, "", 1.0, 0, metrics, 0.5, "")
                keep_row(path, row)
            yield row

    def trained_rows(self, names: Collection[str], seeds: Iterable[int]) -> Iterator[Row]:
        """Rows with a head, for some of :attr:`trained_names` and some seeds."""
        _, tests = self._all_items
        for share in self.label_shares:
            for seed in seeds:
                train = self._labelled(share, seed)
                for key in self._trained_keys(names, share, seed):
                    if key.name == SUPERVISED:
                        yield self._supervised_row(seed, train, tests, share)
                    else:
                        source = self.sources[key.name][seed]
                        yield self._trained_row(source, key.name, key.head, seed, train, tests, share)

    def kept(self) -> dict[RowKey, Row | None]:
        """Every row, in order, as far as it was done before: None for those that :meth:`rows` would compute."""
        train, tests = self._all_items
        rows = {
            RowKey(name, "", 1.0, 0): read_row(self._untrained_file(name, train, tests))
            for name in _names(self._untrained(train, tests))
        }
        for share in self.label_shares:
            for seed in range(self.seeds):
                train = self._labelled(share, seed)
                for key in self._trained_keys(self.trained_names, share, seed):
                    row = read_row(self._trained_file(key.name, key.head, seed, train, tests, share))
                    rows[key] = row if row is not None and self.has_weights(row) else None
        return rows

    def items(self, dataset: NuScenesClips) -> Items:
        """All items of a data set."""
        return Items(self.probe, dataset, list(range(len(dataset))))

    def embed(self, source: Source, items: Items, what: str) -> Features:
        """Features of the items, kept on disk."""
        clips = self.progress(items.clips, f"embedding {what}: {source.name}", len(items.clips))
        return embed_clips(source, self.probe.view, items.dataset, clips, items.per_clip, self.features)

    @cached_property
    def _all_items(self) -> tuple[Items, dict[str, Items]]:
        """Of training, and of each test split; made once, for their fingerprints ask for every sensor file."""
        return self.items(self.train), {name: self.items(dataset) for name, dataset in self.tests.items()}

    def _labelled(self, share: float, seed: int) -> Items:
        """The training items whose labels a head sees; all shares keep the same truths in memory."""
        train, _ = self._all_items
        if share == 1:
            return train
        if (share, seed) not in self._labelled_items:
            self._labelled_items[share, seed] = train.of_clips(share_of_scenes(self.train, share, seed))
        return self._labelled_items[share, seed]

    def _trained_keys(self, names: Collection[str], share: float, seed: int) -> Iterator[RowKey]:
        """Rows of one share and seed; none of an encoder that there is not."""
        for name in names:
            if name == SUPERVISED:
                yield RowKey(name, self.supervised.head, share, seed)
            elif self.sources[name][seed] is not None:
                yield from (RowKey(name, head, share, seed) for head in self.heads)

    def _untrained(self, train: Items, tests: dict[str, Items]) -> dict[str, dict[str, Callable[[], Iterator]]]:
        """By test split, the answers that need no training."""
        return {split: dict(self.probe.untrained(train, test)) for split, test in tests.items()}

    def _trained_row(
        self, source: Source, name: str, head_name: str, seed: int, train: Items, tests: dict[str, Items], share: float
    ) -> Row:
        """A head on frozen features."""
        training = self.heads[head_name]
        path = self._trained_file(name, head_name, seed, train, tests, share)
        row = read_row(path)
        if row is not None and self.has_weights(row):
            return row
        features = self.embed(source, train, "training clips")
        head = new_head(training.kind, self.probe.outputs, source.grid, self.probe.grid, features, seed)

        def loss(logits: torch.Tensor, items: list[int], window: Window) -> torch.Tensor:
            return self.probe.loss(logits, [train.truth(item) for item in items], window)

        train_head(head, features, loss, training, seed)
        return self._measured(Row(name, head_name, share, seed, {}, 0.5, ""), path, source, head, train, tests)

    def _supervised_row(self, seed: int, train: Items, tests: dict[str, Items], share: float) -> Row:
        """Encoder and head trained together, from the weights of the random-init row."""
        start, training = self.sources[RANDOM_INIT][seed], self.supervised
        path = self._trained_file(SUPERVISED, training.head, seed, train, tests, share)
        row = read_row(path)
        if row is not None and self.has_weights(row):
            return row
        jepa = copy.deepcopy(start.jepa)
        features = self.embed(start, train, "training clips")
        head = new_head(training.head, self.probe.outputs, start.grid, self.probe.grid, features, seed)
        train_supervised(jepa, head, train, training, seed)
        save_weights(path.with_suffix(ENCODER_SUFFIX), jepa)
        source = Source.of_model(SUPERVISED, jepa, start.fingerprint)
        return self._measured(
            Row(SUPERVISED, training.head, share, seed, {}, 0.5, ""), path, source, head, train, tests
        )

    def _measured(
        self, row: Row, path: Path, source: Source, head: DenseHead, train: Items, tests: dict[str, Items]
    ) -> Row:
        """The row with its threshold and metrics, kept with its head."""
        threshold = self.probe.tune(self.pairs(head, self.embed(source, train, "training clips"), train))
        metrics = {}
        for split, test in tests.items():
            pairs = self.pairs(head, self.embed(source, test, f"{split} clips"), test)
            metrics[split] = self.probe.evaluate(self.progress(pairs, f"{row.title}, {split}", len(test)), threshold)
        head_file = path.with_suffix(".pth")
        save_weights(head_file, head)
        row = replace(row, metrics=metrics, threshold=threshold, head_file=str(head_file.relative_to(self.folder)))
        keep_row(path, row)
        return row

    @torch.inference_mode()
    def logits(self, row: Row, dataset: NuScenesClips, clip: int) -> torch.Tensor:
        """What a trained row says of a clip, (items, K, Y, X).

        Raises:
            CheckpointError: its weights are damaged.
        """
        if row.head_file not in self._opened:
            self._opened.clear()  # of one row at a time
            self._opened[row.head_file] = self._open(row)
        source, head = self._opened[row.head_file]
        items = Items(self.probe, dataset, [clip])
        features = embed_clips(source, self.probe.view, dataset, [clip], items.per_clip, self.features)
        return head(features[list(range(len(items)))])

    def has_weights(self, row: Row) -> bool:
        """The files of a trained row's weights are there."""
        return all((self.folder / file).is_file() for file in weight_files(row))

    def _open(self, row: Row) -> tuple[Source, DenseHead]:
        """Where a trained row's features come from, and its head."""
        state = read_weights(self.folder / row.head_file)
        source, kind = self._source_of(row)
        moments = state["mean"][:, 0, 0], state["std"][:, 0, 0]
        head = DenseHead(kind, self.probe.outputs, source.grid, self.probe.grid, *moments)
        head.load_state_dict(state)
        return source, head.eval()

    def _source_of(self, row: Row) -> tuple[Source, HeadKind]:
        """Where a trained row's features come from, and the kind of its head."""
        if row.name != SUPERVISED:
            return self.sources[row.name][row.seed], self.heads[row.head].kind
        start = self.sources[RANDOM_INIT][row.seed]
        jepa = copy.deepcopy(start.jepa)
        jepa.load_state_dict(read_weights(self.folder / weight_files(row)[1]))
        return Source.of_model(SUPERVISED, jepa, start.fingerprint), self.supervised.head

    @torch.inference_mode()
    def pairs(self, head: DenseHead, features: Features, items: Items) -> Iterator[tuple]:
        """Answers of a head beside the truth, item by item."""
        for item in range(len(items)):
            truth = items.truth(item)
            yield self.probe.answer(head(features[[item]])[0], truth), truth

    def file_of(self, row: Row) -> Path | None:
        """Where a trained row of this study is kept, None for one that it does not have; another study's has another name."""
        is_frozen = row.name in self.sources and row.head in self.heads
        is_supervised = self.supervised is not None and (row.name, row.head) == (SUPERVISED, self.supervised.head)
        if not is_frozen and not is_supervised:
            return None
        train, (_, tests) = self._labelled(row.label_share, row.seed), self._all_items
        return self._trained_file(row.name, row.head, row.seed, train, tests, row.label_share)

    def _untrained_file(self, name: str, train: Items, tests: dict[str, Items]) -> Path:
        return self._row_file(name, "", 1.0, 0, self._key(name, train, tests))

    def _trained_file(
        self, name: str, head: str, seed: int, train: Items, tests: dict[str, Items], share: float
    ) -> Path:
        if name == SUPERVISED:
            source, training = self.sources[RANDOM_INIT][seed], self.supervised
        else:
            source, training = self.sources[name][seed], self.heads[head]
        return self._row_file(name, head, share, seed, self._key(source.fingerprint, train, tests, repr(training)))

    def _key(self, source: str, train: Items, tests: dict[str, Items], training: str = "") -> str:
        """Of everything that decides a row."""
        parts = [source, training, repr(self.probe), code_fingerprint(ROW_CODE), train.fingerprint]
        parts += [f"{name} {test.fingerprint}" for name, test in tests.items()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def _row_file(self, name: str, head: str, share: float, seed: int, key: str) -> Path:
        slug = "-".join([*filter(None, [name, head]), f"{share:g}", f"seed{seed}"]).replace(" ", "_").replace("/", "_")
        return self.folder / "rows" / f"{slug}-{key}.json"


def _names(untrained: dict[str, dict[str, Callable]]) -> list[str]:
    """Of answers that at least one split has."""
    return list(dict.fromkeys(name for answers in untrained.values() for name in answers))


def share_of_scenes(dataset: NuScenesClips, share: float, seed: int) -> list[int]:
    """Clips of a share of the scenes, drawn by the seed; of a single scene, its first clips, when there are too few scenes.

    The order of scenes is one per seed, so that a larger share holds every smaller one.
    """
    scene_of_clip = dataset.index.scene[dataset.clips[:, dataset.num_context - 1]]
    scenes = np.random.default_rng(seed).permutation(np.unique(scene_of_clip))
    wanted = share * len(scenes)
    if share >= 1:
        return list(range(len(dataset)))
    chosen = scenes[: max(1, math.floor(wanted))]
    clips = np.flatnonzero(np.isin(scene_of_clip, chosen))
    if wanted < 1:
        clips = clips[: max(1, math.ceil(wanted * len(clips)))]
    return clips.tolist()


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a state dict."""
    with replacing(path) as temporary:
        torch.save(module.state_dict(), temporary)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """A state dict.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:  # torch raises a different type for each kind of damage
        raise CheckpointError(f"{path}: damaged; remove it and run tools/probe.py again") from error


def weight_files(row: Row) -> list[str]:
    """Of a trained row, relative to the study's folder: of its head, and of its encoder if that was trained with it."""
    encoder = [str(Path(row.head_file).with_suffix(ENCODER_SUFFIX))] if row.name == SUPERVISED else []
    return [row.head_file, *encoder]


def keep_row(path: Path, row: Row) -> None:
    """Write a finished row."""
    write_json(path, asdict(row))


def read_row(path: Path) -> Row | None:
    """A row that was finished before; None if there is none, or it is damaged."""
    try:
        return Row(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
