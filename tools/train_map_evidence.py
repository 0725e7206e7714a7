"""Learn what a map lets a frozen encoder see, and what its embedding says of the map: evidence for tools/detect_map_changes.py."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from avjepa.cli import progress, run_tool
from avjepa.engine.config import load_config
from avjepa.engine.map_evidence import embed_drives, encoder_of, keyframes_of
from avjepa.errors import ConfigError, DataError
from avjepa.geometry.grid import BEVGrid
from avjepa.mapping.evidence_material import Material
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.map_evidence import Origin, save_map_evidence, train_map_evidence
from avjepa.mapping.map_rasters import counted, shares
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.vector_map import ElementMap
from avjepa.sensors.nuscenes_dataset import NuScenesClips

EXAMPLE = """example:
  python tools/train_map_evidence.py configs/bev_jepa_city.py work_dirs/city0/last.pth --data data/city --out evidence.pth
  python tools/train_map_evidence.py configs/bev_jepa_city.py --random-init --data data/city --out random.pth   # the baseline
  python tools/calibrate_map_evidence.py evidence.pth ... --fit   # then; see there

Trained on drives with the map that was true there, ROOT/maps/expansion/CITY.json; no label is read. Judge other drives with it.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="training config of the encoder")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="its weights")
    parser.add_argument("--random-init", action="store_true", help="random weights instead: the baseline")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="nuScenes root of the drives")
    parser.add_argument("--version", metavar="NAME", help="tables' folder (default: the only one)")
    parser.add_argument(
        "--scenes", nargs="+", default=["train"], metavar="NAME", help="drives or splits (default: train)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random weights and of the training (default: 0)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="embeddings (default: embeddings beside FILE)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="evidence file to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    if (args.checkpoint is None) != args.random_init:
        raise ConfigError("name a checkpoint, or --random-init: one of both")
    cfg = load_config(args.config, kind="training")
    dataset = keyframes_of(cfg, args.data, args.version, args.scenes)
    source = encoder_of(cfg, args.checkpoint, args.seed)
    maps = true_maps(dataset)
    cover = covers(dataset, maps, source.grid)
    drives = embed_drives(source, dataset, args.cache or args.out.parent / "embeddings", progress)
    checkpoint = "" if args.checkpoint is None else str(args.checkpoint)
    material = Material.of(drives.keys, maps.values())
    origin = Origin(str(args.config), checkpoint, args.seed, source.fingerprint, material.drives, material.towns)
    evidence = train_map_evidence(drives.features, cover, source.grid, origin, progress)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_map_evidence(args.out, evidence)
    print(f"{args.out}: trained on {len(dataset)} keyframes of {len(origin.drives)} drives; not calibrated yet")


def true_maps(dataset: NuScenesClips) -> dict[str, ElementMap]:
    """The true map of every city, by name.

    Raises:
        DataError: a city has no map, or it lies elsewhere.
    """
    keyframes = dataset.present_keyframes()
    maps = {}
    for city in dict.fromkeys(keyframe.city for keyframe in keyframes):
        path = dataset.root / "maps" / "expansion" / f"{city}.json"
        if not path.is_file():
            raise DataError(f"{path}: no map of {city}; add nuScenes's map expansion 1.3")
        maps[city], _ = read_map(path, frame_of_city(city))
        xy_m = np.array([keyframe.global_T_ego[:2, 3] for keyframe in keyframes if keyframe.city == city])
        maps[city].check_overlap(xy_m, city)
    return maps


def covers(dataset: NuScenesClips, maps: dict[str, ElementMap], grid: BEVGrid) -> torch.Tensor:
    """Shares (n, K, Y, X) of the true map at every keyframe."""
    keyframes = dataset.present_keyframes()
    return torch.stack(
        [
            shares(counted(maps[keyframe.city], keyframe.global_T_ego, grid))
            for keyframe in progress(keyframes, "drawing the map", len(keyframes))
        ]
    )


if __name__ == "__main__":
    run_tool(main)
