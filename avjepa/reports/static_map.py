"""A picture of a static map's layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from avjepa.reports.figures import save_figure

MOST_PIXELS = 1200  # along a side; more cells are left out, not averaged
NOTHING = (0.93, 0.93, 0.93)
PANELS = {
    "intensity": ("LiDAR intensity of the ground", "gray", (0.0, None)),
    "occupancy_log_odds": ("occupancy, log-odds", "RdBu_r", (-3.5, 3.5)),
    "height_m": ("height of the ground, m", "viridis", (None, None)),
    "ground_probability": ("bare ground, probability", "cividis", (0.0, 1.0)),
    "observations": ("observations, LiDAR turns", "magma", (0.0, None)),
    "traversals": ("traversals", "viridis", (0.0, None)),
}


def save_map_picture(path: Path, layers: Path, tracks_m: dict[str, np.ndarray]) -> None:
    """Draw layers with the drives on them, north up.

    Args:
        path: of the picture.
        layers: folder that mapping/bev_layers.py wrote.
        tracks_m: by drive, (n, 2) positions of the car in the map frame.
    """
    contract = json.loads((layers / "layers.json").read_text())
    rows, columns = contract["shape_yx"]
    aspect = rows / columns
    across = 3 if aspect > 0.7 else 2
    down = -(-len(PANELS) // across)
    figure = Figure(figsize=(4.6 * across + 0.4, (4.0 * aspect + 0.7) * down + 0.5), layout="constrained")
    for axis, (name, panel) in zip(figure.subplots(down, across).ravel(), PANELS.items(), strict=True):
        _draw(figure, axis, np.load(layers / f"{name}.npy", mmap_mode="r"), contract, panel)
        for drive, xy_m in tracks_m.items():
            axis.plot(*xy_m.T, linewidth=1.2, label=drive)
    figure.axes[0].legend(fontsize=7, loc="lower left")
    figure.suptitle(f"{contract['crs']['properties']['name']}: metres of the map frame, x east, y north")
    save_figure(figure, path)


def _draw(figure: Figure, axis, layer: np.ndarray, contract: dict[str, Any], panel: tuple) -> None:
    title, colours, (low, high) = panel
    rows, columns = layer.shape
    step = -(-max(rows, columns) // MOST_PIXELS)
    shown = np.ma.masked_invalid(layer[::step, ::step])
    if colours == "magma" or title == "traversals":
        shown = np.ma.masked_equal(shown, 0)
    known = shown.compressed()
    if low is None and len(known):
        low = np.quantile(known, 0.01)
    if high is None and len(known):
        high = np.quantile(known, 0.99)
    x_m, y_m = contract["lower_corner_m"]
    extent = (x_m, x_m + columns * contract["cell_m"], y_m, y_m + rows * contract["cell_m"])
    colour_map = matplotlib.colormaps[colours].with_extremes(bad=NOTHING)
    image = axis.imshow(
        shown, origin="lower", extent=extent, cmap=colour_map, vmin=low, vmax=high, interpolation="nearest"
    )
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=6)
    figure.colorbar(image, ax=axis, shrink=0.8).ax.tick_params(labelsize=6)
