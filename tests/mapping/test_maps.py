import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box

from avjepa.city.map_files import write_map_expansion
from avjepa.errors import ConfigError, DataError
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.geojson_maps import write_geojson_map
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.map_report import (
    BAD,
    BAD_RECORD,
    DANGLING,
    DOUBLE,
    EMPTY,
    FAR,
    LEADS_NOWHERE,
    MENDED,
    NO_CENTRE,
    NO_LINKS,
    NO_PAINT,
    OTHER_KIND,
    UNKNOWN,
)
from avjepa.mapping.vector_map import ElementMap, MapElement
from tests.city.hand_made import make_road_map
from tests.mapping.reports import HOSTILE

FRAME = FRAMES["minicity-a"]
QUEENSTOWN = FRAMES["singapore-queenstown"]


@pytest.fixture
def expansion(tmp_path):
    """Rewrites a hand-made town's map expansion: ``expansion(change)`` is the path after ``change(tables)``."""
    path = tmp_path / "minicity-a.json"
    write_map_expansion(path, make_road_map())
    tables = json.loads(path.read_text())

    def rewritten(change=lambda tables: None):
        change(tables)
        path.write_text(json.dumps(tables))
        return path

    return rewritten


def write_features(path, features, **members):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}))
    return path


def feature(token, geometry, **properties):
    return {"type": "Feature", "id": token, "geometry": geometry, "properties": properties}


def counts(elements):
    return Counter(element.layer for element in elements.elements.values())


def line(*points):
    return {"type": "LineString", "coordinates": points}


# -------------------------------------------------------------------------------------------------------- expansions
def test_a_town_comes_back_from_its_expansion(expansion):
    town = make_road_map()
    elements, report = read_map(expansion())
    assert (report.lines(), elements.frame.name) == ([], "minicity-a")
    assert report.kept == len(elements.elements)
    for token, crosswalk in town.crosswalks.items():
        assert elements.elements[token].layer == "ped_crossing"
        assert elements.elements[token].geometry.symmetric_difference(crosswalk.polygon).area < 1e-2
    for token, divider in town.dividers.items():
        found = elements.elements[token]
        assert found.layer == ("road_divider" if divider.separates == "directions" else "lane_divider")
        assert found.geometry.hausdorff_distance(divider.line) < 1e-3
    for token, lane in town.lanes.items():
        found = elements.elements[token]
        assert found.successors == lane.successors
        assert found.centre_line.length == pytest.approx(lane.path.length_m, abs=0.01)
        assert found.centre_line.hausdorff_distance(LineString(lane.path.sampled(0.5)[:, :2])) < 0.05
        assert set(elements.predecessors(token)) == set(town.predecessors(token))
    assert {light.height_m for light in elements.layer("traffic_light")} == {
        x.xyz_m[2] for x in town.traffic_lights.values()
    }


def test_paint_of_lane_dividers_is_read(expansion):
    town = make_road_map()
    elements, _ = read_map(expansion())
    between_lanes = [divider for divider in town.dividers.values() if divider.separates == "lanes"]
    assert between_lanes
    for divider in between_lanes:
        assert (elements.elements[divider.token].colour, elements.elements[divider.token].dashed) == (
            divider.colour,
            divider.dashed,
        )


def first_polygon(tables, layer):
    token = tables[layer][0]["polygon_token"]
    return next(polygon for polygon in tables["polygon"] if polygon["token"] == token)


def test_a_polygon_that_crosses_itself_is_mended_and_counted(expansion):
    def bow_tie(tables):
        polygon = first_polygon(tables, "ped_crossing")
        a, b, c, d = polygon["exterior_node_tokens"][:4]
        polygon["exterior_node_tokens"] = [a, c, b, d]

    elements, report = read_map(expansion(bow_tie))
    token = report.mended[MENDED][0]
    assert report.mended == {MENDED: [token]}
    assert elements.elements[token].layer == "ped_crossing"
    assert isinstance(elements.elements[token].geometry, MultiPolygon)
    assert elements.elements[token].geometry.is_valid
    assert token in report.lines()[0]


