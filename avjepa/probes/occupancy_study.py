"""The occupancy table: pretrained, random-init and raw features under the same head, beside answers that need no head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch

from avjepa.geometry.grid import BEVGrid
from avjepa.jepa.model import BEVJEPA
from avjepa.jepa.target_encoder import normalised
from avjepa.probes.baselines import last_seen, raw_features
from avjepa.probes.heads import HeadTraining, head_scores, train_head
from avjepa.probes.metrics.binary import auroc, best_threshold, binary_iou
from avjepa.probes.occupancy import OccupancyTargets, occupancy_targets
from avjepa.sensors.sample import ClipBatch

STRATA = ("known", "hidden", "never_seen")


@dataclass(frozen=True)
class ProbeData:
    """Everything the heads need of one set of clips: features by name (n, C, Y, X), scores that need no head, targets."""

    features: dict[str, torch.Tensor]
    scores: dict[str, torch.Tensor]
    targets: OccupancyTargets


@dataclass(frozen=True)
class ProbeResult:
    """One row and seed of the table.

    Attributes:
        row: name of the features or the baseline.
        seed: seed of the head and, for a random-init encoder, of the encoder.
        metrics: "iou_<stratum>" and "auroc_<stratum>" for each of STRATA, on the test clips.
        score: probability of occupied (n, Y, X) on the test clips.
        threshold: chosen on the training clips.
    """

    row: str
    seed: int
    metrics: dict[str, float]
    score: torch.Tensor
    threshold: float


@torch.no_grad()
def embed(jepa: BEVJEPA, clips: ClipBatch) -> torch.Tensor:
    """What a probe reads (B, 2 C, Y, X): the normalised state over time and the normalised present embedding, unmasked."""
    state, z = jepa.encode_context(clips)
    return torch.cat([normalised(state), normalised(z)], 1)


@torch.no_grad()
def extract(batches: Iterable[ClipBatch], encoders: dict[str, BEVJEPA], grid: BEVGrid) -> ProbeData:
    """Features of every encoder and of the raw input, scores of the baselines, and targets, for all batches of clips."""
    readers: dict[str, Callable[[ClipBatch], torch.Tensor]] = {
        name: partial(embed, jepa.eval()) for name, jepa in encoders.items()
    }
    readers["raw input"] = lambda clips: raw_features(clips, grid)
    features: dict[str, list[torch.Tensor]] = {name: [] for name in readers}
    copied, targets = [], []
    for clips in batches:
        for name, read in readers.items():
            features[name].append(read(clips).cpu())
        copied.append(last_seen(clips, grid).cpu())
        targets.append(occupancy_targets(clips, grid))
    copied = torch.cat(copied)
    return ProbeData(
        features={name: torch.cat(parts) for name, parts in features.items()},
        scores={"last seen": copied, "all occupied": torch.ones_like(copied)},
        targets=OccupancyTargets.joined(targets),
    )


def evaluate_features(
    train: ProbeData, test: ProbeData, name: str, row: str, training: HeadTraining, seed: int
) -> ProbeResult:
    """Train a head on the features ``name`` of the training clips and test it."""
    targets = train.targets
    head = train_head(train.features[name], targets.occupied, targets.known, training, seed)
    threshold = best_threshold(head_scores(head, train.features[name]), targets.occupied, targets.known)
    score = head_scores(head, test.features[name])
    return ProbeResult(row, seed, evaluate(score, threshold, test.targets), score, threshold)


def evaluate_score(test: ProbeData, name: str) -> ProbeResult:
    """Test a baseline that needs no head; above one half counts as occupied."""
    score = test.scores[name]
    return ProbeResult(name, 0, evaluate(score, 0.5, test.targets), score, 0.5)


def evaluate(score: torch.Tensor, threshold: float, targets: OccupancyTargets) -> dict[str, float]:
    """IoU of occupied and AUROC on each stratum of cells."""
    metrics = {}
    for stratum in STRATA:
        counted = getattr(targets, stratum)
        metrics[f"iou_{stratum}"] = binary_iou(score > threshold, targets.occupied, counted)
        metrics[f"auroc_{stratum}"] = auroc(score, targets.occupied, counted)
    return metrics
