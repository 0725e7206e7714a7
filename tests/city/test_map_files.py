"""The map files of a hand-made town, through nuscenes-devkit."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
from nuscenes.map_expansion import arcline_path_utils, map_api
from nuscenes.map_expansion.bitmap import BitMap
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.utils.map_mask import MapMask
from PIL import Image
from shapely.geometry import LineString, Point, Polygon

from avjepa.city.map_files import register_town, write_basemap, write_map_expansion, write_map_mask
from avjepa.city.road_map import Area
from tests.city.hand_made import LEFT_TURN_RADIUS_M, RIGHT_TURN_RADIUS_M, SIZE_M, TOWN, make_road_map

ROAD_MAP = make_road_map()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("maps")
    write_map_expansion(root / "maps" / "expansion" / f"{TOWN}.json", ROAD_MAP)
    write_map_mask(root / "maps" / "mask.png", ROAD_MAP)
    write_basemap(root / "maps" / "basemap" / f"{TOWN}.png", ROAD_MAP)
    return root


@pytest.fixture(scope="module")
def town(root):
    before = list(map_api.locations)
    register_town(TOWN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield NuScenesMap(dataroot=str(root), map_name=TOWN)
    map_api.locations[:] = before


def test_a_town_is_registered_once(monkeypatch):
    monkeypatch.setattr(map_api, "locations", ["boston-seaport"])
    register_town("minicity-a")
    register_town("minicity-a")
    assert map_api.locations == ["boston-seaport", "minicity-a"]


def test_every_polygon_is_valid_and_every_area_is_kept(town):
    for layer in town.lookup_polygon_layers:
        for record in getattr(town, layer):
            tokens = record["polygon_tokens"] if layer == "drivable_area" else [record["polygon_token"]]
            assert all(town.extract_polygon(token).is_valid for token in tokens)
    areas = [town.extract_polygon(token).area for token in town.drivable_area[0]["polygon_tokens"]]
    assert sum(areas) == pytest.approx(80 * 10.5 + 80 * 7 + 40 * 7 + 20 * 20 - 9 + 20 * 10)
    assert {lane["token"] for lane in town.lane} == {t for t, lane in ROAD_MAP.lanes.items() if lane.road}
    assert {lane["token"] for lane in town.lane_connector} == {"ahead", "merge", "back", "left", "right"}
    for record in town.lane + town.lane_connector:
        area = town.extract_polygon(record["polygon_token"]).area
        assert area == pytest.approx(3.5 * ROAD_MAP.lanes[record["token"]].path.length_m, rel=2e-3)


@pytest.mark.parametrize(
    ("xy", "expected"),
    [
        ((50, 58), {"drivable_area": "drivable_area", "road_segment": "west", "road_block": "west/0", "lane": "west-in-0"}),
        ((50, 62), {"drivable_area": "drivable_area", "road_segment": "west", "road_block": "west/1", "lane": "west-out"}),
        ((50, 52), {"walkway": "pavement"}),
        ((40, 45), {"drivable_area": "drivable_area", "carpark_area": "parking"}),
        ((95, 65), {"drivable_area": "drivable_area", "road_segment": "crossing"}),
        ((107.5, 67.5), {"road_segment": "crossing"}),  # the island, a hole of the drivable area
        ((98, 71.2), {"drivable_area": "drivable_area", "road_segment": "north", "road_block": "north/1",
                      "lane": "north-in", "stop_line": "stop-north"}),
        ((5, 5), {}),
    ],
)  # fmt: skip
def test_layers_on_a_point(town, xy, expected):
    assert {layer: token for layer, token in town.layers_on_point(*xy).items() if token} == expected


def test_records_in_radius(town):
    found = town.get_records_in_radius(87, 58, 1.0, ["lane", "lane_connector", "ped_crossing", "stop_line", "walkway"])
    assert found == {
        "lane": ["west-in-0"],
        "lane_connector": [],
        "ped_crossing": ["zebra"],
        "stop_line": [],
        "walkway": [],
    }
    assert set(town.get_records_in_radius(90, 55, 4, ["lane_connector"])["lane_connector"]) == {
        "ahead",
        "merge",
        "left",
    }


@pytest.mark.parametrize("x", [20, 47, 88])
def test_lines_are_found_all_along(town, x):
    assert town.get_records_in_radius(x, 58.25, 3, ["road_divider", "lane_divider"]) == {
        "road_divider": ["w-middle"],
        "lane_divider": ["w-lanes"],
    }


@pytest.mark.parametrize(
    ("xy", "token"),
    [((60, 57.5), "west-in-0"), ((60, 61), "west-out"), ((150, 58), "east-out"), ((98, 90), "north-in")],
)
def test_closest_lane(town, xy, token):
    assert town.get_closest_lane(*xy, radius=3) == token


def test_connectivity(town):
    assert town.get_outgoing_lane_ids("west-in-0") == ["left", "ahead"]
    assert town.get_incoming_lane_ids("west-out") == ["back", "right"]
    assert town.get_outgoing_lane_ids("merge") == ["east-out"]
    assert town.get_incoming_lane_ids("merge") == ["west-in-1"]
    assert town.get_incoming_lane_ids("east-in") == []


@pytest.mark.parametrize("token", list(ROAD_MAP.lanes))
def test_arcline_paths_are_the_centre_lines(town, token):
    path = ROAD_MAP.lanes[token].path
    pieces = town.get_arcline_path(token)
    assert arcline_path_utils.length_of_lane(pieces) == pytest.approx(path.length_m, abs=1e-9)
    found = np.array(arcline_path_utils.discretize_lane(pieces, 0.5))
    # The devkit samples each piece on its own, in equal steps, both ends included.
    expected, begin_m = [], 0.0
    for _, length_m in path.segments:
        count = int(max(math.ceil(length_m / 0.5) + 1.5, 2))
        expected.append(path.poses(begin_m + np.linspace(0, length_m, count)))
        begin_m += length_m
    expected = np.concatenate(expected)
    np.testing.assert_allclose(found[:, :2], expected[:, :2], atol=1e-6)
    np.testing.assert_allclose(np.cos(found[:, 2] - expected[:, 2]), 1, atol=1e-9)
    # Neither leaves the other: every sample of the path lies on the devkit's polyline, to the sag of its chords.
    polyline = LineString(found[:, :2])
    assert (
        max(polyline.distance(Point(pose[:2])) for pose in path.sampled(1.0)) < 0.5**2 / 8 / RIGHT_TURN_RADIUS_M + 1e-6
    )
    for piece, end in zip(pieces, path.segment_starts()[1:], strict=True):
        assert piece["end_pose"][:2] == pytest.approx(end[:2])


@pytest.mark.parametrize(
    ("token", "shape", "radius_m"), [("left", "LSL", LEFT_TURN_RADIUS_M), ("right", "RSR", RIGHT_TURN_RADIUS_M)]
)
def test_turns_are_dubins_pieces(town, token, shape, radius_m):
    pieces = town.get_arcline_path(token)
    assert {piece["shape"] for piece in pieces} == {shape}
    assert [piece["radius"] for piece in pieces] == pytest.approx([radius_m] * len(pieces))
    lengths = np.array([piece["segment_length"] for piece in pieces])
    np.testing.assert_allclose(lengths.sum(0), [radius_m * math.pi / 2, 0, 0])
    middle_m = radius_m * math.pi / 5
    assert arcline_path_utils.get_curvature_at_distance_along_lane(middle_m, pieces) == pytest.approx(1 / radius_m)


def test_a_straight_lane_is_the_middle_of_a_dubins_piece(town):
    (piece,) = town.get_arcline_path("west-out")
    assert piece["start_pose"] == pytest.approx([90, 61.75, -math.pi])
    assert piece["end_pose"] == pytest.approx([10, 61.75, -math.pi])
    assert piece["segment_length"] == [0, 80, 0]
    assert arcline_path_utils.get_curvature_at_distance_along_lane(40, [piece]) == 0
    assert arcline_path_utils.pose_at_length(piece, 30)[:2] == pytest.approx((60, 61.75))


@pytest.mark.parametrize(
    ("block", "road", "bounds", "begin", "end"),
    [
        ("west/0", "west", (10, 53, 90, 60), [(10, 60), (10, 56.5), (10, 53)], [(90, 60), (90, 56.5), (90, 53)]),
        ("west/1", "west", (10, 60, 90, 63.5), [(90, 60), (90, 63.5)], [(10, 60), (10, 63.5)]),
        ("north/1", "north", (96.5, 70, 100, 110), [(100, 110), (96.5, 110)], [(100, 70), (96.5, 70)]),
    ],
)
def test_road_blocks(town, block, road, bounds, begin, end):
    record = town.get("road_block", block)
    assert record["road_segment_token"] == road
    assert town.get_bounds("road_block", block) == pytest.approx(bounds)
    # From left to right, in the direction of driving.
    assert list(town.extract_line(record["from_edge_line_token"]).coords) == begin
    assert list(town.extract_line(record["to_edge_line_token"]).coords) == end


@pytest.mark.parametrize(
    ("xy", "segments"), [((50, 58.25), ["crossing"]), ((98, 90), ["crossing"]), ((150, 62), ["crossing"])]
)
def test_the_devkit_finds_the_next_road(town, xy, segments):
    found = town.get_next_roads(*xy)["road_segment"]
    assert [token for token in found if token not in ("west", "north", "east")] == segments


def test_lanes_know_their_edges_and_dividers(town):
    lane = town.get("lane", "west-in-0")
    assert lane["lane_type"] == "CAR"
    assert list(town.extract_line(lane["to_edge_line_token"]).coords) == [(90, 60), (90, 56.5)]
    assert {row["segment_type"] for row in lane["left_lane_divider_segments"]} == {"SINGLE_SOLID_YELLOW"}
    assert {row["segment_type"] for row in lane["right_lane_divider_segments"]} == {"DOUBLE_DASHED_WHITE"}
    assert [node["y"] for node in lane["right_lane_divider_segment_nodes"]] == [56.5] * 17
    assert town.get("lane", "north-in")["left_lane_divider_segments"] == []
    for token, xs in (("west-in-0", (10, 90)), ("west-out", (90, 10))):  # the same paint, in each lane's direction
        nodes = town.get("lane", token)["left_lane_divider_segment_nodes"]
        assert (nodes[0]["x"], nodes[-1]["x"]) == xs


def test_dividers(town):
    assert {row["token"]: row["road_segment_token"] for row in town.road_divider} == {
        "w-middle": "west",
        "e-middle": "east",
    }
    (divider,) = town.lane_divider
    assert town.extract_line(divider["line_token"]).length == pytest.approx(80)
    assert [row["node_token"] for row in divider["lane_divider_segments"]] == divider["node_tokens"]


def test_stop_lines_and_their_cues(town):
    west, north = town.stop_line
    assert (west["stop_line_type"], north["stop_line_type"]) == ("TRAFFIC_LIGHT", "YIELD")
    assert [cue["token"] for cue in west["cue"]] == ["light"]
    assert north["cue"] == []
    assert (west["road_block_token"], north["road_block_token"]) == ("west/0", "north/1")


def test_the_traffic_light(town):
    (light,) = town.traffic_light
    assert light["pose"] == {"tx": 112, "ty": 52, "tz": 5, "rx": 0, "ry": 0, "rz": math.pi}
    assert list(town.extract_line(light["line_token"]).coords) == [(112, 52), (111, 52)]  # faces west, to the traffic
    assert light["from_road_block_token"] == "west/0"
    assert [item["color"] for item in light["items"]] == ["RED", "YELLOW", "GREEN"]
    heights = [item["rel_pos"]["tz"] for item in light["items"]]
    assert heights == sorted(heights, reverse=True)


def test_the_other_areas(town):
    assert {row["token"]: row["is_intersection"] for row in town.road_segment} == {
        "west": False,
        "east": False,
        "north": False,
        "crossing": True,
    }
    assert town.get("ped_crossing", "zebra")["road_segment_token"] == "west"
    parking = town.get("carpark_area", "parking")
    assert parking["orientation"] == pytest.approx(0)  # 20 m along x, 10 m along y
    assert parking["road_block_token"] == "west/0"


def test_map_mask_of_the_devkit(town):
    layers = ["drivable_area", "lane", "ped_crossing", "walkway", "road_divider"]
    # 40 m along x, 20 m along y, around (80, 58.5); rows grow with y, four pixels a metre. These two calls are what the
    # devkit's get_map_mask does, after it has refused every map but its own four by name.
    geometry = town.get_map_geom((80, 58.5, 20, 40), 0.0, layers)
    masks = dict(zip(layers, town.explorer.map_geom_to_mask(geometry, (0, 0, 20, 40), (80, 160)), strict=True))
    assert masks["drivable_area"].mean() == pytest.approx((30 * 10.5 + 10 * 18.5) / 800, abs=0.02)
    assert masks["lane"].mean() == pytest.approx(30 * 10.5 / 800, abs=0.02)
    assert masks["ped_crossing"].mean() == pytest.approx(3 * 10.5 / 800, abs=0.01)
    assert masks["walkway"].mean() == pytest.approx(30 * 2 / 800, abs=0.02)
    assert masks["walkway"][11:17, : 30 * 4].all()  # 2.5 to 4.5 m above the lower edge of the patch
    assert not masks["walkway"][20:].any()
    assert masks["road_divider"][44:49, 20].any()


@pytest.mark.parametrize(
    ("xy", "is_drivable"),
    [
        ((50, 58), True),
        ((40, 45), True),
        ((107.5, 67.5), False),
        ((50, 52), False),
        ((10.3, 53.3), True),
        ((9.7, 53.3), False),
        ((10.3, 52.7), False),
        ((103.2, 109.7), True),
        ((103.2, 110.3), False),
        ((199, 119), False),
    ],
)
def test_the_mask_is_true_on_the_drivable_area(root, xy, is_drivable):
    assert bool(MapMask(str(root / "maps" / "mask.png")).is_on_mask(*xy)[0]) == is_drivable


def test_the_mask_looks_like_a_real_one(root):
    image = Image.open(root / "maps" / "mask.png")
    assert (image.mode, image.size) == ("L", (2000, 1200))
    values = np.asarray(image)
    assert set(np.unique(values)) == {0, 255}
    share = (80 * 10.5 + 80 * 7 + 40 * 7 + 400 - 9 + 200) / (SIZE_M[0] * SIZE_M[1])
    assert (values == 255).mean() == pytest.approx(share, rel=0.02)


def test_the_basemap_shows_the_road_and_its_paint(root):
    image = BitMap(str(root), TOWN, "basemap").image
    assert image.shape == (1200, 2000)
    road, paint, walkway, ground = (image[1200 - y, x] for x, y in ((500, 580), (500, 600), (500, 520), (50, 50)))
    assert (road, paint, walkway, ground) == (150, 245, 215, 255)


def test_same_map_same_bytes(root, tmp_path):
    write_map_expansion(tmp_path / "map.json", make_road_map())
    write_map_mask(tmp_path / "mask.png", make_road_map())
    write_basemap(tmp_path / "base.png", make_road_map())
    for ours, theirs in (
        ("map.json", f"expansion/{TOWN}.json"),
        ("mask.png", "mask.png"),
        ("base.png", f"basemap/{TOWN}.png"),
    ):
        assert (tmp_path / ours).read_bytes() == (root / "maps" / theirs).read_bytes()


def test_neighbours_share_nodes_and_tokens_are_unique(root):
    layers = json.loads((root / "maps" / "expansion" / f"{TOWN}.json").read_text())
    assert layers["canvas_edge"] == [200, 120]
    places = [(node["x"], node["y"]) for node in layers["node"]]
    assert len(set(places)) == len(places)
    for layer in ("node", "line", "polygon"):
        assert len({record["token"] for record in layers[layer]}) == len(layers[layer])
    referred = {token for line in layers["line"] for token in line["node_tokens"]}
    assert referred <= {node["token"] for node in layers["node"]}


def test_outlines_that_cross_themselves_once_rounded_are_mended(tmp_path, town):
    # A slit 0.02 mm wide: on the grid of 0.1 mm its two sides are one.
    slit = Polygon([(10, 51), (90, 51), (90, 53), (50.00001, 53), (50, 52), (49.99999, 53), (10, 53)])
    assert slit.is_valid
    road_map = dataclasses.replace(ROAD_MAP, walkways={"slit": Area("slit", slit)})
    write_map_expansion(tmp_path / "maps" / "expansion" / f"{TOWN}.json", road_map)
    with_slit = NuScenesMap(dataroot=str(tmp_path), map_name=TOWN)
    walkway = with_slit.extract_polygon(with_slit.walkway[0]["polygon_token"])
    assert walkway.is_valid
    assert walkway.area == pytest.approx(160, abs=0.01)


def test_a_wrong_number_is_refused(tmp_path):
    light = dataclasses.replace(ROAD_MAP.traffic_lights["light"], xyz_m=(1.0, 2.0, math.nan))
    road_map = dataclasses.replace(ROAD_MAP, traffic_lights={"light": light})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_map_expansion(tmp_path / "map.json", road_map)
