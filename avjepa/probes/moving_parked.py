"""Moving or parked: of the cells that a movable thing fills now, which belong to a thing that moves?

The question leaves out everything that no one expects to move, so that telling cars from houses does not answer it; the columns
of cars, trucks and buses leave out people and cycles, too. What is left is motion, or what goes with it: lanes, parking rows.
Letters: see conventions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from avjepa.bev.cell_states import OBSTACLE_HEIGHT_M, height_above_ground, lidar_cell_states
from avjepa.conventions import FREE, OCCUPIED
from avjepa.errors import ConfigError
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.resample import Window
from avjepa.probes.boxes import KeyframeBoxes, box_of_points, boxes_of
from avjepa.probes.colours import entropy_panel, hits_and_misses, motion_panel
from avjepa.probes.frozen import PresentView
from avjepa.probes.heads import balanced_bce
from avjepa.probes.metrics.binary import auroc, average_precision
from avjepa.probes.moving_labels import moving_boxes
from avjepa.probes.task import Items, Panels, Probe
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.sample import FrameBatch

MOVABLE = ("vehicle.", "human.")  # how the categories begin
# Without trailers and construction vehicles, which are parked nearly always: their shape would be the answer.
CARS = ("vehicle.car", "vehicle.truck", "vehicle.bus.", "vehicle.emergency.")
GROUPS = {"all": "", "cars": ", cars, trucks, buses"}
COLUMNS = {
    f"{metric}_{group}": title + of_group
    for group, of_group in GROUPS.items()
    for metric, title in (("auroc", "AUROC"), ("ap", "AP"), ("things_auroc", "AUROC of things"))
}
MOVING_MPS = 0.5  # as the mini city's motion files have it


@dataclass(frozen=True)
class MovingParkedTruth:
    """One clip: its n movable things and the cells that they fill now, in the present ego frame.

    Attributes:
        occupied: (Y, X) bool, something stands in the cell, movable or not.
        thing: (Y, X) int64, number of the thing in the cell; -1 where there is none.
        moves: (n,) bool.
        is_known: (n,) bool, attribute and speed agree on whether it moves.
        is_car: (n,) bool, a car, a truck or a bus.
        seen_free: (Y, X) bool, some past frame saw the cell free.
        was_free: (Y, X) float32, mean over the past frames: 1 free, 0 occupied, one half not observed.
    """

    occupied: torch.Tensor
    thing: torch.Tensor
    moves: torch.Tensor
    is_known: torch.Tensor
    is_car: torch.Tensor
    seen_free: torch.Tensor
    was_free: torch.Tensor

    @property
    def counted(self) -> torch.Tensor:
        """(Y, X) bool: the cell belongs to a thing whose motion is known."""
        return self._of_cells(self.is_known)

    @property
    def moving(self) -> torch.Tensor:
        """(Y, X) bool: the cell belongs to a thing that moves."""
        return self._of_cells(self.is_known & self.moves)

    def _of_cells(self, chosen: torch.Tensor) -> torch.Tensor:
        """(Y, X) bool: the cell belongs to one of the chosen things (n,)."""
        return torch.cat([chosen, chosen.new_zeros(1)])[self.thing]  # number -1 reads the last one


@dataclass(frozen=True)
class MovingParkedProbe(Probe[MovingParkedTruth, torch.Tensor]):
    """An answer is the probability of moving (Y, X) on ``grid``; only the cells of movable things are read."""

    grid: BEVGrid
    name = "moving_parked"
    outputs = 1
    view = PresentView()
    label_files = ("v1.0-*/*.json",)
    columns = COLUMNS
    convention = (
        "cells in which a return of the keyframe's own sweep lies .4 to 3 m above ground and in the box of a vehicle or a person "
        "(of several, the one with most returns in the cell); moving: the box's first attribute is vehicle.moving, "
        "cycle.with_rider or pedestrian.moving and its centre moves at .5 m/s or faster (box_velocity); parked: another "
        "attribute, and slower; things whose attribute and speed disagree, or which lack one, are left out and counted "
        "(things_left_out); AUROC and AP of moving against parked, pooled over the cells of the split; of things: a thing's score "
        "is the mean over its cells, and a thing counts once in every keyframe; cars, trucks, buses: police and ambulance among "
        "them, trailers and construction vehicles not; the AP of answers that say nothing is the share of moving cells"
    )

    def items_per_clip(self, dataset: NuScenesClips) -> int:
        """One.

        Raises:
            ConfigError: the clips have no past to see motion in.
        """
        if dataset.num_context < 2:
            raise ConfigError(
                "the moving_parked probe wants clips of two context keyframes or more; set context_offsets"
            )
        return 1

    def truth(self, dataset: NuScenesClips, clip: int) -> list[MovingParkedTruth]:
        """From the boxes and the LiDAR rays of the clip's context.

        Raises:
            DataError: the table of boxes is missing or damaged.
        """
        clips = collate_clips([dataset[clip]])
        frames = clips.context_in_now()
        boxes = boxes_of(dataset.root, dataset.version).at(clips.tokens[0][clips.num_context - 1])
        is_movable = _begins(boxes.category, MOVABLE)
        states = lidar_cell_states(frames, self.grid)  # (T, Y, X)
        past = states[:-1]
        return [
            MovingParkedTruth(
                occupied=states[-1] == OCCUPIED,
                thing=cells_of_things(frames, boxes, is_movable, self.grid),
                moves=torch.from_numpy(moving_boxes(boxes)[is_movable]),
                is_known=torch.from_numpy(motion_is_known(boxes)[is_movable]),
                is_car=torch.from_numpy(_begins(boxes.category, CARS)[is_movable]),
                seen_free=(past == FREE).any(0),
                was_free=0.5 + 0.5 * ((past == FREE).float() - (past == OCCUPIED).float()).mean(0),
            )
        ]

    def loss(self, logits: torch.Tensor, truths: list[MovingParkedTruth], window: Window) -> torch.Tensor:
        """Binary cross-entropy on the cells that count, moving and parked weighted equally."""
        moving = torch.stack([truth.moving[window] for truth in truths])
        counted = torch.stack([truth.counted[window] for truth in truths])
        return balanced_bce(logits[:, 0], moving, counted)

    def answer(self, logits: torch.Tensor, truth: MovingParkedTruth) -> torch.Tensor:
        """Probability."""
        return logits[0].sigmoid()

    def untrained(self, train: Items, test: Items) -> Iterator[tuple[str, Callable[[], Iterator[torch.Tensor]]]]:
        """Nothing; whether the past saw the cell free; how near the car's own axis it is, where traffic drives."""
        yield "all alike", lambda: (torch.full(self.grid.shape_yx, 0.5) for _ in range(len(test)))
        yield "seen free before", lambda: (truth.seen_free.float() for truth in test.truths())
        yield "free against occupied before", lambda: (truth.was_free for truth in test.truths())
        yield "near the car's axis", lambda: (self._nearness() for _ in range(len(test)))

    def _nearness(self) -> torch.Tensor:
        """(Y, X): 1 on the x axis of the ego frame, 0 at the grid's side."""
        y_m = self.grid.cell_centres()[..., 1].abs()
        return 1 - y_m / max(map(abs, self.grid.y_range_m))

    def evaluate(self, pairs: Iterable[tuple[torch.Tensor, MovingParkedTruth]], threshold: float) -> dict[str, float]:
        """AUROC and AP of cells, AUROC of things, and beyond the columns how many things and cells there were."""
        pairs = list(pairs)
        cells, things = _joined([_of_cells(*pair) for pair in pairs]), _joined([_of_things(*pair) for pair in pairs])
        metrics = {"things_left_out": float(sum(_has_cell(truth)[~truth.is_known].sum() for _, truth in pairs))}
        for group in GROUPS:
            cell_chosen, thing_chosen = (part.is_car | (group == "all") for part in (cells, things))
            metrics[f"auroc_{group}"] = auroc(cells.score, cells.moves, cell_chosen)
            metrics[f"ap_{group}"] = average_precision(cells.score, cells.moves, cell_chosen)
            metrics[f"things_auroc_{group}"] = auroc(things.score, things.moves, thing_chosen)
            for name, part, chosen in (("cells", cells, cell_chosen), ("things", things, thing_chosen)):
                metrics[f"{name}_{group}"] = float(chosen.sum())
                metrics[f"moving_{name}_{group}"] = float((part.moves & chosen).sum())
        return metrics

    def truth_panels(self, truth: MovingParkedTruth) -> Panels:
        """Moving, parked, and whatever else stands there."""
        return Panels(motion_panel(truth.moving, truth.counted, truth.occupied))

    def panels(
        self, answer: torch.Tensor, truth: MovingParkedTruth, threshold: float, logits: torch.Tensor | None
    ) -> Panels:
        """Probability on the cells that count, their errors, and their entropy."""
        error = hits_and_misses(answer > threshold, truth.moving, truth.counted)
        uncertainty = None if logits is None else entropy_panel(logits) * truth.counted[..., None].numpy()
        return Panels(motion_panel(answer, truth.counted, truth.occupied), error, uncertainty)


