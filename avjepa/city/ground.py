"""The ground: a raster of what covers it (paint included), and its mesh with raised kerbs."""

from __future__ import annotations

import cv2
import numpy as np
import trimesh
from mapbox_earcut import triangulate_float64
from shapely.geometry import LineString, MultiPolygon, Polygon, box
from shapely.ops import substring, unary_union

from avjepa.city.materials import Ground, Material
from avjepa.city.road_map import RoadMap
from avjepa.city.shapes import Shape

CELL_M = 0.1
KERB_M = 0.15  # height of walkways above the road
LINE_M = 0.16
DASH_M, GAP_M = 3.0, 6.0
ZEBRA_M = 0.55  # stripe and gap of a crosswalk
BAY_M = (2.6, 5.0)  # width and depth of a parking bay
_FIXED_POINT = 4  # fractional bits of cv2's polygon coordinates


def ground_raster(road_map: RoadMap, seed: int) -> np.ndarray:
    """(rows, columns) uint8 of Ground, CELL_M per cell; row 0 is y = 0 and rows grow with +y."""
    width_m, height_m = road_map.size_m
    raster = np.full((round(height_m / CELL_M), round(width_m / CELL_M)), Ground.GRASS, dtype=np.uint8)
    for area in road_map.walkways.values():
        _fill(raster, area.polygon, Ground.WALKWAY)
    _fill(raster, road_map.drivable.buffer(0.18), Ground.KERB)
    _fill(raster, road_map.drivable, Ground.ASPHALT)
    for area in road_map.car_parks.values():
        _fill(raster, area.polygon, Ground.PARKING)
    for area in road_map.islands.values():
        _fill(raster, area.polygon, Ground.KERB)
        _fill(raster, area.polygon.buffer(-0.25), Ground.ISLAND)
    rng = np.random.default_rng([seed, 11])
    for divider in road_map.dividers.values():
        _paint_divider(raster, divider)
    for stop_line in road_map.stop_lines.values():
        _fill(raster, stop_line.polygon, Ground.WHITE)
    for crosswalk in road_map.crosswalks.values():
        _paint_zebra(raster, crosswalk.polygon, crosswalk.wear, rng)
    for token, area in road_map.car_parks.items():
        if token.endswith("car-park"):
            _paint_bays(raster, area.polygon, road_map.car_parks[token.replace("car-park", "driveway")].polygon)
    return raster


def ground_mesh(road_map: RoadMap) -> Shape:
    """Road at z = 0; all else KERB_M higher, with upright kerbs."""
    canvas = box(-60, -60, road_map.size_m[0] + 60, road_map.size_m[1] + 60)
    raised = canvas.difference(road_map.drivable)
    road_vertices, road_faces = _triangles(MultiPolygon([canvas]), 0.0)
    top_vertices, top_faces = _triangles(raised, KERB_M)
    kerb_vertices, kerb_faces = _kerbs(road_map.drivable)
    vertices = np.concatenate([road_vertices, top_vertices, kerb_vertices])
    first = len(road_vertices)
    faces = np.concatenate([road_faces, top_faces + first, kerb_faces + first + len(top_vertices)])
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    colours = np.zeros((len(faces), 3), dtype=np.uint8)
    materials = np.full(len(faces), Material.GROUND, dtype=np.uint8)
    return Shape(mesh.vertices.astype(np.float32), faces.astype(np.int32), colours, materials)


def parts_of(shape) -> list[Polygon]:
    """The polygons of a shapely geometry."""
    if isinstance(shape, Polygon):
        return [shape] if not shape.is_empty else []
    return [part for part in getattr(shape, "geoms", []) if isinstance(part, Polygon)]


def _fill(raster: np.ndarray, shape, value: int) -> None:
    """Set the cells of an area; cv2 fills half a cell too far on every side, which would double a line's width."""
    for polygon in parts_of(shape.buffer(-CELL_M / 2, join_style="mitre")):
        rings = [polygon.exterior, *polygon.interiors]
        contours = [_pixels(np.array(ring.coords)) for ring in rings]
        cv2.fillPoly(raster, contours, int(value), shift=_FIXED_POINT)


def _pixels(xy_m: np.ndarray) -> np.ndarray:
    """Fixed-point pixel coordinates, where pixel centres are whole numbers."""
    return np.round((xy_m[:, :2] / CELL_M - 0.5) * 2**_FIXED_POINT).astype(np.int32)


