import json
from collections import Counter

import numpy as np
import pytest
from shapely.geometry import LineString, Point, Polygon, box

from avjepa.errors import ConfigError, DataError
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.geojson_maps import write_geojson_map
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.map_report import FAR, LEADS_NOWHERE, OTHER_KIND, UNKNOWN
from avjepa.mapping.vector_map import ElementMap, MapElement
from tests.mapping.reports import HOSTILE

FRAME = FRAMES["minicity-a"]
QUEENSTOWN = FRAMES["singapore-queenstown"]


def write_features(path, features, **members):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}))
    return path


def feature(token, geometry, **properties):
    return {"type": "Feature", "id": token, "geometry": geometry, "properties": properties}


def counts(elements):
    return Counter(element.layer for element in elements.elements.values())


def line(*points):
    return {"type": "LineString", "coordinates": points}


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