def test_dangling_tokens_and_empty_shapes_are_left_out_and_counted(expansion):
    def damage(tables):
        first_polygon(tables, "ped_crossing")["exterior_node_tokens"].append("nowhere")
        tables["walkway"][0]["polygon_token"] = "no polygon"
        first_polygon(tables, "stop_line")["exterior_node_tokens"] = []
        tables["lane"].append(tables["lane"][0])
        next(iter(tables["connectivity"].values()))["outgoing"].append("no lane")

    names = [
        make_road_map().crosswalks,
        make_road_map().walkways,
        make_road_map().stop_lines,
    ]
    elements, report = read_map(expansion(damage))
    assert {reason: len(tokens) for reason, tokens in report.lost.items()} == {DANGLING: 2, EMPTY: 1, DOUBLE: 1}
    assert len(report.mended[LEADS_NOWHERE]) == 1
    for tokens, layer in zip(names, ("ped_crossing", "walkway", "stop_line"), strict=True):
        assert len(elements.layer(layer)) == len(tokens) - 1


def broken_lane(tables):
    return tables["lane"][0]


def broken_piece(tables, **fields):
    tables["arcline_path_3"][broken_lane(tables)["token"]][0].update(fields)


def broken_node(tables, **fields):
    token = first_polygon(tables, "ped_crossing")["exterior_node_tokens"][0]
    next(node for node in tables["node"] if node["token"] == token).update(fields)


@pytest.mark.parametrize(
    ("damage", "reason", "kept"),
    [
        (lambda tables: broken_piece(tables, radius=0.0), NO_CENTRE, True),
        (lambda tables: broken_piece(tables, radius="wide"), NO_CENTRE, True),
        (lambda tables: broken_piece(tables, start_pose=[0.0, 1.0]), NO_CENTRE, True),
        (lambda tables: broken_piece(tables, start_pose=[0.0, 1.0, float("nan")]), NO_CENTRE, True),
        (lambda tables: broken_piece(tables, segment_length=[0.0, 1e18, 0.0]), NO_CENTRE, True),
        (lambda tables: broken_piece(tables, segment_length=[1.0]), NO_CENTRE, True),
        (lambda tables: broken_piece(tables, shape="LXL"), NO_CENTRE, True),
        (lambda tables: tables["arcline_path_3"].update({broken_lane(tables)["token"]: None}), NO_CENTRE, True),
        (lambda tables: tables["connectivity"].update({broken_lane(tables)["token"]: {}}), NO_LINKS, True),
        (lambda tables: broken_lane(tables).update(left_lane_divider_segments=[{}]), NO_PAINT, True),
        (lambda tables: broken_lane(tables).pop("token"), BAD_RECORD, False),
        (lambda tables: broken_lane(tables).update(polygon_token=3), BAD_RECORD, False),
        (lambda tables: tables["walkway"].__setitem__(0, None), BAD_RECORD, False),
        (lambda tables: tables["drivable_area"].append({"token": "d", "polygon_tokens": []}), EMPTY, True),
        (lambda tables: tables["traffic_light"][0].pop("pose"), DANGLING, False),
        (lambda tables: tables["traffic_light"][0]["pose"].update(tz="high"), BAD, False),
        (lambda tables: tables["lane_divider"][0].update(lane_divider_segments=[{"segment_type": []}]), BAD, False),
        (lambda tables: broken_node(tables, x=None), BAD, False),
        (lambda tables: broken_node(tables, x="here"), BAD, False),
        (lambda tables: broken_node(tables, y=float("nan")), BAD, False),
    ],
)
def test_one_bad_record_is_counted_and_the_rest_is_read(expansion, damage, reason, kept):
    whole, _ = read_map(expansion())
    elements, report = read_map(expansion(damage))
    found = report.lost | report.mended
    assert len(found.pop(reason)) >= 1
    assert set(found) <= {LEADS_NOWHERE}  # of those that led to what was left out
    gone = set(whole.elements) - set(elements.elements)
    assert kept == (not gone)
    assert len(gone) <= report.num_lost
    if reason == NO_CENTRE:
        (token,) = report.mended[NO_CENTRE]
        assert whole.elements[token].centre_line is not None
        assert elements.elements[token] == replace(whole.elements[token], centre_line=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tables: tables.update(arcline_path_3=[]), "no map expansion"),
        (lambda tables: tables.update(version="1.2"), r"1\.2; want version 1\.3"),
        (lambda tables: tables.pop("version"), r"1\.0; want"),
        (lambda tables: tables.pop("stop_line"), "stop_line"),
        (lambda tables: tables["node"].clear(), "elements cannot be read|no map element"),
        (
            lambda tables: [tables[name].clear() for name in list(tables) if isinstance(tables[name], list)],
            "no map element",
        ),
        (lambda tables: [x["exterior_node_tokens"].append("?") for x in tables["polygon"]], "elements cannot be read"),
    ],
)
def test_expansions_that_cannot_be_used(expansion, change, message):
    with pytest.raises(DataError, match=message) as error:
        read_map(expansion(change))
    assert "minicity-a.json" in str(error.value)


