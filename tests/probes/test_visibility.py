import numpy as np
import pytest

from avjepa.geometry.rigid import transform_from_se2, transform_points
from avjepa.probes.scans import Scan
from avjepa.probes.visibility import VisibilityCheck, seen_through

ONE = VisibilityCheck(pixels_deg=((1.0, 1.0),), least_gap_m=0.3, relative_gap=0.05, least_scans=1)
SENSOR_M = 1.8


def at(azimuth_deg, elevation_deg, range_m) -> np.ndarray:
    """Points (P, 3) in a LiDAR's frame."""
    azimuth, elevation, range_m = np.broadcast_arrays(np.radians(azimuth_deg), np.radians(elevation_deg), range_m)
    flat = range_m * np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), range_m * np.sin(elevation)], -1).reshape(-1, 3)


HERE = np.eye(4)


def scan(xyz_lidar: np.ndarray, map_T_lidar: np.ndarray = HERE) -> Scan:
    return Scan(transform_points(map_T_lidar, xyz_lidar).astype(np.float32), map_T_lidar)


def wall(range_m: float = 20.0) -> np.ndarray:
    """Dense directions around straight ahead."""
    azimuth, elevation = np.meshgrid(np.arange(-10, 10, 0.25), np.arange(-5, 5, 0.25))
    return at(azimuth.ravel(), elevation.ravel(), range_m)


@pytest.mark.parametrize(
    ("range_m", "through"),
    [(10.0, True), (18.9, True), (19.1, False), (20.0, False), (25.0, False)],  # 5 % of 19.05 m is 0.95 m
)
def test_a_point_goes_when_a_scan_measured_well_beyond_it(range_m, through):
    assert seen_through(at(0.4, 0.4, range_m), [scan(wall())], ONE).tolist() == [through]


def test_the_least_gap_holds_nearby():
    scans = [scan(wall(2.0))]
    assert seen_through(at(0.4, 0.4, np.array([1.69, 1.72])), scans, ONE).tolist() == [True, False]


def test_where_nothing_was_measured_nothing_is_known():
    assert not seen_through(at(np.array([90.0, 0.4]), np.array([0.4, 40.0]), 10.0), [scan(wall())], ONE).any()
    assert not seen_through(at(0.4, 0.4, 10.0), [scan(np.zeros((0, 3)))], ONE).any()
    assert not seen_through(at(0.4, 0.4, 60.0), [scan(wall(80.0))], ONE).any()  # beyond reach
    assert seen_through(np.zeros((0, 3)), [scan(wall())], ONE).shape == (0,)


def test_the_pose_of_the_scan_counts():
    """Seen from 30 m to the side and turned, the same point is in front of the other scan's wall or not."""
    map_T_lidar = transform_from_se2(0.0, 30.0, np.radians(-90))  # looks back at the origin
    point = transform_points(map_T_lidar, at(0.4, 0.4, 10.0))
    assert seen_through(point, [scan(wall(), map_T_lidar)], ONE).tolist() == [True]
    assert seen_through(point, [scan(wall())], ONE).tolist() == [False]


def test_as_many_scans_as_asked_for():
    point, scans = at(0.4, 0.4, 10.0), [scan(wall()), scan(wall()), scan(wall(10.0))]
    for least, through in ((1, True), (2, True), (3, False)):
        check = VisibilityCheck(ONE.pixels_deg, least_scans=least)
        assert seen_through(point, scans, check).tolist() == [through]


def test_every_resolution_must_agree():
    """A thin post 0.7 degrees beside the point: fine pixels see past it, coarse ones do not."""
    scans = [scan(np.concatenate([wall(), at(1.2, 0.4, 10.0)]))]
    point = at(0.4, 0.4, 10.0)
    fine, coarse = (0.25, 0.25), (2.0, 2.0)
    for pixels, through in (((fine,), True), ((coarse,), False), ((fine, coarse), False)):
        assert seen_through(point, scans, VisibilityCheck(pixels, least_scans=1)).tolist() == [through]


