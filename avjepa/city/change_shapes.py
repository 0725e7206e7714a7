"""Shapes that map edits of a town are made of: paths as polylines, and a path that swings aside for a stretch."""

from __future__ import annotations

from shapely.geometry import LineString, Point

from avjepa.city.arc_path import ArcPath, biarc, join
from avjepa.geometry.bands import TAPER_M


def centre_line(path: ArcPath) -> LineString:
    """A path as a polyline, fine enough that lengths along it are those along the path."""
    return LineString(path.sampled(0.5)[:, :2])


def station(path: ArcPath, xy_m) -> float:
    """Arc length of the point of a path that is nearest to ``xy_m``."""
    return centre_line(path).project(Point(xy_m))


def bulged(path: ArcPath, begin_m: float, end_m: float, left_m: float) -> ArcPath:
    """The path, ``left_m`` to the left between two arc lengths, with a smooth taper at both ends."""
    before, after = path.part(0.0, begin_m), path.part(end_m, path.length_m)
    middle = path.part(begin_m + TAPER_M, end_m - TAPER_M).offset(left_m)
    pieces = (before, biarc(before.end, middle.start), middle, biarc(middle.end, after.start), after)
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = join(whole, piece)
    return whole
