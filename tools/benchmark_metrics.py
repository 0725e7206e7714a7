"""How long probes take: occupancy metrics over a split as large as nuScenes' validation split, next to plain numpy in one run; and
frozen embeddings, computed and kept.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from benchmark_kernels import time_in_turn
from rich.console import Console
from rich.progress import track
from rich.table import Table

from avjepa.cli import run_tool
from avjepa.engine.config import load_config
from avjepa.engine.probe_study import random_jepa
from avjepa.engine.registry import build
from avjepa.errors import DataError
from avjepa.geometry.occ3d import CLASS_NAMES, FREE, OCC3D_GRID, SHAPE_XYZ
from avjepa.geometry.voxel_traversal import first_hits, first_hits_reference
from avjepa.probes.frozen import Source, embed_clips
from avjepa.probes.metrics.ray_iou import MAX_ORIGINS, RayIoU, ray_directions
from avjepa.probes.metrics.semantic_occupancy import OccupancyConfusion
from avjepa.probes.occ3d_files import read_labels, read_prediction, write_prediction
from avjepa.probes.task import Items

EXAMPLE = """example:
  python tools/benchmark_metrics.py --data data/city --frames 200 --embeddings configs/probes/bev_occupancy_city.py
"""

VALIDATION_FRAMES = 6019
CPU = torch.device("cpu")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="ROOT", type=Path, help="data root with gts/; default: made-up streets")
    parser.add_argument("--frames", type=int, default=200, help="frames to measure mIoU on (default 200)")
    parser.add_argument(
        "--runs", type=int, default=5, help="timed runs of each ray caster, in turn, after one to warm up (default 5)"
    )
    parser.add_argument(
        "--embeddings", metavar="CONFIG", type=Path, help="also embed the training clips of a probe config, twice"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        labels = label_files(args.data, Path(folder))
        predictions = [
            write_prediction(Path(folder) / "predictions", str(number), read_labels(path).semantics, "occ3d")
            for number, path in enumerate(labels)
        ]
        # Every frame is judged by its neighbour's truth: a guess with the errors of a car that has moved on.
        pairs = list(zip(labels, predictions[1:] + predictions[:1], strict=True))
        Console(width=120).print(miou_table(list(islice(cycle(pairs), args.frames))))
        Console(width=120).print(ray_table(*pairs[0], args.runs))
    if args.embeddings:
        Console(width=120).print(embedding_table(args.embeddings, args.data))
    print(f"{torch.get_num_threads()} torch threads")


def label_files(root: Path | None, folder: Path) -> list[Path]:
    """Label files of a data root, at most 200 evenly over it, or of a made-up street."""
    if root is None:
        return [made_up_labels(folder / f"{number}.npz", np.random.default_rng(number)) for number in range(2)]
    found = sorted(root.glob("gts/*/*/labels.npz"))
    if len(found) < 2:
        raise DataError(f"{root}: no gts/<scene>/<token>/labels.npz; name a data root, or leave --data out")
    return found[:: -(-len(found) // 200)]


def made_up_labels(path: Path, rng: np.random.Generator) -> Path:
    """A road between walls with boxes on it; the masks are random."""
    semantics = np.full(SHAPE_XYZ, FREE, dtype=np.uint8)
    semantics[:, :, 2] = CLASS_NAMES.index("driveable_surface")
    semantics[:, :60, 3:12] = semantics[:, 140:, 3:12] = CLASS_NAMES.index("manmade")
    for x, y, length, kind in zip(
        *rng.integers([[0], [60], [2], [0]], [[190], [135], [12], [17]], (4, 60)), strict=True
    ):
        semantics[x : x + length, y : y + 4, 3:7] = kind
    masks = {name: rng.integers(0, 2, SHAPE_XYZ).astype(np.uint8) for name in ("mask_lidar", "mask_camera")}
    np.savez_compressed(path, semantics=semantics, **masks)
    return path


def miou_table(pairs: list[tuple[Path, Path]]) -> Table:
    """Time of reading and counting each frame, and of counting it as the published evaluators do, frame after frame."""
    confusion, plain = OccupancyConfusion(), np.zeros((FREE + 1, FREE + 1), dtype=np.int64)
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, call: Callable):
        start = time.perf_counter()
        value = call()
        seconds[name] += time.perf_counter() - start
        return value

    for labels_file, prediction_file in track(pairs, "mIoU"):
        truth = timed("read labels", lambda path=labels_file: read_labels(path))
        guess = timed("read prediction", lambda path=prediction_file: read_prediction(path))
        arrays = (guess, truth.semantics, truth.mask_camera, truth.mask_lidar)
        timed("count, every convention", lambda arrays=arrays: confusion.add(*arrays))
        plain += timed("plain numpy, one convention", lambda arrays=arrays: plain_confusion(*arrays[:3]))
    if (confusion.counts[1].sum((0, 1)) != plain).any():
        raise AssertionError("the two counts differ")
    block = torch.rand(1 << 25)
    copy_s = time_in_turn({"copy": lambda: block.clone()}, 5, CPU)["copy"]
    seconds["floor: 4 bytes a voxel over copy bandwidth"] = (
        len(pairs) * 4 * np.prod(SHAPE_XYZ) * copy_s / (2 * 4 * block.numel())
    )

    report = Table(title=f"mIoU over {VALIDATION_FRAMES:,} frames, extrapolated from {len(pairs)}")
    for column in ("", "ms a frame", "s over the split"):
        report.add_column(column, justify="right")
    whole = sum(seconds[name] for name in ("read labels", "read prediction", "count, every convention"))
    for name, value in [*seconds.items(), ("read and count", whole)]:
        per_frame = value / len(pairs)
        report.add_row(name, f"{1e3 * per_frame:.2f}", f"{VALIDATION_FRAMES * per_frame:.1f}")
    return report


def plain_confusion(predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Confusion matrix of the masked voxels, by indexing."""
    kept_truth, kept_predicted = truth[mask].astype(int), predicted[mask].astype(int)
    classes = FREE + 1
    return np.bincount(kept_truth * classes + kept_predicted, minlength=classes**2).reshape(classes, classes)


