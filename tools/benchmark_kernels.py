"""Camera splatting, and the walk along LiDAR rays, against plain torch twins and the physical floor, side by side in one run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from avjepa.bev.bev_pool import PoolTable, bev_pool, bev_pool_reference
from avjepa.bev.voxel_states import crossed_voxels
from avjepa.cli import run_tool
from avjepa.engine.config import load_config
from avjepa.engine.registry import build
from avjepa.geometry.grid import BEVGrid
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.sample import FrameBatch

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
    frames = collate_clips([build(cfg.monitor.dataset)[0]]).to(device).targets()
    rates = measured_rates(device)
    for table in (splat_table(cfg, frames, rates, args.runs), ray_table(cfg, frames, rates, args.runs)):
        Console(width=120).print(table)
    print(
        "floor: the larger of (bytes that must move) / (measured copy bandwidth) and (multiply-adds) / (measured matmul rate)"
    )


def splat_table(cfg: Config, frames: FrameBatch, rates: Rates, runs: int) -> Table:
    """bev_pool() forward and backward on a real keyframe's cameras."""
    table, depth, features = splat_inputs(cfg, frames)
    upstream = torch.randn(table.num_cells, features.shape[1], device=depth.device)

    def step(pool: Callable) -> None:
        torch.autograd.grad(pool(depth, features, table), (depth, features), upstream)

    calls = {"bev_pool": lambda: step(bev_pool), "plain torch": lambda: step(bev_pool_reference)}
    entries, channels = len(table.ranks_cell), features.shape[1]
    # Forward and backward each read the table, and read or write depth, features and map once.
    moved = 2 * (3 * 8 * entries + 4 * (depth.numel() + features.numel() + table.num_cells * channels)) + 4 * (
        depth.numel() + features.numel()
    )
    return compared(
        f"splat forward + backward, one frame: {entries:,} entries, {channels} channels, {depth.device}",
        time_in_turn(calls, runs, depth.device),
        rates.floor_s(moved, 3 * 2 * entries * channels),
    )


def ray_table(cfg: Config, frames: FrameBatch, rates: Rates, runs: int) -> Table:
    """crossed_voxels() on the own returns of a real sweep, in the voxels of the model's grounding."""
    grid = build(cfg.model.jepa.decoder).voxels
    own = (frames.point_frame == 0) & (frames.points[:, 4] == 0)
    ends, ray_frame = frames.points[own, :3], frames.point_frame[own]
    walk = (frames.lidar_origin[ray_frame], ends, ray_frame, 1, grid)
    calls = {"crossed_voxels": lambda: crossed_voxels(*walk), "plain torch": lambda: plain_walk(*walk)}
    crossed = crossed_voxels(*walk)
    different = int((crossed != plain_walk(*walk)).sum())
    # Both ends of every ray are read, every voxel is written; each that is crossed was reached by a multiply-add an axis.
    return compared(
        f"voxels that rays cross, one sweep: {len(ends):,} rays, {int(crossed.sum()):,} of {crossed.numel():,} voxels, "
        f"{different} told otherwise, {ends.device}",
        time_in_turn(calls, runs, ends.device),
        rates.floor_s(2 * 3 * 4 * len(ends) + crossed.numel(), 2 * 3 * float(crossed.sum())),
    )


def plain_walk(
    origins: torch.Tensor, ends: torch.Tensor, ray_frame: torch.Tensor, num_frames: int, grid: BEVGrid
) -> torch.Tensor:
    """crossed_voxels() without its short cuts: all rays at every half edge of the longest."""
    crossed = torch.zeros(num_frames, *grid.shape_zyx, dtype=torch.bool, device=ends.device)
    edge_m = min(grid.cell_m, grid.cell_z_m)
    length_m = (ends - origins).norm(dim=1)
    unit = (ends - origins) / length_m[:, None].clamp(min=1e-6)
    for distance_m in torch.arange(edge_m / 2, float(length_m.max()), edge_m / 2).tolist():
        index_zyx, inside = grid.cell_index(origins + unit * distance_m)
        inside &= distance_m < length_m - edge_m
        crossed[(ray_frame[inside], *index_zyx[inside].unbind(-1))] = True
    return crossed


def compared(title: str, seconds: dict[str, float], floor_s: float) -> Table:
    """Times (by name, "plain torch" among them) beside the floor and the twin."""
    report = Table(title=title)
    for column in ("", "median s", "against the floor", "against plain torch"):
        report.add_column(column, justify="right")
    for name, value in [*seconds.items(), ("floor", floor_s)]:
        report.add_row(name, f"{value:.4f}", f"{value / floor_s:.1f} x", f"{value / seconds['plain torch']:.2f} x")
    return report


def splat_inputs(cfg: Config, frames: FrameBatch) -> tuple[PoolTable, torch.Tensor, torch.Tensor]:
    """Index table of a real keyframe's cameras, with random depth (pixels, D) and features (pixels, C)."""
    lift = build(cfg.model.jepa.encoder.lift)
    stride = cfg.model.jepa.encoder.camera.feature_stride
    image_size_px = tuple(frames.images.shape[-2:])
    size = (image_size_px[0] // stride, image_size_px[1] // stride)
    table = lift.table(size, image_size_px, frames.pix_T_cam[:1], frames.bev_T_cam[:1], frames.camera_present[:1])
    pixels, device = frames.images.shape[1] * size[0] * size[1], frames.images.device
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


@dataclass(frozen=True)
class Rates:
    """What this machine can do at best: bytes it copies and operations it multiplies and adds, each in a second."""

    bytes_per_s: float
    flops: float

    def floor_s(self, moved_bytes: float, operations: float) -> float:
        """Seconds below which nothing that must do both can come."""
        return max(moved_bytes / self.bytes_per_s, operations / self.flops)


def measured_rates(device: torch.device) -> Rates:
    """Of a large copy and a large matrix product."""
    block, matrix = torch.rand(1 << 25, device=device), torch.rand(2048, 2048, device=device)
    seconds = time_in_turn({"copy": lambda: block.clone(), "matmul": lambda: matrix @ matrix}, 5, device)
    return Rates(2 * block.numel() * 4 / seconds["copy"], 2 * 2048**3 / seconds["matmul"])


def now(device: torch.device) -> float:
    """Seconds; on a GPU after everything queued is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    run_tool(main)