def test_files_that_are_no_maps(tmp_path, expansion):
    (tmp_path / "boston-seaport.json").write_text("{")
    with pytest.raises(DataError, match="boston-seaport"):
        read_map(tmp_path / "boston-seaport.json")
    with pytest.raises(DataError, match=r"map of minicity-a, but the drive is in boston-seaport"):
        read_map(expansion(), FRAMES["boston-seaport"])
    with pytest.raises(ConfigError, match="atlantis"):
        read_map(tmp_path / "atlantis.json")
    with pytest.raises(DataError, match=r"\.json.*\.geojson"):
        read_map(tmp_path / "map.osm")
    for content in ("{", "[]", '{"features": 3}'):
        (tmp_path / "map.geojson").write_text(content)
        with pytest.raises(DataError, match=r"map\.geojson"):
            read_map(tmp_path / "map.geojson", FRAME)


# ------------------------------------------------------------------------------------------------------------ GeoJSON
def test_our_geojson_loses_nothing(tmp_path, expansion):
    elements, _ = read_map(expansion())
    worn = MapElement(HOSTILE, "ped_crossing", box(0, 0, 3, 9), wear=0.25, subtype=HOSTILE)
    elements = elements.exchanged([], [worn])
    write_geojson_map(tmp_path / "map.geojson", elements)
    back, report = read_map(tmp_path / "map.geojson")
    assert report.lines() == []
    assert back == elements


def test_geojson_in_degrees(tmp_path):
    road = LineString([(10.0, 20.0), (400.0, 300.0)])
    degrees = [list(xy) for xy in QUEENSTOWN.shape_to_wgs84(road).coords]
    path = write_features(tmp_path / "map.geojson", [feature("road", line(*degrees), layer="road_edge")])
    elements, _ = read_map(path, QUEENSTOWN)
    assert elements.elements["road"].geometry.equals_exact(road, 1e-6)
    with pytest.raises(DataError, match="does not say where it lies"):
        read_map(path)
    named = {"type": "name", "properties": {"name": "singapore-queenstown", "unit": "degree"}}
    path = write_features(tmp_path / "map.geojson", [feature("road", line(*degrees), layer="road_edge")], frame=named)
    assert read_map(path)[0] == elements
    with pytest.raises(DataError, match="singapore-queenstown, but minicity-a is wanted"):
        read_map(path, FRAME)
    path = write_features(
        tmp_path / "map.geojson", [feature("road", line((0, 0), (700, 0)), layer="road_edge")], frame=named
    )
    with pytest.raises(DataError, match="says degrees"):
        read_map(path)


def test_metres_without_a_frame_are_guessed_and_said(tmp_path):
    path = write_features(
        tmp_path / "map.geojson", [feature("a", line((650, 1780), (700, 1800)), layer="road_divider")]
    )
    elements, report = read_map(path, QUEENSTOWN)
    assert elements.elements["a"].geometry == LineString([(650, 1780), (700, 1800)])
    assert "metres of singapore-queenstown" in report.lines()[0]


def test_scenarionet_names(tmp_path):
    square = {"type": "Polygon", "coordinates": [[(300, 0), (310, 0), (310, 4), (300, 4), (300, 0)]]}
    features = [
        feature(None, line((300, 2), (310, 2)), id="l", type="LANE_SURFACE_STREET"),
        feature(None, square, id="l", type="LANE_SURFACE_STREET"),
        feature(None, line((310, 2), (320, 2)), id="c", type="LANE_SURFACE_STREET"),
        feature(None, line((300, 0), (310, 0)), id="boundary_0", type="ROAD_LINE_SOLID_SINGLE_WHITE"),
        feature(None, line((300, 4), (310, 4)), id="y", type="ROAD_LINE_SOLID_SINGLE_YELLOW"),
        feature(None, line((300, 4), (310, 4)), id="t", type="TELEGRAPH"),
    ]
    elements, report = read_map(write_features(tmp_path / "map.geojson", features), QUEENSTOWN)
    assert counts(elements) == {"lane": 1, "lane_connector": 1, "road_divider": 1, "road_edge": 1}
    assert elements.elements["l"].geometry.area == 40
    assert elements.elements["l"].centre_line == LineString([(300, 2), (310, 2)])
    assert elements.elements["c"].centre_line == elements.elements["c"].geometry
    assert elements.elements["y"].look == ""  # ScenarioNet paints every road divider yellow
    assert report.ignored == {UNKNOWN: ["t"]}


