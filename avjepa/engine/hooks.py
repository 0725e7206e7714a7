"""What happens around a training step: teacher update, loss curve, monitors with their alarm, pictures, checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.utils.data import Dataset

from avjepa.engine.checkpoint import save_checkpoint
from avjepa.engine.data import held_out_batch
from avjepa.engine.loss_spikes import LossSpikes
from avjepa.errors import CollapseError
from avjepa.files import replacing
from avjepa.jepa.model import BEVJEPA
from avjepa.jepa.monitors import Monitors
from avjepa.jepa.target_encoder import EMATarget
from avjepa.jepa.world_model import BEVWorldModel
from avjepa.reports.figures import save_prediction_picture

# Iterations at which monitors are measured whatever their interval: a collapse shows within tens of steps, and a long interval
# would let it run for an hour.
EARLY = (20, 50, 100, 200)


def jepa_of(runner: Runner) -> BEVWorldModel:
    """The bare model behind any wrapper."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.jepa


def remedies(jepa: BEVWorldModel) -> str:
    """What the config of a method can do against its collapse; rivals have neither these weights nor a teacher."""
    settings = ["in the config, lower optim_wrapper.optimizer.lr"]
    if isinstance(jepa, BEVJEPA):
        settings.append("raise variance in model.jepa.weights")
        if jepa.sigreg is not None:
            settings.append("raise sigreg_times_n in model.jepa.weights")
        if not isinstance(jepa.target, EMATarget):
            settings.append("take EMATarget as model.jepa.target")
    return ", or ".join(settings)


class TeacherHook(Hook):
    """Moves the EMA teacher after every optimiser step."""

    priority = "HIGH"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Progress is counted in finished iterations, so the last update has momentum 1. A skipped step moves nothing."""
        if runner.train_loop.updates.stepped:
            jepa_of(runner).update_target((runner.iter + 1) / runner.max_iters)


class LossCurveHook(Hook):
    """Writes every iteration's loss terms, unsmoothed, to ``work_dir/loss_curve.jsonl``. A loss that was skipped as a spike has
    ``"skipped": 1`` in its row; more of them in a row than the config allows stop the run, and so does a loss that is not
    finite where nothing is skipped.

    On resume, rows past the checkpoint are dropped: the file is that of a run which was never stopped.
    """

    def before_train(self, runner) -> None:
        """Keep the rows up to the iteration we start at."""
        self.path = Path(runner.work_dir) / "loss_curve.jsonl"
        if not is_main_process():
            return
        rows = self.path.read_text().splitlines() if self.path.exists() else []
        kept = rows[: runner.iter]
        with replacing(self.path) as temporary:
            temporary.write_text("".join(row + "\n" for row in kept))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Append one row, and judge."""
        updates = runner.train_loop.updates
        row = {"iteration": runner.iter + 1, **{name: float(value) for name, value in outputs.items()}}
        if updates.spiked:
            row["skipped"] = 1
        if is_main_process():
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if updates.spiked:
            self._judge_spike(runner, updates.spikes, row)
        elif not math.isfinite(row["loss"]):
            raise CollapseError(
                f"loss is {row['loss']} at iteration {row['iteration']}; lower optim_wrapper.optimizer.lr"
            )

    def _judge_spike(self, runner, spikes: LossSpikes, row: dict) -> None:
        what = (
            f"loss {row['loss']:.3g} at iteration {row['iteration']} (limit {spikes.limit:.3g}: mean + {spikes.num_std:g} std of "
            f"the last {spikes.accepted.maxlen})"
        )
        runner.logger.warning(f"step skipped: {what}; {spikes.skipped} so far")
        if spikes.in_a_row > spikes.most_in_a_row:
            raise CollapseError(
                f"{spikes.in_a_row} steps in a row skipped, the last for its {what}; lower optim_wrapper.optimizer.lr, or raise "
                "train_cfg.skip_spikes.num_std if these losses are healthy"
            )


