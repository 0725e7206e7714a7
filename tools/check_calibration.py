"""Draw LiDAR on all cameras, and both sensors in one bird's-eye view, to see whether calibration and poses fit."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from avjepa.cli import run_tool
from avjepa.conventions import CAMERAS
from avjepa.errors import ConfigError
from avjepa.geometry.grid import BEVGrid
from avjepa.reports.calibration import augmentation_error_px, save_bev_picture, save_camera_picture, share_in_images
from avjepa.sensors.augment import Augmentation, augment
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.nuscenes_index import MAX_SWEEPS, load_index, split_scenes
from avjepa.sensors.sample import Clip

EXAMPLE = """example:
  python tools/check_calibration.py --data /data/nuscenes --scenes scene-0916 --out calibration
  python tools/check_calibration.py --data /data/nuscenes --augment-seed 3      # the same after augmentation
"""
PICTURE_SIZE_PX = (450, 800)
GRID = BEVGrid((-30.0, 30.0), (-30.0, 30.0), (-5.0, 3.0), 0.1, 8.0)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("AVJEPA_NUSCENES", "data/nuscenes")
    parser.add_argument("--data", metavar="ROOT", default=data, help="default: $AVJEPA_NUSCENES, else data/nuscenes")
    parser.add_argument("--version", help="folder of the tables; default: the only one")
    parser.add_argument("--scenes", nargs="+", metavar="SCENE", help="scene or split names; default: every scene")
    parser.add_argument(
        "--keyframe", type=int, metavar="I", help="keyframe of each scene, from 0; default: the middle one"
    )
    parser.add_argument(
        "--sweeps",
        type=int,
        default=1,
        choices=range(1, MAX_SWEEPS + 2),
        metavar="N",
        help="LiDAR sweeps to merge (default 1)",
    )
    parser.add_argument("--augment-seed", type=int, metavar="SEED", help="augment first: everything must still fit")
    parser.add_argument(
        "--out", type=Path, default=Path("calibration"), help="folder of the pictures (default: calibration)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    index = load_index(args.data, args.version)
    numbers, absent = split_scenes(index, args.scenes or tuple(index.scene_name))
    if absent:
        print(f"not in {args.data}: {', '.join(absent)}")
    for scene in track(index.scene_name[numbers].tolist(), "drawing", console=Console(stderr=True)):
        check_scene(args, scene)


def check_scene(args: argparse.Namespace, scene: str) -> None:
    """Draw one keyframe of a scene, and print where, and the numbers."""
    clip = read_clip(args, scene)
    augmented = augment(clip, Augmentation(), torch.Generator().manual_seed(args.augment_seed or 0))
    frame, suffix = clip.now, ""
    if args.augment_seed is not None:
        frame, suffix = augmented.now, f"_augmented{args.augment_seed}"
    stem = f"{frame.scene}_{frame.token[:8]}{suffix}"
    pictures = [args.out / f"{stem}_cameras.png", args.out / f"{stem}_bev.png"]
    save_camera_picture(pictures[0], frame, list(CAMERAS))
    save_bev_picture(pictures[1], frame, GRID)
    print(
        f"{scene}: {len(frame.points_ego)} LiDAR points, {100 * share_in_images(frame):.1f} % of them in an image; "
        f"augmented cameras agree to {augmentation_error_px(clip.now, augmented.now):.0e} px",
        *pictures,
        sep="\n  ",
    )


def read_clip(args: argparse.Namespace, scene: str) -> Clip:
    """The one-keyframe clip of a scene that was asked for."""
    dataset = NuScenesClips(
        args.data, (scene,), (0,), (), PICTURE_SIZE_PX, num_sweeps=args.sweeps, version=args.version, max_bad_share=1.0
    )
    keyframe = len(dataset) // 2 if args.keyframe is None else args.keyframe
    if not 0 <= keyframe < len(dataset):
        raise ConfigError(f"--keyframe {keyframe}: {scene} has {len(dataset)} readable keyframes")
    return dataset[keyframe]


if __name__ == "__main__":
    run_tool(main)
