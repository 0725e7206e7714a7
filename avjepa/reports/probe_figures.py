"""Pictures of probe results: truth, answer, error and uncertainty beside the cameras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from avjepa.geometry.grid import BEVGrid
from avjepa.probes.task import Panels
from avjepa.reports.figures import save_figure, show_bev
from avjepa.sensors.sample import Frame

ROWS = {"answer": "answer", "error": "error\ngreen found, red missed,\nyellow invented", "uncertainty": "uncertainty"}


def save_probe_picture(path: Path, frame: Frame, truth: Panels, answers: Mapping[str, Panels], grid: BEVGrid) -> None:
    """Cameras of a keyframe, its truth, and for every row of the table its answer, errors and uncertainty.

    Args:
        path: a PNG.
        frame: the keyframe.
        truth: the truth's picture.
        answers: pictures by the row's title.
        grid: of all pictures.
    """
    columns = 1 + len(answers)
    figure = Figure(figsize=(max(2.3 * columns, 9), 9.2), layout="constrained")
    strip, maps = figure.subfigures(2, 1, height_ratios=(1, 4.4))
    if len(frame.images):
        for axis, image, present in zip(
            strip.subplots(1, len(frame.images), squeeze=False)[0], frame.images, frame.camera_present, strict=True
        ):
            axis.imshow(image.movedim(0, -1).numpy())
            axis.set_axis_off()
            axis.set_title("" if present else "absent")
    axes = maps.subplots(len(ROWS), columns, squeeze=False)
    for column, (title, panels) in enumerate({"truth": truth, **answers}.items()):
        axes[0, column].set_title(title.replace(", ", "\n"), fontsize=9)
        for row, name in enumerate(ROWS):
            image = getattr(panels, name)
            if image is None:
                axes[row, column].set(xticks=[], yticks=[], frame_on=False)
            else:
                show_bev(axes[row, column], image, grid)
    first = 1 if answers else 0
    for row, name in enumerate(ROWS.values()):
        axes[row, first].set_ylabel(name, fontsize=9)
    save_figure(figure, path)
