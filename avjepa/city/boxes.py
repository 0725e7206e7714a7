"""Annotations: boxes of the things around the ego, with points inside, visibility and attribute."""

from __future__ import annotations

import numpy as np

from avjepa.city.lidar import Sweep
from avjepa.city.records import Box, Calibration
from avjepa.city.simulation import Simulation
from avjepa.city.world import World
from avjepa.geometry.camera import in_image, project
from avjepa.geometry.rigid import invert, transform_points

ANNOTATED_M = 80.0
MOVING_MPS = 0.3
VISIBILITY_RAYS = 24
VELOCITY_S = 0.5  # a velocity is a central difference over this long on either side, as box_velocity has it


class BoxMaker:
    """Makes the annotations of one drive.

    Args:
        simulation: where everything is.
        world: to see what hides what.
        rig: the sensors.
    """

    def __init__(self, simulation: Simulation, world: World, rig: tuple[Calibration, ...]) -> None:
        self.simulation, self.world, self.rig = simulation, world, rig
        self._targets = []
        for number, actor in enumerate(simulation.actors):
            rng = np.random.default_rng([3, number])
            corners = actor.shape.vertices[actor.shape.faces]
            area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
            chosen = rng.choice(len(corners), VISIBILITY_RAYS, p=area / area.sum())
            self._targets.append(corners[chosen].mean(1))

    def at(self, time_s: float, sweep: Sweep) -> list[Box]:
        """Boxes within ANNOTATED_M of the ego, whether seen or not."""
        simulation = self.simulation
        states = simulation.actor_states(time_s)
        town_T_actors = simulation.town_T_actors(time_s)
        town_T_ego = simulation.town_T_ego(time_s)[0]
        near = np.flatnonzero(np.hypot(*(states[:, :2] - town_T_ego[:2, 3]).T) < ANNOTATED_M)
        town_T_lidar = town_T_ego @ self.rig[0].ego_T_sensor
        points = transform_points(town_T_lidar, sweep.points[:, :3].astype(np.float64))
        self.world.place(np.concatenate([states[:, :4], np.full((1, 4), np.nan)]))
        visible = self._visible_shares(near, town_T_actors, town_T_ego)
        before, after = (simulation.actor_states(time_s + dt)[:, :2] for dt in (-VELOCITY_S, VELOCITY_S))
        boxes = []
        for place, number in enumerate(near):
            actor = simulation.actors[number]
            pose = town_T_actors[number].copy()
            pose[2, 3] += actor.size_wlh_m[2] / 2
            boxes.append(
                Box(
                    thing=int(number),
                    category=actor.category,
                    attribute=_attribute(actor.family, actor.is_parked, states[number, 4]),
                    global_T_box=pose,
                    size_wlh_m=tuple(float(v) for v in actor.size_wlh_m),
                    velocity_mps=tuple((after[number] - before[number]) / (2 * VELOCITY_S)),
                    num_lidar_pts=count_inside(pose, actor.size_wlh_m, points),
                    visible_share=float(visible[place]),
                )
            )
        return boxes

    def _visible_shares(self, near: np.ndarray, town_T_actors: np.ndarray, town_T_ego: np.ndarray) -> np.ndarray:
        """Share of rays from a camera to a thing's surface that meet the thing first, best camera of each."""
        shares = np.zeros(len(near))
        targets = np.stack([transform_points(town_T_actors[n], self._targets[n].astype(np.float64)) for n in near])
        for camera in self.rig[1:]:
            town_T_cam = town_T_ego @ camera.ego_T_sensor
            xyz_cam = transform_points(invert(town_T_cam), targets.reshape(-1, 3))
            inside = in_image(*project(camera.pix_T_cam, xyz_cam), *camera.size_px)
            rays = targets.reshape(-1, 3) - town_T_cam[:3, 3]
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            things = np.full(len(rays), -2)
            origin = np.broadcast_to(town_T_cam[:3, 3], rays[inside].shape)
            if inside.any():
                things[inside] = self.world.cast(origin, rays[inside]).thing
            seen = things.reshape(len(near), -1) == near[:, None]
            shares = np.maximum(shares, seen.mean(1))
        return shares


def count_inside(global_T_box: np.ndarray, size_wlh_m, points: np.ndarray) -> int:
    """Points (P, 3) of the global frame inside a box, its faces included."""
    reach_m = max(size_wlh_m)
    x_m, y_m = points[:, 0] - global_T_box[0, 3], points[:, 1] - global_T_box[1, 3]
    near = (np.abs(x_m) < reach_m) & (np.abs(y_m) < reach_m)
    xyz = transform_points(invert(global_T_box), points[near])
    width, length, height = size_wlh_m
    return int((np.abs(xyz) <= np.array([length, width, height]) / 2).all(1).sum())


def _attribute(family: str, is_parked: bool, speed_mps: float) -> str:
    is_moving = speed_mps > MOVING_MPS
    if family == "vehicle":
        return "vehicle.parked" if is_parked else "vehicle.moving" if is_moving else "vehicle.stopped"
    if family == "rider":
        return "cycle.with_rider"
    if family == "cycle":
        return "cycle.without_rider"
    if family == "pedestrian":
        return "pedestrian.moving" if is_moving else "pedestrian.standing"
    return ""
