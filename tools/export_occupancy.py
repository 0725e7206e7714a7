"""Export the occupancy that a row of a probe study predicts, in the formats that Occ3D's and SparseOcc's evaluators read."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmengine.config import Config

from avjepa.cli import progress, run_tool
from avjepa.engine.config import load_config
from avjepa.engine.kept_row import every_keyframe, row_parser, study_of_row
from avjepa.errors import ConfigError, DataError
from avjepa.files import write_json
from avjepa.probes.occ3d_export import export_occupancy
from avjepa.probes.occ3d_files import PREDICTION_KEYS
from avjepa.probes.occupancy import OccupancyProbe

EXAMPLE = """example:
  python tools/export_occupancy.py configs/probes/occupancy.py work_dirs/bev_jepa_nuscenes/last.pth \\
      work_dirs/bev_jepa_nuscenes/probes/occupancy/rows/JEPA-conv-1-seed0-0123456789ab.json \\
      --split original --format sparseocc --out work_dirs/submission

One file a keyframe, OUT/<sample token>.npz; OUT.json says what they are of. Files that are there are not made again: an export
that was stopped goes on when the command is given again. The first keyframes of a scene have a shorter past than the probe's
clips: the oldest keyframe stands in for those before it.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = row_parser(__doc__, EXAMPLE)
    parser.add_argument("--split", required=True, metavar="NAME", help="test split of the config")
    parser.add_argument("--format", required=True, choices=sorted(PREDICTION_KEYS), help="whose evaluator will read it")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options, args.data, kind="a probe")
    check_config(cfg, args.split)
    study, row = study_of_row(cfg, args)
    claim_folder(args.out, {"row": args.row.name, "split": args.split, "format": args.format})
    settings = cfg.test_data[args.split]
    keyframes = every_keyframe(settings, settings.scenes)
    clips = progress(range(len(keyframes)), f"exporting {args.split}", len(keyframes))
    exported = export_occupancy(study, row, keyframes, clips, args.out, args.format)
    there = f", {exported.kept} were there" if exported.kept else ""
    left_out = f", {exported.unreadable} left out (corrupt files)" if exported.unreadable else ""
    print(f"{args.out}: {exported.written} of {len(keyframes)} keyframes written{there}{left_out}")


def check_config(cfg: Config, split: str) -> None:
    """Refuse what is no occupancy study, and splits that it does not have."""
    if not issubclass(cfg.probe.type, OccupancyProbe):
        raise ConfigError(
            f"{cfg.filename}: {cfg.probe.type.__name__} predicts no occupancy; take configs/probes/occupancy*.py"
        )
    if split not in cfg.test_data:
        raise ConfigError(f"--split {split}: {cfg.filename} has {', '.join(cfg.test_data)}")


def claim_folder(folder: Path, what: dict[str, str]) -> None:
    """Note beside the folder what it is of; refuse one that is of something else."""
    folder = folder.resolve()  # "." has no name
    note = folder.with_name(f"{folder.name}.json")
    try:
        found = json.loads(note.read_text()) if note.is_file() else None
    except ValueError as error:
        raise DataError(f"{note}: damaged ({error}); remove it and {folder}") from error
    if found not in (None, what) or (found is None and folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"--out {folder}: holds something else ({found or 'unknown'}); take another folder")
    write_json(note, what)


if __name__ == "__main__":
    run_tool(main)
