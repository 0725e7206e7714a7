"""Forecasting probe: occupancy and LiDAR sweeps half a second to three seconds ahead, from predicted embeddings.

A head reads the semantic occupancy of each future moment off the embedding predicted for it, in that moment's ego frame. A sweep
is what its true rays meet in that occupancy. Metrics: metrics/occupancy_forecast.py and metrics/point_forecast.py.
Letters: see conventions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from avjepa.errors import ConfigError
from avjepa.geometry.occ3d import FREE, OCC3D_GRID, UNKNOWN, xyz_from_zyx, zyx_from_xyz
from avjepa.geometry.resample import Window, central
from avjepa.geometry.rigid import invert, transform_points
from avjepa.probes.boxes import boxes_of
from avjepa.probes.colours import column_entropy_panel, from_above_panel, hits_and_misses
from avjepa.probes.forecast_baselines import (
    PoseSource,
    future_T_frames,
    ray_cast_cloud,
    ray_traced_cloud,
    warped_cloud,
    warped_occupancy,
)
from avjepa.probes.frozen import FutureView
from avjepa.probes.lidar_occupancy import lidar_occupancy
from avjepa.probes.metrics.occupancy_forecast import SECONDS, STEP_S, STEPS, OccupancyForecastScore
from avjepa.probes.metrics.point_forecast import PointForecastScore
from avjepa.probes.occ3d_files import labels_path, read_labels
from avjepa.probes.occupancy import CLASSES, LABEL_FILES, class_loss, likeliest_class, stands
from avjepa.probes.ray_depth import ray_depths
from avjepa.probes.task import NEAR_M, Items, Panels, Probe
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.sample import Clip, Frame

COLUMNS = {
    "iou_mean": "IoU, mean of 1, 2, 3 s",
    "miou_mean": "mIoU, mean of 1, 2, 3 s",
    "iou_near_mean": "IoU, mean of 1, 2, 3 s, within 25 m",
    "miou_near_mean": "mIoU, mean of 1, 2, 3 s, within 25 m",
    "iou_near_1s": "IoU, 1 s, within 25 m",
    "iou_near_2s": "IoU, 2 s, within 25 m",
    "iou_near_3s": "IoU, 3 s, within 25 m",
    "iou_1s": "IoU, 1 s",
    "iou_3s": "IoU, 3 s",
    "cd_1s": "CD m², 1 s ↓",
    "cd_3s": "CD m², 3 s ↓",
    "nfcd": "NFCD m², .5 to 3 s ↓",
    "l1": "L1 m, .5 to 3 s ↓",
    "absrel": "AbsRel, .5 to 3 s ↓",
}


@dataclass(frozen=True)
class Past:
    """What baselines copy, of one clip.

    Attributes:
        classes: (Z, Y, X) true occupancy now; FREE where there is no truth.
        clouds: T clouds (P, 3), all returns of the context, each in its own ego frame.
        now_cloud: (P, 3) returns of the present keyframe's own sweep.
        now_T_frame: (S, 4, 4).
        time_s: (S,) after the present.
        now_lidar: (3,) where the LiDAR stands now, in the present ego frame.
    """

    classes: torch.Tensor
    clouds: list[np.ndarray]
    now_cloud: np.ndarray
    now_T_frame: np.ndarray
    time_s: np.ndarray
    now_lidar: np.ndarray


@dataclass(frozen=True)
class ForecastTruth:
    """One future moment, in its ego frame.

    Attributes:
        step: 0 for the first, half a second ahead.
        classes: (Z, Y, X) uint8; UNKNOWN where there is no truth.
        returns: (P, 3) of its own sweep, inside the grid; every n-th.
        lidar: (3,) where its LiDAR stands.
        past: of the clip.
    """

    step: int
    classes: torch.Tensor
    returns: np.ndarray
    lidar: np.ndarray
    past: Past

    @property
    def now_T_future(self) -> np.ndarray:
        """(4, 4), true."""
        return self.past.now_T_frame[len(self.past.clouds) + self.step]

    @property
    def directions(self) -> np.ndarray:
        """(P, 3) unit directions of the true rays."""
        offsets = self.returns - self.lidar
        return offsets / np.linalg.norm(offsets, axis=1, keepdims=True)


@dataclass(frozen=True)
class Forecast:
    """What is expected of a future moment, in its ego frame: classes (Z, Y, X), returns (Q, 3), or both."""

    classes: torch.Tensor | None
    returns: np.ndarray | None


@dataclass(frozen=True)
class ForecastProbe(Probe[ForecastTruth, Forecast]):
    """Answers for the six future keyframes of a clip. True returns lie inside the grid, and every row knows it: copied clouds are
    cut there, and rays that meet nothing end where they leave it.

    Attributes:
        labels: as in the occupancy probe.
        poses: how trained rows know the future ego frames.
        ray_step: every n-th true return is scored; 1 for all of them, which is slow. Copied clouds are as thin, so
            that densities agree; rays meet all returns of the context.
    """

    labels: Literal["occ3d", "lidar_and_boxes"] = "occ3d"
    poses: PoseSource = "true"
    ray_step: int = 1
    name = "forecasting"
    grid = OCC3D_GRID
    outputs = CLASSES * OCC3D_GRID.shape_zyx[0]
    columns = COLUMNS

    def __post_init__(self) -> None:
        if self.labels not in LABEL_FILES:
            raise ValueError(f"unknown labels {self.labels!r}; want {', '.join(LABEL_FILES)}")
        FutureView(self.poses)  # refuses what it does not know

    @property
    def label_files(self) -> tuple[str, ...]:
        """Of Occ3D, or the tables of the boxes."""
        return LABEL_FILES[self.labels]

    @property
    def view(self) -> FutureView:
        """The embeddings predicted for future moments."""
        return FutureView(self.poses)

    @property
    def convention(self) -> str:
        """How the metrics are defined."""
        return (
            "OccWorld's mIoU and IoU: at the moment, no mask, a class that is absent from the truth counts 1; 4D-Occ's CD (at the "
            f"moment), NFCD, L1, AbsRel (up to 3 s, mean over sweeps) of every {self.ray_step}. return inside the Occ3D grid, "
            "beyond which no row forecasts a return; trained rows know the future ego poses by: "
            f"{self.poses}; their input is past sensor data, that of copied occupancy is the TRUE present occupancy; truth: "
            f"{self.labels}"
        )

    def items_per_clip(self, dataset: NuScenesClips) -> int:
        """One a future keyframe.

        Raises:
            ConfigError: these are not the six that the metrics are defined at, or the context is too short to tell a velocity.
        """
        present = dataset.num_context - 1
        offsets = dataset.clips[:, present + 1 :] - dataset.clips[:, present, None]
        wanted = tuple(range(1, STEPS + 1))
        if present < 1 or offsets.shape[1] != STEPS or (offsets != wanted).any():
            raise ConfigError(
                f"the forecasting probe wants clips of future_offsets={wanted} and two context keyframes or more; got "
                f"{tuple(offsets[0].tolist())} and {dataset.num_context}"
            )
        return STEPS

    def truth(self, dataset: NuScenesClips, clip: int) -> list[ForecastTruth]:
        """Truth of every future keyframe.

        Raises:
            DataError: there is no file of labels, or no table of boxes, or it is damaged.
        """
        frames = dataset[clip]
        now_T_global = invert(frames.now.global_T_ego)
        present = self._classes(dataset, frames, frames.num_context - 1)
        past = Past(
            classes=torch.where(present == UNKNOWN, FREE, present),
            clouds=[frame.points_ego[:, :3].numpy() for frame in frames.frames[: frames.num_context]],
            now_cloud=own_sweep(frames.now),
            now_T_frame=np.stack([now_T_global @ frame.global_T_ego for frame in frames.frames]),
            time_s=np.array([frame.timestamp_us - frames.now.timestamp_us for frame in frames.frames]) * 1e-6,
            now_lidar=frames.now.lidar_origin_ego.double().numpy(),
        )
        truths = []
        for step, frame in enumerate(frames.frames[frames.num_context :]):
            truths.append(
                ForecastTruth(
                    step=step,
                    classes=self._classes(dataset, frames, frames.num_context + step),
                    returns=self._scored(own_sweep(frame)),
                    lidar=frame.lidar_origin_ego.double().numpy(),
                    past=past,
                )
            )
        return truths

    def loss(self, logits: torch.Tensor, truths: list[ForecastTruth], window: Window) -> torch.Tensor:
        """Cross-entropy on all voxels whose truth is known."""
        classes = torch.stack([truth.classes[:, window[0], window[1]] for truth in truths])
        return class_loss(logits, classes, classes != UNKNOWN)

    def answer(self, logits: torch.Tensor, truth: ForecastTruth) -> Forecast:
        """The likeliest classes."""
        return Forecast(likeliest_class(logits), None)

    def untrained(self, train: Items, test: Items) -> Iterator[tuple[str, Callable[[], Iterator[Forecast]]]]:
        """Copies of the present, still or moved by the ego-motion, and everything seen so far, ray by ray."""
        yield "persistence", lambda: map(self._copied, test.truths())
        for poses in ("true", "constant velocity"):
            yield f"warp-persistence, {poses} poses", lambda p=poses: (self._warped(t, p) for t in test.truths())
            yield f"ray casting, {poses} poses", lambda p=poses: (self._cast(t, p) for t in test.truths())
            yield f"ray tracing, {poses} poses", lambda p=poses: (self._traced(t, p) for t in test.truths())

    def evaluate(self, pairs: Iterable[tuple[Forecast, ForecastTruth]], threshold: float) -> dict[str, float]:
        """Occupancy at 1, 2 and 3 s, nan for rows without; sweeps at every step, and how many could not be scored."""
        occupancy, near = OccupancyForecastScore(), OccupancyForecastScore()
        sweeps, x_y = PointForecastScore(STEPS), central(self.grid, NEAR_M)[::-1]
        for forecast, truth in pairs:
            if forecast.classes is not None:
                predicted, true = xyz_from_zyx(forecast.classes), xyz_from_zyx(truth.classes)
                occupancy.add_step(truth.step, predicted, true)
                near.add_step(truth.step, predicted[x_y], true[x_y])
            self._add_sweep(sweeps, forecast, truth)
        cd_m2 = {second: sweeps.at(round(second / STEP_S) - 1).cd_m2 for second in SECONDS}
        all_steps = sweeps.until(STEPS - 1)
        metrics = {f"cd_{second}s": value for second, value in cd_m2.items()}
        metrics |= {"nfcd": all_steps.nfcd_m2, "l1": all_steps.l1_m, "absrel": all_steps.absrel}
        metrics |= _occupancy_metrics(occupancy, "") | _occupancy_metrics(near, "near_")
        return metrics | {"sweeps_skipped": sweeps.skipped}

    def truth_panels(self, truth: ForecastTruth) -> Panels:
        """The last moment, from above."""
        return Panels(from_above_panel(truth.classes))

    def panels(self, answer: Forecast, truth: ForecastTruth, threshold: float, logits: torch.Tensor | None) -> Panels:
        """From above, errors of what stands above the ground, and entropy; returns alone count as things that stand."""
        known = (truth.classes != UNKNOWN).any(0)
        if answer.classes is None:
            index_zyx, inside = self.grid.cell_index(torch.from_numpy(answer.returns))
            classes = torch.full(self.grid.shape_zyx, FREE, dtype=torch.uint8)
            classes[index_zyx[inside].unbind(-1)] = 0
        else:
            classes = answer.classes
        error = hits_and_misses(stands(classes), stands(truth.classes), known)
        uncertainty = None if logits is None else column_entropy_panel(logits.unflatten(0, (CLASSES, -1)))
        return Panels(from_above_panel(classes), error, uncertainty)

    def _classes(self, dataset: NuScenesClips, clip: Clip, which: int) -> torch.Tensor:
        """True occupancy (Z, Y, X) of one frame of a clip, in its ego frame."""
        frame = clip.frames[which]
        if self.labels == "occ3d":
            labels = read_labels(labels_path(dataset.root, frame.scene, frame.token))
        else:
            labels = lidar_occupancy(Clip(clip.frames, which + 1), boxes_of(dataset.root, dataset.version))
        return torch.from_numpy(np.ascontiguousarray(zyx_from_xyz(labels.semantics)))

    def _poses(self, truth: ForecastTruth, source: PoseSource) -> np.ndarray:
        """From each context frame to the future one, (T, 4, 4)."""
        past = truth.past
        return future_T_frames(past.now_T_frame, past.time_s, len(past.clouds), source)[truth.step]

    def _copied(self, truth: ForecastTruth) -> Forecast:
        return Forecast(truth.past.classes, self._scored(truth.past.now_cloud))

    def _warped(self, truth: ForecastTruth, source: PoseSource) -> Forecast:
        future_T_now = self._poses(truth, source)[-1]
        classes = warped_occupancy(xyz_from_zyx(truth.past.classes).numpy(), future_T_now, self.grid, FREE)
        returns = self._scored(warped_cloud(truth.past.now_cloud, future_T_now))
        return Forecast(torch.from_numpy(np.ascontiguousarray(zyx_from_xyz(classes))), returns)

    def _cast(self, truth: ForecastTruth, source: PoseSource) -> Forecast:
        poses = self._poses(truth, source)
        return Forecast(None, ray_cast_cloud(truth.past.clouds, poses, self.grid, truth.lidar, truth.directions))

    def _traced(self, truth: ForecastTruth, source: PoseSource) -> Forecast:
        if not len(truth.returns) or not any(map(len, truth.past.clouds)):
            return Forecast(None, np.zeros((0, 3)))
        poses = self._poses(truth, source)
        met = ray_traced_cloud(truth.past.clouds, poses, truth.lidar, truth.directions)
        leaves = self._ray_ends(torch.zeros(self.grid.shape_zyx, dtype=torch.bool), truth)
        met_m, leaves_m = (np.linalg.norm(ends - truth.lidar, axis=1, keepdims=True) for ends in (met, leaves))
        return Forecast(None, truth.lidar + truth.directions * np.minimum(met_m, leaves_m))

    def _scored(self, xyz: np.ndarray) -> np.ndarray:
        """As of the truth: every n-th of points (P, 3) in the ego frame, if it lies inside the grid."""
        xyz = xyz[:: self.ray_step]
        return xyz[self.grid.cell_index(torch.from_numpy(xyz))[1].numpy()]

    def _ray_ends(self, occupied: torch.Tensor, truth: ForecastTruth) -> np.ndarray:
        """Where the true rays leave the first of the occupied voxels (Z, Y, X) that they meet, or else the grid; (P, 3)."""
        origin, directions = torch.from_numpy(truth.lidar), torch.from_numpy(truth.directions)
        depth_m = ray_depths(occupied, self.grid, origin, directions).depth_m.numpy()
        return truth.lidar + truth.directions * depth_m[:, None]

    def _add_sweep(self, sweeps: PointForecastScore, forecast: Forecast, truth: ForecastTruth) -> None:
        """Score a sweep in 4D-Occ's frame: axes of the present ego frame, origin at the present LiDAR."""
        returns = self._ray_ends(forecast.classes != FREE, truth) if forecast.returns is None else forecast.returns
        if not len(returns) or not len(truth.returns):
            sweeps.skipped += 1
            return
        predicted, true, lidar = (
            transform_points(truth.now_T_future, xyz) - truth.past.now_lidar
            for xyz in (returns, truth.returns, truth.lidar[None])
        )
        sweeps.add(truth.step, predicted, true, lidar[0])


def own_sweep(frame: Frame) -> np.ndarray:
    """(P, 3) float64 returns of a keyframe's own sweep, not those of older ones, in its ego frame."""
    return frame.points_ego[frame.points_ego[:, 4] == 0, :3].double().numpy()


def _occupancy_metrics(occupancy: OccupancyForecastScore, where: str) -> dict[str, float]:
    """IoU and mIoU at each second and their means; nan unless every moment was forecast."""
    metrics = {f"{name}_{where}{when}": float("nan") for name in ("iou", "miou") for when in ("mean", "1s", "2s", "3s")}
    if all(confusion.frames for confusion in occupancy.confusions):
        scores = occupancy.scores()
        metrics |= {f"iou_{where}mean": scores.mean_geometric_iou, f"miou_{where}mean": scores.mean_miou}
        metrics |= {f"iou_{where}{second}s": value for second, value in scores.geometric_iou.items()}
        metrics |= {f"miou_{where}{second}s": value for second, value in scores.miou.items()}
    return metrics
