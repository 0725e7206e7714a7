"""Pictures of a change for the review page: the best camera's view, and the ground from above, with the change drawn in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from avjepa.conventions import CAMERAS
from avjepa.errors import BadFileError
from avjepa.geometry.camera import in_image
from avjepa.mapping.changes import ChangeReport, Evidence, MapChange
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.sightings import in_camera
from avjepa.mapping.survey import GRID
from avjepa.reports.ground_pictures import camera_picture
from avjepa.reports.review import Picture
from avjepa.sensors.nuscenes_files import read_image
from avjepa.sensors.nuscenes_index import NuScenesIndex

CAMERA_VIEWS = 2  # of a change
WIDTH_PX = 640
AROUND_M = 8.0  # of the ground from above
OLD, NEW = (194, 80, 13), (31, 99, 208)  # RGB, as on the page
QUALITY = 80


def change_pictures(
    report: ChangeReport, root: Path, index: NuScenesIndex, surveys: Sequence[Path]
) -> Iterator[tuple[str, list[Picture]]]:
    """Pictures of every change that is more than unobservable, by its id; images that cannot be read are left out."""
    mosaic, number_of = Mosaic(list(surveys)), {token: n for n, token in enumerate(index.token)}
    for change in report.changes:
        if change.status == "unobservable":
            continue
        views = [camera_view(change, one, root, index, number_of[one.frame]) for one in change.evidence if one.camera]
        pictures = [view for view in views[: 2 * CAMERA_VIEWS] if view is not None][:CAMERA_VIEWS]
        yield change.change_id, [*pictures, ground_from_above(change, mosaic)]


def camera_view(change: MapChange, evidence: Evidence, root: Path, index: NuScenesIndex, n: int) -> Picture | None:
    """The image of the evidence's camera at keyframe ``n``, the change in it; None if it cannot be read."""
    camera = CAMERAS.index(evidence.camera)
    size = tuple(int(side) for side in index.camera_size_px[n, camera])
    try:
        image, reduction = read_image(root / str(index.camera_file[n, camera]), size, (WIDTH_PX * 9 // 16, WIDTH_PX))
    except BadFileError:
        return None
    drawn_px = []
    for shape, colour in _sides(change):
        for part in _outlines(shape):
            uv_px, depth_m, _ = in_camera(part, index, n, camera)
            seen = in_image(uv_px, depth_m, *size)
            uv_px = uv_px / reduction
            drawn_px.append(uv_px[seen])
            for a in np.flatnonzero(seen[:-1] & seen[1:]):
                ends = [tuple(np.round(uv_px[i]).astype(int).tolist()) for i in (a, a + 1)]
                cv2.line(image, *ends, colour, 1, cv2.LINE_AA)
    crop = _around(np.concatenate(drawn_px), image)
    scale = WIDTH_PX / crop.shape[1]
    crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    caption = f"{evidence.camera}, {evidence.scene}, {evidence.distance_m:.0f} m away"
    return Picture(_jpeg(crop), caption)


def _around(uv_px: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The part of an image around pixels (k, 2), of 16 to 9, and at least a quarter of its width; all of it without pixels."""
    height_px, width_px = image.shape[:2]
    if not len(uv_px):
        return image
    low, high = uv_px.min(0), uv_px.max(0)
    side_px = max(width_px / 4, 1.8 * (high - low)[0], 1.8 * 16 / 9 * (high - low)[1])
    side_px = int(min(side_px, width_px, height_px * 16 / 9))
    corner = np.clip(
        (low + high) / 2 - [side_px / 2, side_px * 9 / 32], 0, [width_px - side_px, height_px - side_px * 9 // 16]
    )
    u, v = corner.astype(int)
    return image[v : v + side_px * 9 // 16, u : u + side_px]


def ground_from_above(change: MapChange, mosaic: Mosaic) -> Picture:
    """Brightness of the ground beside its surroundings (grey), what stands there (green), and the change."""
    x0, y0, x1, y1 = shapely.union_all([shape for shape, _ in _sides(change)]).bounds
    sums, corner = mosaic.window((x0 - AROUND_M, y0 - AROUND_M, x1 + AROUND_M, y1 + AROUND_M))
    image = camera_picture(sums)
    scale = max(1, round(WIDTH_PX / max(image.shape[:2])))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    for shape, colour in _sides(change):
        for part in _outlines(shape):
            xy_px = (shapely.get_coordinates(part) - corner) / GRID.cell_m * scale
            cv2.polylines(image, [np.round(xy_px).astype(np.int32)], False, colour, max(1, scale // 2), cv2.LINE_AA)
    return Picture(
        _jpeg(np.ascontiguousarray(image[::-1])), f"the ground from above, {len(mosaic.folders)} drives, north up"
    )


def _sides(change: MapChange) -> list[tuple[BaseGeometry, tuple[int, int, int]]]:
    sides = ((change.old_geometry, OLD), (change.new_geometry, NEW))
    return [(shape, colour) for shape, colour in sides if shape is not None]


def _outlines(shape: BaseGeometry) -> list[BaseGeometry]:
    """The lines of a shape: rings of areas."""
    parts = shapely.get_parts(shape)
    return [part.exterior if part.geom_type == "Polygon" else part for part in parts if part.geom_type != "Point"]


def _jpeg(image: np.ndarray) -> bytes:
    done, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be stored")
    return content.tobytes()
