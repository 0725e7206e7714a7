"""Filter what moves out of a drive: labels of every keyframe's LiDAR returns, and a cleaned map."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config, DictAction
from rich.progress import track

from avjepa.cli import run_tool
from avjepa.engine.config import load_config
from avjepa.engine.probe_study import build_study
from avjepa.engine.registry import build
from avjepa.errors import CheckpointError, ConfigError
from avjepa.probes.dynamic import DynamicProbe
from avjepa.probes.dynamic_export import moving_returns, write_filtered_drive
from avjepa.probes.moving_scans import drive_scans
from avjepa.probes.occ3d_export import with_repeated_past
from avjepa.probes.study import Row, Study, read_row
from avjepa.sensors.nuscenes_dataset import NuScenesClips

EXAMPLE = """example:
  python tools/filter_dynamic.py configs/probes/dynamic_city.py work_dirs/demo/last.pth \\
      work_dirs/demo/probes/dynamic/rows/JEPA-conv-1-seed0-0123456789ab.json --scene scene-2005 --out work_dirs/filtered

Run tools/probe.py with the same config and checkpoint first: it trains the row. OUT is a folder in the format of
DynamicMap_Benchmark (gt_cloud.pcd, pcd/), with labels/ for SemanticKITTI's tools, cleaned.pcd and scans.json. At a drive's start
the oldest keyframe stands in for those before it: nothing is called moving at the first one.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="probe config of the study, one of configs/probes/dynamic*.py")
    parser.add_argument("checkpoint", type=Path, help="checkpoint that the row was made with")
    parser.add_argument("row", type=Path, help="a trained row, in rows/ of the study")
    parser.add_argument("--scene", required=True, metavar="NAME", help="drive to filter")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder of the results")
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
    if not issubclass(cfg.probe.type, DynamicProbe):
        raise ConfigError(f"{args.config}: {cfg.probe.type.__name__} filters nothing; take configs/probes/dynamic*.py")
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
    keyframes = every_keyframe(cfg, args.scene)
    clips = track(range(len(keyframes)), description=f"filtering {args.scene}")
    moving = moving_returns(study, row, keyframes, clips)
    drive = drive_scans(keyframes.root, int(keyframes.index.scene[keyframes.clips[0, -1]]), sweeps=False)
    returns, removed = write_filtered_drive(args.out, drive, moving, keyframes.index.token)
    print(f"{args.out}: {len(moving)} keyframes, {returns} returns, {removed} of them called moving")


def read_trained_row(path: Path) -> Row:
    """A row with a head."""
    row = read_row(path)
    if row is None or not row.head_file:
        raise ConfigError(f"{path}: not a trained row of tools/probe.py; take one of rows/ in its --out")
    return row


def check_row(study: Study, row: Row, args: argparse.Namespace) -> None:
    """Refuse a row of another study: its file's name says everything that decided it."""
    wanted = study.file_of(row)
    if wanted is None or wanted.name != args.row.name:
        raise ConfigError(
            f"{args.row}: not made by {args.config} with {args.checkpoint}, these --cfg-options, this data and this code; "
            "give what tools/probe.py was given, or run it again"
        )
    if not (study.folder / row.head_file).is_file():
        raise CheckpointError(f"{study.folder / row.head_file}: the head is missing; run tools/probe.py again")


def every_keyframe(cfg: Config, scene: str) -> NuScenesClips:
    """One clip for every keyframe of the scene."""
    settings = cfg.train_data.dataset
    alone = build({**settings, "scenes": (scene,), "context_offsets": (0,), "future_offsets": (), "clip_stride": 1})
    return with_repeated_past(alone, tuple(settings.context_offsets))


if __name__ == "__main__":
    run_tool(main)
