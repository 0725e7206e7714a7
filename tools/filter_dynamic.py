"""Filter what moves out of a drive: labels of every keyframe's LiDAR returns, and a cleaned map."""

from __future__ import annotations

import argparse

from avjepa.cli import progress, run_tool
from avjepa.engine.config import load_config
from avjepa.engine.kept_row import every_keyframe, row_parser, study_of_row
from avjepa.errors import ConfigError
from avjepa.probes.dynamic import DynamicProbe
from avjepa.probes.dynamic_export import check_empty, moving_returns, write_filtered_drive
from avjepa.probes.moving_scans import drive_scans

EXAMPLE = """example:
  python tools/filter_dynamic.py configs/probes/dynamic_city.py work_dirs/city0/last.pth \\
      work_dirs/city0/probes/dynamic/rows/JEPA-conv-1-seed0-0123456789ab.json --scene scene-2005 --out work_dirs/filtered

Run tools/probe.py with the same config, checkpoint and --cfg-options first: it trains the row. OUT is a folder in the format of
DynamicMap_Benchmark (gt_cloud.pcd, pcd/), with labels/ for SemanticKITTI's tools, cleaned.pcd and scans.json. At a drive's start
the oldest keyframe stands in for those before it: there is little to tell motion by at the first one.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = row_parser(__doc__, EXAMPLE)
    parser.add_argument("--scene", required=True, metavar="NAME", help="drive to filter")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options, args.data, kind="a probe")
    if not issubclass(cfg.probe.type, DynamicProbe):
        raise ConfigError(f"{args.config}: {cfg.probe.type.__name__} filters nothing; take configs/probes/dynamic*.py")
    check_empty(args.out)
    study, row = study_of_row(cfg, args)
    keyframes = every_keyframe(cfg.train_data.dataset, (args.scene,))
    clips = progress(range(len(keyframes)), f"filtering {args.scene}", len(keyframes))
    moving = moving_returns(study, row, keyframes, clips)
    scene = int(keyframes.index.scene[keyframes.clips[0, -1]])
    drive = drive_scans(keyframes.root, keyframes.version, scene, sweeps=False)
    returns, removed = write_filtered_drive(args.out, drive, moving, keyframes.index.token)
    left_out = len(keyframes) - len(moving)
    corrupt = f" ({left_out} left out: no readable LiDAR file, or a corrupt one in their past)" if left_out else ""
    print(f"{args.out}: {len(moving)} keyframes{corrupt}, {returns} returns, {removed} of them called moving")


if __name__ == "__main__":
    run_tool(main)
