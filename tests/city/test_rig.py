"""The sensor rig: where sensors look, and when."""

from __future__ import annotations

import numpy as np
import pytest

from avjepa.city.rig import (
    COLUMNS,
    FULL_SIZE_PX,
    LIDAR_XYZ_M,
    TURN_US,
    camera_delay_us,
    column_azimuths_rad,
    make_rig,
)
from avjepa.conventions import CAMERAS, LIDAR
from avjepa.geometry.camera import in_image, project
from avjepa.geometry.rigid import invert, transform_points

# Where each camera of the nuScenes cars looks, seen from above.
HEADINGS_DEG = {
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -55,
    "CAM_BACK_RIGHT": -110,
    "CAM_BACK": 180,
    "CAM_BACK_LEFT": 110,
    "CAM_FRONT_LEFT": 55,
}


def rig(size_px=(198, 352), seed=0):
    return {c.channel: c for c in make_rig(size_px, np.random.default_rng(seed))}


def test_the_rig_has_all_sensors_with_rigid_mounts():
    sensors = make_rig((198, 352), np.random.default_rng(0))
    assert [c.channel for c in sensors] == [LIDAR, *CAMERAS]
    for sensor in sensors:
        rotation = sensor.ego_T_sensor[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        assert sensor.size_px == ((0, 0) if sensor.channel == LIDAR else (198, 352))
        assert (sensor.pix_T_cam is None) == (sensor.channel == LIDAR)


@pytest.mark.parametrize("channel", CAMERAS)
def test_a_camera_sees_what_lies_in_its_direction_upright(channel):
    camera, heading = rig()[channel], np.radians(HEADINGS_DEG[channel])
    centre = camera.ego_T_sensor[:3, 3]
    ahead = centre + 20 * np.array([np.cos(heading), np.sin(heading), 0])
    left = 2 * np.array([-np.sin(heading), np.cos(heading), 0])
    points = np.stack([ahead, ahead + left, ahead + np.array([0, 0, 2])])
    uv, depth = project(camera.pix_T_cam, transform_points(invert(camera.ego_T_sensor), points))
    assert in_image(uv, depth, *camera.size_px).all()
    np.testing.assert_allclose(uv[0], [352 / 2, 198 / 2], rtol=0.12)
    assert uv[1, 0] < uv[0, 0] - 5
    assert uv[2, 1] < uv[0, 1] - 5
    assert depth[0] == pytest.approx(20, rel=0.01)


def test_the_lidar_looks_along_its_y_axis():
    lidar = rig()[LIDAR]
    np.testing.assert_allclose(lidar.ego_T_sensor[:3, 3], LIDAR_XYZ_M, atol=0.05)
    np.testing.assert_allclose(lidar.ego_T_sensor[:3, 1], [1, 0, 0], atol=0.02)
    np.testing.assert_allclose(lidar.ego_T_sensor[:3, 2], [0, 0, 1], atol=0.02)


@pytest.mark.parametrize("size_px", [(450, 800), (198, 352), (128, 128)])
def test_a_point_falls_on_the_same_relative_pixel_whatever_the_image_size(size_px):
    points = np.random.default_rng(1).uniform([-3, -2, 4], [3, 2, 30], (40, 3))
    for channel in CAMERAS:
        full, small = (project(rig(size)[channel].pix_T_cam, points)[0] for size in (FULL_SIZE_PX, size_px))
        # Pixel centres are whole numbers: the corner of the image lies at (-0.5, -0.5).
        np.testing.assert_allclose((small + 0.5) / size_px[::-1], (full + 0.5) / FULL_SIZE_PX[::-1], atol=1e-9)


def test_mounts_differ_a_little_from_car_to_car():
    one, again, other = rig(seed=1), rig(seed=1), rig(seed=2)
    for channel in (LIDAR, *CAMERAS):
        np.testing.assert_array_equal(one[channel].ego_T_sensor, again[channel].ego_T_sensor)
        off = one[channel].ego_T_sensor - other[channel].ego_T_sensor
        assert 0 < np.abs(off[:3, 3]).max() < 0.08
        assert 0 < np.abs(off[:3, :3]).max() < 0.03


def test_columns_go_once_around_clockwise_from_the_left():
    azimuths = column_azimuths_rad()
    assert azimuths[0] == pytest.approx(np.pi / 2)
    np.testing.assert_allclose(np.diff(azimuths), -2 * np.pi / COLUMNS)


def test_cameras_fire_clockwise_within_one_turn_when_the_beam_passes():
    cameras = rig()
    delays = {channel: camera_delay_us(cameras[channel].ego_T_sensor) for channel in CAMERAS}
    assert all(0 < delay < TURN_US for delay in delays.values())
    order = sorted(CAMERAS, key=lambda channel: -delays[channel])  # the longest before the end comes first
    assert order == ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT"]
    for channel, delay in delays.items():
        fired = round((TURN_US - delay) / TURN_US * COLUMNS) % COLUMNS
        off = column_azimuths_rad()[fired] - np.radians(HEADINGS_DEG[channel])
        assert abs(np.angle(np.exp(1j * off))) < np.radians(3), channel