def test_road_between_the_beams_stays():
    """A flat road, 1.33 degrees between beams: points of another scan between the rings are not seen through."""
    elevation = np.arange(-30, -2, 4 / 3)
    azimuth = np.arange(0, 360, 0.33)
    rings = [at(azimuth, e, -SENSOR_M / np.sin(np.radians(e))) for e in elevation]
    between = [at(azimuth, e, -SENSOR_M / np.sin(np.radians(e))) for e in elevation[:-1] + 0.6]
    check = VisibilityCheck(least_scans=1)
    road = np.concatenate(between)
    assert seen_through(road, [scan(np.concatenate(rings))], check).mean() < 0.01
    assert (
        seen_through(road + np.array([0, 0, 1.0]), [scan(np.concatenate(rings))], check).mean() > 0.5
    )  # the roof of a car


def test_the_seam_behind_the_sensor():
    """Azimuths of +180 and -180 degrees are neighbours."""
    azimuth, elevation = np.meshgrid(np.arange(170, 190, 0.25), np.arange(-5, 5, 0.25))
    scans = [scan(at(azimuth.ravel(), elevation.ravel(), 20.0))]
    around = at(np.array([179.6, 179.99, 180.0, 180.01, 180.4]), 0.4, 10.0)
    assert seen_through(around, scans, ONE).all()
    post = scan(np.concatenate([scans[0].xyz_map, at(-179.9, 0.4, 10.0)]))
    assert not seen_through(at(179.9, 0.4, 10.0), [post], ONE).any()


@pytest.mark.parametrize("least_scans", [1, 2])
def test_twin_that_looks_at_every_point(least_scans):
    rng = np.random.default_rng(0)
    scans = [
        scan(
            at(rng.uniform(-180, 180, 250), rng.uniform(-30, 20, 250), rng.uniform(15, 40, 250)),
            transform_from_se2(*rng.uniform(-5, 5, 2), rng.uniform(-3, 3)),
        )
        for _ in range(6)
    ]
    check = VisibilityCheck(((20.0, 9.0), (30.0, 15.0)), least_scans=least_scans)
    xyz = rng.uniform(-25, 25, (100, 3)) * [1, 1, 0.4]
    measured = [[spherical(other, point) for point in other.xyz_map] for other in scans]
    votes = [
        sum(
            sees_through_slowly(spherical(other, point), seen, check)
            for other, seen in zip(scans, measured, strict=True)
        )
        for point in xyz
    ]
    expected = [count >= least_scans for count in votes]
    assert 10 < sum(expected) < 95
    assert seen_through(xyz, scans, check).tolist() == expected


def spherical(other: Scan, xyz_map: np.ndarray) -> tuple[float, float, float]:
    x, y, z = np.linalg.inv(other.map_T_lidar)[:3] @ [*xyz_map, 1]
    return (
        np.sqrt(x * x + y * y + z * z),
        np.degrees(np.arctan2(y, x)) + 180,
        np.degrees(np.arctan2(z, np.hypot(x, y))) + 90,
    )


def sees_through_slowly(point: tuple, measured: list[tuple], check: VisibilityCheck) -> bool:
    range_m, *place = point
    for pixel in check.pixels_deg:
        columns = int(360 / pixel[0])
        own = [int(value // size) for value, size in zip(place, pixel, strict=True)]
        side = [n + (1 if value / size - n >= 0.5 else -1) for n, value, size in zip(own, place, pixel, strict=True)]
        ranges = {}
        for r, azimuth, elevation in measured:
            key = (int(azimuth // pixel[0]) % columns, int(elevation // pixel[1]))
            ranges[key] = min(ranges.get(key, np.inf), r)
        if tuple(own) not in ranges:
            return False
        around = [(column % columns, row) for column in (own[0], side[0]) for row in (own[1], side[1])]
        nearest = min(ranges.get(key, np.inf) for key in around)
        if not nearest > range_m + max(check.least_gap_m, check.relative_gap * range_m):
            return False
    return range_m < check.reach_m


@pytest.mark.parametrize("setting", [{"pixels_deg": ()}, {"pixels_deg": ((0.0, 1.0),)}, {"least_scans": 0}])
def test_settings_that_make_no_sense(setting):
    with pytest.raises(ValueError, match="at least one scan"):
        VisibilityCheck(**setting)
