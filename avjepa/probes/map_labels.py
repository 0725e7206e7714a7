"""Map truth in the present ego frame: six classes of a vector map, or drivable area alone from the official mask.

A vector map is rasterised frame by frame as nuscenes-devkit's ``get_map_mask`` does it, on which BEVFusion and its followers
train and score, so that IoUs compare. Its habits therefore stay:
    Areas: outlines are cut at the grid, rounded to whole cells and count as inside, the outlines of holes as outside. So an
        area ends one cell too far on its upper sides (+x, +y).
    Dividers (road and lane dividers): truncated to whole cells and drawn with OpenCV's thickness of 2 cells, which fills 3.
One does not: the devkit blanks the holes of a record in what earlier records have drawn; here a hole cuts its own polygon only.

Axes: (C, Y, X) in the ego frame, y and x growing with their index. BEVFusion asks the devkit for the patch around the LiDAR
(its x to the right, its y forwards) and transposes it: its [c, i, j] has i growing to the right and j forwards. Up to where
the LiDAR is mounted (0.94 m ahead of the ego origin, turned by little else than a quarter), and but for the sides on which areas
end too far (its right instead of our left), ``ours = theirs[:, ::-1, :]``.
Letters: see conventions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import shapely
import torch
from shapely.geometry.base import BaseGeometry

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import se2_from_transform, transform_from_se2, transform_points
from avjepa.probes.metrics.map_iou import MAP_CLASSES

MAP_GRID = BEVGrid((-50.0, 50.0), (-50.0, 50.0), (-5.0, 3.0), cell_m=0.5, cell_z_m=8.0)  # BEVFusion's 200 x 200 cells
DIVIDER = "divider"
DIVIDER_CELLS = 2  # the thickness asked of OpenCV, as the devkit asks it
MASK_PIXEL_M = 0.1


@dataclass(frozen=True)
class VectorMap:
    """Map of one location in its global frame, metres.

    Attributes:
        areas: class -> (n,) shapely polygons, with holes; each valid.
        dividers: (n,) shapely lines.
    """

    areas: dict[str, np.ndarray]
    dividers: np.ndarray

    classes = MAP_CLASSES

    def labels(self, global_T_ego: np.ndarray, grid: BEVGrid = MAP_GRID) -> torch.Tensor:
        """(C, Y, X) bool in the ego frame, in the order of ``classes``; ``global_T_ego`` (4, 4) by its planar part.

        Raises:
            ValueError: the pose is not finite.
        """
        global_T_now = planar(global_T_ego)
        canvas = np.zeros((len(self.classes), *grid.shape_yx), dtype=np.uint8)
        for name, polygons in self.areas.items():
            for polygon in _on_grid(polygons, global_T_now, grid):
                _fill(canvas[self.classes.index(name)], polygon)
        for line in _on_grid(self.dividers, global_T_now, grid):
            _draw(canvas[self.classes.index(DIVIDER)], line)
        return torch.from_numpy(canvas.astype(bool))


@dataclass(frozen=True)
class DrivableMask:
    """Official drivable-area mask of one location, eight pixels a byte (a city is up to 1.2 billion pixels).

    Attributes:
        packed: (rows, columns / 8) uint8, from ``np.packbits`` along the columns. The pixel (row, column) shows the global
            point x = 0.1 column, y = 0.1 (rows - row), in metres, as nuscenes-devkit's MapMask reads it.
        columns: width in pixels.
    """

    packed: np.ndarray
    columns: int

    classes = (MAP_CLASSES[0],)

    def labels(self, global_T_ego: np.ndarray, grid: BEVGrid = MAP_GRID) -> torch.Tensor:
        """(1, Y, X) bool in the ego frame: the mask at each cell's centre, False outside the picture.

        Raises:
            ValueError: the pose is not finite.
        """
        xy_ego = grid.cell_centres().double().view(-1, 2).numpy()
        xyz_global = transform_points(planar(global_T_ego), np.pad(xy_ego, ((0, 0), (0, 1))))
        column = np.rint(xyz_global[:, 0] / MASK_PIXEL_M).astype(np.int64)
        row = np.rint(len(self.packed) - xyz_global[:, 1] / MASK_PIXEL_M).astype(np.int64)
        inside = (column >= 0) & (column < self.columns) & (row >= 0) & (row < len(self.packed))
        drivable = np.zeros(len(xy_ego), dtype=bool)
        byte = self.packed[row[inside], column[inside] // 8]
        drivable[inside] = (byte >> (7 - column[inside] % 8)) & 1
        return torch.from_numpy(drivable.reshape(1, *grid.shape_yx))


def planar(global_T_ego: np.ndarray) -> np.ndarray:
    """The pose (4, 4) on the map: position and heading (that of the ego's x axis), neither height nor tilt.

    Raises:
        ValueError: the pose is not finite.
    """
    if not np.isfinite(global_T_ego).all():
        raise ValueError(f"a map needs a finite pose, got {np.asarray(global_T_ego).tolist()}")
    return transform_from_se2(*se2_from_transform(global_T_ego))


def _on_grid(shapes: np.ndarray, global_T_ego: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """What of shapes (n,) in the global frame lies on the grid, in cells as (column, row), 0 at the grid's lower corner.

    Cut before it is drawn, as in the devkit: of a hole that leaves the grid, the rest is drawn as a part of the outline.
    """
    lower_m = np.array([grid.x_range_m[0], grid.y_range_m[0]])
    corners = shapely.box(*lower_m, grid.x_range_m[1], grid.y_range_m[1])
    rotation, position_m = global_T_ego[:2, :2], global_T_ego[:2, 3]
    outline = shapely.transform(corners, lambda xy_ego: xy_ego @ rotation.T + position_m)
    cut = shapely.intersection(shapes, outline)
    return shapely.transform(
        cut[~shapely.is_empty(cut)], lambda xy_m: ((xy_m - position_m) @ rotation - lower_m) / grid.cell_m
    )


def _fill(canvas: np.ndarray, polygon: BaseGeometry) -> None:
    """Add a polygon in cells: its outline counts as inside, the outlines of its holes as outside."""
    parts = [part for part in shapely.get_parts(polygon) if part.geom_type == "Polygon"]
    alone = np.zeros_like(canvas)
    cv2.fillPoly(alone, [_whole_cells(part.exterior, np.rint) for part in parts], 1)
    cv2.fillPoly(alone, [_whole_cells(hole, np.rint) for part in parts for hole in part.interiors], 0)
    canvas |= alone


def _draw(canvas: np.ndarray, line: BaseGeometry) -> None:
    """Add a line in cells."""
    parts = [part for part in shapely.get_parts(line) if part.geom_type == "LineString"]
    cv2.polylines(canvas, [_whole_cells(part, np.floor) for part in parts], False, 1, DIVIDER_CELLS)


def _whole_cells(line: BaseGeometry, rounding: np.ufunc) -> np.ndarray:
    return rounding(np.array(line.coords)).astype(np.int32)
