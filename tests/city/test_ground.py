"""What the ground raster has at known points, and the height of its mesh."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from shapely import contains_xy
from shapely.geometry import LineString, box

from avjepa.city.ground import CELL_M, DASH_M, GAP_M, KERB_M, LINE_M, ground_mesh, ground_raster
from avjepa.city.materials import GROUND, Ground, Material
from avjepa.city.movers import embree_scene
from avjepa.city.road_map import Crosswalk, StopLine
from avjepa.city.roads import build_town
from tests.city.hand_made import make_road_map

PAINT = (Ground.WHITE, Ground.YELLOW)


@pytest.fixture(scope="module")
def road_map():
    return make_road_map()


@pytest.fixture(scope="module")
def raster(road_map):
    return ground_raster(road_map, 0)


@pytest.fixture(scope="module", params=["minicity-a", "minicity-b"])
def town(request):
    road_map = build_town(request.param, 0)
    return road_map, ground_raster(road_map, 0)


def at(raster, xy):
    column, row = np.floor(np.asarray(xy) / CELL_M).astype(int).T
    return raster[row, column]


def runs(mask):
    """(value, length in samples) of a row of booleans."""
    ends = np.flatnonzero(np.diff(mask)) + 1
    return [(bool(part[0]), len(part)) for part in np.split(mask, ends)]


@pytest.mark.parametrize(
    ("xy", "kind"),
    [
        ((5, 5), Ground.GRASS),
        ((40, 52), Ground.WALKWAY),
        ((30, 58.25), Ground.ASPHALT),
        ((100, 55), Ground.ASPHALT),
        ((40, 45), Ground.PARKING),
        ((107.5, 67.5), Ground.ISLAND),
        ((106.1, 67.5), Ground.KERB),
        ((30, 63.6), Ground.KERB),
        ((84.75, 57), Ground.WHITE),
        ((150, 60.14), Ground.YELLOW),
        ((150, 60), Ground.ASPHALT),  # between the two lines of the solid divider
    ],
)
def test_what_covers_the_ground(raster, xy, kind):
    assert raster.shape == (1200, 2000)
    assert Ground(at(raster, [xy])[0]) == kind


def test_every_kind_of_ground_has_a_look():
    assert set(GROUND) == set(Ground)


def test_dashes_are_three_metres_and_gaps_six(raster):
    x = np.arange(10.025, 74, 0.05)
    painted = at(raster, np.column_stack([x, np.full(len(x), 56.5)])) == Ground.WHITE
    found = runs(painted)
    assert found[0][0]
    assert len(found) >= 14
    for is_paint, length in found[:-1]:
        assert length * 0.05 == pytest.approx(DASH_M if is_paint else GAP_M, abs=0.11)


def test_a_solid_line_has_no_gap_and_the_width_of_paint(raster):
    x = np.arange(12, 82, 0.05)
    assert (at(raster, np.column_stack([x, np.full(len(x), 60.14)])) == Ground.YELLOW).all()
    y = np.arange(59.5, 60.5, 0.01)
    widths = [length * 0.01 for _, length in runs(at(raster, np.column_stack([0 * y + 30, y])) == Ground.YELLOW)]
    assert len(widths) == 5  # two lines and what is beside and between them
    assert widths[1::2] == pytest.approx([LINE_M, LINE_M], abs=0.061)


@pytest.mark.parametrize("width_m", [0.16, 0.4, 0.55, 3.0])
def test_bars_cover_their_area_whatever_their_slope(road_map, width_m):
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(20):
        line = LineString([(20 + rng.random(), 75 + rng.random()), (80 + rng.random(), 75 + 40 * rng.random())])
        bar = StopLine("bar", line.buffer(width_m / 2, cap_style="flat"), (), "west", "YIELD")
        raster = ground_raster(dataclasses.replace(road_map, stop_lines={"bar": bar}), 0)[720:]
        shares.append((raster == Ground.WHITE).sum() * CELL_M**2 / bar.polygon.area)
    assert np.mean(shares) * width_m == pytest.approx(width_m, abs=0.03)


def test_the_raster_is_not_mirrored(raster):
    """South of the road is a car park, north of it is none."""
    assert (raster[400:500, 300:500] == Ground.PARKING).mean() > 0.95
    assert not (raster[700:, :900] == Ground.PARKING).any()


def with_wear(road_map, wear):
    zebra = road_map.crosswalks["zebra"]
    wide = Crosswalk("zebra", box(86, 53, 89, 63.5), zebra.road, wear)
    return dataclasses.replace(road_map, crosswalks={"zebra": wide})


@pytest.mark.parametrize("wear", [0.15, 0.6])
def test_a_worn_crosswalk_has_lost_its_share_of_paint(road_map, wear):
    window = (slice(530, 635), slice(860, 890))
    new = ground_raster(with_wear(road_map, 0.0), 0)[window] == Ground.WHITE
    gone = [1 - (ground_raster(with_wear(road_map, wear), s)[window] == Ground.WHITE)[new].mean() for s in range(4)]
    assert np.mean(gone) == pytest.approx(wear, abs=0.06)
    assert 0.4 < new.mean() < 0.6  # stripes and gaps are of one width


def test_a_zebra_has_stripes_along_the_traffic(raster):
    new = ground_raster(with_wear(make_road_map(), 0.0), 0)
    y = np.arange(53, 63.5, 0.05)
    across = runs(at(new, np.column_stack([0 * y + 87.5, y])) == Ground.WHITE)
    assert len([1 for is_paint, _ in across if is_paint]) == 9
    x = np.arange(86.1, 88.9, 0.05)
    rows = [set(at(new, np.column_stack([x, 0 * x + v]))) for v in np.arange(53.5, 63, 0.1)]
    assert all(len(kinds) == 1 for kinds in rows)


def test_the_seed_places_the_wear(road_map):
    one, again, other = (ground_raster(with_wear(road_map, 0.6), seed) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_lane_middles_are_asphalt_or_paint_all_over_a_town(town):
    road_map, raster = town
    for lane in road_map.lanes.values():
        kinds = at(raster, lane.path.sampled(0.5)[:, :2])
        assert np.isin(kinds, (Ground.ASPHALT, *PAINT)).all(), lane.token
        if lane.road:
            assert (kinds == Ground.ASPHALT).mean() > 0.8, lane.token


def test_areas_of_a_town_have_their_ground(town):
    road_map, raster = town
    for areas, kind in ((road_map.walkways, Ground.WALKWAY), (road_map.islands, Ground.ISLAND)):
        for area in areas.values():
            inner = area.polygon.buffer(-0.6)
            assert at(raster, [inner.representative_point().coords[0]])[0] == kind, area.token
    for token, area in road_map.car_parks.items():
        if not token.endswith("driveway"):
            x0, y0, x1, y1 = area.polygon.bounds
            spots = np.random.default_rng(0).uniform([x0, y0], [x1, y1], (300, 2))
            inside = spots[contains_xy(area.polygon.buffer(-0.2), spots)]
            assert np.isin(at(raster, inside), (Ground.PARKING, Ground.WHITE)).all(), token


def test_paint_has_the_colour_of_the_map(town):
    road_map, raster = town
    assert (raster == Ground.YELLOW).any() == any(d.colour == "yellow" for d in road_map.dividers.values())
    for stop in road_map.stop_lines.values():
        assert at(raster, [stop.polygon.representative_point().coords[0]])[0] == Ground.WHITE, stop.token


def heights(road_map, xy):
    mesh = ground_mesh(road_map)
    scene = embree_scene(mesh.vertices, mesh.faces)
    origins = np.column_stack([xy, np.full(len(xy), 5.0)]).astype(np.float32)
    down = np.tile(np.array([0, 0, -1], np.float32), (len(xy), 1))
    hit = scene.run(origins, down, output=1)
    assert (hit["primID"] >= 0).all()
    return 5 - hit["tfar"]


@pytest.mark.parametrize("name", ["hand-made", "minicity-b"])
def test_the_road_is_at_zero_and_all_else_a_kerb_higher(name):
    road_map = make_road_map() if name == "hand-made" else build_town(name, 0)
    xy = np.random.default_rng(0).uniform(0, 1, (4000, 2)) * road_map.size_m
    low, high = road_map.drivable.buffer(-0.05), road_map.drivable.buffer(0.05)
    is_road, is_raised = contains_xy(low, xy), ~contains_xy(high, xy)
    assert min(is_road.sum(), is_raised.sum()) > 300
    z_m = heights(road_map, xy)
    np.testing.assert_allclose(z_m[is_road], 0, atol=1e-4)
    np.testing.assert_allclose(z_m[is_raised], KERB_M, atol=1e-4)


def test_the_ground_is_closed_at_the_kerbs(road_map):
    mesh = ground_mesh(road_map)
    assert (mesh.materials == Material.GROUND).all()
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    upright = np.abs(normals[:, 2]) < 1e-6 * np.linalg.norm(normals, axis=1).clip(1e-9)
    area = np.linalg.norm(normals, axis=1)[upright].sum() / 2
    rings = [r for part in road_map.drivable.geoms for r in (part.exterior, *part.interiors)]
    assert area == pytest.approx(KERB_M * sum(ring.length for ring in rings), rel=1e-3)
