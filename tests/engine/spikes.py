"""A training run whose loss spikes where it is told to, in this process, for tests and torchrun.

python -m tests.engine.spikes DRIVE WORK_DIR PARALLEL
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from mmengine.hooks import Hook

from avjepa.engine.config import load_config
from tools.train import build_runner, start_processes

CONFIG = Path(__file__).with_name("toy_config.py")
SPIKES = {5: 1e3, 6: float("nan"), 8: 1e3}  # iteration: factor on the masked term; a run is stopped after the seventh
CHECK_FROM = {"train_cfg.skip_spikes.window": 3, "train_cfg.skip_spikes.num_std": 50.0}


class Spike(Hook):
    """Multiplies the weight of one term of the loss at the iterations of SPIKES."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Weights of the coming iteration."""
        jepa = getattr(runner.model, "module", runner.model).jepa
        jepa.weights = replace(jepa.weights, masked=SPIKES.get(runner.iter + 1, 1.0))


class StopAfter(Hook):
    """Breaks the run off after an iteration, as a kill would."""

    priority = "LOWEST"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Leave without any saving."""
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


def spiked_runner(drive: Path, work_dir: Path, options: dict, resume: bool = False, launcher: str = "none"):
    """The runner of the toy run with spikes."""
    cfg = load_config(CONFIG, CHECK_FROM | options, str(drive), kind="training")
    runner = build_runner(cfg, work_dir, resume, launcher)
    runner.register_hook(Spike())
    return runner


def main(arguments: list[str]) -> None:
    """Train as one process of torchrun."""
    drive, work_dir, parallel = arguments
    start_processes("pytorch")
    options = {"train_data.batch_size": 1, "parallel": parallel}
    spiked_runner(Path(drive), Path(work_dir), options, launcher="pytorch").train()


if __name__ == "__main__":
    main(sys.argv[1:])
