"""Generate a mini city: a driving data set in nuScenes format, with exact truth for every probe and known map changes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from avjepa.city.drives import CitySettings, town_names
from avjepa.city.generate import generate_city
from avjepa.cli import run_tool
from avjepa.errors import ConfigError
from avjepa.processes import cores

EXAMPLE = """example:
  python tools/make_city.py --out data/city                                  # what `make demo` uses: 8 drives
  python tools/make_city.py --out data/large --scenes 40 --seconds 20 --image-size 800x450 --workers 16

The folder is a nuScenes data root (version v1.0-city). Beside the official files it holds
  gts/              occupancy, Occ3D format            motion/         which LiDAR points move
  maps/prior/       a map that is out of date          maps/changes/   where and how it is
The same settings give the same bytes. A killed run goes on when the command is given again.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/city"), help="data root to make (default: data/city)")
    parser.add_argument("--scenes", type=int, default=8, metavar="N", help="drives (default 8)")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="T", help="length of a drive (default 8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (default 0)")
    parser.add_argument("--image-size", default="352x198", metavar="WxH", help="pixels (default 352x198)")
    parser.add_argument("--workers", type=int, default=cores(), metavar="W", help=f"processes (default: {cores()})")
    parser.add_argument("--town", default="AB", metavar="A|B|AB", help="towns; with both, B is the far split (default)")
    parser.add_argument(
        "--revisited-share", type=float, default=0.5, metavar="X", help="of the places, driven twice (default .5)"
    )
    parser.add_argument(
        "--changed-share",
        type=float,
        default=0.6,
        metavar="X",
        help="of the places, with a wrong prior map (default .6)",
    )
    parser.add_argument(
        "--drive-new-ways",
        action="store_true",
        help="drives take the ways through junctions that the prior map lacks in their place; those of less than 6 s hardly can",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    settings = _settings(args)
    started = time.monotonic()
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        made = generate_city(args.out, settings, args.workers, report)
    if not made:
        print(f"{args.out}: already there")
        return
    size_mb = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file()) / 1e6
    print(f"{args.out}: {settings.scenes} drives, {size_mb:.0f} MB, {time.monotonic() - started:.0f} s")


def _settings(args: argparse.Namespace) -> CitySettings:
    """Checked settings.

    Raises:
        ConfigError: a value makes no sense.
    """
    try:
        width, height = (int(part) for part in args.image_size.lower().split("x"))
    except ValueError as error:
        raise ConfigError(f"--image-size {args.image_size}: want WIDTHxHEIGHT, such as 352x198") from error
    try:
        towns = town_names(args.town.upper())
    except ValueError as error:
        raise ConfigError(f"--town {args.town}: {error}") from error
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        raise ConfigError(f"--image-size {args.image_size}: want 16 to 4096 pixels each way")
    if args.scenes < 1 or args.workers < 1 or not 1.0 <= args.seconds <= 60.0:
        raise ConfigError("want at least one scene and one worker, and drives of 1 to 60 seconds")
    if args.seed < 0 or not (0 <= args.revisited_share <= 1 and 0 <= args.changed_share <= 1):
        raise ConfigError("want a seed from 0, and shares in [0, 1]")
    return CitySettings(
        args.scenes,
        args.seed,
        args.seconds,
        (height, width),
        towns,
        args.revisited_share,
        args.changed_share,
        args.drive_new_ways,
    )


if __name__ == "__main__":
    run_tool(main)
