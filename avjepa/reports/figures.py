"""Pictures of what the model sees and predicts. Letters: see conventions.py."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from avjepa.conventions import UNOBSERVED
from avjepa.files import replacing
from avjepa.geometry.grid import BEVGrid
from avjepa.jepa.world_model import Predictions
from avjepa.probes.colours import state_panel

HIDDEN_COLOUR = (0.25, 0.45, 0.95)


def save_prediction_picture(path: Path, predictions: Predictions, seconds: list[float], grid: BEVGrid) -> None:
    """Cell states and mask, target, prediction and error of the first clip of a batch, one column per horizon.

    Embeddings are shown by their first three principal components over observed target cells as red, green and blue; the
    same projection for target and prediction.
    """
    states = predictions.states[0].cpu()  # (K, Y, X)
    target = predictions.target[0].detach().float().cpu()  # (K, C, Y, X)
    predicted = predictions.predicted[0].detach().float().cpu()
    valid = predictions.valid[0].cpu()
    hidden = predictions.mask.hidden[0].cpu()
    colours = PCAColours(target.movedim(1, -1)[states != UNOBSERVED])

    rows = ("states" + "\n(hidden: blue)", "target", "prediction", "error\n(counted cells)")
    horizons = len(seconds)
    figure = Figure(figsize=(2.6 * horizons + 0.8, 2.6 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), horizons, squeeze=False)
    error = (predicted - target).abs().mean(1)
    error_scale = float(torch.quantile(error[valid], 0.98)) if bool(valid.any()) else 1.0
    for k, time_s in enumerate(seconds):
        axes[0, k].set_title("present" if k == 0 else f"+{time_s:.1f} s")
        show_bev(axes[0, k], state_colours(states[k], hidden if k == 0 else None), grid)
        show_bev(axes[1, k], colours(target[k]), grid)
        show_bev(axes[2, k], colours(predicted[k]), grid)
        shown = np.where(valid[k].numpy(), error[k].numpy() / error_scale, np.nan)
        show_bev(axes[3, k], matplotlib.colormaps["magma"](np.ma.masked_invalid(shown))[..., :3], grid)
    for axis, name in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(name)
    save_figure(figure, path)


class PCAColours:
    """Maps embeddings to red, green and blue by the first three principal components of a sample of them."""

    def __init__(self, sample: torch.Tensor) -> None:
        """``sample`` is (P, C); fewer than three cells give a grey map."""
        self.mean = sample.mean(0) if len(sample) else sample.new_zeros(sample.shape[1])
        centred = sample - self.mean
        rank = min(3, *centred.shape)
        basis = sample.new_zeros(sample.shape[1], 3)
        basis[:, :rank] = torch.linalg.svd(centred, full_matrices=False)[2][:rank].T if rank else 0
        # The sign of a component is arbitrary: take the one whose largest weight is positive, so pictures can be compared.
        basis *= torch.where(basis.gather(0, basis.abs().argmax(0, keepdim=True)) < 0, -1.0, 1.0)
        self.basis = basis
        self.scale = (centred @ basis).std(0).clamp(min=1e-6) if len(sample) > 1 else sample.new_ones(3)

    def __call__(self, z: torch.Tensor) -> np.ndarray:
        """Colours (Y, X, 3) in [0, 1] of embeddings (C, Y, X)."""
        return (0.5 + 0.2 * (z.movedim(0, -1) - self.mean) @ self.basis / self.scale).clamp(0, 1).numpy()


def state_colours(states: torch.Tensor, hidden: torch.Tensor | None = None) -> np.ndarray:
    """Colours (Y, X, 3) of cell states (Y, X); hidden cells (Y, X) are tinted blue."""
    image = state_panel(states.cpu())
    if hidden is not None:
        tint = hidden.cpu().numpy()[..., None] * 0.55
        image = image * (1 - tint) + np.array(HIDDEN_COLOUR) * tint
    return image


def show_bev(axis, image: np.ndarray, grid: BEVGrid) -> None:
    """Draw a BEV image (Y, X, 3) with +x (forward) up and +y (left) to the left, as a driver looks at a map."""
    axis.imshow(
        np.flip(image.transpose(1, 0, 2), (0, 1)),
        extent=(grid.y_range_m[1], grid.y_range_m[0], grid.x_range_m[0], grid.x_range_m[1]),
        interpolation="nearest",
    )
    axis.plot(0, 0, marker="^", color="lime", markersize=4)
    axis.set_xticks([])
    axis.set_yticks([])


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture, of the kind that its suffix says."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
