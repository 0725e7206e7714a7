"""Fuse drives to a static map: a clean point cloud, BEV layers, moving labels of every scan, a picture."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mmengine.config import ConfigDict, DictAction

from avjepa.cli import progress, run_tool
from avjepa.engine.config import load_config
from avjepa.engine.kept_row import every_keyframe, study_of_row
from avjepa.errors import ConfigError
from avjepa.files import replacing_folder, write_json
from avjepa.mapping.drive_turns import Drive
from avjepa.mapping.frames import MapFrame, frame_of_city
from avjepa.mapping.moving_filters import (
    DufomapFilter,
    KnownAnswers,
    MovingFilter,
    NoFilter,
    RayFilter,
    RaySettings,
)
from avjepa.mapping.static_map import LAYER_FOLDER, StaticMapSettings, build_static_map
from avjepa.probes.dufomap_baseline import DufomapSettings
from avjepa.probes.dynamic import DynamicProbe
from avjepa.probes.dynamic_export import check_empty, moving_returns
from avjepa.reports.record import origin
from avjepa.reports.static_map import save_map_picture
from avjepa.sensors.nuscenes_index import NuScenesIndex, load_index, split_scenes

EXAMPLE = """example:
  python tools/build_static_map.py --data data/city --scenes scene-2001 scene-2002 --out work_dirs/static_map

