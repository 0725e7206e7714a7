"""The surveyed ground in colours, and around a car that faces any way."""

import numpy as np
import pytest
from shapely.geometry import box

from avjepa.geometry.rigid import transform_from_se2
from avjepa.mapping.mosaic import Mosaic
from avjepa.reports.ground_pictures import AROUND_EGO_M, CELL_M, pictures_around
from tests.mapping.painted_ground import PaintedGround


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory):
    """A white square around (12, 3) and a thing around (8, -6)."""
    ground = PaintedGround((-10, -12, 30, 12))
    ground.paint(box(11, 2, 13, 4), (1.0, 0.0))
    ground.stand(box(7, -7, 9, -5))
    return Mosaic([ground.write(tmp_path_factory.mktemp("survey") / "a")])


@pytest.mark.parametrize("yaw_deg", [0, 90, -30])
def test_the_ground_lies_where_the_car_sees_it(mosaic, yaw_deg):
    global_T_ego = transform_from_se2(5, 0, np.deg2rad(yaw_deg))
    pictures = pictures_around(mosaic, global_T_ego)
    assert set(pictures) == {"cameras", "lidar"}

    def at(name, x_map, y_map):
        x, y, *_ = np.linalg.inv(global_T_ego) @ [x_map, y_map, 0, 1]
        return pictures[name][int((y + AROUND_EGO_M) // CELL_M), int((x + AROUND_EGO_M) // CELL_M)]

    for name, picture in pictures.items():
        assert picture.shape == (256, 256, 3)
        assert 0 <= picture.min() < picture.max() <= 1
        red, green, blue = at(name, 8, -6)
        assert green > 0.8
        assert max(red, blue) < 0.3
        assert at(name, 5, 16).max() == 0  # never seen
        road = at(name, 16, 3)
        assert road.max() == road.min() > 0
    assert at("cameras", 12, 3).min() > at("cameras", 16, 3).max() + 0.3
