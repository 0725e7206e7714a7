"""Colours of probe pictures: images (Y, X, 3) in [0, 1] of a truth, an answer, its errors and its uncertainty."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.occ3d import CLASS_NAMES

RIGHT, MISSED, INVENTED = (0.2, 0.65, 0.35), (0.85, 0.2, 0.2), (0.95, 0.75, 0.2)
STATE_COLOURS = {UNOBSERVED: (0.16, 0.16, 0.2), FREE: (0.75, 0.78, 0.82), OCCUPIED: (0.93, 0.42, 0.14)}
CLASS_COLOURS = {
    **{"others": (0.5, 0.5, 0.5), "barrier": (0.9, 0.55, 0.3), "bicycle": (0.95, 0.6, 0.75), "bus": (0.95, 0.8, 0.2)},
    **{"car": (0.2, 0.5, 0.95), "construction_vehicle": (0.75, 0.65, 0.1), "motorcycle": (0.85, 0.3, 0.6)},
    **{"pedestrian": (0.95, 0.2, 0.2), "traffic_cone": (1.0, 0.75, 0.4), "trailer": (0.55, 0.35, 0.15)},
    **{"truck": (0.55, 0.25, 0.85), "driveable_surface": (0.33, 0.33, 0.38), "other_flat": (0.45, 0.4, 0.45)},
    **{"sidewalk": (0.6, 0.52, 0.5), "terrain": (0.55, 0.65, 0.4), "manmade": (0.82, 0.8, 0.76)},
    **{"vegetation": (0.2, 0.5, 0.25), "free": (0.1, 0.1, 0.12)},
}
MAP_COLOURS = {
    **{"drivable_area": (0.42, 0.44, 0.5), "ped_crossing": (0.95, 0.85, 0.3), "walkway": (0.62, 0.5, 0.42)},
    **{"stop_line": (0.9, 0.25, 0.25), "carpark_area": (0.35, 0.45, 0.7), "divider": (0.95, 0.95, 0.95)},
}
PARKED = (0.2, 0.5, 0.95)
NOTHING, UNCOUNTED = 0.45, 0.16  # greys: rightly empty, not counted


def palette_panel(classes: torch.Tensor, palette: np.ndarray) -> np.ndarray:
    """Colours of classes (Y, X) by a palette (classes, 3)."""
    return palette[classes.long().numpy()]


def state_panel(states: torch.Tensor, pale: torch.Tensor | None = None) -> np.ndarray:
    """Colours of cell states (Y, X), paler where ``pale``."""
    image = palette_panel(states, np.array([STATE_COLOURS[state] for state in sorted(STATE_COLOURS)]))
    return image if pale is None else _paler(image, pale)


def grey_panel(score: torch.Tensor) -> np.ndarray:
    """Black for 0, white for 1."""
    return score.float()[..., None].expand(*score.shape, 3).numpy()


def returns_panel(score: torch.Tensor, seen: torch.Tensor) -> np.ndarray:
    """Cells (Y, X) with a LiDAR return, from grey for a score of 0 (static) to orange for 1 (moving); the others are dark."""
    share = score.float().numpy()[..., None]
    image = NOTHING * (1 - share) + np.array(STATE_COLOURS[OCCUPIED]) * share
    image[~seen.numpy()] = UNCOUNTED
    return image


def motion_panel(score: torch.Tensor, counted: torch.Tensor, occupied: torch.Tensor) -> np.ndarray:
    """Counted cells (Y, X) from blue for a score of 0 (parked) to orange for 1 (moving); others grey if occupied, else dark."""
    share = score.float().numpy()[..., None]
    image = np.array(PARKED) * (1 - share) + np.array(STATE_COLOURS[OCCUPIED]) * share
    image[(occupied & ~counted).numpy()] = NOTHING
    image[~(occupied | counted).numpy()] = UNCOUNTED
    return image


def hits_and_misses(
    predicted: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor, pale: torch.Tensor | None = None
) -> np.ndarray:
    """Green found, red missed, yellow invented, of bool (Y, X) maps; cells that do not count are dark."""
    image = found_and_missed(truth, truth & ~predicted, predicted & ~truth, pale)
    image[~counted.numpy()] = UNCOUNTED
    return image


def found_and_missed(
    truth: torch.Tensor, missed: torch.Tensor, invented: torch.Tensor, pale: torch.Tensor | None = None
) -> np.ndarray:
    """Green where something is true, red where some of it was missed, yellow where something was invented, of (Y, X) maps."""
    image = np.full((*truth.shape, 3), NOTHING)
    for cells, colour in ((truth, RIGHT), (invented, INVENTED), (missed, MISSED)):
        image[cells.numpy()] = colour
    return image if pale is None else _paler(image, pale)


def map_panel(score: torch.Tensor, classes: tuple[str, ...], pale: torch.Tensor | None = None) -> np.ndarray:
    """Map classes (C, Y, X) of these names painted over each other in order, as opaque as they are likely."""
    image = np.full((*score.shape[1:], 3), UNCOUNTED)
    for layer, name in zip(score.float().numpy(), classes, strict=True):
        image = image * (1 - layer[..., None]) + np.array(MAP_COLOURS[name]) * layer[..., None]
    return image if pale is None else _paler(image, pale)


def entropy_panel(logits: torch.Tensor) -> np.ndarray:
    """Entropy of the answer in each cell, 1 for no idea: of K classes (K, Y, X), or of yes and no when K is 1."""
    if len(logits) == 1:
        logits = torch.cat([logits, torch.zeros_like(logits)])
    log_share = F.log_softmax(logits.float(), 0)
    return grey_panel(-(log_share.exp() * log_share).sum(0) / np.log(len(logits)))


def from_above_panel(classes: torch.Tensor) -> np.ndarray:
    """Occ3D classes (Z, Y, X) from above: the highest voxel that is not free, darker the lower it is."""
    free = CLASS_NAMES.index("free")
    shown = classes.clamp(max=free)
    height = torch.arange(1, len(shown) + 1, dtype=torch.int64)[:, None, None]
    top = torch.where(shown != free, height, 0).amax(0)  # 0: nothing in the column
    highest = shown.gather(0, (top - 1).clamp(min=0)[None])[0]
    colours = np.array([CLASS_COLOURS[name] for name in CLASS_NAMES])
    image = palette_panel(torch.where(top > 0, highest, free), colours)
    return image * (0.7 + 0.3 * top[..., None].numpy() / len(shown))


def column_entropy_panel(logits: torch.Tensor) -> np.ndarray:
    """Mean entropy over the voxels of each column, of class logits (K, Z, Y, X); 1 for no idea."""
    log_share = F.log_softmax(logits.float(), 0)
    return grey_panel(-(log_share.exp() * log_share).sum(0).mean(0) / np.log(len(logits)))


def mean_entropy_panel(logits: torch.Tensor) -> np.ndarray:
    """Mean over K yes-or-no answers (K, Y, X) of their entropy in bits."""
    share = logits.float().sigmoid().clamp(1e-6, 1 - 1e-6)
    return grey_panel(-(share * share.log2() + (1 - share) * (1 - share).log2()).mean(0))


def _paler(image: np.ndarray, cells: torch.Tensor) -> np.ndarray:
    """Half way to grey in some cells."""
    share = 0.5 * cells.numpy()[..., None]
    return image * (1 - share) + NOTHING * share
