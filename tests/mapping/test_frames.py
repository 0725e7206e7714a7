import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nuscenes.scripts.export_poses import REFERENCE_COORDINATES, derive_latlon
from shapely.geometry import LineString

from avjepa.errors import ConfigError
from avjepa.mapping.frames import EARTH_RADIUS_M, FRAMES, MapFrame, frame_of_city, frame_of_contract

METRES = st.floats(-5e4, 5e4)


def test_origins_are_those_of_the_devkit():
    for city, (latitude_deg, longitude_deg) in REFERENCE_COORDINATES.items():
        assert (FRAMES[city].latitude_deg, FRAMES[city].longitude_deg) == (latitude_deg, longitude_deg)
        assert not FRAMES[city].fictitious


@pytest.mark.parametrize("city", sorted(REFERENCE_COORDINATES))
def test_the_devkit_places_points_at_the_same_spot(city):
    xy = np.random.default_rng(0).uniform(1.0, 3000.0, (50, 2))
    theirs = derive_latlon(city, [{"timestamp": 0, "translation": [x, y, 0.0]} for x, y in xy])
    ours = FRAMES[city].to_wgs84(xy)
    np.testing.assert_allclose(ours[:, 0], [place["longitude"] for place in theirs], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours[:, 1], [place["latitude"] for place in theirs], rtol=0, atol=1e-12)


@given(st.sampled_from(sorted(FRAMES)), METRES, METRES)
def test_there_and_back_is_the_same_point(city, x, y):
    frame = FRAMES[city]
    back = frame.to_map(frame.to_wgs84(np.array([[x, y]])))
    assert np.hypot(*(back[0] - [x, y])) < 1e-6


@given(st.sampled_from(sorted(FRAMES)), st.floats(0, 4e3), st.floats(0, 4e3))
def test_seven_decimals_are_enough_for_a_centimetre(city, x, y):
    frame = FRAMES[city]
    back = frame.to_map(frame.to_wgs84(np.array([[x, y]])).round(7))
    assert np.hypot(*(back[0] - [x, y])) < 0.01


def test_north_and_east_by_hand():
    frame = MapFrame("equator", 0.0, 10.0)
    degree_m = math.radians(1) * EARTH_RADIUS_M
    np.testing.assert_allclose(frame.to_wgs84(np.array([[0.0, degree_m], [degree_m, 0.0], [0.0, 0.0]])),
                               [[10.0, 1.0], [11.0, 0.0], [10.0, 0.0]], atol=1e-12)  # fmt: skip
    # The south-western quadrant, where the devkit's atan(x / y) points north-east.
    assert (MapFrame("x", 10.0, 20.0).to_wgs84(np.array([[-5.0, -5.0]])) < [[20.0, 10.0]]).all()


@pytest.mark.parametrize("longitude_deg", [180.0, -180.0, 179.9, -179.9])
def test_longitudes_wrap(longitude_deg):
    frame = MapFrame("dateline", -16.0, longitude_deg)
    xy = np.random.default_rng(0).uniform(-50e3, 50e3, (100, 2))
    lon_lat = frame.to_wgs84(xy)
    assert (np.abs(lon_lat[:, 0]) <= 180.0).all()
    assert lon_lat[:, 0].min() < -179 < 179 < lon_lat[:, 0].max()
    np.testing.assert_allclose(frame.to_map(lon_lat), xy, atol=1e-6)


def test_shapes_keep_their_points():
    frame, line = FRAMES["boston-seaport"], LineString([(0, 0), (300, 400), (5, 1200.5)])
    assert frame.shape_to_map(frame.shape_to_wgs84(line)).equals_exact(line, 1e-6)


@pytest.mark.parametrize("points", [np.zeros(2), np.zeros((1, 3)), np.full((1, 2), np.nan), np.full((1, 2), 2e6)])
def test_points_that_are_none(points):
    with pytest.raises(ValueError, match="finite points"):
        FRAMES["boston-seaport"].to_wgs84(points)


def test_contracts_there_and_back():
    for frame in (*FRAMES.values(), MapFrame("my-town", 50.0, 8.0)):
        assert frame_of_contract(frame.contract()) == frame
    named_only = {"type": "name", "properties": {"name": "minicity-a", "axes": ["x east", "y north"], "unit": "metre"}}
    assert frame_of_contract(named_only) == FRAMES["minicity-a"]  # as the mini city writes it


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"name": "minicity-a", "unit": "foot"}, "foot"),
        ({"name": "minicity-a", "axes": ["x south", "y east"]}, "south"),
        ({"name": "minicity-a", "origin": {"latitude_deg": 1.0, "longitude_deg": 2.0}}, "elsewhere"),
        ({"name": "minicity-a", "origin": {"latitude_deg": 1.0}}, "longitude_deg"),
        ({"unit": "metre"}, "name"),
    ],
)
def test_contracts_that_cannot_be_kept(properties, message):
    with pytest.raises(ValueError, match=message):
        frame_of_contract({"type": "name", "properties": properties})


def test_an_unknown_city():
    with pytest.raises(ConfigError, match="atlantis"):
        frame_of_city("atlantis")
    with pytest.raises(ValueError, match="latitude"):
        MapFrame("pole", 90.0, 0.0)
