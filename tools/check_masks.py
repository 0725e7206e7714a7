"""Draw what a training config hides from the context, and report the mixture that it really draws."""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import DictAction

from avjepa.cli import progress, run_tool
from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.engine.config import load_config
from avjepa.engine.registry import build
from avjepa.errors import ConfigError
from avjepa.jepa.masks import GroupMask, clip_generator
from avjepa.jepa.target_regions import Scene, scenes_of
from avjepa.reports.figures import save_figure, show_bev, state_colours
from avjepa.reports.tables import markdown_table
from avjepa.sensors.collate import collate_clips

EXAMPLE = """example:
  python tools/check_masks.py configs/bev_jepa_city.py --out masks
  python tools/check_masks.py configs/bev_jepa_nuscenes_tiny.py --data /data/nuscenes --clips 64 --out masks
"""
COLUMNS = {
    "clips": "clips %",
    "cells": "cells hidden",
    "occupied": "of the occupied %",
    "free": "of the free %",
    "unobserved": "of the unobserved %",
    "things": "occupied of the observed, hidden %",
}
PICTURES = 4  # clips that are drawn


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="training config, a Python file")
    parser.add_argument("--data", metavar="ROOT", help="data root; default: the config's")
    parser.add_argument(
        "--clips", type=int, default=32, metavar="N", help="training clips to draw masks for (default 32)"
    )
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="settings to change")
    parser.add_argument("--out", type=Path, default=Path("masks"), help="folder of the pictures (default: masks)")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Hidden:
    """What a mask hides of one clip: cells of each state, hidden and in all."""

    hidden: dict[int, int]
    total: dict[int, int]


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    if args.clips < 1:
        raise ConfigError("--clips must be at least 1")
    cfg = load_config(args.config, args.cfg_options, args.data)
    if "mask" not in cfg.model.jepa:
        raise ConfigError(f"{args.config}: its objective hides nothing; take another config")
    mask, grid = build(cfg.model.jepa.mask), build(cfg.bev_grid)
    dataset = build(cfg.train_data.dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(args.clips, len(dataset))).round().astype(int).tolist()
    drawn: dict[str, list[Hidden]] = defaultdict(list)
    for number in progress(chosen, "drawing masks", len(chosen)):
        clips = collate_clips([dataset[number, number]])
        (scene,) = scenes_of(clips, grid, cfg.model.jepa.temporal.num_context)
        one = mask.draw([scene], (number,))
        drawn[one.kinds[0]].append(count(one.hidden[0], scene))
        if number in chosen[:: -(-len(chosen) // PICTURES)]:
            draw(args.out / f"clip_{number:04d}.png", mask, scene, number)
    print(markdown_table(table(drawn), COLUMNS, digits=1))
    print(f"\nwritten: {args.out}/clip_*.png")


def count(hidden: torch.Tensor, scene: Scene) -> Hidden:
    """Of the union of the context frames."""
    states = (OCCUPIED, FREE, UNOBSERVED)
    return Hidden(
        {state: int((hidden & (scene.union == state)).sum()) for state in states},
        {state: int((scene.union == state).sum()) for state in states},
    )


def table(drawn: dict[str, list[Hidden]]) -> dict[str, dict[str, list[float]]]:
    """``table[kind][column]``, and all kinds together."""
    clips = sum(map(len, drawn.values()))
    rows = {}
    for kind, found in [*sorted(drawn.items()), ("all", [one for many in drawn.values() for one in many])]:
        hidden, total = (
            {state: sum(getattr(one, part)[state] for one in found) for state in (OCCUPIED, FREE, UNOBSERVED)}
            for part in ("hidden", "total")
        )
        share = {state: 100 * hidden[state] / max(total[state], 1) for state in hidden}
        observed = hidden[OCCUPIED] + hidden[FREE]
        values = {
            "clips": 100 * len(found) / clips,
            "cells": sum(hidden.values()) / len(found),
            "occupied": share[OCCUPIED],
            "free": share[FREE],
            "unobserved": share[UNOBSERVED],
            "things": 100 * hidden[OCCUPIED] / max(observed, 1),
        }
        rows[kind] = {name: [value] for name, value in values.items()}
    return rows


def draw(path: Path, mask: GroupMask, scene: Scene, seed: int) -> None:
    """Cell states, and what each region of the mixture would hide of this clip (blue)."""
    pictures = {"states": None}
    for name, region in mask.regions.items():
        pictures[name] = region.sampler.draw(scene, clip_generator(seed, "mask"))
    figure = Figure(figsize=(2.6 * len(pictures), 2.9), layout="constrained")
    axes = figure.subplots(1, len(pictures), squeeze=False)[0]
    for axis, (name, hidden) in zip(axes, pictures.items(), strict=True):
        show_bev(axis, state_colours(scene.union, hidden), scene.grid)
        axis.set_title(name)
    save_figure(figure, path)


if __name__ == "__main__":
    run_tool(main)
