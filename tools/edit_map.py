"""Make an out-of-date prior of any vector map by random edits, and the truth to score a change detector against."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import shapely

from avjepa.cli import run_tool
from avjepa.errors import ConfigError
from avjepa.mapping.frames import MapFrame, frame_of_city
from avjepa.mapping.geojson_maps import write_geojson_map
from avjepa.mapping.map_edits import write_truth
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.random_edits import around, edit_map
from avjepa.mapping.vector_map import ElementMap
from avjepa.sensors.nuscenes_index import load_index, split_scenes

EXAMPLE = """example:
  python tools/edit_map.py --map data/nuscenes/maps/scene-0916_vector_map.geojson --city singapore-queenstown \\
      --data data/nuscenes --scenes scene-0916 --edits 6 --seed 0 --out work_dirs/edited

OUT holds prior.geojson (the map with its errors), world.geojson (the map as it was) and truth.geojson (the edits, in the shape of
the mini city's maps/changes/*.geojson). With --scenes, edits lie where the drives could see them. The same seed gives the same
files.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--map", type=Path, required=True, metavar="FILE", help="map expansion (.json) or GeoJSON map")
    parser.add_argument("--city", help="whose map it is (default: the city that the file names)")
    parser.add_argument("--origin", type=float, nargs=2, metavar=("LAT", "LON"), help="of a city that nuScenes lacks")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="nuScenes root of the drives")
    parser.add_argument("--scenes", nargs="+", default=[], metavar="NAME", help="edit near these drives alone")
    parser.add_argument("--within", type=float, default=20.0, metavar="M", help="of a drive, in metres (default: 20)")
    parser.add_argument("--edits", type=int, default=6, metavar="N", help="how many (default: 6)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    world, _ = read_map(args.map, wanted_frame(args))
    edited = edit_map(world, args.edits, np.random.default_rng(args.seed), region(args, world))
    write_geojson_map(args.out / "world.geojson", world)
    write_geojson_map(args.out / "prior.geojson", edited.prior)
    write_truth(args.out / "truth.geojson", world.frame, edited.edits, edited.places)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(edit.kind for edit in edited.edits).items()))
    changed = len({edit.place for edit in edited.edits})
    print(f"{args.out}: {len(edited.edits)} edits ({kinds}) in {changed} of {len(edited.places)} places")


def wanted_frame(args: argparse.Namespace) -> MapFrame | None:
    """The frame that the command line names; None where the file is to say it."""
    if args.origin is not None and args.city is None:
        raise ConfigError("--origin: say whose origin it is with --city")
    if args.origin is not None:
        try:
            return MapFrame(args.city, *args.origin)
        except ValueError as error:
            raise ConfigError(f"--origin: {error}") from error
    return None if args.city is None else frame_of_city(args.city)


def region(args: argparse.Namespace, world: ElementMap) -> shapely.Geometry:
    """Where edits may lie: near the drives, or anywhere on the map."""
    if not args.scenes:
        return shapely.box(*shapely.total_bounds([element.geometry for element in world.elements.values()]))
    if args.data is None:
        raise ConfigError("--scenes: name the nuScenes root that holds them with --data")
    index = load_index(args.data)
    numbers, missing = split_scenes(index, args.scenes)
    if missing:
        raise ConfigError(
            f"{args.data}: no scene {', '.join(missing)}; take some of {', '.join(index.scene_name[:5])}, ..."
        )
    xy_m = index.global_T_ego[np.isin(index.scene, numbers)][:, :2, 3]
    xy_m = xy_m[np.isfinite(xy_m).all(axis=1)]
    world.check_overlap(xy_m, ", ".join(args.scenes))
    return around(xy_m, args.within)


if __name__ == "__main__":
    run_tool(main)
