"""Reports of map changes without a learned representation: the map alone, or LiDAR ground against the drivable area."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from avjepa.cli import run_tool
from avjepa.errors import ConfigError, DataError
from avjepa.mapping.baselines.drivable_difference import drivable_changes, drivable_elements
from avjepa.mapping.baselines.ground_raster import GroundRaster, accumulate_ground
from avjepa.mapping.baselines.map_only import MapOnlyModel, drawn_changes, fit_map_only, likely_changes
from avjepa.mapping.changes import ChangeReport, MapChange
from avjepa.mapping.drive_paths import DrivePath, drive_paths, seen_region
from avjepa.mapping.evaluation.frames import predict_drives
from avjepa.mapping.evaluation.truth import read_edits
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.outputs.frame_predictions import write_frame_predictions
from avjepa.mapping.outputs.local_json import write_local_json
from avjepa.mapping.vector_map import ElementMap
from avjepa.sensors.nuscenes_index import NuScenesIndex, load_index

EXAMPLE = """example:
  python tools/map_change_baselines.py ground --data data/city --map data/city/maps/prior/minicity-b.json \\
      --scenes val_far --out work_dirs/ground
  python tools/map_change_baselines.py look --data data/city --map data/city/maps/prior/minicity-b.json --scenes val_far \\
      --fit-map data/city/maps/prior/minicity-a.json --fit-truth data/city/maps/changes/minicity-a.geojson --fit-scenes train \\
      --out work_dirs/map_only

OUT holds changes_local.json and frames.json, as tools/evaluate_map_changes.py reads them. Methods:
  draw    changes drawn at the base rate of every layer and kind; --seed draws others
  look    pieces of the map whose size and neighbours look edited, by a logistic regression; no sensors
  ground  flat LiDAR returns that contradict the map's drivable area
draw and look are fitted on a map whose errors are known (--fit-...), best of another town.
"""
METHODS = ("draw", "look", "ground")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", choices=METHODS, help="see below")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="nuScenes root of the drives")
    parser.add_argument("--version", metavar="NAME", help="tables' folder (default: the only one)")
    parser.add_argument("--map", type=Path, required=True, metavar="FILE", help="the prior: expansion or GeoJSON map")
    parser.add_argument("--scenes", nargs="+", required=True, metavar="NAME", help="drives or splits, of one city")
    parser.add_argument("--fit-map", type=Path, metavar="FILE", help="prior whose errors are known")
    parser.add_argument("--fit-truth", type=Path, metavar="GEOJSON", help="its errors")
    parser.add_argument("--fit-scenes", nargs="+", metavar="NAME", help="drives that saw it")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    index = load_index(args.data, args.version)
    paths = drive_paths(index, args.scenes)
    prior = map_of(args.map, paths)
    changes = found_changes(args, index, prior, paths)
    report = ChangeReport(
        run_id=f"{args.method}-{args.seed}",
        frame=prior.frame,
        prior_map=args.map.name,
        scenes=tuple(path.scene for path in paths),
        created=datetime.now(timezone.utc),
        changes=tuple(changes),
    )
    write_local_json(args.out / "changes_local.json", report)
    write_frame_predictions(args.out / "frames.json", predict_drives(changes, paths))
    confirmed = sum(change.status == "confirmed" for change in changes)
    print(f"{args.out}: {len(changes)} changes, {confirmed} of them confirmed; drives: {len(paths)}")


def found_changes(
    args: argparse.Namespace, index: NuScenesIndex, prior: ElementMap, paths: list[DrivePath]
) -> list[MapChange]:
    """Changes by the method that was asked for."""
    if args.method == "ground":
        elements = drivable_elements(prior)
        raster = GroundRaster.around(np.concatenate([path.xy_m for path in paths]))
        scenes = [int(np.flatnonzero(index.scene_name == path.scene)[0]) for path in paths]
        accumulate_ground(args.data, index, scenes, raster)
        return drivable_changes(elements, raster, paths)
    model = fitted_model(args, index)
    if args.method == "draw":
        return drawn_changes(model, prior, paths, np.random.default_rng(args.seed))
    return likely_changes(model, prior, paths)


def fitted_model(args: argparse.Namespace, index: NuScenesIndex) -> MapOnlyModel:
    """What the fitting map and its known errors teach."""
    missing = [name for name in ("fit_map", "fit_truth", "fit_scenes") if getattr(args, name) is None]
    if missing:
        options = ", ".join("--" + name.replace("_", "-") for name in missing)
        raise ConfigError(f"{args.method}: needs a map whose errors are known; name {options}")
    paths = drive_paths(index, args.fit_scenes)
    frame, edits = read_edits(args.fit_truth)
    prior = map_of(args.fit_map, paths)
    if frame != prior.frame:
        raise DataError(f"{args.fit_truth}: errors of {frame.name}, but the drives are in {prior.frame.name}")
    return fit_map_only(prior, edits, seen_region(paths))


def map_of(path: Path, paths: list[DrivePath]) -> ElementMap:
    """The map of the drives' city, which they must touch."""
    elements, _ = read_map(path, frame_of_city(paths[0].city))
    for drive in paths:
        elements.check_overlap(drive.xy_m, drive.scene)
    return elements


if __name__ == "__main__":
    run_tool(main)
