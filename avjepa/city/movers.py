"""Rays against things that move: each ray is taken into the frame that a thing has at the moment of that very ray.

Every thing keeps one ray-casting scene of its own for the whole drive, so nothing is rebuilt when it moves, and a thing that
drives past is bent in a LiDAR turn as in a real one.
"""

from __future__ import annotations

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from avjepa.city.shapes import Shape

SPREAD_M = 0.3  # added to every thing's radius when rays are chosen, for what the choice neglects


class Movers:
    """Things that may move.

    Args:
        shapes: in their own frames, on z = 0.
        reach_m: things farther from all rays' middle than this are left out.
    """

    def __init__(self, shapes: list[Shape], reach_m: float) -> None:
        self._scenes = [embree_scene(shape.vertices, shape.faces) for shape in shapes]
        self._height_m = np.array([shape.vertices[:, 2].max() / 2 for shape in shapes], dtype=np.float32)
        centres = np.stack([np.array([0, 0, h]) for h in self._height_m]) if shapes else np.zeros((0, 3))
        reaches = [np.linalg.norm(s.vertices - c, axis=1).max() for s, c in zip(shapes, centres, strict=True)]
        self._radius_m = np.array(reaches, dtype=np.float32) + SPREAD_M
        self._reach_m = reach_m
        self.place(np.full((len(shapes), 4), np.nan), None)

    def place(self, states: np.ndarray, later: np.ndarray | None) -> None:
        """Where things are, (n, 4) x, y, z, yaw (nan hides one): at the first rays, and at the last if they move between."""
        self._states = states.astype(np.float64)
        self._motion = np.zeros_like(self._states) if later is None else later - states
        self._motion[:, 3] = np.angle(np.exp(1j * self._motion[:, 3]))

    def cast(
        self, origins: np.ndarray, directions: np.ndarray, share: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """First hits.

        Args:
            origins, directions: (R, 3) float32 in the town's frame; directions of unit length.
            share: (R,) in [0, 1], when between the two moments of :meth:`place` each ray goes; None: at the first.

        Returns:
            Distance (R,), inf for none; number of the mover (R,), -1 for none; its face (R,); normal (R, 3), not of unit length.
        """
        rays = len(origins)
        distance, mover = np.full(rays, np.inf, np.float32), np.full(rays, -1)
        face, normal = np.zeros(rays, np.int64), np.zeros((rays, 3), np.float32)
        for number, chosen in self._candidates(origins, directions, share is not None):
            o, d, yaw = self._into_thing(
                number, origins[chosen], directions[chosen], None if share is None else share[chosen]
            )
            hit = self._scenes[number].run(o, d, output=1)
            better = (hit["primID"] >= 0) & (hit["tfar"] < distance[chosen])
            rows = chosen[better]
            distance[rows], mover[rows], face[rows] = hit["tfar"][better], number, hit["primID"][better]
            normal[rows] = _turned(hit["Ng"][better], yaw if np.isscalar(yaw) else yaw[better])
        return distance, mover, face, normal

    def blocked(self, origins: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """(R,) bool: parallel rays from points (R, 3) that meet a thing, all at the first moment."""
        blocked = np.zeros(len(origins), dtype=bool)
        across = np.linalg.svd(direction[None])[2][1:]  # (2, 3), a plane that the rays cross at right angles
        flat = origins @ across.T.astype(np.float32)
        for number in self._near(origins.mean(0)):
            centre = self._states[number, :3] + [0, 0, self._height_m[number]]
            off = flat - (across @ centre).astype(np.float32)
            chosen = np.flatnonzero((off * off).sum(1) < self._radius_m[number] ** 2)
            if len(chosen):
                directions = np.broadcast_to(direction.astype(np.float32), (len(chosen), 3))
                o, d, _ = self._into_thing(number, origins[chosen], directions, None)
                blocked[chosen] |= self._scenes[number].run(o, d, query="OCCLUDED") == 0
        return blocked

    def _near(self, centre: np.ndarray) -> np.ndarray:
        off = np.abs(self._states[:, :2] - centre[:2]).max(1)
        return np.flatnonzero(off < self._reach_m)  # nan is not

    def _candidates(self, origins: np.ndarray, directions: np.ndarray, moving: bool):
        """Things, and the rays that pass within their radius."""
        few = origins[:: max(len(origins) // 256, 1)]  # neighbouring rays start within SPREAD_M of each other
        lower, upper = few.min(0), few.max(0)
        origin, spread = (lower + upper) / 2, np.linalg.norm(upper - lower) / 2
        axis = directions.mean(0) / np.linalg.norm(directions.mean(0)).clip(1e-6)
        cone_rad = np.arccos((directions @ axis).min().clip(-1, 1))  # half the opening of all rays together
        for number in self._near(origin):
            to_centre = (self._states[number, :3] + [0, 0, self._height_m[number]] - origin).astype(np.float32)
            radius = self._radius_m[number] + spread
            if moving:
                to_centre = to_centre + (self._motion[number, :3] / 2).astype(np.float32)
                radius = radius + np.linalg.norm(self._motion[number, :3]) / 2
            distance = np.linalg.norm(to_centre)
            wide_rad = np.pi if distance <= radius else np.arcsin(radius / distance)
            if np.arccos((to_centre @ axis / max(distance, 1e-6)).clip(-1, 1)) > cone_rad + wide_rad:
                continue
            along = directions @ to_centre
            off = to_centre @ to_centre - along * along
            chosen = np.flatnonzero((off < radius**2) & (along > -radius))
            if len(chosen):
                yield number, chosen

    def _into_thing(self, number: int, origins, directions, share):
        """Rays in the frame of a thing, and its yaw (a number, or one for each ray)."""
        x, y, z, yaw = self._states[number]
        position = np.array([x, y, z])
        if share is not None:
            position = position + share[:, None] * self._motion[number, :3]
            yaw = yaw + share * self._motion[number, 3]
        local = _turned((origins - position).astype(np.float32), -yaw)
        return np.ascontiguousarray(local), np.ascontiguousarray(_turned(directions, -yaw)), yaw


def embree_scene(vertices: np.ndarray, faces: np.ndarray) -> EmbreeScene:
    """A ray-casting scene of triangles."""
    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32))
    return scene


def _turned(vectors: np.ndarray, yaw) -> np.ndarray:
    """(R, 3) vectors turned about z."""
    cosine, sine = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
    if not np.isscalar(yaw):
        cosine, sine = np.cos(yaw).astype(np.float32), np.sin(yaw).astype(np.float32)
    x, y, z = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y, z], 1).astype(np.float32)
