"""Probe a frozen BEV JEPA: one task's table, beside random-init, raw input and answers that need no training."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from mmengine.config import DictAction

from avjepa.cli import progress, run_tool
from avjepa.engine.config import load_config
from avjepa.engine.probe_study import build_study, check_splits, pretraining_scenes
from avjepa.errors import ConfigError
from avjepa.probes.study import Row, Study
from avjepa.probes.task import Items, Panels
from avjepa.reports.probe_figures import save_probe_picture
from avjepa.reports.record import write_record
from avjepa.reports.tables import markdown_table, verdicts

EXAMPLE = """example:
  python tools/probe.py configs/probes/bev_occupancy.py work_dirs/bev_jepa_nuscenes_tiny/last.pth
  python tools/probe.py configs/probes/bev_occupancy.py work_dirs/seed{0,1,2}/last.pth       # one pretraining seed a checkpoint
  python tools/probe.py configs/probes/bev_occupancy.py work_dirs/seed0/last.pth --label-share 0.01 0.1 1

Rows that are done are kept in OUT/rows and embeddings in the cache: a study that was stopped goes on when the command is given
again, and nothing is computed twice.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="probe config, one of configs/probes/")
    parser.add_argument(
        "checkpoints", type=Path, nargs="+", help="checkpoints of tools/train.py, one per pretraining seed"
    )
    parser.add_argument("--data", metavar="ROOT", help="data root; default: the config's, or the variable it names")
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="N",
        help="seeds of every row (default 3); checkpoints are taken in turn",
    )
    parser.add_argument(
        "--label-share",
        type=float,
        nargs="+",
        default=[1.0],
        metavar="X",
        help="shares of the training scenes whose labels heads see (default 1)",
    )
    parser.add_argument(
        "--heads", nargs="+", metavar="KIND", help="heads of the config to train (default: all of them)"
    )
    parser.add_argument(
        "--supervised",
        action="store_true",
        help="also train encoder and head from scratch, minutes a row (the config's settings)",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="settings in the config to change"
    )
    parser.add_argument("--out", type=Path, help="results; default: probes/NAME beside the first checkpoint")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="embeddings; default: probes/embeddings beside the first checkpoint"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    if args.seeds < 1 or not all(0 < share <= 1 for share in args.label_share):
        raise ConfigError("--seeds must be at least 1, and every --label-share in (0, 1]")
    if len(args.checkpoints) > args.seeds:
        raise ConfigError(f"{len(args.checkpoints)} checkpoints for --seeds {args.seeds}: some would not be used")
    cfg = load_config(args.config, args.cfg_options, args.data, kind="a probe")
    beside = args.checkpoints[0].parent / "probes"
    study = build_study(
        cfg,
        args.checkpoints,
        args.seeds,
        folder=args.out or beside / cfg.probe.type.name,
        features=args.cache or beside / "embeddings",
        heads=args.heads,
        supervised=args.supervised,
        label_shares=tuple(args.label_share),
        progress=progress,
    )
    splits = check_splits(study.train, study.tests, pretraining_scenes(args.checkpoints))
    probe = study.probe
    rows = list(study.rows())
    results = {split: as_table(rows, split) for split in study.tests}
    for split, table in results.items():
        print(f"\n{splits[split]}")
        print_results(probe.columns, table, split, len(study.tests[split]))
        save_picture(study, rows, split)
    write_record(
        study.folder / "record.json",
        results=results,
        config=cfg.pretty_text,
        checkpoints=args.checkpoints,
        seeds=list(range(args.seeds)),
        split={split: checked.record() for split, checked in splits.items()},
        task=probe.name,
        columns=dict(probe.columns),
        convention=probe.convention,
    )
    print(f"\nwritten: {study.folder / 'record.json'}, and a picture a split beside it")


def as_table(rows: Iterable[Row], split: str) -> dict[str, dict[str, list[float]]]:
    """``table[row][metric]`` = values over seeds; rows with fewer labels say so."""
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        title = row.title + (f", {100 * row.label_share:g} % of labels" if row.label_share < 1 else "")
        for metric, value in row.metrics.get(split, {}).items():
            table[title][metric].append(value)
    return {row: dict(values) for row, values in table.items()}


def print_results(columns: dict[str, str], table: dict[str, dict[str, list[float]]], split: str, clips: int) -> None:
    """The table, and in words whether JEPA gains on random-init and raw input."""
    print(f"\n{split}: {clips} clips; mean ± standard deviation over seeds\n")
    print(markdown_table(table, columns))
    print()
    for verdict in verdicts(columns, table):
        print(verdict)


def save_picture(study: Study, rows: list[Row], split: str) -> None:
    """The middle clip of a split: truth, and the answers of every row of the first seed that saw all labels."""
    probe, dataset = study.probe, study.tests[split]
    clip = len(dataset) // 2
    train, test = study.items(study.train), Items(probe, dataset, [clip])
    item = len(test) - 1
    truth = test.truth(item)
    untrained = dict(probe.untrained(train, test))
    pictures: dict[str, Panels] = {}
    for row in rows:
        if row.seed or row.label_share < 1 or split not in row.metrics:
            continue
        if row.head:
            logits = study.logits(row, dataset, clip)[item]
            answer = probe.answer(logits, truth)
        else:
            logits, answer = None, list(islice(untrained[row.name](), len(test)))[item]
        pictures[row.title] = probe.panels(answer, truth, row.threshold, logits)
    path = study.folder / f"{split}.png"
    save_probe_picture(path, dataset[clip].now, probe.truth_panels(truth), pictures, probe.grid)


if __name__ == "__main__":
    run_tool(main)
