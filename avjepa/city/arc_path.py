"""Smooth (G1) paths of straight lines and circular arcs: offsets of them are again such paths, and lengths are exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_STRAIGHT = 1e-9  # curvature (1/m) below which a segment is a line


@dataclass(frozen=True)
class ArcPath:
    """A path from ``start`` (x_m, y_m, yaw_rad), segment by segment, each (curvature 1/m, positive to the left; length m)."""

    start: tuple[float, float, float]
    segments: tuple[tuple[float, float], ...]

    @property
    def length_m(self) -> float:
        """Sum of the segments."""
        return sum(length for _, length in self.segments)

    @property
    def end(self) -> tuple[float, float, float]:
        """Pose at the end."""
        return tuple(self.poses(np.array([self.length_m]))[0])

    def segment_starts(self) -> list[tuple[float, float, float]]:
        """Pose at the start of each segment, and at the end of the last."""
        poses = [self.start]
        for curvature, length in self.segments:
            poses.append(_advance(poses[-1], curvature, length))
        return poses

    def poses(self, s_m: np.ndarray) -> np.ndarray:
        """Poses (k, 3) at arc lengths ``s_m`` (k,); beyond an end the path goes on straight."""
        s_m = np.asarray(s_m, dtype=float)
        bounds = np.cumsum([0.0] + [length for _, length in self.segments])
        starts = np.array(self.segment_starts())
        number = np.clip(np.searchsorted(bounds, s_m, side="right") - 1, 0, len(self.segments) - 1)
        curvature = np.array([k for k, _ in self.segments])[number]
        within = s_m - bounds[number]
        outside = (s_m < 0) | (s_m > bounds[-1])
        poses = _advance_all(starts[number], np.where(s_m < 0, 0.0, curvature), within)
        if outside.any():
            past = s_m > bounds[-1]
            poses[past] = _advance_all(
                np.tile(starts[-1], (past.sum(), 1)), np.zeros(past.sum()), s_m[past] - bounds[-1]
            )
        return poses

    def sampled(self, step_m: float = 1.0) -> np.ndarray:
        """Poses (k, 3), at most ``step_m`` apart, both ends included."""
        count = max(int(np.ceil(self.length_m / step_m)), 1)
        return self.poses(np.linspace(0, self.length_m, count + 1))

    def offset(self, left_m: float) -> ArcPath:
        """The parallel path ``left_m`` to the left.

        Raises:
            ValueError: an arc is tighter than the offset.
        """
        x, y, yaw = self.start
        scales = [1 - curvature * left_m for curvature, _ in self.segments]
        if min(scales) <= 0:
            raise ValueError(f"an arc of this path is tighter than the offset of {left_m} m")
        segments = tuple((k / scale, length * scale) for (k, length), scale in zip(self.segments, scales, strict=True))
        return ArcPath((x - left_m * np.sin(yaw), y + left_m * np.cos(yaw), yaw), segments)

    def part(self, begin_m: float, end_m: float) -> ArcPath:
        """The piece between two arc lengths."""
        bounds = np.cumsum([0.0] + [length for _, length in self.segments])
        pieces = []
        for (curvature, _), lower, upper in zip(self.segments, bounds[:-1], bounds[1:], strict=True):
            length = min(upper, end_m) - max(lower, begin_m)
            if length > 1e-6:
                pieces.append((curvature, length))
        return ArcPath(tuple(self.poses(np.array([begin_m]))[0]), tuple(pieces))

    def reversed(self) -> ArcPath:
        """The same way, driven from its end to its start."""
        x, y, yaw = self.end
        return ArcPath((x, y, yaw + np.pi), tuple((-curvature, length) for curvature, length in self.segments[::-1]))


def join(first: ArcPath, second: ArcPath) -> ArcPath:
    """One path; ``second`` must start where ``first`` ends."""
    return ArcPath(first.start, first.segments + second.segments)


def line(start_xy, end_xy) -> ArcPath:
    """The straight path between two points."""
    delta = np.subtract(end_xy, start_xy)
    return ArcPath((*map(float, start_xy), float(np.arctan2(delta[1], delta[0]))), ((0.0, float(np.hypot(*delta))),))


def biarc(start, end) -> ArcPath:
    """Two arcs from pose ``start`` to pose ``end`` with tangents of equal length (Bolton, "Biarc curves", 1975, section 2)."""
    p0, p1 = np.array(start[:2]), np.array(end[:2])
    t0, t1 = (np.array([np.cos(yaw), np.sin(yaw)]) for yaw in (start[2], end[2]))
    v, t = p1 - p0, t0 + t1
    # |v - d t| = 2 d, the positive root of a quadratic in d.
    a, b, c = 2 * (1 - t0 @ t1), v @ t, v @ v
    d = c / (2 * b) if a < 1e-12 else (-b + np.sqrt(b * b + a * c)) / a
    middle = (p0 + p1 + d * (t0 - t1)) / 2
    return ArcPath(tuple(map(float, start)), (_arc(p0, t0, middle), _arc(p1, -t1, middle, backwards=True)))


def _arc(point: np.ndarray, tangent: np.ndarray, through: np.ndarray, backwards: bool = False) -> tuple[float, float]:
    """(curvature, length) of the arc that leaves ``point`` along ``tangent`` and reaches ``through``."""
    chord = through - point
    sine = tangent[0] * chord[1] - tangent[1] * chord[0]
    curvature = 2 * sine / (chord @ chord)
    angle = 2 * np.arctan2(sine, tangent @ chord)
    length = float(np.hypot(*chord)) if abs(curvature) < _STRAIGHT else float(angle / curvature)
    return (-float(curvature) if backwards else float(curvature)), length


def _advance(pose, curvature: float, length: float) -> tuple[float, float, float]:
    return tuple(_advance_all(np.array([pose]), np.array([curvature]), np.array([length]))[0])


def _advance_all(poses: np.ndarray, curvature: np.ndarray, length: np.ndarray) -> np.ndarray:
    x, y, yaw = poses.T
    straight = np.abs(curvature) < _STRAIGHT
    safe = np.where(straight, 1.0, curvature)
    turned = yaw + curvature * length
    dx = np.where(straight, length * np.cos(yaw), (np.sin(turned) - np.sin(yaw)) / safe)
    dy = np.where(straight, length * np.sin(yaw), (np.cos(yaw) - np.cos(turned)) / safe)
    return np.stack([x + dx, y + dy, turned], 1)
