"""Pictures of probe results: truth, prediction and error beside the cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.grid import BEVGrid
from avjepa.probes.occupancy import OccupancyTargets
from avjepa.probes.occupancy_study import ProbeResult
from avjepa.reports.figures import save_figure, show_bev, state_colours
from avjepa.sensors.sample import Clip

RIGHT, MISSED, INVENTED = (0.2, 0.65, 0.35), (0.85, 0.2, 0.2), (0.95, 0.75, 0.2)


def save_occupancy_picture(
    path: Path, clip: Clip, results: list[ProbeResult], targets: OccupancyTargets, grid: BEVGrid
) -> None:
    """Cameras of the first test clip, its truth, and for every row its probability and its errors.

    Errors: green found, red missed, yellow invented; hidden cells keep full colour, cells observed now are paler.
    """
    columns = 1 + len(results)
    cameras = len(clip.now.images)
    figure = Figure(figsize=(2.5 * columns, 7.4), layout="constrained")
    strip, maps = figure.subfigures(2, 1, height_ratios=(1, 4))
    if cameras:
        for axis, image, present in zip(
            strip.subplots(1, cameras, squeeze=False)[0], clip.now.images, clip.now.camera_present, strict=True
        ):
            axis.imshow(image.movedim(0, -1).numpy())
            axis.set_axis_off()
            axis.set_title("" if present else "absent")

    axes = maps.subplots(2, columns, squeeze=False)
    known, occupied, hidden = targets.known[0], targets.occupied[0], targets.hidden[0]
    truth = torch.where(known, torch.where(occupied, OCCUPIED, FREE), UNOBSERVED)
    show_bev(axes[0, 0], state_colours(truth), grid)
    axes[0, 0].set_title("truth")
    show_bev(axes[1, 0], state_colours(truth, hidden), grid)
    axes[1, 0].set_title("hidden now: blue")
    for column, result in enumerate(results, start=1):
        score = result.score[0]
        show_bev(axes[0, column], score[..., None].expand(-1, -1, 3).numpy(), grid)
        axes[0, column].set_title(result.row.replace(", ", "\n"))
        show_bev(axes[1, column], _errors(score > result.threshold, occupied, known, hidden), grid)
    axes[0, 1].set_ylabel("probability")
    axes[1, 1].set_ylabel("error")
    save_figure(figure, path)


def _errors(predicted: torch.Tensor, occupied: torch.Tensor, known: torch.Tensor, hidden: torch.Tensor) -> np.ndarray:
    """Colours (Y, X, 3) of right, missed and invented cells."""
    image = np.full((*known.shape, 3), 0.16)
    image[(known & ~occupied & ~predicted).numpy()] = 0.45
    for cells, colour in (
        (known & occupied & predicted, RIGHT),
        (known & occupied & ~predicted, MISSED),
        (known & ~occupied & predicted, INVENTED),
    ):
        image[(cells & hidden).numpy()] = colour
        image[(cells & ~hidden).numpy()] = 0.5 * np.array(colour) + 0.5 * 0.45
    return image