def test_links_of_lanes_are_kept(tmp_path):
    square = {"type": "Polygon", "coordinates": [[(300, 0), (310, 0), (310, 4), (300, 4), (300, 0)]]}
    kind = {"type": "LANE_SURFACE_STREET"}
    features = [
        feature("l", line((300, 2), (310, 2)), **kind, exit_lanes=["c"]),
        feature("l", square, **kind, exit_lanes=["d", "c"], entry_lanes=["before", "nowhere"]),
        feature("c", line((310, 2), (320, 2)), **kind, entry_lanes=["l"]),
        feature("d", line((310, 2), (320, 8)), **kind),
        feature("e", line((310, 2), (320, -8)), **kind, entry_lanes=["l"]),
        feature("before", line((290, 2), (300, 2)), **kind, exit_lanes=None),
    ]
    for order in (features, features[::-1]):
        elements, report = read_map(write_features(tmp_path / "map.geojson", order), QUEENSTOWN)
        links = {token: set(element.successors) for token, element in elements.elements.items()}
        assert links == {"l": {"c", "d", "e"}, "c": set(), "d": set(), "e": set(), "before": {"l"}}
        assert len(elements.elements["l"].successors) == 3
        assert report.mended == {LEADS_NOWHERE: ["l"]}


def test_a_map_far_away_is_another_citys(tmp_path):
    here, far = ((FRAMES[city].longitude_deg, FRAMES[city].latitude_deg) for city in (QUEENSTOWN.name, "minicity-a"))
    roads = {
        name: [feature(f"{name}{i}", line((lon, lat), (lon + 1e-3, lat)), layer="road_edge") for i in range(5)]
        for name, (lon, lat) in {"here": here, "far": far}.items()
    }
    with pytest.raises(DataError, match=r"map\.geojson: lies \d{4,5} km or more from singapore-queenstown") as error:
        read_map(write_features(tmp_path / "map.geojson", roads["far"]), QUEENSTOWN)
    assert "\n" not in str(error.value)
    elements, report = read_map(write_features(tmp_path / "map.geojson", roads["here"] + roads["far"][:1]), QUEENSTOWN)
    assert (len(elements.elements), report.lost) == (5, {FAR: ["far0"]})
    utm = [feature("u", line((364e3, 142e3), (364.1e3, 142e3)), layer="road_edge")]  # metres of a country's grid
    with pytest.raises(DataError, match="391 km"):
        read_map(write_features(tmp_path / "map.geojson", utm), QUEENSTOWN)


