"""One drive, sensed and written: LiDAR turns, pictures, labels. Files go below a data root; the rest comes back as a record."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from avjepa.city.actors import Closure
from avjepa.city.boxes import BoxMaker
from avjepa.city.cameras import photograph
from avjepa.city.drives import CitySettings, DrivePlan
from avjepa.city.lidar import Sweep, spin
from avjepa.city.materials import label_of
from avjepa.city.occupancy import FREE, OccupancyTruth
from avjepa.city.records import Box, Drive, EgoState, Keyframe, Reading
from avjepa.city.rig import EGO_BODY_WLH_M, EGO_CENTRE_M, KEYFRAME_TURNS, TURN_US, camera_delay_us, make_rig
from avjepa.city.shapes import car
from avjepa.city.simulation import Simulation, simulate
from avjepa.city.tables import lidarseg_file, sample_data_token, sample_token
from avjepa.city.traffic import STEP_S
from avjepa.city.weather import make_weather
from avjepa.city.world import World, load_town
from avjepa.conventions import LIDAR
from avjepa.geometry.rigid import invert, transform_points

VERSION = "v1.0-city"
EPOCH_US = 1_530_000_000_000_000
SCENE_GAP_US = 3_600_000_000
MOVING_MPS = 0.5  # a point is of something that moves
JPEG_QUALITY = 92
CAN_HZ = 50


def record_drive(
    root: Path, settings: CitySettings, plan: DrivePlan, closures: tuple[Closure, ...], way: str = ""
) -> Drive:
    """Simulate a drive, write its sensor and label files below ``root``, and return the record for the tables.

    Args:
        root: data root.
        settings: of the city.
        plan: of the drive.
        closures: lanes of the town that barriers close.
        way: through a junction, that the ego is to take; "" for none.
    """
    rng = np.random.default_rng([settings.seed, 97, plan.number])
    town = load_town(plan.town, settings.seed)
    simulation = simulate(town, plan.place, settings.seconds, closures, rng, way)
    weather = make_weather(plan.weather, rng)
    rig = make_rig(settings.image_size_px, rng)
    ego_shape, _ = car(np.random.default_rng(settings.seed))
    ego_shape = ego_shape.fitted(EGO_BODY_WLH_M[1], EGO_BODY_WLH_M[0], EGO_BODY_WLH_M[2])
    shapes = [(actor.shape, actor.category) for actor in simulation.actors] + [(ego_shape, "vehicle.ego")]
    parked = np.concatenate([simulation.town_T_standing(), np.full((1, 4, 4), np.nan)])
    world = World(town, shapes, parked, simulation.ego[:, :2])
    labels = np.array([label_of(category) for _, category in shapes])
    truth = OccupancyTruth(world, rig, labels[:-1], rng)
    boxes = BoxMaker(simulation, world, rig)
    start_us = EPOCH_US + plan.number * SCENE_GAP_US
    writer = _Writer(root, plan, start_us)
    turns = round(settings.seconds * 1e6 / TURN_US) // KEYFRAME_TURNS * KEYFRAME_TURNS + 1
    readings, annotations, touched = [], [], []
    for turn in range(turns):
        end_us = turn * TURN_US
        keyframe, is_keyframe = -(-turn // KEYFRAME_TURNS), turn % KEYFRAME_TURNS == 0
        sweep = spin(
            world,
            lambda time_s: _states(simulation, time_s, ego=True),
            simulation.town_T_ego,
            rig[0].ego_T_sensor,
            end_us,
            weather,
            rng,
        )
        town_T_ego = simulation.town_T_ego(end_us * 1e-6)[0]
        filename = writer.write_lidar(sweep, end_us, is_keyframe)
        readings.append(Reading(LIDAR, start_us + end_us, town_T_ego, filename, keyframe, is_keyframe))
        if not is_keyframe:
            continue
        pictures, distances, poses = _photographs(world, simulation, rig, end_us, weather, rng)
        for camera, picture, pose in zip(rig[1:], pictures, poses, strict=True):
            time_us = start_us + end_us - camera_delay_us(camera.ego_T_sensor)
            filename = writer.write_picture(picture, camera.channel, time_us)
            readings.append(Reading(camera.channel, time_us, pose, filename, keyframe, True))
        writer.write_point_labels(sweep, simulation, end_us)
        writer.write_occupancy(truth, simulation, sweep, rig, distances, poses, end_us)
        annotations.append(boxes.at(end_us * 1e-6, sweep))
        touched.append(set(sweep.things.tolist()))
    keyframes = _keyframes(annotations, touched, start_us)
    readings.sort(key=lambda reading: (reading.timestamp_us, reading.channel))
    return Drive(
        name=plan.name,
        town=plan.town,
        place=plan.place,
        split=plan.split,
        description=f"{plan.weather.capitalize()}, {plan.place}, generated",
        date=plan.date,
        calibrations=rig,
        keyframes=keyframes,
        readings=tuple(readings),
        ego_states=_ego_states(simulation, start_us, settings.seconds),
    )


class _Writer:
    """Writes the files of one drive."""

    def __init__(self, root: Path, plan: DrivePlan, start_us: int) -> None:
        self.root, self.plan, self.start_us = root, plan, start_us

    def write_lidar(self, sweep: Sweep, end_us: int, is_keyframe: bool) -> str:
        folder = "samples" if is_keyframe else "sweeps"
        filename = f"{folder}/{LIDAR}/{self.plan.name}__{LIDAR}__{self.start_us + end_us}.pcd.bin"
        self._write(filename, sweep.points.tobytes())
        return filename

    def write_picture(self, picture: np.ndarray, channel: str, time_us: int) -> str:
        filename = f"samples/{channel}/{self.plan.name}__{channel}__{time_us}.jpg"
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        self._write(filename, data.tobytes())
        return filename

    def write_point_labels(self, sweep: Sweep, simulation: Simulation, end_us: int) -> None:
        """lidarseg, and beside it which points are of moving things (1)."""
        token = sample_data_token(self.plan.name, LIDAR, self.start_us + end_us)
        self._write(lidarseg_file(VERSION, token), sweep.labels.tobytes())
        speed = np.append(simulation.actor_states(end_us * 1e-6)[:, 4], [0.0, 0.0])  # the ego and the scenery: still
        moving = (speed[sweep.things] > MOVING_MPS).astype(np.uint8)
        self._write(f"motion/{VERSION}/{token}_motion.bin", moving.tobytes())

    def write_occupancy(self, truth: OccupancyTruth, simulation, sweep, rig, distances, poses, end_us: int) -> None:
        end_s, turn_s = end_us * 1e-6, TURN_US * 1e-6
        town_T_now = simulation.town_T_ego(end_s)[0]
        now_T_town = invert(town_T_now)
        columns_s = end_s - turn_s + turn_s * (np.arange(sweep.seen_m.shape[0]) + 1) / sweep.seen_m.shape[0]
        semantics = truth.labels(town_T_now, simulation.town_T_actors(end_s))
        returned = sweep.points[np.any(sweep.points[:, :3] != 0, axis=1), :3].astype(np.float64)
        xyz_ego = transform_points(rig[0].ego_T_sensor, returned)
        lidar = truth.mask_lidar(
            xyz_ego, sweep.seen_m, now_T_town @ simulation.town_T_ego(columns_s), rig[0].ego_T_sensor
        )
        camera = truth.mask_camera(distances, [now_T_town @ pose for pose in poses])
        token = sample_token(self.plan.name, self.start_us + end_us)
        path = self.root / "gts" / self.plan.name / token / "labels.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"semantics": semantics, "mask_lidar": lidar, "mask_camera": camera}
        np.savez_compressed(path, **{name: array.astype(np.uint8) for name, array in arrays.items()})
        if not (semantics != FREE).any():
            raise ValueError(f"{path}: nothing is occupied")

    def _write(self, filename: str, data: bytes) -> None:
        path = self.root / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _photographs(world: World, simulation: Simulation, rig, end_us: int, weather, rng):
    """Pictures, distances and ego poses of the six cameras during one turn."""
    pictures, distances, poses = [], [], []
    for camera in rig[1:]:
        time_s = (end_us - camera_delay_us(camera.ego_T_sensor)) * 1e-6
        pose = simulation.town_T_ego(time_s)[0]
        world.place(_states(simulation, time_s, ego=False))
        picture, distance, _ = photograph(world, camera, pose, weather, rng)
        pictures.append(picture)
        distances.append(distance)
        poses.append(pose)
    return pictures, distances, poses


def _states(simulation: Simulation, time_s: float, ego: bool) -> np.ndarray:
    """x, y, z, yaw of all things; the last is the ego's own body, which the LiDAR sees and the cameras do not."""
    x, y, yaw, _ = simulation.ego_states(time_s)[0]
    body = [x + EGO_CENTRE_M * np.cos(yaw), y + EGO_CENTRE_M * np.sin(yaw), 0.0, yaw]
    return np.concatenate([simulation.actor_states(time_s)[:, :4], [body if ego else [np.nan] * 4]])


