"""Occupancy probe: what a frozen BEV JEPA knows, beside random-init, raw input and copied answers."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from rich.progress import track

from avjepa.cli import run_tool
from avjepa.engine.checkpoint import read_checkpoint
from avjepa.engine.config import load_config
from avjepa.engine.registry import build
from avjepa.errors import CheckpointError, ConfigError
from avjepa.jepa.model import BEVJEPA
from avjepa.probes.occupancy_study import ProbeData, ProbeResult, evaluate_features, evaluate_score, extract
from avjepa.reports.probe_figures import save_occupancy_picture
from avjepa.reports.record import describe_split, write_record
from avjepa.reports.tables import gain_verdict, markdown_table
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.sample import ClipBatch

EXAMPLE = """example:
  python tools/probe.py configs/probes/occupancy.py work_dirs/bev_jepa_nuscenes_tiny/last.pth
  python tools/probe.py configs/probes/occupancy.py work_dirs/seed{0,1,2}/last.pth      # one pretraining seed a checkpoint
"""
METRICS = {
    "iou_known": "IoU, all known cells",
    "iou_hidden": "IoU, hidden now",
    "iou_never_seen": "IoU, never seen",
    "auroc_known": "AUROC, all",
    "auroc_hidden": "AUROC, hidden now",
    "auroc_never_seen": "AUROC, never seen",
}
CONVENTION = (
    "BEV occupancy from LiDAR rays of the clip's keyframes; IoU of occupied at the threshold with the best IoU on the training "
    "clips; hidden: not observed by the present keyframe; never seen: not observed by any context keyframe"
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="probe config, e.g. configs/probes/occupancy.py")
    parser.add_argument(
        "checkpoints", type=Path, nargs="+", help="checkpoints of tools/train.py, one per pretraining seed"
    )
    parser.add_argument("--data", metavar="ROOT", help="data root; default: the config's ($AVJEPA_NUSCENES)")
    parser.add_argument(
        "--seeds", type=int, default=3, help="seeds of every row (default 3); checkpoints are taken in turn"
    )
    parser.add_argument("--out", type=Path, help="where to write; default: probe_occupancy beside the first checkpoint")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    out = args.out or args.checkpoints[0].parent / "probe_occupancy"
    cfg = load_config(args.config, data_root=args.data)
    pretrain = load_config(args.config.parent / cfg.pretrain_config)
    train_set, test_set = build(cfg.train_data.dataset), build(cfg.test_data.dataset)

    encoders = {f"JEPA {path}": load_jepa(pretrain, path) for path in args.checkpoints}
    encoders |= {f"random init {seed}": random_jepa(pretrain, seed) for seed in range(args.seeds)}
    grid = next(iter(encoders.values())).encoder.grid
    train = extract(batches(train_set, "embedding training clips"), encoders, grid)
    test = extract(batches(test_set, "embedding test clips"), encoders, grid)

    results = list(all_rows(cfg, args, train, test))
    table = as_table(results)
    print_results(table, test)
    save_occupancy_picture(out / "occupancy.png", test_set[0], [r for r in results if r.seed == 0], test.targets, grid)
    write_record(
        out / "record.json",
        results=table,
        config=cfg.pretty_text,
        checkpoints=args.checkpoints,
        seeds=list(range(args.seeds)),
        split=split_of(train_set, test_set),
        convention=CONVENTION,
    )
    print(f"\nwritten: {out / 'record.json'} {out / 'occupancy.png'}")


def load_jepa(pretrain: Config, checkpoint: Path) -> BEVJEPA:
    """The pretrained model, frozen."""
    state = read_checkpoint(checkpoint)["model"]
    jepa = build(pretrain.model.jepa)
    try:
        jepa.load_state_dict({key.removeprefix("jepa."): value for key, value in state.items()})
    except RuntimeError as error:
        raise CheckpointError(
            f"{checkpoint}: not a model of {pretrain.filename} ({str(error).splitlines()[0]})"
        ) from error
    return jepa.requires_grad_(False).eval()


def random_jepa(pretrain: Config, seed: int) -> BEVJEPA:
    """The same model with the weights it would start from."""
    torch.manual_seed(seed)
    return build(pretrain.model.jepa).requires_grad_(False).eval()


def batches(dataset: NuScenesClips, what: str) -> Iterator[ClipBatch]:
    """The clips of a data set one by one, with a progress bar."""
    if not len(dataset):
        raise ConfigError(f"{what}: the data set has no clip; check scenes and offsets in the probe config")
    for index in track(range(len(dataset)), description=what):
        yield collate_clips([dataset[index]])


def all_rows(cfg: Config, args: argparse.Namespace, train: ProbeData, test: ProbeData) -> Iterator[ProbeResult]:
    """Every row and seed of the table."""
    for name in test.scores:
        yield evaluate_score(test, name)
    for kind, training in build(cfg.heads).items():
        for seed in range(args.seeds):
            jepa = f"JEPA {args.checkpoints[seed % len(args.checkpoints)]}"
            sources = {"raw input": "raw input", "random init": f"random init {seed}", "JEPA": jepa}
            for row, features in sources.items():
                yield evaluate_features(train, test, features, f"{row}, {kind} head", training, seed)


def as_table(results: list[ProbeResult]) -> dict[str, dict[str, list[float]]]:
    """``table[row][metric]`` = values over seeds."""
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for metric, value in result.metrics.items():
            table[result.row][metric].append(value)
    return {row: dict(values) for row, values in table.items()}


def print_results(table: dict[str, dict[str, list[float]]], test: ProbeData) -> None:
    """The table, and in words whether JEPA gains on random-init and raw input."""
    print(f"\nOccupancy on {len(test.targets.known)} test clips; mean ± standard deviation over seeds\n")
    print(markdown_table(table, METRICS))
    print()
    for row in [row for row in table if row.startswith("JEPA")]:
        head = row.partition(", ")[2]
        for metric in ("iou_known", "iou_hidden"):
            verdicts = [
                f"{gain_verdict(table[row][metric], table[f'{other}, {head}'][metric])} against {other}"
                for other in ("random init", "raw input")
            ]
            print(f"{row}, {METRICS[metric]}: {', '.join(verdicts)}")


def split_of(train_set: NuScenesClips, test_set: NuScenesClips) -> dict:
    """Names, hash and overlap of the split, from the present frames of all clips."""

    def frames(dataset: NuScenesClips) -> tuple[list[str], np.ndarray, list[str]]:
        keyframes = dataset.present_keyframes()
        return (
            [frame.scene for frame in keyframes],
            np.array([frame.global_T_ego[:2, 3] for frame in keyframes]),
            [frame.city for frame in keyframes],
        )

    train_scenes, train_xy_m, train_cities = frames(train_set)
    test_scenes, test_xy_m, test_cities = frames(test_set)
    return describe_split(
        sorted(set(train_scenes)), sorted(set(test_scenes)), train_xy_m, test_xy_m, train_cities, test_cities
    )


if __name__ == "__main__":
    run_tool(main)
