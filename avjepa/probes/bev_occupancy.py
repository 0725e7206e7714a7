"""BEV occupancy probe: what stands in each BEV cell now, seen or not. It needs no label.

Targets come from LiDAR rays of all keyframes of a clip: a cell observed now has its present state; a cell not observed now has
the state that most of the other keyframes saw there. Letters: see conventions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from avjepa.bev.cell_states import lidar_cell_states
from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.resample import Window
from avjepa.probes.baselines import last_seen
from avjepa.probes.colours import entropy_panel, grey_panel, hits_and_misses, state_panel
from avjepa.probes.frozen import PresentView
from avjepa.probes.heads import balanced_bce
from avjepa.probes.metrics.binary import auroc, best_threshold, binary_iou
from avjepa.probes.task import Items, Panels, Probe
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.sample import ClipBatch

STRATA = {"known": "all known cells", "hidden": "hidden now", "never_seen": "never seen"}


@dataclass(frozen=True)
class OccupancyTargets:
    """Targets and strata of clips, all (B, Y, X) bool, in the present ego frame.

    Attributes:
        occupied: the answer.
        known: the answer is known.
        hidden: known, but not observed by the present keyframe.
        never_seen: known, but not observed by any context keyframe: only the future tells.
    """

    occupied: torch.Tensor
    known: torch.Tensor
    hidden: torch.Tensor
    never_seen: torch.Tensor


def occupancy_targets(clips: ClipBatch, grid: BEVGrid) -> OccupancyTargets:
    """Occupancy now, from the rays of every keyframe of each clip moved into the present ego frame.

    Cells not observed now take the majority of the other keyframes, so that a car that passes later leaves no trace; a
    tie is unknown.
    """
    states = lidar_cell_states(clips.all_in_now(), grid).unflatten(0, clips.shape)  # (B, S, Y, X)
    now = states[:, clips.num_context - 1]
    observed_now = now != UNOBSERVED
    occupied_votes, free_votes = (states == OCCUPIED).sum(1), (states == FREE).sum(1)
    known = observed_now | (occupied_votes != free_votes)
    return OccupancyTargets(
        occupied=torch.where(observed_now, now == OCCUPIED, occupied_votes > free_votes),
        known=known,
        hidden=known & ~observed_now,
        never_seen=known & (states[:, : clips.num_context] == UNOBSERVED).all(1),
    )


@dataclass(frozen=True)
class BEVOccupancyTruth:
    """One clip: targets (each (Y, X)) and the answer that copies what the context saw last."""

    targets: OccupancyTargets
    last_seen: torch.Tensor


@dataclass(frozen=True)
class BEVOccupancyProbe(Probe[BEVOccupancyTruth, torch.Tensor]):
    """An answer is the probability of occupied (Y, X) on ``grid``."""

    grid: BEVGrid
    name = "bev_occupancy"
    outputs = 1
    view = PresentView()
    columns = {f"iou_{key}": f"IoU, {title}" for key, title in STRATA.items()} | {
        f"auroc_{key}": f"AUROC, {title}" for key, title in STRATA.items()
    }
    convention = (
        "BEV occupancy from LiDAR rays of the clip's keyframes; IoU of occupied at the threshold with the best IoU on the "
        "training clips; hidden: not observed by the present keyframe; never seen: not observed by any context keyframe"
    )

    def truth(self, dataset: NuScenesClips, clip: int) -> list[BEVOccupancyTruth]:
        """From the rays of all keyframes of the clip."""
        clips = collate_clips([dataset[clip]])
        targets = occupancy_targets(clips, self.grid)
        single = OccupancyTargets(targets.occupied[0], targets.known[0], targets.hidden[0], targets.never_seen[0])
        return [BEVOccupancyTruth(single, last_seen(clips, self.grid)[0])]

    def loss(self, logits: torch.Tensor, truths: list[BEVOccupancyTruth], window: Window) -> torch.Tensor:
        """Binary cross-entropy on the known cells, both answers weighted equally."""
        occupied = torch.stack([truth.targets.occupied[window] for truth in truths])
        known = torch.stack([truth.targets.known[window] for truth in truths])
        return balanced_bce(logits[:, 0], occupied, known)

    def answer(self, logits: torch.Tensor, truth: BEVOccupancyTruth) -> torch.Tensor:
        """Probability."""
        return logits[0].sigmoid()

    def untrained(self, train: Items, test: Items) -> Iterator[tuple[str, Callable[[], Iterator[torch.Tensor]]]]:
        """The state that the context saw last, and occupied everywhere."""
        yield "last seen, copied", lambda: (truth.last_seen for truth in test.truths())
        yield "all occupied", lambda: (torch.ones(self.grid.shape_yx) for _ in range(len(test)))

    def tune(self, pairs: Iterable[tuple[torch.Tensor, BEVOccupancyTruth]]) -> float:
        """The threshold with the best IoU."""
        scores, truths = zip(*pairs, strict=True)
        occupied = torch.stack([truth.targets.occupied for truth in truths])
        known = torch.stack([truth.targets.known for truth in truths])
        return best_threshold(torch.stack(scores), occupied, known)

    def evaluate(self, pairs: Iterable[tuple[torch.Tensor, BEVOccupancyTruth]], threshold: float) -> dict[str, float]:
        """IoU of occupied and AUROC on each stratum of cells."""
        scores, truths = zip(*pairs, strict=True)
        score = torch.stack(scores)
        occupied = torch.stack([truth.targets.occupied for truth in truths])
        metrics = {}
        for stratum in STRATA:
            counted = torch.stack([getattr(truth.targets, stratum) for truth in truths])
            metrics[f"iou_{stratum}"] = binary_iou(score > threshold, occupied, counted)
            metrics[f"auroc_{stratum}"] = auroc(score, occupied, counted)
        return metrics

    def truth_panels(self, truth: BEVOccupancyTruth) -> Panels:
        """Occupied, free, unknown; hidden cells keep full colour."""
        targets = truth.targets
        states = torch.where(targets.known, torch.where(targets.occupied, OCCUPIED, FREE), UNOBSERVED)
        return Panels(state_panel(states, pale=targets.known & ~targets.hidden))

    def panels(
        self, answer: torch.Tensor, truth: BEVOccupancyTruth, threshold: float, logits: torch.Tensor | None
    ) -> Panels:
        """Probability, errors, and entropy."""
        targets = truth.targets
        error = hits_and_misses(answer > threshold, targets.occupied, targets.known, pale=~targets.hidden)
        return Panels(grey_panel(answer), error, None if logits is None else entropy_panel(logits))