@pytest.mark.parametrize(
    ("crs", "sound"),
    [
        (None, True),
        ({"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}, True),
        ({"type": "name", "properties": {"name": "EPSG:4326"}}, True),
        ({"type": "name", "properties": {"name": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"}}, True),
        ({"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}, False),
        ({"type": "link", "properties": {"href": "http://example.org/crs/42"}}, False),
        ("EPSG:3414", False),
    ],
)
def test_the_crs_of_older_files(tmp_path, crs, sound):
    place = QUEENSTOWN.to_wgs84(np.array([[10.0, 20.0], [400.0, 300.0]])).tolist()
    path = write_features(tmp_path / "map.geojson", [feature("road", line(*place), layer="road_edge")], crs=crs)
    if sound:
        assert list(read_map(path, QUEENSTOWN)[0].elements) == ["road"]
    else:
        with pytest.raises(DataError, match=r"map\.geojson: its crs member names .*not WGS84; export"):
            read_map(path, QUEENSTOWN)


def test_ids_may_be_zero(tmp_path):
    features = [
        feature(0, line((0, 0), (0, 9)), layer="road_edge", id="other"),
        feature(None, line((1, 0), (1, 9)), layer="road_edge", id=7.5),
        feature("", line((2, 0), (2, 9)), layer="road_edge"),
    ]
    elements, _ = read_map(write_features(tmp_path / "map.geojson", features, frame=FRAME.contract()))
    assert list(elements.elements) == ["0", "7.5", "feature 2"]


def test_shapes_are_of_their_layers_kind(tmp_path):
    square = {"type": "Polygon", "coordinates": [[(0, 0), (3, 0), (3, 9), (0, 9), (0, 0)]]}
    good = [feature(f"g{number}", line((number, 0), (number, 9)), layer="road_edge") for number in range(18)]
    ways = [feature("w1", square, layer="lane"), feature("w2", line((0, 0), (0, 9)), layer="lane")]
    bad = [
        feature("b1", square, layer="road_divider"),
        feature("b2", line((0, 0), (0, 9)), layer="ped_crossing"),
        feature("b3", {"type": "Point", "coordinates": (1, 1)}, layer="traffic_light"),
    ]
    path = write_features(tmp_path / "map.geojson", good + ways + bad, frame=FRAME.contract())
    elements, report = read_map(path)
    assert (len(elements.elements), report.lost) == (20, {OTHER_KIND: ["b1", "b2", "b3"]})


def test_broken_features_are_counted(tmp_path):
    good = [feature(f"g{number}", line((number, 0), (number, 9)), layer="road_edge") for number in range(20)]
    bad = [feature("b", {"type": "Polygon", "coordinates": [[(0, 0)]]}, layer="walkway"), 3,
           feature("w", line((0, 0), (1, 1)), layer="lane_divider", wear=7)]  # fmt: skip
    elements, report = read_map(write_features(tmp_path / "map.geojson", good + bad, frame=FRAME.contract()))
    assert (len(elements.elements), report.num_lost) == (20, 3)
    with pytest.raises(DataError, match="3 of 7 elements"):
        read_map(write_features(tmp_path / "map.geojson", good[:4] + bad, frame=FRAME.contract()))


# ----------------------------------------------------------------------------------------------------------- the type
def test_elements_are_checked():
    for fields in (
        {"token": ""},
        {"layer": "river"},
        {"colour": "red"},
        {"wear": 1.5},
        {"geometry": Polygon()},
        {"geometry": Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])},
        {"geometry": Point(np.nan, 0)},
        {"geometry": Point(1, 0)},
        {"geometry": LineString([(0, 0), (1, 0)])},
        {"layer": "road_edge"},
    ):
        with pytest.raises(ValueError, match=r"."):
            MapElement(**{"token": "x", "layer": "walkway", "geometry": box(0, 0, 1, 1)} | fields)


def test_near_within_and_exchanged():
    row = [MapElement(f"e{x}", "lane", box(x, 0, x + 1, 1), successors=(f"e{x + 2}",)) for x in (0, 2, 4)]
    elements = ElementMap.of(FRAME, row)
    assert [element.token for element in elements.near(Point(1.5, 0.5), 0.5)] == ["e0", "e2"]
    assert [element.token for element in elements.near(Point(1.5, 0.5), 0.4)] == []
    part = elements.within(box(0, 0, 2.5, 1))
    assert {token: element.successors for token, element in part.elements.items()} == {"e0": ("e2",), "e2": ()}
    assert elements.predecessors("e2") == ["e0"]
    assert elements.exchanged(["e0"], []).exchanged([], [row[0]]) == elements
    with pytest.raises(KeyError):
        elements.exchanged(["e9"], [])
    with pytest.raises(ValueError, match="e2"):
        elements.exchanged([], [row[1]])


def test_a_drive_elsewhere_is_told():
    elements = ElementMap.of(FRAME, [MapElement("a", "lane", box(0, 0, 10, 10))])
    assert elements.check_overlap(np.array([[59.0, 5.0], [61.0, 5.0]]), "scene-0001") == 0.5
    for xy in (np.array([[600.0, 1800.0]]), np.zeros((0, 2))):
        with pytest.raises(DataError, match="scene-0001: nowhere near the map"):
            elements.check_overlap(xy, "scene-0001")


@pytest.mark.real_data
def test_the_real_map_of_scene_0916(nuscenes_root):
    path = nuscenes_root / "maps" / "scene-0916_vector_map.geojson"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the official masks")
    elements, report = read_map(path, QUEENSTOWN)
    assert counts(elements) == {
        "lane": 88,
        "lane_connector": 113,
        "road_divider": 26,
        "lane_divider": 9,
        "road_edge": 94,
    }
    assert (report.mended, report.lost, report.ignored) == ({}, {}, {})
    assert all(element.centre_line is not None for element in elements.layer("lane", "lane_connector"))
