"""Dynamic filtering probe: which LiDAR returns of the present keyframe belong to something that moves, and a map without them.

A head reads a logit for every voxel off the residual between the static scene that past embeddings predict and the present
embedding (residual.py); a return has the score of its voxel. Metrics: metrics/dynamic_map.py and metrics/moving_objects.py.
Letters: see conventions.py.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from avjepa.errors import ConfigError
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.resample import Window
from avjepa.probes.colours import entropy_panel, hits_and_misses, returns_panel
from avjepa.probes.dufomap_baseline import DufomapSettings
from avjepa.probes.metrics.binary import auroc
from avjepa.probes.metrics.dynamic_map import DynamicMapScore, best_ha_threshold, removed_points, score_labels
from avjepa.probes.metrics.moving_objects import MovingConfusion, MovingObjects
from avjepa.probes.moving_scans import MovingLabels, MovingScan, WholeDriveMethod, read_moving_scan, whole_drive_answer
from avjepa.probes.residual import ResidualView
from avjepa.probes.task import NEAR_M, Items, Panels, Probe
from avjepa.probes.visibility import VisibilityCheck
from avjepa.sensors.nuscenes_dataset import NuScenesClips

HA_SLACK = 1.0  # percent points
COLUMNS = {
    "ha": "HA %",
    "sa": "SA %",
    "da": "DA %",
    "aa": "AA %",
    "ha_near": "HA %, within 25 m",
    "ha_map": "HA %, cleaned map",
    "auroc": "AUROC %",
    "iou": "MOS IoU %",
    "found": "objects found %",
}
TRUTHS = {
    "boxes": "returns in boxes whose first attribute is vehicle.moving, cycle.with_rider or pedestrian.moving (MapMOS)",
    "motion files": "returns from what moves faster than .5 m/s (mini city)",
}
VISIBILITY = {
    "visibility check, whole drive": VisibilityCheck(),
    "visibility check of one scan, whole drive": VisibilityCheck(least_scans=1),
}
DUFOMAP = {
    "DUFOMap, whole drive": DufomapSettings(),
    "DUFOMap .2 m d_p 1, whole drive": DufomapSettings(voxel_m=0.2, unknown_margin_voxels=1),
}

log = logging.getLogger("avjepa")


@dataclass(frozen=True)
class DynamicProbe(Probe[MovingScan, np.ndarray]):
    """An answer is the score of moving of each return, (P,) float32 in [0, 1]; 0 beyond ``grid``.

    Attributes:
        grid: of the logits, one for each voxel.
        labels: where the truth comes from.
        view: what heads read.
        whole_drive_rows: compute the rows of methods that clean whole drives, which takes a minute or two a split.
    """

    grid: BEVGrid
    labels: MovingLabels = "boxes"
    view: ResidualView = field(default_factory=ResidualView)
    whole_drive_rows: bool = True
    name = "dynamic"
    columns = COLUMNS
    label_files = ("v1.0-*/*.json", "motion/*/*", "samples/LIDAR_TOP/*", "sweeps/LIDAR_TOP/*")  # whole drives

    def __post_init__(self) -> None:
        if self.labels not in TRUTHS:
            raise ValueError(f"unknown labels {self.labels!r}; want {', '.join(TRUTHS)}")

    @property
    def outputs(self) -> int:
        """One logit a voxel."""
        return self.grid.shape_zyx[0]

    @property
    def convention(self) -> str:
        """How the metrics are defined."""
        return (
            "returns of the keyframe's own sweep within 50 m of the LiDAR, not on the recording car; moving: "
            f"{TRUTHS[self.labels]}; HA, SA, DA, AA of the labels of returns, pooled over the split (DynamicMap_Benchmark's "
            "rates without its nearest-point search); cleaned map: all returns of a drive's keyframes that are called "
            "static, a return counts as removed when none of them is within .05 m, rates pooled over drives; MOS IoU as "
            "LiDAR-MOS; an object is found when half of its moving returns are; threshold: the lowest whose HA on the "
            f"training drives is within {HA_SLACK:g} point of the best there; AUROC needs none. Trained rows see the past and "
            "the present, keyframes only; rows of a whole drive see all its sweeps, "
            "later ones too, and no label"
        )

    def items_per_clip(self, dataset: NuScenesClips) -> int:
        """One.

        Raises:
            ConfigError: the clips have no past to hold the present against.
        """
        if dataset.num_context < 2:
            raise ConfigError("the dynamic probe wants clips of two context keyframes or more; set context_offsets")
        return 1

    def truth(self, dataset: NuScenesClips, clip: int) -> list[MovingScan]:
        """Labelled returns of the present keyframe.

        Raises:
            DataError: there is no table of boxes, no motion labels, or they are damaged.
        """
        # Of the clip that is read: another one, where a file of this one is corrupt.
        keyframe = int(np.flatnonzero(dataset.index.token == dataset[clip].now.token)[0])
        return [read_moving_scan(dataset.root, dataset.version, keyframe, self.labels)]

    def loss(self, logits: torch.Tensor, truths: list[MovingScan], window: Window) -> torch.Tensor:
        """Binary cross-entropy of the returns in the window, moving and static ones weighted equally."""
        rows, columns = window
        read, moves = [], []
        for answer, truth in zip(logits, truths, strict=True):
            (z, y, x), inside = self._voxels(truth.xyz_ego)
            here = inside & (y >= rows.start) & (y < rows.stop) & (x >= columns.start) & (x < columns.stop)
            here &= torch.from_numpy(truth.counted)
            read.append(answer[z[here], y[here] - rows.start, x[here] - columns.start])
            moves.append(torch.from_numpy(truth.moves)[here])
        read, moves = torch.cat(read), torch.cat(moves)
        share = moves.float().mean().clamp(1e-4, 1 - 1e-4)
        weight = torch.where(moves, 0.5 / share, 0.5 / (1 - share))
        return F.binary_cross_entropy_with_logits(read, moves.to(read), weight, reduction="sum") / max(len(read), 1)

    def answer(self, logits: torch.Tensor, truth: MovingScan) -> np.ndarray:
        """Probability of each return's voxel."""
        return self.scores(logits, truth.xyz_ego)

    def scores(self, logits: torch.Tensor, xyz_ego: np.ndarray) -> np.ndarray:
        """The same for returns (P, 3) without a truth: (P,) float32."""
        (z, y, x), inside = self._voxels(xyz_ego)
        return torch.where(inside, logits[z, y, x].float().sigmoid(), 0).numpy()

    def untrained(self, train: Items, test: Items) -> Iterator[tuple[str, Callable[[], Iterator[np.ndarray]]]]:
        """Nothing moves; what other scans see through; DUFOMap, if it is installed."""
        yield "all static", lambda: (np.zeros(len(truth), dtype=np.float32) for truth in test.truths())
        if not self.whole_drive_rows:
            return
        methods: dict[str, WholeDriveMethod] = dict(VISIBILITY)
        if importlib.util.find_spec("dufomap") is None:
            log.warning("no rows of DUFOMap: its package is not installed (pip install dufomap)")
        else:
            methods |= DUFOMAP
        for name, method in methods.items():
            yield name, lambda m=method: (whole_drive_answer(t, m).astype(np.float32) for t in test.truths())

    def tune(self, pairs: Iterable[tuple[np.ndarray, MovingScan]]) -> float:
        """The lowest threshold whose HA is within HA_SLACK of the best.

        A head is surer of the things it was fitted on than of others: with the threshold that is best for those it would
        miss most of what moves on other drives, while its static returns stay far below.
        """
        counted = [(score[truth.counted], truth.moves[truth.counted]) for score, truth in pairs]
        scores, moves = zip(*counted, strict=True)
        return best_ha_threshold(np.concatenate(scores), np.concatenate(moves), HA_SLACK)

    def evaluate(self, pairs: Iterable[tuple[np.ndarray, MovingScan]], threshold: float) -> dict[str, float]:
        """Rates in percent, pooled over the split; also of the cleaned map, and by category."""
        points, near, maps = (DynamicMapScore(0, 0, 0, 0) for _ in range(3))
        confusion, objects, scores = MovingConfusion(), [], []
        for _, drive in itertools.groupby(pairs, lambda pair: pair[1].scene):
            drive = list(drive)
            scores += [(score[truth.counted], truth.moves[truth.counted]) for score, truth in drive]
            answers = [(score > threshold, truth) for score, truth in drive]
            for moving, truth in answers:
                confusion += MovingConfusion.of(moving, truth.labels)
                objects.append(MovingObjects.of(moving, truth.labels, truth.thing, truth.category))
            moving = np.concatenate([moving for moving, _ in answers])
            moves, counted, xyz_ego, xyz_map = (
                np.concatenate([getattr(truth, name) for _, truth in answers])
                for name in ("moves", "counted", "xyz_ego", "xyz_map")
            )
            is_near = (np.abs(xyz_ego[:, :2]) < NEAR_M).all(1)
            points += _rates(moves, moving, counted)
            near += _rates(moves, moving, counted & is_near)
            maps += _rates(moves, removed_from_map(xyz_map, moving), counted)
        things = MovingObjects.joined(objects)
        metrics = {"ha": points.ha, "sa": points.sa, "da": points.da, "aa": points.aa}
        metrics |= {"ha_near": near.ha, "sa_near": near.sa, "da_near": near.da}
        metrics |= {"ha_map": maps.ha, "sa_map": maps.sa, "da_map": maps.da, "aa_map": maps.aa}
        metrics |= {
            "auroc": 100 * _auroc(scores),
            "iou": 100 * confusion.iou,
            "precision": 100 * confusion.precision,
            "found": 100 * things.recall(),
        }
        return metrics | {f"found_{name}": 100 * share for name, share in things.recall_by_category().items()}

    def truth_panels(self, truth: MovingScan) -> Panels:
        """Cells with returns, static or moving."""
        return Panels(returns_panel(self._cells(truth, truth.moves).float(), self._cells(truth)))

    def panels(self, answer: np.ndarray, truth: MovingScan, threshold: float, logits: torch.Tensor | None) -> Panels:
        """Cells by the highest score of their returns; errors of cells with a moving return; entropy of the highest logit."""
        seen = self._cells(truth)
        error = hits_and_misses(self._cells(truth, answer > threshold), self._cells(truth, truth.moves), seen)
        uncertainty = None if logits is None else entropy_panel(logits.amax(0, keepdim=True))
        return Panels(returns_panel(self._highest(truth, answer), seen), error, uncertainty)

    def _voxels(self, xyz_ego: np.ndarray) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Voxel (iz, iy, ix) of each return (P, 3), each (P,), and whether it is inside."""
        index_zyx, inside = self.grid.cell_index(torch.from_numpy(xyz_ego))
        return index_zyx.unbind(-1), inside

    def _cells(self, truth: MovingScan, chosen: np.ndarray | None = None) -> torch.Tensor:
        """(Y, X) bool: the cell has a return, a chosen one (P,) if given."""
        chosen = np.ones(len(truth)) if chosen is None else chosen
        return self._highest(truth, chosen.astype(np.float32)) > 0

    def _highest(self, truth: MovingScan, score: np.ndarray) -> torch.Tensor:
        """(Y, X) the highest score (P,) of a cell's returns; 0 without one."""
        (_, y, x), inside = self._voxels(truth.xyz_ego)
        cells = torch.zeros(self.grid.shape_yx)
        flat = (y * cells.shape[1] + x)[inside]
        cells.view(-1).scatter_reduce_(0, flat, torch.from_numpy(score)[inside], "amax")
        return cells


@dataclass(frozen=True)
class ResidualNormProbe(DynamicProbe):
    """The residual without a head worth the name: its norm is the score of a cell.

    A linear head on this one channel can only shift and scale it; labels choose the sign and the threshold, and no more. Take a
    grid of one layer.
    """

    view: ResidualView = field(default_factory=lambda: ResidualView(norm_only=True))
    name = "dynamic_residual"


def removed_from_map(xyz_map: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """(P,) bool: none of the returns called static is at the place of a return, of all returns (P, 3) of a drive.

    A return called static is there itself, so only the others are searched for.
    """
    removed = moving.copy()
    removed[moving] = removed_points(xyz_map[moving], xyz_map[~moving])
    return removed


def _rates(moves: np.ndarray, moving: np.ndarray, counted: np.ndarray) -> DynamicMapScore:
    """Counts of the returns that count, maybe none."""
    if not counted.any():
        return DynamicMapScore(0, 0, 0, 0)
    return score_labels(moves[counted], moving[counted])


def _auroc(scores: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of all returns that count."""
    score, moves = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*scores, strict=True))
    return auroc(score, moves, torch.ones_like(moves))
