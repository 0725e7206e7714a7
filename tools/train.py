"""Train a BEV JEPA from unlabelled drives."""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path
from typing import TextIO

import torch
from mmengine.config import Config, DictAction
from mmengine.dist import init_dist, is_main_process
from torch import distributed

from avjepa.cli import run_tool
from avjepa.engine.config import load_config, use_amp
from avjepa.engine.data import build_train_loader
from avjepa.engine.hooks import MonitorHook
from avjepa.engine.runner import TrainRunner
from avjepa.errors import ConfigError
from avjepa.files import hold_lock, write_json
from avjepa.reports.record import origin

EXAMPLE = """example:
  AVJEPA_NUSCENES=/data/nuscenes python tools/train.py configs/bev_jepa_nuscenes_tiny.py
  torchrun --nproc-per-node 8 tools/train.py configs/bev_jepa_nuscenes.py --amp --launcher pytorch
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="training config, a Python file")
    parser.add_argument("--data", metavar="ROOT", help="data root; default: the config's ($AVJEPA_NUSCENES)")
    parser.add_argument("--work-dir", type=Path, help="where everything is written; default: work_dirs/CONFIG_NAME")
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in the work dir, exactly as if never stopped"
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (bfloat16), on a GPU")
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="how processes were started"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="settings in the config to change"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options, args.data, kind="training")
    if args.amp:
        use_amp(cfg, torch.cuda.is_available())
    work_dir = args.work_dir or Path("work_dirs") / args.config.stem
    if (work_dir / "last.pth").exists() and not args.resume:
        raise ConfigError(f"{work_dir} already holds a run; pass --resume to continue it, or another --work-dir")
    start_processes(args.launcher)
    lock = lock_work_dir(work_dir) if is_main_process() else None
    if lock is not None:
        write_json(work_dir / "run.json", origin())
    build_runner(cfg, work_dir, args.resume, args.launcher).train()
    if lock is not None:
        lock.close()
        last = work_dir / "last.pth"
        print(f"done: {last}")
        if cfg.get("probe_config"):
            print(f"next: python tools/probe.py {cfg.probe_config} {last}")


def start_processes(launcher: str) -> None:
    """Join the process group: NCCL on GPUs; gloo without, which mmengine's own start cannot do."""
    if launcher == "none":
        return
    if launcher == "pytorch" and "RANK" not in os.environ:
        raise ConfigError(
            "--launcher pytorch: start with torchrun, e.g. torchrun --nproc-per-node 2 tools/train.py ..."
        )
    if torch.cuda.is_available():
        init_dist(launcher, backend="nccl")
    elif launcher == "pytorch":
        distributed.init_process_group("gloo")
    else:
        raise ConfigError("--launcher slurm needs GPUs; on CPUs start with torchrun and --launcher pytorch")


def lock_work_dir(work_dir: Path) -> TextIO:
    """Hold the work dir until the file is closed or the process ends; two runs in one place would overwrite each other."""
    work_dir.mkdir(parents=True, exist_ok=True)
    lock = hold_lock(work_dir / ".lock")
    if lock is None:
        raise ConfigError(f"{work_dir}: another run is writing there; stop it, or give another --work-dir")
    return lock


def build_runner(cfg: Config, work_dir: Path, resume: bool, launcher: str = "none") -> TrainRunner:
    """The runner of a training config."""
    monitor = copy.deepcopy(cfg.monitor)
    return TrainRunner(
        model=cfg.model,
        work_dir=str(work_dir),
        train_dataloader=build_train_loader(
            cfg.train_data.dataset, cfg.train_data.batch_size, cfg.train_data.num_workers, cfg.randomness.seed
        ),
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        default_hooks=cfg.default_hooks,
        custom_hooks=[
            *cfg.custom_hooks,
            MonitorHook(monitor.dataset, monitor.num_clips, monitor.interval, monitor.alarm_std),
        ],
        visualizer=cfg.visualizer,
        log_processor=cfg.log_processor,
        randomness=cfg.randomness,
        resume=resume,
        launcher=launcher,
        default_scope=None,
        experiment_name=work_dir.name,
        cfg=cfg,
    )


if __name__ == "__main__":
    run_tool(main)
