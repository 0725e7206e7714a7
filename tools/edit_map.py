"""Make an out-of-date prior of any vector map by random edits, and the truth to score a change detector against."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from avjepa.cli import run_tool
from avjepa.conventions import ATOMIC_CHANGES
from avjepa.errors import ConfigError, DataError
from avjepa.mapping.frames import MapFrame, frame_of_city
from avjepa.mapping.geojson_maps import write_geojson_map
from avjepa.mapping.map_edits import write_truth
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.mask_maps import Bounds
from avjepa.mapping.random_edits import around, edit_map
from avjepa.probes.map_files import mask_file
from avjepa.sensors.nuscenes_index import load_index, split_scenes

CONTEXT_M = 100.0  # of a mask around the drives: its areas end there, beyond what a drive sees
MOST_M = 1000.0  # from a drive

EXAMPLE = """example:
  python tools/edit_map.py --map data/nuscenes/maps/scene-0916_vector_map.geojson --city singapore-queenstown \\
      --data data/nuscenes --scenes scene-0916 --edits 6 --seed 0 --out work_dirs/edited

  python tools/edit_map.py --data data/nuscenes --scenes scene-0523 --kinds geometry --out work_dirs/edited_mask

Without --map, the official drivable-area mask (maps/*.png) of the drives' city is edited: edges moved, bays added and taken away.
OUT holds prior.geojson (the map with its errors), world.geojson (the map as it was) and truth.geojson (the edits, in the shape of
the mini city's maps/changes/*.geojson). With --scenes, edits lie where the drives could see them. The same seed gives the same
files.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--map",
        type=Path,
        metavar="FILE",
        help="map expansion (.json), GeoJSON map or drivable-area mask (.png) (default: the mask of the drives' city)",
    )
    parser.add_argument("--city", help="whose map it is (default: the city that the file names)")
    parser.add_argument("--origin", type=float, nargs=2, metavar=("LAT", "LON"), help="of a city that nuScenes lacks")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="nuScenes root of the drives")
    parser.add_argument("--scenes", nargs="+", default=[], metavar="NAME", help="edit near these drives alone")
    parser.add_argument("--within", type=float, default=20.0, metavar="M", help="of a drive, in metres (default: 20)")
    parser.add_argument(
        "--edits", type=int, default=6, metavar="N", help="how many; 0 for a map that is up to date (default: 6)"
    )
    parser.add_argument(
        "--kinds", nargs="+", default=ATOMIC_CHANGES, metavar="KIND", help=f"of {', '.join(ATOMIC_CHANGES)}"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    check_args(args)
    driven = drives(args)
    seen = None if driven is None else around(driven.xy_m, args.within)
    window_m = None if seen is None else grown(seen.bounds, CONTEXT_M)
    world, _ = read_map(args.map or mask_of(args.data, driven.city), wanted_frame(args), window_m)
    if driven is not None:
        world.check_overlap(driven.xy_m, ", ".join(args.scenes))
    region = seen or shapely.box(*shapely.total_bounds([element.geometry for element in world.elements.values()]))
    edited = edit_map(world, args.edits, np.random.default_rng(args.seed), region, args.kinds)
    write_geojson_map(args.out / "world.geojson", world)
    write_geojson_map(args.out / "prior.geojson", edited.prior)
    write_truth(args.out / "truth.geojson", world.frame, edited.edits, edited.places)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(edit.kind for edit in edited.edits).items()))
    changed = len({edit.place for edit in edited.edits})
    print(f"{args.out}: {len(edited.edits)} edits ({kinds}) in {changed} of {len(edited.places)} places")


def check_args(args: argparse.Namespace) -> None:
    """What the parser does not check.

    Raises:
        ConfigError: a number out of range, an unknown kind, options that want others, or a place that cannot be used.
    """
    if args.edits < 0:
        raise ConfigError(f"--edits {args.edits}: want 0 (an up-to-date map) or more")
    if args.seed < 0:
        raise ConfigError(f"--seed {args.seed}: want 0 or more")
    if not 0 < args.within <= MOST_M:
        raise ConfigError(f"--within {args.within:g}: want metres above 0, to {MOST_M:g}")
    unknown = [kind for kind in args.kinds if kind not in ATOMIC_CHANGES]
    if unknown:
        raise ConfigError(f"--kinds {', '.join(unknown)}: want some of {', '.join(ATOMIC_CHANGES)}")
    if args.scenes and args.data is None:
        raise ConfigError("--scenes: name the nuScenes root that holds them with --data")
    if args.map is None and not args.scenes:
        raise ConfigError("--map: name a map, or drives with --data and --scenes, whose mask is taken")
    if args.map is not None and not args.map.is_file():
        raise ConfigError(f"--map {args.map}: no such file; name a map")
    if args.out.exists() and not args.out.is_dir():
        raise ConfigError(f"--out {args.out}: is a file; name a folder")


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


@dataclass(frozen=True)
class Drives:
    """Where drives went: their city, and positions (n, 2) in metres of its map."""

    city: str
    xy_m: np.ndarray


def drives(args: argparse.Namespace) -> Drives | None:
    """The drives near which edits may lie; None where they may lie anywhere on the map."""
    if not args.scenes:
        return None
    index = load_index(args.data)
    numbers, missing = split_scenes(index, args.scenes)
    if missing:
        raise ConfigError(
            f"{args.data}: no scene {', '.join(missing)}; take some of {', '.join(index.scene_name[:5])}, ..."
        )
    cities = sorted({str(index.scene_city[number]) for number in numbers})
    if len(cities) > 1:
        raise ConfigError(f"--scenes: drives in {', '.join(cities)}; take those of one city")
    xy_m = index.global_T_ego[np.isin(index.scene, numbers)][:, :2, 3]
    return Drives(cities[0], xy_m[np.isfinite(xy_m).all(axis=1)])


def mask_of(root: Path, city: str) -> Path:
    """The official drivable-area mask of a city."""
    path = mask_file(root, city)
    if path is None or not path.is_file():
        raise DataError(f"{path or root / 'maps'}: no drivable-area mask of {city}; name a map with --map")
    return path


def grown(bounds_m: Bounds, by_m: float) -> Bounds:
    """Bounds, wider by so much on every side."""
    west, south, east, north = bounds_m
    return west - by_m, south - by_m, east + by_m, north + by_m


if __name__ == "__main__":
    run_tool(main)