def _paint_divider(raster: np.ndarray, divider) -> None:
    colour = Ground.YELLOW if divider.colour == "yellow" else Ground.WHITE
    sides = (0.0,)
    if divider.separates == "directions" and not divider.dashed:
        sides = (-0.14, 0.14)  # a double line
    length = divider.line.length
    pieces = [(0.0, length)]
    if divider.dashed:
        pieces = [(s, min(s + DASH_M, length)) for s in np.arange(0, length, DASH_M + GAP_M)]
    for begin, end in pieces:
        piece = substring(divider.line, begin, end)
        for side in sides:
            line = piece.offset_curve(side) if side else piece
            _fill(raster, line.buffer(LINE_M / 2, cap_style="flat"), colour)


def _paint_zebra(raster: np.ndarray, polygon: Polygon, wear: float, rng: np.random.Generator) -> None:
    """Stripes along the traffic; worn paint shows asphalt in blotches."""
    corners = np.array(polygon.minimum_rotated_rectangle.exterior.coords)[:4]
    edges = np.roll(corners, -1, 0) - corners
    longest = int(np.argmax(np.hypot(*edges.T)))
    origin, across, along = corners[longest], edges[longest], edges[(longest + 1) % 4]
    width_m = float(np.hypot(*across))
    across = across / width_m
    stripes = []
    for s in np.arange(0.3, width_m - ZEBRA_M, 2 * ZEBRA_M):
        a, b = origin + across * s, origin + across * (s + ZEBRA_M)
        stripes.append(Polygon([a, b, b + along, a + along]))
    x0, y0, x1, y1 = (int(v) for v in np.array(polygon.bounds) / CELL_M + [-2, -2, 3, 3])
    window = raster[y0:y1, x0:x1]
    before = window.copy()
    _fill(raster, unary_union(stripes).intersection(polygon), Ground.WHITE)
    if wear:
        blotches = cv2.GaussianBlur(rng.standard_normal(window.shape), (0, 0), 1.5)
        gone = blotches < np.quantile(blotches, wear)
        window[gone] = before[gone]


def _paint_bays(raster: np.ndarray, lot: Polygon, driveway: Polygon) -> None:
    """Lines between the bays of a car park, along its two long sides."""
    for base, direction, inward, length in bay_rows(lot):
        for s in np.arange(0.0, length + 0.1, BAY_M[0]):
            start = base + direction * s
            line = LineString([start, start + inward * BAY_M[1]])
            if line.distance(driveway) > 0.3:
                _fill(raster, line.buffer(0.06, cap_style="flat"), Ground.WHITE)


def bay_rows(lot: Polygon) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """Rows of parking bays: corner, direction along the row, direction into the car park, length of the row."""
    corners = np.array(lot.minimum_rotated_rectangle.exterior.coords)[:4]
    edges = np.roll(corners, -1, 0) - corners
    longest = int(np.argmax(np.hypot(*edges.T)))
    rows = []
    for index in (longest, (longest + 2) % 4):
        length = float(np.hypot(*edges[index]))
        direction = edges[index] / length
        inward = edges[(index + 1) % 4]
        inward = inward / np.hypot(*inward)
        rows.append((corners[index] + direction * 1.0, direction, inward, length - 2.0))
    return rows


def _triangles(shape, z_m: float) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces, first = [], [], 0
    for polygon in parts_of(shape):
        rings = [np.array(ring.coords)[:-1] for ring in (polygon.exterior, *polygon.interiors)]
        xy = np.concatenate(rings)
        index = triangulate_float64(xy, np.cumsum([len(ring) for ring in rings]).astype(np.uint32))
        vertices.append(np.column_stack([xy, np.full(len(xy), z_m)]))
        faces.append(_upward(xy, index.reshape(-1, 3).astype(np.int64)) + first)
        first += len(xy)
    return np.concatenate(vertices), np.concatenate(faces)


def _upward(xy: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (xy[faces[:, i]] for i in range(3))
    clockwise = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0] < 0
    return np.where(clockwise[:, None], faces[:, ::-1], faces)


def _kerbs(drivable: MultiPolygon) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces, first = [], [], 0
    for polygon in parts_of(drivable):
        for ring in (polygon.exterior, *polygon.interiors):
            xy = np.array(ring.coords)
            count = len(xy)
            low, high = np.column_stack([xy, np.zeros(count)]), np.column_stack([xy, np.full(count, KERB_M)])
            index = np.arange(count - 1)
            quads = [
                np.stack([index, index + 1, index + count], 1),
                np.stack([index + 1, index + 1 + count, index + count], 1),
            ]
            vertices.append(np.concatenate([low, high]))
            faces.append(np.concatenate(quads) + first)
            first += 2 * count
    return np.concatenate(vertices), np.concatenate(faces)
