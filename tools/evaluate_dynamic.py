"""Score cleaned maps (as DynamicMap_Benchmark does) and moving labels (as LiDAR-MOS does) of any method."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from avjepa.cli import progress, run_tool
from avjepa.errors import BadFileError, DataError
from avjepa.probes.dufomap_baseline import DufomapSettings, dufomap_dynamic
from avjepa.probes.metrics.dynamic_map import DynamicMapScore, score_cleaned_map
from avjepa.probes.metrics.moving_objects import MOVING, MovingConfusion, semantickitti_labels
from avjepa.probes.pcd_files import read_pcd, read_scans, read_truth
from avjepa.probes.scans import Scan
from avjepa.probes.visibility import VisibilityCheck, seen_through
from avjepa.reports.tables import markdown_table

EXAMPLE = """example:
  python tools/evaluate_dynamic.py map DynamicMap/00 other_method/cleaned.pcd        # beside methods that need no training
  python tools/evaluate_dynamic.py labels sequences/08/labels predictions/08/labels
"""
MAP_COLUMNS = {"sa": "SA %", "da": "DA %", "aa": "AA %", "ha": "HA %"}
LABEL_COLUMNS = {"iou": "IoU %", "precision": "precision %", "recall": "recall %"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    maps = commands.add_parser("map", help="cleaned maps: SA, DA, AA, HA of DynamicMap_Benchmark")
    maps.add_argument("truth", type=Path, metavar="DIR", help="a folder of the benchmark: gt_cloud.pcd and pcd/")
    maps.add_argument("cleaned", type=Path, nargs="*", metavar="PCD", help="cleaned maps, in the frame of gt_cloud.pcd")
    labels = commands.add_parser("labels", help="labels of scans: IoU of what moves")
    labels.add_argument("truth", type=Path, metavar="DIR", help="true .label files")
    labels.add_argument("predicted", type=Path, metavar="DIR", help=".label files of the same names")
    labels.add_argument(
        "--rule",
        choices=("semantickitti", "motionseg3d"),
        default="semantickitti",
        help="unlabeled points are ignored (default), or static",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    if args.command == "map":
        scores = map_scores(args.truth, args.cleaned)
        rows = {name: {key: [getattr(score, key)] for key in MAP_COLUMNS} for name, score in scores.items()}
        print(markdown_table(rows, MAP_COLUMNS, digits=2, seeds=False))
    else:
        counts = label_counts(args.truth, args.predicted, args.rule)
        row = {key: [100 * getattr(counts, key)] for key in LABEL_COLUMNS}
        print(markdown_table({args.predicted.name: row}, LABEL_COLUMNS, digits=2, seeds=False))


def map_scores(truth: Path, cleaned: Sequence[Path]) -> dict[str, DynamicMapScore]:
    """Of every cleaned map, and of the maps that untrained methods leave of the folder's scans."""
    truth_xyz, is_dynamic = read_truth(truth)
    scans = read_scans(truth)
    xyz_map = np.concatenate([scan.xyz_map for scan in scans])
    methods = untrained_methods(scans)
    scores = {}
    for name, answers in progress(methods.items(), "methods that need no training", len(methods)):
        scores[name] = score_cleaned_map(truth_xyz, is_dynamic, xyz_map[~answers()])
    for path in cleaned:
        scores[str(path)] = score_cleaned_map(truth_xyz, is_dynamic, read_pcd(path).xyz_world)
    return scores


def untrained_methods(scans: list[Scan]) -> dict[str, Callable[[], np.ndarray]]:
    """By name: which points of all scans (P,) move."""
    xyz_map = np.concatenate([scan.xyz_map for scan in scans])
    methods = {
        "all static": lambda: np.zeros(len(xyz_map), dtype=bool),
        "visibility check": lambda: seen_through(xyz_map, scans, VisibilityCheck()),
    }
    if importlib.util.find_spec("dufomap") is not None:
        methods["DUFOMap"] = lambda: np.concatenate(dufomap_dynamic(scans, DufomapSettings()))
    return methods


def label_counts(truth: Path, predicted: Path, rule: str) -> MovingConfusion:
    """Over all files of the truth's folder.

    Raises:
        DataError: there is none, or one without an answer.
        BadFileError: a file is no labels, or two of a name have not as many.
    """
    files = sorted(truth.glob("*.label"))
    if not files:
        raise DataError(f"{truth}: no .label files; name the labels/ folder of a sequence")
    counts = MovingConfusion()
    for file in progress(files, f"comparing {truth}", len(files)):
        true, answer = read_label(file), read_label(predicted / file.name)
        if len(true) != len(answer):
            raise BadFileError(f"{predicted / file.name}: {len(answer)} labels for {len(true)} points; export it again")
        # What a method leaves unlabeled, it does not call moving.
        moving = semantickitti_labels(answer, "motionseg3d") == MOVING
        counts += MovingConfusion.of(moving, semantickitti_labels(true, rule))
    return counts


def read_label(path: Path) -> np.ndarray:
    """(P,) uint32 of a SemanticKITTI ``.label`` file.

    Raises:
        DataError: there is no such file.
        BadFileError: it is cut off.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; every true .label file wants an answer of its name")
    if path.stat().st_size % 4:
        raise BadFileError(f"{path}: cut off; copy it again")
    return np.fromfile(path, dtype="<u4")


if __name__ == "__main__":
    run_tool(main)
