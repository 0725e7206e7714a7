"""Score reports of map changes against known changes: events, frames, false alarms, time to detect, calibration."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from avjepa.cli import run_tool
from avjepa.errors import ConfigError
from avjepa.files import replacing, write_json
from avjepa.mapping.drive_paths import drive_paths
from avjepa.mapping.evaluation.evaluate import ChangeEvaluation, evaluate_report
from avjepa.mapping.evaluation.matching import MATCH_M
from avjepa.mapping.evaluation.truth import REACH_SHARE, read_edits
from avjepa.mapping.outputs.frame_predictions import read_frame_predictions
from avjepa.mapping.outputs.local_json import read_local_json
from avjepa.reports.map_change_tables import map_change_markdown
from avjepa.reports.record import file_sha256, origin
from avjepa.sensors.nuscenes_index import load_index

EXAMPLE = """example:
  python tools/evaluate_map_changes.py ours=work_dirs/changes0 ours=work_dirs/changes1 "map alone"=work_dirs/map_only \\
      --truth data/city/maps/changes/minicity-a.geojson --data data/city --out work_dirs/changes_score

A report is a folder with changes_local.json and frames.json. Reports of one name are seeds of one row: mean and spread. Without a
name, a row is the number of drives that the report looked at: 1 drive, 4 drives. A known change counts where at least half of it
lies within 20 m of an ego position of the report's drives. The truth of a map that is up to date comes from
tools/edit_map.py --edits 0.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="+", metavar="[NAME=]REPORT_DIR", help="reports to score")
    parser.add_argument("--truth", type=Path, required=True, metavar="GEOJSON", help="known changes of their map")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="nuScenes root of their drives")
    parser.add_argument("--version", metavar="NAME", help="tables' folder (default: the only one)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write evaluation.json and evaluation.md there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    rows = evaluate_all(args.reports, args.truth, args.data, args.version)
    markdown = map_change_markdown(rows)
    print(markdown, end="")
    if args.out is not None:
        write_json(args.out / "evaluation.json", record_of(rows, args.truth))
        with replacing(args.out / "evaluation.md") as temporary:
            temporary.write_text(markdown, encoding="utf-8")
        print(f"\nwritten: {args.out / 'evaluation.json'} and evaluation.md beside it")


def evaluate_all(
    named: Sequence[str], truth: Path, data: Path, version: str | None = None
) -> dict[str, list[ChangeEvaluation]]:
    """Scores of every report, by row."""
    frame, edits = read_edits(truth)
    index = load_index(data, version)
    rows: dict[str, list[ChangeEvaluation]] = {}
    for item in named:
        name, folder = named_folder(item)
        report = read_local_json(folder / "changes_local.json")
        predictions = read_frame_predictions(folder / "frames.json")
        if not report.scenes:
            raise ConfigError(f"{folder}: a report on no drive; there is nothing to score")
        one = evaluate_report(report, predictions, frame, edits, drive_paths(index, report.scenes))
        drives = f"{len(report.scenes)} drive{'s' if len(report.scenes) > 1 else ''}"
        rows.setdefault(name or drives, []).append(one)
    return rows


def named_folder(item: str) -> tuple[str, Path]:
    """``NAME=DIR``, or a folder without a name; an existing folder whose name holds "=" is one."""
    name, found, folder = item.partition("=")
    return (name, Path(folder)) if found and not Path(item).is_dir() else ("", Path(item))


def record_of(rows: Mapping[str, Sequence[ChangeEvaluation]], truth: Path) -> dict:
    """The record: what ran, by which conventions, and every figure of every report."""
    return {
        **origin(),
        "task": "map_changes",
        "truth": {"file": truth.name, "sha256": file_sha256(truth)},
        "convention": (
            f"events one to one by falling confidence, same atomic change, at most {MATCH_M:g} m between shapes; edits count "
            f"of which {REACH_SHARE:.0%} lie within 20 m of an ego position; frames as TbV"
        ),
        "results": {name: [one.record() for one in seeds] for name, seeds in rows.items()},
    }


if __name__ == "__main__":
    run_tool(main)