def ray_table(labels_file: Path, prediction_file: Path, runs: int) -> Table:
    """Rays a second of RayIoU, of its ray caster alone, and of plain numpy, on one frame with all its origins."""
    truth, guess = read_labels(labels_file).semantics, read_prediction(prediction_file)
    ahead_m = np.linspace(-35, 35, MAX_ORIGINS)
    origins = np.stack([ahead_m, 0.01 * ahead_m, np.full(MAX_ORIGINS, 1.84)], 1)
    occupied = np.stack([guess, truth]) != FREE
    lower_m = np.array([OCC3D_GRID.x_range_m[0], OCC3D_GRID.y_range_m[0], OCC3D_GRID.z_range_m[0]])
    directions = np.tile(ray_directions().double().numpy(), (MAX_ORIGINS, 1))
    starts = np.repeat((origins - lower_m) / OCC3D_GRID.cell_m, len(directions) // MAX_ORIGINS, 0)
    tensors = tuple(map(torch.from_numpy, (occupied, starts, directions)))

    calls = {
        "RayIoU of the frame": lambda: RayIoU().add(guess, truth, origins),
        "ray caster, both volumes": lambda: first_hits(*tensors),
        "plain numpy, both volumes": lambda: [first_hits_reference(volume, starts, directions) for volume in occupied],
    }
    seconds = time_in_turn(calls, runs, CPU)
    voxels = np.abs(first_hits(*tensors).voxel.numpy() - np.floor(starts)).sum(-1).mean() + 1
    report = Table(
        title=f"RayIoU: 2 x {MAX_ORIGINS} x {len(directions) // MAX_ORIGINS:,} rays, {voxels:.0f} voxels each"
    )
    for column in ("", "median s", "rays a second", "against plain numpy", "h over the split"):
        report.add_column(column, justify="right")
    for name, value in seconds.items():
        against = f"{value / seconds['plain numpy, both volumes']:.2f} x"
        hours = f"{VALIDATION_FRAMES * value / 3600:.2f}"
        report.add_row(name, f"{value:.3f}", f"{2 * len(directions) / value:,.0f}", against, hours)
    return report


def embedding_table(config: Path, root: Path | None) -> Table:
    """Seconds for the features of a probe's training clips, by a model of random weights: first computed, then kept."""
    cfg = load_config(config, data_root=root and str(root), kind="a probe")
    jepa = random_jepa(load_config(config.parent / cfg.pretrain_config), 0)
    source = Source.of_model("random init", jepa, "")
    probe, dataset = build(cfg.probe), build(cfg.train_data.dataset)
    items = Items(probe, dataset, list(range(len(dataset))))
    report = Table(title=f"{len(dataset)} clips, {len(items)} embeddings")
    for column in ("", "s", "ms a clip"):
        report.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("computed", "kept"):
            start = time.perf_counter()
            clips = track(items.clips, f"embeddings, {name}")
            features = embed_clips(source, probe.view, dataset, clips, items.per_clip, Path(folder))
            for item in range(len(features)):
                features[[item]]
            seconds = time.perf_counter() - start
            report.add_row(name, f"{seconds:.2f}", f"{1e3 * seconds / len(dataset):.1f}")
    return report


if __name__ == "__main__":
    run_tool(main)
