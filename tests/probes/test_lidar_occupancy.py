from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avjepa.geometry.occ3d import CLASS_NAMES, FREE, OCC3D_GRID, UNKNOWN
from avjepa.geometry.rigid import transform_from_se2
from avjepa.probes.lidar_occupancy import OTHERS, class_of_category, in_some_image, lidar_occupancy
from avjepa.sensors.sample import Clip
from tests.jepa import tiny

CAR = CLASS_NAMES.index("car")
ORIGIN = (0.0, 0.0, 1.8)


def frame_with(points: list[tuple[float, float, float]], number: int = 0, x_m: float = 0.0):
    """A frame whose car is x_m along the road, with these returns in its ego frame."""
    frame = tiny.clip(0).frames[0]
    xyz = torch.tensor(points, dtype=torch.float32).reshape(-1, 3)
    return replace(
        frame,
        token=f"k{number}",
        global_T_ego=transform_from_se2(x_m, 0.0, 0.0),
        points_ego=torch.cat([xyz, torch.zeros(len(xyz), 2)], 1),
        lidar_origin_ego=torch.tensor(ORIGIN),
    )


class Boxes:
    """Boxes by keyframe: (x, y, category, attribute), 4 x 2 x 2 m, standing on the ground."""

    def __init__(self, **by_token):
        self.by_token = by_token

    def at(self, token):
        rows = self.by_token.get(token, [])
        ego_T_box = np.tile(np.eye(4), (len(rows), 1, 1))
        for pose, (x, y, *_) in zip(ego_T_box, rows, strict=True):
            pose[:3, 3] = x, y, 1.0
        return SimpleNamespace(
            ego_T_box=ego_T_box,
            size_lwh_m=np.tile([4.0, 2.0, 2.0], (len(rows), 1)),
            category=np.array([row[2] for row in rows], dtype=str),
            attribute=np.array([row[3] for row in rows], dtype=str),
        )

    def __len__(self):
        return 1


def at(volume: np.ndarray, x_m: float, y_m: float, z_m: float):
    """Value of an [x, y, z] volume at a place."""
    index_zyx, inside = OCC3D_GRID.cell_index(torch.tensor([[x_m, y_m, z_m]]))
    assert inside.all()
    z, y, x = index_zyx[0].tolist()
    return volume[x, y, z]


def test_a_return_is_occupied_the_way_to_it_free_and_the_rest_unknown():
    labels = lidar_occupancy(Clip((frame_with([(10.2, 0.2, 1.8)]),), 1), Boxes())
    assert at(labels.semantics, 10.2, 0.2, 1.8) == OTHERS
    assert at(labels.semantics, 5.0, 0.1, 1.8) == FREE
    assert at(labels.semantics, 11.0, 0.2, 1.8) == UNKNOWN  # behind it
    assert at(labels.semantics, 5.0, 2.0, 1.8) == UNKNOWN
    assert (labels.semantics == OTHERS).sum() == 1
    known = labels.semantics != UNKNOWN
    assert np.array_equal(known, labels.mask_lidar)
    assert not (labels.mask_camera & ~labels.mask_lidar).any()


def test_boxes_give_the_class_and_what_moves_counts_only_now():
    """A parked car 8 m ahead, seen twice; another one drove away from 12 m to the left between two keyframes."""
    boxes = Boxes(
        k0=[(8, 0, "vehicle.car", "vehicle.parked"), (0, 12, "vehicle.car", "vehicle.moving")],
        k1=[(6, 0, "vehicle.car", "vehicle.parked"), (20, 12, "vehicle.car", "vehicle.moving")],
    )
    before = frame_with([(7, 0, 1), (0, 11.4, 1)], 0, x_m=0.0)
    now = frame_with([(5.5, 0.6, 1), (20, 11.4, 1)], 1, x_m=2.0)
    labels = lidar_occupancy(Clip((before, now), 2), boxes)
    assert at(labels.semantics, 5.5, 0.6, 1) == CAR  # seen now
    assert at(labels.semantics, 5.0, 0.0, 1) == CAR  # seen before, 7 - 2 m ahead of where the car is now
    assert at(labels.semantics, 20, 11.4, 1) == CAR  # moving, seen now
    assert at(labels.semantics, -2, 11.4, 1) != CAR  # where the moving one was before
    assert not at(labels.mask_lidar, 5.0, 0.0, 1)
    swapped = lidar_occupancy(Clip((now, before), 2), boxes)
    assert at(swapped.semantics, 0, 11.4, 1) == CAR


