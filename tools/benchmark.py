"""Time and memory of one training step, stage by stage, on real clips: where a step of CONFIG goes."""

from __future__ import annotations

import argparse
import resource
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table
from torch import nn

from avjepa.cli import run_tool
from avjepa.engine.config import load_config
from avjepa.engine.registry import build
from avjepa.sensors.collate import collate_clips

EXAMPLE = """example:
  AVJEPA_NUSCENES=/data/nuscenes python tools/benchmark.py configs/bev_jepa_nuscenes.py --batch-size 1 --steps 1
"""

STAGES = {
    "encoder.lidar": "LiDAR sparse convolutions (context)",
    "encoder.camera": "image backbone (context)",
    "encoder.lift": "lift-splat (context)",
    "encoder.fuse": "fusion (context)",
    "encoder.neck": "BEV neck (context)",
    "target": "teacher, all of it (targets)",
    "temporal": "temporal context",
    "predictor": "warp and predictor",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="training config, a Python file")
    parser.add_argument("--data", metavar="ROOT", help="data root; default: the config's ($AVJEPA_NUSCENES)")
    parser.add_argument("--batch-size", type=int, default=1, help="clips in the step (default 1)")
    parser.add_argument("--steps", type=int, default=1, help="steps to average over, after none to warm up (default 1)")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="settings to change")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options, args.data, kind="training")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = StageClock(device)
    torch.manual_seed(cfg.randomness.seed)

    # The held-out data set: the training scenes of a full config are seldom all on the machine that is measured.
    with clock.stage("index of the data set"):
        dataset = build(cfg.monitor.dataset)
    with clock.stage("build the model"):
        jepa = build(cfg.model.jepa).to(device).train()
    optimizer = torch.optim.AdamW([p for p in jepa.parameters() if p.requires_grad], lr=cfg.optim_wrapper.optimizer.lr)
    clock.watch(jepa)

    for step in range(args.steps):
        with clock.stage("read and collate the clips"):
            clips = collate_clips(
                [dataset[(step * args.batch_size + i) % len(dataset)] for i in range(args.batch_size)]
            )
            clips = clips.to(device)
        with clock.stage("forward, all of it"):
            terms, _ = jepa(clips)
            loss = terms.total()
        with clock.stage("backward"):
            optimizer.zero_grad()
            loss.backward()
        with clock.stage("optimiser and teacher"):
            optimizer.step()
            jepa.update_target(0.0)

    report(jepa, loss.detach(), clock, args, device)


class StageClock:
    """Seconds by stage; on a GPU every stage ends with a synchronisation."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.peak_bytes: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str):
        """Time the body."""
        start = self._now()
        yield
        self._end(name, start)

    def watch(self, jepa: nn.Module) -> None:
        """Time the forward pass of the modules of STAGES."""
        for path, name in STAGES.items():
            module = jepa.get_submodule(path) if path.split(".")[0] in dict(jepa.named_children()) else None
            if module is None:
                continue
            starts: list[float] = []
            module.register_forward_pre_hook(lambda *_, starts=starts: starts.append(self._now()))
            module.register_forward_hook(lambda *_, starts=starts, name=name: self._end(name, starts.pop()))

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _end(self, name: str, start: float) -> None:
        self.seconds[name] += self._now() - start
        self.peak_bytes[name] = peak_memory_bytes(self.device)


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(
    jepa: nn.Module, loss: torch.Tensor, clock: StageClock, args: argparse.Namespace, device: torch.device
) -> None:
    """Print the table, the loss, and the modules that received a gradient."""
    table = Table(
        title=f"{args.config.name}, batch {args.batch_size}, {args.steps} step(s), {device}, {torch.get_num_threads()} threads"
    )
    table.add_column("stage")
    table.add_column("seconds per step", justify="right")
    table.add_column("peak memory so far (GB)", justify="right")
    once = ("index of the data set", "build the model")
    for name, seconds in clock.seconds.items():
        per_step = seconds if name in once else seconds / args.steps
        table.add_row(name, f"{per_step:.3f}", f"{clock.peak_bytes[name] / 1e9:.2f}")
    console = Console(width=120)
    console.print(table)
    console.print(f"loss {float(loss):.4f}, finite: {bool(torch.isfinite(loss))}")

    gradients = Table(title="gradients by trained module")
    gradients.add_column("module")
    gradients.add_column("parameters", justify="right")
    gradients.add_column("gradient norm", justify="right")
    for name, module in trained_modules(jepa):
        parameters = [p for p in module.parameters() if p.requires_grad]
        norms = [p.grad.norm() for p in parameters if p.grad is not None]
        norm = float(torch.stack(norms).norm()) if norms else 0.0
        gradients.add_row(name, f"{sum(p.numel() for p in parameters):,}", f"{norm:.3g}")
    console.print(gradients)
    if not torch.isfinite(loss):
        raise SystemExit(1)


def trained_modules(jepa: nn.Module) -> list[tuple[str, nn.Module]]:
    """The encoder's parts and the other trained modules of a BEVJEPA."""
    parts = [(f"encoder.{name}", module) for name, module in jepa.encoder.named_children()]
    parts += [(name, module) for name, module in jepa.named_children() if name not in ("encoder", "target")]
    return [(name, module) for name, module in parts if any(p.requires_grad for p in module.parameters())]


if __name__ == "__main__":
    run_tool(main)