def _keyframes(annotations: list[list[Box]], touched: list[set[int]], start_us: int) -> tuple[Keyframe, ...]:
    """As nuScenes does, a thing is annotated from the first keyframe with a return on it to the last, hidden or not between."""
    first, last = {}, {}
    for number, things in enumerate(touched):
        for thing in things:
            first.setdefault(thing, number)
            last[thing] = number
    keyframes = []
    for number, boxes in enumerate(annotations):
        kept = tuple(box for box in boxes if first.get(box.thing, np.inf) <= number <= last.get(box.thing, -1))
        keyframes.append(Keyframe(start_us + number * KEYFRAME_TURNS * TURN_US, kept))
    return tuple(keyframes)


def _ego_states(simulation: Simulation, start_us: int, seconds: float) -> tuple[EgoState, ...]:
    """The ego at 50 Hz; accelerations from differences of its track."""
    times = np.arange(0, seconds + 0.5 / CAN_HZ, 1 / CAN_HZ)
    states = simulation.ego_states(times)
    before, after = simulation.ego_states(times - STEP_S), simulation.ego_states(times + STEP_S)
    forward = (after[:, 3] - before[:, 3]) / (2 * STEP_S)
    yaw_rate = (after[:, 2] - before[:, 2]) / (2 * STEP_S)
    poses = simulation.town_T_ego(times)
    return tuple(
        EgoState(start_us + round(t * 1e6), pose, float(state[3]), (float(a), float(w * state[3]), 0.0), float(w))
        for t, pose, state, a, w in zip(times, poses, states, forward, yaw_rate, strict=True)
    )