OUT holds clean.pcd, layers/*.npy with layers.json (where they lie and what they mean), static_map.png, static_map.json, and every
scan with its moving labels in the formats of DynamicMap_Benchmark (gt_cloud.pcd, pcd/) and SemanticKITTI (labels/). PCD files
are in metres from `global_T_map` of scans.json. Scenes are laid on those named before them. What moves is found without labels:
`rays` removes what other turns looked through. With --row a trained dynamic probe finds it (run tools/probe.py with the same
config, checkpoint and --cfg-options first).
"""
FILTERS: dict[str, Callable[[Path], MovingFilter]] = {
    "rays": lambda folder: RayFilter(folder, RaySettings()),
    "dufomap": lambda folder: DufomapFilter(DufomapSettings()),
    "none": lambda folder: NoFilter(),
}
ROUND_M = 100.0  # the PCD files' zero lies on whole multiples of this


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="nuScenes root")
    parser.add_argument("--version", help="folder of its tables (default: the only one)")
    parser.add_argument("--scenes", nargs="+", required=True, metavar="NAME", help="drives or splits, of one city")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--dynamic-filter", choices=tuple(FILTERS), default="rays", help="how to find what moves (default: rays)"
    )
    parser.add_argument(
        "--row", nargs=3, type=Path, metavar=("CONFIG", "CHECKPOINT", "ROW"), help="a dynamic probe that finds it"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="of --row, as given to tools/probe.py"
    )
    parser.add_argument("--sweeps", action="store_true", help="fuse the sweeps between keyframes as well")
    parser.add_argument("--cell-m", type=float, default=0.2, metavar="M", help="cells of the layers (default: 0.2)")
    parser.add_argument("--voxel-m", type=float, default=0.1, metavar="M", help="of the clean cloud (default: 0.1)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    check_empty(args.out)
    try:
        settings = StaticMapSettings(args.cell_m, args.voxel_m)
    except ValueError as error:
        raise ConfigError(f"--cell-m, --voxel-m: {error}") from error
    index = load_index(args.data, args.version)
    scenes = wanted_scenes(args, index)
    frame = frame_of(args, index, scenes)
    zero_m = common_zero(index, scenes)
    drives = [Drive(args.data.expanduser(), index, scene, zero_m, args.sweeps) for scene in scenes]
    make_filter = FILTERS[args.dynamic_filter] if args.row is None else probe_filter(args, drives)
    with replacing_folder(args.out) as folder:
        found = build_static_map(folder, drives, make_filter, frame, settings, progress)
        tracks_m = {
            drive.name: np.array([(drive.map_T_recorded @ turn.global_T_ego)[:2, 3] for turn in drive.turns])
            for drive in drives
        }
        save_map_picture(folder / "static_map.png", folder / LAYER_FOLDER, tracks_m)
        method = args.dynamic_filter if args.row is None else str(args.row[2])
        write_json(folder / "static_map.json", {**origin(), "dynamic_filter": method, **found})
    print_summary(args.out, found)


def wanted_scenes(args: argparse.Namespace, index: NuScenesIndex) -> list[int]:
    """Numbers of the scenes, in the order of the command line.

    Raises:
        DataError: the root holds nothing of that name.
    """
    numbers: list[int] = []
    for name in args.scenes:
        numbers += [number for number in split_scenes(index, [name])[0] if number not in numbers]
    return numbers


def frame_of(args: argparse.Namespace, index: NuScenesIndex, scenes: Sequence[int]) -> MapFrame:
    """The map frame that the drives share."""
    cities = sorted({str(index.scene_city[scene]) for scene in scenes})
    if len(cities) > 1:
        raise ConfigError(f"--scenes: drives of {', '.join(cities)}; a map is of one city, name the drives of one")
    return frame_of_city(cities[0])


def common_zero(index: NuScenesIndex, scenes: Sequence[int]) -> np.ndarray:
    """(3,) a place near the drives, from which float32 tells tenths of a millimetre."""
    xyz_m = index.global_T_ego[np.isin(index.scene, scenes) & index.usable()][:, :3, 3]
    return np.floor(np.nan_to_num(xyz_m.mean(0) if len(xyz_m) else np.zeros(3)) / ROUND_M) * ROUND_M


def probe_filter(args: argparse.Namespace, drives: Sequence[Drive]) -> Callable[[Path], MovingFilter]:
    """What a trained row of a dynamic probe says of the drives' keyframes.

    Raises:
        ConfigError: no dynamic probe, not a row of it, or sweeps are wanted, of which it says nothing.
    """
    if args.sweeps:
        raise ConfigError("--sweeps: a probe judges keyframes alone; leave out --sweeps, or --row")
    config, checkpoint, row_file = args.row
    cfg = load_config(config, args.cfg_options, str(args.data), kind="a probe")
    if not issubclass(cfg.probe.type, DynamicProbe):
        raise ConfigError(f"{config}: {cfg.probe.type.__name__} filters nothing; take configs/probes/dynamic*.py")
    named = argparse.Namespace(
        config=config, checkpoint=checkpoint, row=row_file, cfg_options=args.cfg_options, cache=None
    )
    study, row = study_of_row(cfg, named)
    settings = ConfigDict({**cfg.train_data.dataset, **({"version": args.version} if args.version else {})})
    moving: dict[str, np.ndarray] = {}
    for drive in drives:
        keyframes = every_keyframe(settings, (drive.name,))
        clips = progress(range(len(keyframes)), f"{drive.name}: {row.name}", len(keyframes))
        answers = moving_returns(study, row, keyframes, clips)
        moving |= {str(keyframes.index.token[n]): moves for n, moves in answers.items()}
    return lambda folder: KnownAnswers(moving)


def print_summary(out: Path, found: dict) -> None:
    """A line for the map, and one for each drive."""
    rows, columns = found["shape_yx"]
    print(f"{out}: {found['points']} points, {columns} x {rows} cells of {found['cell_m']} m")
    for drive in found["drives"]:
        left_out = len(drive["unreadable"]) + drive["not_judged"]
        skipped = f" ({left_out} left out: unreadable, or not judged)" if left_out else ""
        fit = drive["alignment"]
        laid = (
            f"moved by {fit['dx_m']:.2f}, {fit['dy_m']:.2f} m, {np.degrees(fit['dyaw_rad']):.2f} deg"
            if fit["applied"]
            else f"poses as recorded ({fit['reason']})"
        )
        print(
            f"  {drive['scene']}: {drive['turns']} turns{skipped}, {drive['moving']} of {drive['returns']} returns move; {laid}"
        )


if __name__ == "__main__":
    run_tool(main)
