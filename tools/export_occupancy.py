"""Export the occupancy that a row of a probe study predicts, in the formats that Occ3D's and SparseOcc's evaluators read."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmengine.config import Config, DictAction
from rich.progress import track

from avjepa.cli import run_tool
from avjepa.engine.config import load_config
from avjepa.engine.probe_study import build_study
from avjepa.engine.registry import build
from avjepa.errors import CheckpointError, ConfigError, DataError
from avjepa.files import write_json
from avjepa.probes.occ3d_export import export_occupancy, with_repeated_past
from avjepa.probes.occ3d_files import PREDICTION_KEYS
from avjepa.probes.occupancy import OccupancyProbe
from avjepa.probes.study import Row, Study, read_row
from avjepa.sensors.nuscenes_dataset import NuScenesClips

EXAMPLE = """example:
  python tools/export_occupancy.py configs/probes/occupancy.py work_dirs/bev_jepa_nuscenes/last.pth \\
      --row work_dirs/bev_jepa_nuscenes/probes/occupancy/rows/JEPA-conv-1-seed0-0123456789ab.json \\
      --split original --format sparseocc --out work_dirs/submission

One file a keyframe, OUT/<sample token>.npz; OUT.json says what they are of. Files that are there are not made again: an export
that was stopped goes on when the command is given again. The first keyframes of a scene have a shorter past than the probe's
clips: the oldest keyframe stands in for those before it.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="probe config of the study, of an occupancy probe")
    parser.add_argument("checkpoint", type=Path, help="checkpoint that the row was made with")
    parser.add_argument("--row", type=Path, required=True, metavar="FILE", help="a trained row, in rows/ of the study")
    parser.add_argument("--split", required=True, metavar="NAME", help="test split of the config")
    parser.add_argument("--format", required=True, choices=sorted(PREDICTION_KEYS), help="whose evaluator will read it")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the predictions")
    parser.add_argument("--data", metavar="ROOT", help="data root, as given to tools/probe.py")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="as given to tools/probe.py"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="embeddings; default: probes/embeddings beside the checkpoint"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options, args.data)
    check_config(cfg, args.split)
    row = read_trained_row(args.row)
    study = build_study(
        cfg,
        [args.checkpoint],
        row.seed + 1,
        folder=args.row.resolve().parents[1],
        features=args.cache or args.checkpoint.parent / "probes" / "embeddings",
        progress=lambda items, what, total: items,
    )
    check_row(study, row, args)
    claim_folder(args.out, {"row": args.row.name, "split": args.split, "format": args.format})
    keyframes = every_keyframe(cfg, args.split)
    clips = track(range(len(keyframes)), description=f"exporting {args.split}")
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


def read_trained_row(path: Path) -> Row:
    """A row with a head."""
    if not path.is_file():
        raise ConfigError(f"--row {path}: no such file; a study keeps its rows in rows/ of its --out")
    row = read_row(path)
    if row is None:
        raise ConfigError(f"--row {path}: not a row of tools/probe.py, or damaged; run tools/probe.py again")
    if not row.head_file:
        raise ConfigError(f"--row {path}: {row.name!r} has no head whose answers could be exported; take a trained row")
    return row


def check_row(study: Study, row: Row, args: argparse.Namespace) -> None:
    """Refuse a row of another study: its file's name says everything that decided it."""
    wanted = study.file_of(row)
    if wanted is None or wanted.name != args.row.name:
        raise ConfigError(
            f"--row {args.row}: not made by {args.config} with {args.checkpoint}, these --cfg-options, this data and this "
            "code; give what tools/probe.py was given, or run it again"
        )
    if not (study.folder / row.head_file).is_file():
        raise CheckpointError(
            f"{study.folder / row.head_file}: the head of {args.row.name} is missing; run tools/probe.py"
        )


def claim_folder(folder: Path, what: dict[str, str]) -> None:
    """Note beside the folder what it is of; refuse one that is of something else."""
    note = folder.with_name(f"{folder.name}.json")
    try:
        found = json.loads(note.read_text()) if note.is_file() else None
    except ValueError as error:
        raise DataError(f"{note}: damaged ({error}); remove it and {folder}") from error
    if found not in (None, what) or (found is None and folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"--out {folder}: holds something else ({found or 'unknown'}); take another folder")
    write_json(note, what)


def every_keyframe(cfg: Config, split: str) -> NuScenesClips:
    """One clip for every keyframe of the split, without the future that the probe's truth may need."""
    settings = cfg.test_data[split]
    alone = build({**settings, "context_offsets": (0,), "future_offsets": (), "clip_stride": 1})
    return with_repeated_past(alone, tuple(settings.context_offsets))


if __name__ == "__main__":
    run_tool(main)
