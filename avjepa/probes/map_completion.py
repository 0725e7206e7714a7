"""Map probe: the map around the car from a frozen embedding, where sensors see it and, above all, where they do not.

Truth: map_labels.py. Metrics: metrics/map_iou.py; completion is scored only on cells that no context keyframe observes.
Letters: see conventions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from avjepa.bev.cell_states import lidar_cell_states
from avjepa.conventions import UNOBSERVED
from avjepa.errors import DataError
from avjepa.geometry.resample import Window
from avjepa.probes.colours import found_and_missed, map_panel, mean_entropy_panel
from avjepa.probes.frozen import PresentView
from avjepa.probes.map_baselines import NearestPoseMap, mean_map
from avjepa.probes.map_files import load_map, load_prior_map
from avjepa.probes.map_labels import MAP_GRID, DrivableMask, VectorMap
from avjepa.probes.metrics.map_iou import MAP_CLASSES, MapIoU
from avjepa.probes.task import NEAR_M, Items, Panels, Probe
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips

STRATA = {"hidden_near": "unobserved, within 25 m", "hidden": "unobserved", "all": "all cells"}
MODES = {"iou@0.50": "at .5", "iou@max": "best threshold"}
COLUMNS = {
    f"miou_{stratum}_{mode}": f"mIoU, {title}, {how}"
    for stratum, title in STRATA.items()
    for mode, how in MODES.items()
}

cached_map = cache(load_map)
cached_prior_map = cache(load_prior_map)


@dataclass(frozen=True)
class MapTruth:
    """One keyframe.

    Attributes:
        classes: (C, Y, X) bool.
        hidden: (Y, X) bool, cells that no LiDAR ray of the context observes.
        global_T_ego: (4, 4).
        root, city: where its map is.
    """

    classes: torch.Tensor
    hidden: torch.Tensor
    global_T_ego: np.ndarray
    root: Path
    city: str


@dataclass(frozen=True)
class MapProbe(Probe[MapTruth, torch.Tensor]):
    """An answer is the probability of each class (C, Y, X).

    Attributes:
        classes: those that every map of the data has.
    """

    classes: tuple[str, ...] = MAP_CLASSES
    name = "map"
    grid = MAP_GRID
    view = PresentView()
    columns = COLUMNS
    label_files = ("maps/**/*", "v1.0-*/map.json", "v1.0-*/log.json")
    convention = (
        "BEVFusion's classes, grid (+-50 m, 0.5 m) and IoU over the data set: at threshold .5, and the best of .35 to .65 for each "
        "class, which is optimistic; mean over the classes that occur among the counted cells; unobserved: by no LiDAR ray of a "
        "context keyframe; answers reach as far as the model's grid"
    )

    @property
    def outputs(self) -> int:
        """One logit a class."""
        return len(self.classes)

    def truth(self, dataset: NuScenesClips, clip: int) -> list[MapTruth]:
        """The map at the present pose.

        Raises:
            DataError: the root has no map of the city, or one without some of the classes.
        """
        frames = dataset[clip]
        city = city_of(dataset, frames.now.scene)
        observed = (lidar_cell_states(collate_clips([frames]).context_in_now(), self.grid) != UNOBSERVED).any(0)
        classes = self._labels(cached_map(dataset.root, city), frames.now.global_T_ego, city)
        return [MapTruth(classes, ~observed, frames.now.global_T_ego, dataset.root, city)]

    def loss(self, logits: torch.Tensor, truths: list[MapTruth], window: Window) -> torch.Tensor:
        """Binary cross-entropy; a rare class counts for more where it is true."""
        answer = torch.stack([truth.classes[:, window[0], window[1]] for truth in truths]).to(logits)  # (b, C, h, w)
        share = answer.mean((0, 2, 3)).clamp(1e-4, 1)
        weight = ((1 - share) / share).sqrt().clamp(1, 10)[:, None, None]
        return F.binary_cross_entropy_with_logits(logits, answer, pos_weight=weight)

    def answer(self, logits: torch.Tensor, truth: MapTruth) -> torch.Tensor:
        """Probabilities."""
        return logits.sigmoid()

    def untrained(self, train: Items, test: Items) -> Iterator[tuple[str, Callable[[], Iterator[torch.Tensor]]]]:
        """The prior map, where there is one; the mean map; the map of the nearest training pose."""
        if all(cached_prior_map(truth.root, truth.city) is not None for truth in test.truths()):
            yield "prior map, copied", lambda: map(self._prior, test.truths())
        yield "mean map", lambda: repeat(mean_map(truth.classes for truth in train.truths()), len(test))
        yield "map of the nearest training pose", lambda: self._nearest(train, test)

    def evaluate(self, pairs: Iterable[tuple[torch.Tensor, MapTruth]], threshold: float) -> dict[str, float]:
        """MIoU of each stratum and mode, and each class's IoU on unobserved cells; nan where no cell or no class counts."""
        counts = {stratum: MapIoU(self.classes) for stratum in STRATA}
        has_cells = dict.fromkeys(STRATA, False)
        near = (self.grid.cell_centres().abs() < NEAR_M).all(-1)
        for answer, truth in pairs:
            counted = {"hidden_near": truth.hidden & near, "hidden": truth.hidden, "all": torch.ones_like(truth.hidden)}
            for stratum, count in counts.items():
                count.add(answer, truth.classes, counted[stratum])
                has_cells[stratum] |= bool(counted[stratum].any())
        names = [*self.columns, *(f"bevfusion_{mode}" for mode in MODES)]
        metrics = dict.fromkeys([*names, *(f"hidden_near_iou_of_{name}" for name in self.classes)], float("nan"))
        scores = {stratum: counts[stratum].scores() for stratum in STRATA if has_cells[stratum]}
        for stratum, score in scores.items():
            metrics |= {f"miou_{stratum}_{mode}": score.mean_over_occurring(mode) for mode in MODES}
        if "all" in scores:
            metrics |= {f"bevfusion_{mode}": scores["all"].mean(mode) for mode in MODES}
        if "hidden_near" in scores:
            found = zip(scores["hidden_near"].per_class("iou@0.50").items(), scores["hidden_near"].occurs, strict=True)
            metrics |= {f"hidden_near_iou_of_{name}": value for (name, value), occurs in found if occurs}
        return metrics

    def truth_panels(self, truth: MapTruth) -> Panels:
        """Classes over each other; observed cells are paler."""
        return Panels(map_panel(truth.classes.float(), self.classes, pale=~truth.hidden))

    def panels(self, answer: torch.Tensor, truth: MapTruth, threshold: float, logits: torch.Tensor | None) -> Panels:
        """Classes over each other, cells with a missed or an invented class, and the mean entropy."""
        predicted = answer >= 0.5
        missed, invented = (truth.classes & ~predicted).any(0), (predicted & ~truth.classes).any(0)
        error = found_and_missed(truth.classes.any(0), missed, invented, pale=~truth.hidden)
        return Panels(map_panel(answer, self.classes), error, None if logits is None else mean_entropy_panel(logits))

    def _labels(self, found: VectorMap | DrivableMask, global_T_ego: np.ndarray, city: str) -> torch.Tensor:
        lacking = set(self.classes) - set(found.classes)
        if lacking:
            raise DataError(
                f"the map of {city} holds {', '.join(found.classes)}, not {', '.join(sorted(lacking))}: add nuScenes's map "
                f"expansion 1.3, or set the probe's classes to {found.classes}"
            )
        return found.labels(global_T_ego, self.grid)[[found.classes.index(name) for name in self.classes]]

    def _prior(self, truth: MapTruth) -> torch.Tensor:
        return self._labels(cached_prior_map(truth.root, truth.city), truth.global_T_ego, truth.city).float()

    def _nearest(self, train: Items, test: Items) -> Iterator[torch.Tensor]:
        poses, cities = [], []

        def classes() -> Iterator[torch.Tensor]:  # one pass for all three: truths of many clips are not kept
            for truth in train.truths():
                poses.append(truth.global_T_ego)
                cities.append(truth.city)
                yield truth.classes

        mean = mean_map(classes())
        nearest = NearestPoseMap(np.stack(poses), cities, lambda i: train.truth(i).classes, mean, self.grid)
        return (nearest(truth.global_T_ego, truth.city)[0] for truth in test.truths())


def city_of(dataset: NuScenesClips, scene: str) -> str:
    """Where a scene was driven."""
    index = dataset.index
    return str(index.scene_city[index.scene_name == scene][0])
