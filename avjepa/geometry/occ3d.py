"""The grid and the classes of Occ3D-nuScenes: Tian et al., "Occ3D", 2023, section 3.

Its arrays are [x, y, z] in the ego frame of the keyframe; ours are (Z, Y, X). They are swapped here and nowhere else.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from avjepa.geometry.grid import BEVGrid

Array = TypeVar("Array", np.ndarray, torch.Tensor)

OCC3D_GRID = BEVGrid((-40.0, 40.0), (-40.0, 40.0), (-1.0, 5.4), cell_m=0.4, cell_z_m=0.4)
SHAPE_XYZ = OCC3D_GRID.shape_zyx[::-1]  # (200, 200, 16)
CLASS_NAMES = (
    *("others", "barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "traffic_cone"),
    *("trailer", "truck", "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation", "free"),
)
FREE = CLASS_NAMES.index("free")
UNKNOWN = 255  # where a truth is not known: never counted


def zyx_from_xyz(volume: Array) -> Array:
    """A view (..., Z, Y, X) of a volume (..., X, Y, Z)."""
    return volume.swapaxes(-1, -3)


def xyz_from_zyx(volume: Array) -> Array:
    """A view (..., X, Y, Z) of a volume (..., Z, Y, X)."""
    return volume.swapaxes(-1, -3)


def as_classes(volume: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """The volume as a uint8 tensor of classes 0..17, or UNKNOWN.

    Raises:
        ValueError: it holds something else.
    """
    volume = torch.as_tensor(volume)
    if volume.is_floating_point() or volume.dtype == torch.bool:
        raise ValueError(f"{name} must hold classes as integers, got {volume.dtype}")
    if volume.numel() and not 0 <= int(volume.min()) <= int(volume.max()) <= FREE:
        wrong = volume[((volume < 0) | (volume > FREE)) & (volume != UNKNOWN)]
        if len(wrong):
            raise ValueError(f"{name} must hold classes 0..{FREE} or {UNKNOWN}, got {int(wrong[0])}")
    return volume.to(torch.uint8)
