"""Camera splatting (bev_pool) against its plain torch twin and the physical floor, side by side in one run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from avjepa.bev.bev_pool import PoolTable, bev_pool, bev_pool_reference
from avjepa.cli import run_tool
from avjepa.engine.config import load_config
from avjepa.engine.registry import build
from avjepa.sensors.collate import collate_clips

EXAMPLE = """example:
  AVJEPA_NUSCENES=/data/nuscenes python tools/benchmark_kernels.py configs/bev_jepa_nuscenes.py
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "config", type=Path, help="training config, a Python file: cameras, depth bins and grid are taken from it"
    )
    parser.add_argument("--data", metavar="ROOT", help="data root; default: the config's ($AVJEPA_NUSCENES)")
    parser.add_argument(
        "--runs", type=int, default=5, help="timed runs of each, in turn, after one to warm up (default 5)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    cfg = load_config(args.config, data_root=args.data, kind="training")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table, depth, features = real_inputs(cfg, device)
    upstream = torch.randn(table.num_cells, features.shape[1], device=device)

    def step(pool: Callable) -> None:
        torch.autograd.grad(pool(depth, features, table), (depth, features), upstream)

    seconds = time_in_turn(
        {"bev_pool": lambda: step(bev_pool), "plain torch": lambda: step(bev_pool_reference)}, args.runs, device
    )
    floor_s = floor(table, depth, features, device)
    report = Table(
        title=f"splat forward + backward, one frame: {len(table.ranks_cell):,} entries, {features.shape[1]} channels, {device}"
    )
    for column in ("", "median s", "against the floor", "against plain torch"):
        report.add_column(column, justify="right")
    for name, value in [*seconds.items(), ("floor", floor_s)]:
        report.add_row(name, f"{value:.4f}", f"{value / floor_s:.1f} x", f"{value / seconds['plain torch']:.2f} x")
    Console(width=120).print(report)
    print(
        "floor: the larger of (bytes that must move) / (measured copy bandwidth) and (multiply-adds) / (measured matmul rate)"
    )


def real_inputs(cfg, device: torch.device) -> tuple[PoolTable, torch.Tensor, torch.Tensor]:
    """Index table of a real keyframe's cameras, with random depth (pixels, D) and features (pixels, C)."""
    frames = collate_clips([build(cfg.monitor.dataset)[0]]).to(device).targets()
    lift = build(cfg.model.jepa.encoder.lift)
    stride = cfg.model.jepa.encoder.camera.feature_stride
    image_size_px = tuple(frames.images.shape[-2:])
    size = (image_size_px[0] // stride, image_size_px[1] // stride)
    table = lift.table(size, image_size_px, frames.pix_T_cam[:1], frames.bev_T_cam[:1], frames.camera_present[:1])
    pixels = frames.images.shape[1] * size[0] * size[1]
    depth = torch.rand(pixels, lift.depth_bins.count, device=device).softmax(1).requires_grad_()
    return table, depth, torch.randn(pixels, lift.out_channels, device=device).requires_grad_()


def time_in_turn(calls: dict[str, Callable], runs: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each call, run in turn so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs + 1):
        for name, call in calls.items():
            start = now(device)
            call()
            if run:
                times[name].append(now(device) - start)
    return {name: sorted(values)[len(values) // 2] for name, values in times.items()}


def floor(table: PoolTable, depth: torch.Tensor, features: torch.Tensor, device: torch.device) -> float:
    """Seconds below which no implementation of forward and backward can come, from rates measured here."""
    block = torch.rand(1 << 25, device=device)
    copy = time_in_turn({"copy": lambda: block.clone()}, 5, device)["copy"]
    bytes_per_s = 2 * block.numel() * 4 / copy
    matrix = torch.rand(2048, 2048, device=device)
    matmul = time_in_turn({"matmul": lambda: matrix @ matrix}, 5, device)["matmul"]
    flops = 2 * 2048**3 / matmul
    entries, channels = len(table.ranks_cell), features.shape[1]
    # Forward and backward each read the table, and read or write depth, features and map once.
    moved = 2 * (3 * 8 * entries + 4 * (depth.numel() + features.numel() + table.num_cells * channels)) + 4 * (
        depth.numel() + features.numel()
    )
    return max(moved / bytes_per_s, 3 * 2 * entries * channels / flops)


def now(device: torch.device) -> float:
    """Seconds; on a GPU after everything queued is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    run_tool(main)
