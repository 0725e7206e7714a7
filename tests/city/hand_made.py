"""A town of one junction and two drives through it, small enough to compute every number by hand.

The street ``west`` runs along y = 60 from x = 10 to the junction (90 <= x <= 110, 50 <= y <= 70): two lanes eastwards
(centres y = 58.25 and 54.75), one westwards (61.75), each 3.5 m wide. ``east`` goes on to x = 190 with one lane each way;
``north`` goes up along x = 100 to y = 110.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shapely.geometry import LineString, MultiPolygon, Polygon, box

from avjepa.city.arc_path import ArcPath, biarc, line
from avjepa.city.map_files import write_map_mask
from avjepa.city.records import Box, Calibration, Drive, EgoState, Keyframe, Reading
from avjepa.city.road_map import Area, Crosswalk, Divider, Lane, RoadMap, StopLine, TrafficLight
from avjepa.city.tables import lidarseg_file, map_token, sample_data_token, write_tables
from avjepa.conventions import CAMERAS, LIDAR
from avjepa.geometry.rigid import transform_from_quaternion, transform_from_se2

TOWN = "minicity-test"
VERSION = "v1.0-city"
SIZE_M = (200.0, 120.0)
WIDTH_M = 3.5
LEFT_TURN_RADIUS_M, RIGHT_TURN_RADIUS_M = 11.75, 8.25
START_US = 1_530_000_000_000_000
SPEED_MPS = 8.0
CAR_VELOCITY_MPS = (6.0, -2.0)


def _strip(path: ArcPath) -> Polygon:
    left, right = (path.offset(side * WIDTH_M / 2).sampled(0.5)[:, :2] for side in (1, -1))
    return Polygon(np.concatenate([left, right[::-1]]))


def _lane(token, path, successors=(), road="", turn="", left="", right="") -> Lane:
    junction = "" if road else "crossing"
    return Lane(token, path, WIDTH_M, _strip(path), road, junction, turn, tuple(successors), left, right, 13.9)


def make_road_map() -> RoadMap:
    south, centre, east, west = 54.75, 58.25, 58.25, 61.75
    lanes = [
        _lane("west-in-0", line((10, centre), (90, centre)), ("left", "ahead"), "west", "", "w-middle", "w-lanes"),
        _lane("west-in-1", line((10, south), (90, south)), ("merge",), "west", "", "w-lanes"),
        _lane("west-out", line((90, west), (10, west)), (), "west", "", "w-middle"),
        _lane("east-out", line((110, east), (190, east)), (), "east", "", "e-middle"),
        _lane("east-in", line((190, west), (110, west)), ("back",), "east", "", "e-middle"),
        _lane("north-out", line((101.75, 70), (101.75, 110)), (), "north"),
        _lane("north-in", line((98.25, 110), (98.25, 70)), ("right",), "north"),
        _lane("ahead", line((90, centre), (110, east)), ("east-out",), turn="straight"),
        _lane("merge", biarc((90, south, 0), (110, east, 0)), ("east-out",), turn="straight"),
        _lane("back", line((110, west), (90, west)), ("west-out",), turn="straight"),
        _lane("left", biarc((90, centre, 0), (101.75, 70, np.pi / 2)), ("north-out",), turn="left"),
        _lane("right", biarc((98.25, 70, -np.pi / 2), (90, west, np.pi)), ("west-out",), turn="right"),
    ]
    dividers = [
        Divider("w-middle", LineString([(10, 60), (90, 60)]), "directions", "yellow", False, "west"),
        Divider("e-middle", LineString([(110, 60), (190, 60)]), "directions", "yellow", False, "east"),
        Divider("w-lanes", LineString([(10, 56.5), (90, 56.5)]), "lanes", "white", True, "west"),
    ]
    roads = [
        Area("west", box(10, 53, 90, 63.5)),
        Area("east", box(110, 56.5, 190, 63.5)),
        Area("north", box(96.5, 70, 103.5, 110)),
    ]
    junction, car_park, island = Area("crossing", box(90, 50, 110, 70)), box(30, 40, 50, 50), box(106, 66, 109, 69)
    junction_ground = Polygon(junction.polygon.exterior, [island.exterior])
    return RoadMap(
        town=TOWN,
        size_m=SIZE_M,
        lanes={lane.token: lane for lane in lanes},
        dividers={divider.token: divider for divider in dividers},
        crosswalks={"zebra": Crosswalk("zebra", box(86, 53, 89, 63.5), "west", 0.2)},
        stop_lines={
            "stop-west": StopLine(
                "stop-west", box(84.5, 53, 85, 60), ("west-in-0", "west-in-1"), "west", "TRAFFIC_LIGHT"
            ),
            "stop-north": StopLine("stop-north", box(96.5, 71, 100, 71.5), ("north-in",), "north", "YIELD"),
        },
        traffic_lights={
            "light": TrafficLight("light", (112.0, 52.0, 5.0), np.pi, ("west-in-0", "west-in-1"), "west", "crossing")
        },
        roads={area.token: area for area in roads},
        junctions={junction.token: junction},
        walkways={"pavement": Area("pavement", box(10, 51, 90, 53))},
        car_parks={"parking": Area("parking", car_park)},
        islands={"island": Area("island", island)},
        drivable=MultiPolygon([*(area.polygon for area in roads), junction_ground, car_park]),
    )


def make_drive(name: str = "scene-2001", split: str = "train", town: str = TOWN, place: str = "west") -> Drive:
    """Two half-second steps eastwards at 8 m/s: LiDAR at 20 Hz, six cameras at 10 Hz, ego states at 50 Hz."""
    keyframe_times = [START_US + 500_000 * number for number in range(3)]
    periods = [(LIDAR, 50_000), *((channel, 100_000) for channel in CAMERAS)]
    readings = [
        _reading(channel, START_US + k * period) for channel, period in periods for k in range(1_000_000 // period + 1)
    ]
    states = [
        EgoState(time, _global_T_ego(time), SPEED_MPS, (0.5, 0.0, 0.0), 0.25)
        for time in range(START_US, START_US + 1_000_001, 20_000)
    ]
    return Drive(
        name=name,
        town=town,
        place=place,
        split=split,
        description="Straight street, car ahead",
        date="2018-07-01",
        calibrations=(_lidar(), *(_camera(i, channel) for i, channel in enumerate(CAMERAS))),
        keyframes=tuple(Keyframe(time, _boxes(number)) for number, time in enumerate(keyframe_times)),
        readings=tuple(sorted(readings, key=lambda reading: reading.timestamp_us)),
        ego_states=tuple(states),
    )


def write_hand_made(root: Path, drives: list[Drive]) -> Path:
    """Tables, and what the devkit wants before it loads them: a mask for each town and the lidarseg files."""
    write_tables(root, drives, VERSION)
    for town in {drive.town for drive in drives}:
        write_map_mask(root / "maps" / f"{map_token(town)}.png", make_road_map())
    for drive in drives:
        for keyframe in drive.keyframes:
            token = sample_data_token(drive.name, LIDAR, keyframe.timestamp_us)
            labels = root / lidarseg_file(VERSION, token)
            labels.parent.mkdir(parents=True, exist_ok=True)
            np.array([17, 24, 31], np.uint8).tofile(labels)
    return root


def _global_T_ego(time_us: int) -> np.ndarray:
    return transform_from_se2(20.0 + SPEED_MPS * (time_us - START_US) * 1e-6, 58.25, 0.1)


def _reading(channel: str, time_us: int) -> Reading:
    keyframe, late_us = divmod(time_us - START_US, 500_000)
    folder, ending = ("samples" if late_us == 0 else "sweeps"), (".pcd.bin" if channel == LIDAR else ".jpg")
    filename = f"{folder}/{channel}/{channel}__{time_us}{ending}"
    return Reading(channel, time_us, _global_T_ego(time_us), filename, keyframe + (late_us > 0), late_us == 0)


def _lidar() -> Calibration:
    return Calibration(LIDAR, transform_from_quaternion([1, 0, 0, 0], [0.94, 0, 1.84]), None, (0, 0))


def _camera(number: int, channel: str) -> Calibration:
    ego_T_cam = transform_from_quaternion([0.5, -0.5, 0.5, -0.5], [1.5, 0.1 * number, 1.5])
    pix_T_cam = np.array([[500.0, 0, 400], [0, 500, 225], [0, 0, 1]])
    return Calibration(channel, ego_T_cam, pix_T_cam, (450, 800))


def _boxes(keyframe: int) -> tuple[Box, ...]:
    """A moving car at every keyframe, a pedestrian at the first and last, a cone at the second."""
    vx, vy = CAR_VELOCITY_MPS
    car_pose = transform_from_se2(40.0 + 0.5 * vx * keyframe, 58.0 + 0.5 * vy * keyframe, np.pi / 2)
    car_pose[2, 3] = 0.8
    car = Box(4, "vehicle.car", "vehicle.moving", car_pose, (1.9, 4.5, 1.6), CAR_VELOCITY_MPS, 57, 0.79)
    walker = Box(
        7,
        "human.pedestrian.adult",
        "pedestrian.standing",
        transform_from_se2(30, 52, 0),
        (0.6, 0.7, 1.8),
        (0, 0),
        3,
        0.1,
    )
    cone = Box(9, "movable_object.trafficcone", "", transform_from_se2(35, 53.5, 0), (0.3, 0.3, 0.7), (0, 0), 0, 1.0)
    return (car, cone) if keyframe == 1 else (walker, car)