def test_occupied_wins_over_a_ray_of_another_moment():
    before, now = frame_with([(20, 0, 1.8)], 0), frame_with([(10, 0, 1.8)], 1)
    labels = lidar_occupancy(Clip((before, now), 2), Boxes())
    assert at(labels.semantics, 10, 0, 1.8) == OTHERS
    assert at(labels.semantics, 15, 0, 1.8) == FREE  # only the earlier ray tells
    assert not at(labels.mask_lidar, 15, 0, 1.8)


def test_a_ray_of_another_moment_does_not_empty_what_moves_now():
    """A car has driven into the way of an earlier ray. One that is parked there was there before: the ray is right, the box not."""
    for attribute, known in (("vehicle.moving", UNKNOWN), ("vehicle.parked", FREE)):
        boxes = Boxes(k1=[(10, 0, "vehicle.car", attribute)])
        before, now = frame_with([(20, 0, 1.4)], 0), frame_with([(8.2, 0.6, 1.0)], 1)
        labels = lidar_occupancy(Clip((before, now), 2), boxes)
        assert at(labels.semantics, 8.2, 0.6, 1.0) == CAR  # its return
        assert at(labels.semantics, 10.2, 0.1, 1.6) == known
        assert at(labels.semantics, 15.0, 0.1, 1.5) == FREE  # behind it
    seen_through = frame_with([(20, 0, 1.4)], 1)
    labels = lidar_occupancy(Clip((before, seen_through), 2), Boxes(k1=[(10, 0, "vehicle.car", "vehicle.moving")]))
    assert at(labels.semantics, 10.2, 0.1, 1.6) == FREE  # a ray of the present


def test_no_returns_is_nothing_known():
    labels = lidar_occupancy(Clip((frame_with([]),), 1), Boxes())
    assert (labels.semantics == UNKNOWN).all()
    assert not labels.mask_lidar.any()


def test_a_lidar_without_calibration_and_without_returns_stops_nothing():
    lost = replace(frame_with([], 0), lidar_origin_ego=torch.full((3,), torch.nan))
    labels = lidar_occupancy(Clip((lost, frame_with([(10.2, 0.2, 1.8)], 1)), 2), Boxes())
    assert at(labels.semantics, 5.0, 0.1, 1.8) == FREE


def test_older_sweeps_are_not_read():
    """Their rays started elsewhere, and the boxes are not of their time."""
    frame = frame_with([(10.2, 0.2, 1.8), (8.2, 5.0, 1.0)])
    frame.points_ego[1, 4] = 0.05  # s older than the keyframe
    labels = lidar_occupancy(Clip((frame,), 1), Boxes())
    alone = lidar_occupancy(Clip((frame_with([(10.2, 0.2, 1.8)]),), 1), Boxes())
    for name in ("semantics", "mask_lidar", "mask_camera"):
        assert np.array_equal(getattr(labels, name), getattr(alone, name)), name


def test_only_what_a_present_image_shows():
    frame = tiny.clip(0).frames[0]
    seen = in_some_image(frame, OCC3D_GRID)
    assert seen.any()
    assert not seen.all()
    assert not in_some_image(replace(frame, camera_present=torch.zeros_like(frame.camera_present)), OCC3D_GRID).any()


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("human.pedestrian.adult", "pedestrian"),
        ("vehicle.bus.bendy", "bus"),
        ("vehicle.construction", "construction_vehicle"),
        ("movable_object.trafficcone", "traffic_cone"),
        ("animal", "others"),
        ("vehicle.emergency.police", "others"),
    ],
)
def test_categories(category, name):
    assert class_of_category(category) == CLASS_NAMES.index(name)
