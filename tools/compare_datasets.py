"""Lay two nuScenes-format data sets side by side, such as a generated city and real drives: LiDAR, cells, images, boxes."""

from __future__ import annotations

import argparse
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from avjepa.bev.cell_states import cell_states
from avjepa.cli import run_tool
from avjepa.conventions import CAMERAS
from avjepa.errors import ConfigError
from avjepa.reports.dataset_statistics import (
    CELL_STATES,
    DISTANCE_EDGES_M,
    GRID,
    IMAGE_SIZE_PX,
    RANGE_EDGES_M,
    DatasetNumbers,
    DatasetReader,
    bin_names,
    ring_count,
    show_returns,
    table_rows,
)
from avjepa.reports.figures import save_figure, show_bev, state_colours
from avjepa.reports.record import write_record
from avjepa.sensors.collate import collate_clips

EXAMPLE = """example:
  python tools/compare_datasets.py data/city /data/nuscenes --out comparison
  python tools/compare_datasets.py data/city /data/nuscenes --version v1.0-trainval v1.0-mini --samples 50
"""
CONVENTION = (
    f"means over keyframes; range is the distance from the LiDAR, without the recording car's own returns; BEV cells from rays "
    f"on {GRID.shape_yx[0]} x {GRID.shape_yx[1]} cells of {GRID.cell_m} m; images at {IMAGE_SIZE_PX[1]} x {IMAGE_SIZE_PX[0]} px; "
    "speeds by the devkit's box_velocity"
)
COLOURS = ("tab:orange", "tab:blue")
SAMPLE_SIZE_PX = (270, 480)
CLASSES_SHOWN = 12
TABLE_WIDTH = 120


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", type=Path, nargs=2, metavar="ROOT", help="the two roots; ratios are first / second")
    parser.add_argument(
        "--version", nargs=2, metavar="V", default=(None, None), help="folders of the tables; default: the only ones"
    )
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="where to write (default: comparison)")
    parser.add_argument(
        "--samples", type=int, default=200, metavar="N", help="keyframes of each root, evenly spaced (default 200)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    if args.samples < 1:
        raise ConfigError(f"--samples {args.samples}: want at least 1")
    readers = [DatasetReader(root, version) for root, version in zip(args.roots, args.version, strict=True)]
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{args.out}: cannot be made ({error.strerror}); give another --out") from error
    names = column_names(args.roots)
    both = [measure(reader, args.samples, name) for reader, name in zip(readers, names, strict=True)]
    table = side_by_side(both)
    print_tables(table, both, names)

    save_comparison_picture(args.out / "comparison.png", both, names)
    save_sample_picture(args.out / "samples.png", readers, names)
    write_record(
        args.out / "comparison.json",
        results={"columns": [*names, "ratio"], "table": table},
        config=f"--samples {args.samples}",
        checkpoints=[],
        seeds=[],
        split={
            name: {
                "root": str(reader.root),
                "version": reader.version,
                "scenes": list(numbers.scenes),
                "keyframes": numbers.keyframes,
                "measured": numbers.measured,
                "image_size_px": list(numbers.image_size_px),
            }
            for name, reader, numbers in zip(names, readers, both, strict=True)
        },
        task="compare_datasets",
        columns={},
        convention=CONVENTION,
    )
    print("\nwritten:", *(args.out / name for name in ("comparison.json", "comparison.png", "samples.png")))


def column_names(roots: list[Path]) -> list[str]:
    """Short names of two roots, always different."""
    names = [root.expanduser().resolve().name for root in roots]
    return names if names[0] != names[1] else [f"{names[0]} (1)", f"{names[1]} (2)"]


def measure(reader: DatasetReader, most: int, name: str) -> DatasetNumbers:
    """All numbers of a root, with a progress bar."""
    chosen = reader.chosen(most)
    progress = track(chosen, f"measuring {name}", console=Console(stderr=True))
    return reader.numbers(chosen, [reader.measure(clip) for clip in progress])


def side_by_side(both: list[DatasetNumbers]) -> dict[str, dict[str, list[float | None]]]:
    """``table[section][row]`` = first, second, first / second; None for what a data set has not, or a ratio that is none."""
    first, second = (table_rows(numbers) for numbers in both)

    def plain(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    table: dict[str, dict[str, list[float | None]]] = {}
    for section in first:
        table[section] = {}
        for row in first[section] | second[section]:
            a, b = (rows[section].get(row, np.nan) for rows in (first, second))
            table[section][row] = [plain(a), plain(b), plain(a / b) if b else None]
    return table


def print_tables(table: dict, both: list[DatasetNumbers], names: list[str]) -> None:
    """One table of plain rows, and one row a category of boxes."""
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # a log file or a pipe has no width of its own
    rows = Table("", *names, "ratio", title="first / second, means over keyframes")
    for column in rows.columns[1:]:
        column.justify = "right"
    rows.add_row("keyframes measured", *(f"{numbers.measured} of {numbers.keyframes}" for numbers in both), "")
    rows.add_row("image size as stored", *("{1} x {0}".format(*numbers.image_size_px) for numbers in both), "")
    for section, values in table.items():
        if section == "boxes by class":
            continue
        rows.add_section()
        rows.add_row(f"[bold]{section}" if values else f"[bold]{section}: neither has any")
        for row, numbers in values.items():
            rows.add_row(row, *map(short, numbers))
    console.print(rows)

    console.print(class_table(table, both, names))
    for name, numbers in zip(names, both, strict=True):
        for what, part in {
            "readable LiDAR": numbers.lidar,
            "image": numbers.images,
            "annotation": numbers.boxes,
        }.items():
            if part is None:
                print(f"{name}: no {what} in the measured keyframes")


def class_table(table: dict, both: list[DatasetNumbers], names: list[str]) -> Table:
    """One row a category of boxes, with a line for each data set."""
    classes = Table("category", "", "a keyframe", "ratio", "w, l, h (m)", "standing", "m/s, 90 %", title="boxes")
    classes.columns[0].no_wrap = True
    by_class = [{} if numbers.boxes is None else numbers.boxes.by_class for numbers in both]
    for category in by_class[0] | by_class[1]:
        pair = [classes_of.get(category) for classes_of in by_class]
        classes.add_row(
            category,
            "\n".join(names),
            "\n".join("-" if c is None else short(c.per_keyframe) for c in pair),
            short(table["boxes by class"][f"{category}: per keyframe"][2]),
            "\n".join("-" if c is None else "{:.2f} {:.2f} {:.2f}".format(*c.size_wlh_m) for c in pair),
            "\n".join("-" if c is None else f"{100 * c.standing:.0f} %" for c in pair),
            "\n".join("-" if c is None else f"{c.speed_mps[1]:.1f}" for c in pair),
        )
    return classes


def short(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def save_comparison_picture(path: Path, both: list[DatasetNumbers], names: list[str]) -> None:
    """Twelve plots with both data sets in each; one that has nothing to show stays out of the plot."""
    figure = Figure(figsize=(19, 12.5), layout="constrained")
    axes = figure.subplots(3, 4)
    ranges, distances = bin_names(RANGE_EDGES_M), bin_names(DISTANCE_EDGES_M)
    lidars, images, boxes = ([getattr(n, part) for n in both] for part in ("lidar", "images", "boxes"))
    classes = list(dict.fromkeys(name for b in boxes if b is not None for name in b.by_class))[:CLASSES_SHOWN]

    bars(axes[0, 0], "LiDAR returns per turn by range (m)", ranges, [x and x.by_range for x in lidars])
    for lidar, colour in zip(lidars, COLOURS, strict=True):
        if lidar is None:
            continue
        rings = np.arange(ring_count(lidar))
        counts = lidar.by_ring[: len(rings)]
        axes[0, 1].plot(rings, counts, ".-", color=colour)
        used = counts > 0
        axes[0, 2].plot(rings[used], lidar.elevation_deg[rings[used]] / counts[used], ".-", color=colour)
        cumulated = np.cumsum(lidar.by_intensity) / lidar.by_intensity.sum()
        axes[0, 3].plot(cumulated, color=colour)
    axes[0, 1].set(title="LiDAR returns per turn by ring", ylim=(0, None))
    axes[0, 2].set_title("mean elevation of a ring's returns (degrees)")
    axes[0, 3].set(title="share of returns up to an intensity", xscale="symlog", ylim=(0, 1))

    bars(axes[1, 0], "share of BEV cells from rays", list(CELL_STATES), [numbers.cells for numbers in both])
    for image, colour in zip(images, COLOURS, strict=True):
        if image is not None:
            axes[1, 1].plot(np.nanmean(image.histogram, 0), color=colour)
    axes[1, 1].set(title="share of pixels by luminance", yscale="log")
    cameras = [name.removeprefix("CAM_").replace("_", "\n").lower() for name in CAMERAS]
    bars(axes[1, 2], "luminance, mean", cameras, [x and x.mean for x in images])
    bars(axes[1, 3], "sharpness (variance of the Laplacian)", cameras, [x and x.sharpness for x in images])

    bars(axes[2, 0], "boxes per keyframe by distance (m)", distances, [x and x.by_distance for x in boxes])
    points = [x and x.points_by_distance for x in boxes]
    bars(axes[2, 1], "LiDAR points per box by distance (m), median", distances, points)
    axes[2, 1].set_yscale("symlog")
    of_class = [None if b is None else [b.by_class.get(name) for name in classes] for b in boxes]
    counts = [x and [c.per_keyframe if c else 0.0 for c in x] for x in of_class]
    fast = [x and [c.speed_mps[1] if c else np.nan for c in x] for x in of_class]
    labels = [".".join(name.split(".")[1:]) or name for name in classes]
    bars(axes[2, 2], "boxes per keyframe by category", labels, counts, rotation=60)
    bars(axes[2, 3], "speed of boxes by category (m/s), 90 % quantile", labels, fast, rotation=60)
    for axis in axes.ravel():
        axis.grid(alpha=0.3)
    figure.legend(
        handles=[Patch(color=c, label=name) for c, name in zip(COLOURS, names, strict=True)],
        loc="outside upper center",
        ncols=2,
    )
    save_figure(figure, path)


def bars(axis, title: str, labels: list[str], both: list, rotation: int = 0) -> None:
    """Two bars a label, side by side; None for a data set without such numbers."""
    axis.set_title(title)
    places = np.arange(len(labels))
    for shift, values, colour in zip((-0.2, 0.2), both, COLOURS, strict=True):
        if values is not None:
            axis.bar(places + shift, values, 0.4, color=colour)
    axis.set_xticks(places, labels, rotation=rotation, ha="right" if rotation else "center", fontsize=9)


def save_sample_picture(path: Path, readers: list[DatasetReader], names: list[str]) -> None:
    """The middle keyframe of each root: six cameras in two rows, LiDAR returns and cell states from above."""
    figure = Figure(figsize=(24, 12), layout="constrained")
    for band, reader, name in zip(figure.subfigures(2, 1), readers, names, strict=True):
        large = DatasetReader(reader.root, reader.version, SAMPLE_SIZE_PX)
        clip = large.clips[len(large.clips) // 2]
        cameras, maps = band.subfigures(1, 2, width_ratios=(13, 11))
        band.suptitle(f"{name}: {clip.now.scene}, {clip.now.token[:8]}")
        pictures = zip_longest(cameras.subplots(2, 3).ravel(), CAMERAS, clip.now.images, clip.now.camera_present)
        for axis, channel, image, present in pictures:
            axis.set_axis_off()
            axis.imshow(image.movedim(0, -1).numpy())
            axis.set_title(channel if present else f"{channel}: absent", fontsize=9)
        left, right = maps.subplots(1, 2)
        show_returns(left, clip.now, GRID)
        left.set_title(f"{len(clip.now.points_ego)} LiDAR returns, by height")
        show_bev(right, state_colours(cell_states(collate_clips([clip]).targets(), GRID)[0]), GRID)
        right.set_title("cells: occupied, free, unobserved (dark)")
    save_figure(figure, path)


if __name__ == "__main__":
    run_tool(main)