class MonitorHook(Hook):
    """Measures a fixed held-out batch every ``interval`` iterations, and some times early on, and stops a collapsed run with a
    readable message.

    The alarm is on the std of the embedding first: a collapsed run has the lowest loss and can have a high RankMe.

    Args:
        dataset: config of the held-out data set.
        num_clips: clips of the batch.
        interval: iterations between measurements.
        alarm_std: the run stops when std falls below this share of its value at the start.
    """

    def __init__(self, dataset: dict | Dataset, num_clips: int, interval: int, alarm_std: float = 0.1) -> None:
        self.dataset = dataset
        self.num_clips = num_clips
        self.interval = interval
        self.alarm_std = alarm_std

    def before_train(self, runner) -> None:
        """Load the batch, and measure it once before the first step."""
        self.path = Path(runner.work_dir) / "monitors.jsonl"
        self.clips = held_out_batch(self.dataset, self.num_clips)
        kept = [row for row in self._rows() if row["iteration"] <= runner.iter] if runner.iter else []
        self._write(kept)
        if kept and kept[0]["iteration"] == 0:
            self.start_std = kept[0]["std"]
        else:
            self.start_std = self._measure(runner, 0)["std"]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Measure, log, and judge."""
        iteration = runner.iter + 1
        if iteration % self.interval and iteration not in (*EARLY, runner.max_iters):
            return
        monitors = self._measure(runner, iteration)
        if not monitors["std"] >= self.alarm_std * self.start_std:  # also catches nan
            raise CollapseError(
                f"embedding collapsed at iteration {iteration}: std {monitors['std']:.3g} is below {self.alarm_std:g} x its "
                f"start {self.start_std:.3g} (RankMe {monitors['rankme']:.1f}, loss {float(outputs['loss']):.3g}); "
                f"{remedies(jepa_of(runner))}"
            )

    def _measure(self, runner, iteration: int) -> Monitors:
        runner.model.eval()
        with torch.no_grad():
            monitors = runner.model(clips=self.clips.to(next(runner.model.parameters()).device), mode="monitor")
        runner.model.train()
        self._write([*self._rows(), {"iteration": iteration, **monitors}])
        for name, value in monitors.items():
            if not isinstance(
                value, list
            ):  # TensorBoard shows numbers over time; spectra are in the file and the report
                runner.visualizer.add_scalar(f"monitor/{name}", value, iteration)
        runner.logger.info(
            f"Monitor [{iteration}/{runner.max_iters}]  std: {monitors['std']:.3f}  rankme: {monitors['rankme']:.1f}  "
            f"prediction/persistence: {monitors['ratio_occupied']:.3f} occupied, {monitors['ratio_all']:.3f} all, "
            f"{monitors['ratio_changed']:.3f} changed  no motion: {monitors['wrong_motion']:.2f}  "
            f"another's motion: {monitors['shuffled_motion']:.2f}"
        )
        return monitors

    def _rows(self) -> list[dict]:
        return [json.loads(row) for row in self.path.read_text().splitlines()] if self.path.exists() else []

    def _write(self, rows: list[dict]) -> None:
        if not is_main_process():
            return
        with replacing(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))


class PictureHook(Hook):
    """Every ``interval`` iterations, a picture of context, mask, target and prediction in ``work_dir/pictures``."""

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Draw the first clip of the batch that was just trained on."""
        iteration = runner.iter + 1
        if (iteration % self.interval and iteration != runner.max_iters) or not is_main_process():
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if model.last_predictions is None:  # a method that predicts no embedding
            return
        path = Path(runner.work_dir) / "pictures" / f"iter_{iteration:06d}.png"
        seconds = data_batch.time_s[0, data_batch.num_context - 1 :].tolist()
        save_prediction_picture(path, model.last_predictions, seconds, model.jepa.encoder.grid)


class CheckpointHook(Hook):
    """Saves every ``interval`` iterations and at the end; keeps the newest ``keep``."""

    priority = "VERY_LOW"

    def __init__(self, interval: int, keep: int = 2) -> None:
        self.interval = interval
        self.keep = keep

    def before_train(self, runner) -> None:
        """Remove what a kill in the middle of a save left behind."""
        if is_main_process():
            for pattern in (".iter_*", ".last.*"):
                for stale in Path(runner.work_dir).glob(pattern):
                    stale.unlink()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Save, then remove what is no longer kept."""
        iteration = runner.iter + 1
        if iteration % self.interval and iteration != runner.max_iters:
            return
        save_checkpoint(runner, f"iter_{iteration:07d}.pth")
        if is_main_process():
            for old in sorted(Path(runner.work_dir).glob("iter_*.pth"))[: -self.keep]:
                old.unlink()