def motion_is_known(boxes: KeyframeBoxes) -> np.ndarray:
    """(n,) bool: the box has an attribute and a speed, and they agree.

    An attribute alone is not enough: people who wait, buses at their stop and cyclists at a light carry one that says they move.
    """
    speed_mps = np.linalg.norm(boxes.velocity_mps[:, :2], axis=1)  # nan where unknown: neither comparison holds
    agrees = np.where(moving_boxes(boxes), speed_mps >= MOVING_MPS, speed_mps < MOVING_MPS)
    return agrees & (boxes.attribute != "")


def cells_of_things(frames: FrameBatch, boxes: KeyframeBoxes, is_movable: np.ndarray, grid: BEVGrid) -> torch.Tensor:
    """The thing in each cell (Y, X), int64, numbered among the movable ones; -1 where there is none.

    A cell belongs to the thing with most returns above ground in it. Cell centres would not do: a person is narrower than a cell.

    Args:
        frames: the last one is the keyframe of the boxes; of that, only the own sweep is read.
        boxes: of that keyframe.
        is_movable: (b,) bool, which boxes count.
        grid: of the cells.
    """
    height_m = height_above_ground(frames, grid)
    low, high = OBSTACLE_HEIGHT_M
    is_now = (frames.point_frame == frames.num_frames - 1) & (frames.points[:, 4] == 0)
    xyz_ego = frames.points[is_now & (height_m >= low) & (height_m <= high), :3]
    holder = box_of_points(xyz_ego.numpy(), boxes.ego_T_box[is_movable], boxes.size_lwh_m[is_movable])
    cell, inside = (found.numpy() for found in grid.bev_index(xyz_ego))
    held = inside & (holder >= 0)
    pair, returns = np.unique(cell[held] * len(boxes) + holder[held], return_counts=True)
    growing = pair[np.argsort(returns, kind="stable")]  # the last one written stays
    rows, columns = grid.shape_yx
    thing = np.full(rows * columns, -1, dtype=np.int64)
    if len(growing):
        thing[growing // len(boxes)] = growing % len(boxes)
    return torch.from_numpy(thing.reshape(rows, columns))


@dataclass(frozen=True)
class _Scored:
    """Cells or things with known motion: score (k,) float32, moves (k,) and is_car (k,) bool."""

    score: torch.Tensor
    moves: torch.Tensor
    is_car: torch.Tensor


def _of_cells(answer: torch.Tensor, truth: MovingParkedTruth) -> _Scored:
    thing = truth.thing[truth.counted]
    return _Scored(answer[truth.counted].float(), truth.moves[thing], truth.is_car[thing])


def _of_things(answer: torch.Tensor, truth: MovingParkedTruth) -> _Scored:
    """Those with a cell and known motion; the score is the mean over the cells."""
    thing, score = truth.thing[truth.counted], answer[truth.counted].double()
    count = torch.bincount(thing, minlength=len(truth.moves))
    mean = torch.bincount(thing, score, minlength=len(truth.moves)) / count.clamp(min=1)
    return _Scored(mean[count > 0].float(), truth.moves[count > 0], truth.is_car[count > 0])


def _joined(parts: list[_Scored]) -> _Scored:
    return _Scored(*(torch.cat([getattr(part, name) for part in parts]) for name in ("score", "moves", "is_car")))


def _has_cell(truth: MovingParkedTruth) -> torch.Tensor:
    """(n,) bool, of the movable things."""
    return torch.bincount(truth.thing[truth.thing >= 0], minlength=len(truth.moves)) > 0


def _begins(category: np.ndarray, beginnings: tuple[str, ...]) -> np.ndarray:
    """(n,) bool: the category (n,) begins so."""
    return np.array([name.startswith(beginnings) for name in category.tolist()], dtype=bool)
