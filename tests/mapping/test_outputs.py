import csv
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, shape

from avjepa.errors import DataError
from avjepa.mapping.changes import Review
from avjepa.mapping.frames import FRAMES, MapFrame
from avjepa.mapping.outputs.frame_predictions import (
    MATCH,
    MISMATCH,
    FramePrediction,
    in_range,
    predict_frame,
    read_frame_predictions,
    spaced_frames,
    write_frame_predictions,
)
from avjepa.mapping.outputs.geojson import read_changes_geojson, write_changes_geojson
from avjepa.mapping.outputs.local_json import read_local_json, write_local_json
from avjepa.mapping.outputs.osm import read_osm, write_osm
from avjepa.mapping.outputs.table import read_csv, write_csv
from tests.mapping.reports import END, HOLED, HOSTILE, SQUARE, change, make_report


def rings(geometry):
    """Every ring of a GeoJSON geometry object, with whether it is an outer one."""
    polygons = {"Polygon": [geometry["coordinates"]], "MultiPolygon": geometry["coordinates"]}.get(geometry["type"], [])
    return [(number == 0, ring) for polygon in polygons for number, ring in enumerate(polygon)]


def same_place(one, other):
    """Two shapes are the same to a millimetre."""
    return one.geom_type == other.geom_type and shapely.hausdorff_distance(one, other) < 1e-3


# ---------------------------------------------------------------------------------------------------------- local JSON
def test_local_json_loses_nothing(tmp_path):
    report = make_report()
    write_local_json(tmp_path / "changes_local.json", report)
    assert read_local_json(tmp_path / "changes_local.json") == report
    own = replace(report, frame=MapFrame("my-town", 50.0, 8.0), changes=())
    write_local_json(tmp_path / "changes_local.json", own)
    assert read_local_json(tmp_path / "changes_local.json") == own


def damages():
    """Ways in which a report is broken."""
    yield lambda text: text[:200]
    yield lambda text: "[]"
    yield lambda text: text.replace("deletion", "x")
    yield lambda text: text.replace('"n_frames"', '"n"')
    yield lambda text: text.replace('"version": 2', '"version": 1')


@pytest.mark.parametrize("damage", list(damages()))
@pytest.mark.parametrize(
    ("write", "read"), [(write_local_json, read_local_json), (write_changes_geojson, read_changes_geojson)]
)
def test_damaged_reports_are_named(tmp_path, write, read, damage):
    path = tmp_path / "changes.json"
    write(path, make_report())
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=r"changes\.json"):
        read(path)
    with pytest.raises(DataError, match="gone"):
        read(tmp_path / "gone")


# ------------------------------------------------------------------------------------------------------------- GeoJSON
def test_geojson_follows_rfc_7946(tmp_path):
    report = make_report()
    write_changes_geojson(tmp_path / "changes.geojson", report)
    collection = json.loads((tmp_path / "changes.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    assert "crs" not in collection
    assert len(collection["features"]) == len(report.changes)
    origin = report.frame
    for feature, item in zip(collection["features"], report.changes, strict=True):
        assert feature["type"] == "Feature"
        assert feature["id"] == item.change_id
        coordinates = shapely.get_coordinates(shape(feature["geometry"]))
        # Longitude first: about -123.5, which no latitude is.
        assert (np.abs(coordinates - [origin.longitude_deg, origin.latitude_deg]) < 0.01).all()
        found = rings(feature["geometry"])
        assert all(ring[0] == ring[-1] and len(ring) >= 4 for _, ring in found)
        assert all(shapely.is_ccw(shapely.LinearRing(ring)) == outer for outer, ring in found)
        west, south, east, north = collection["bbox"]
        assert ((coordinates >= [west, south]) & (coordinates <= [east, north])).all()
    assert sum(len(rings(feature["geometry"])) for feature in collection["features"]) >= 6
    digits = re.findall(r"-123\.(\d+)", (tmp_path / "changes.geojson").read_text())
    assert max(map(len, digits)) == 9


def test_geojson_there_and_back(tmp_path):
    report = make_report()
    write_changes_geojson(tmp_path / "changes.geojson", report)
    back = read_changes_geojson(tmp_path / "changes.geojson")
    for ours, theirs in zip(back.changes, report.changes, strict=True):
        for side in ("old_geometry", "new_geometry"):
            one, other = getattr(ours, side), getattr(theirs, side)
            assert (one is None) == (other is None)
            assert one is None or same_place(one, other)
    ours = [
        replace(item, old_geometry=theirs.old_geometry, new_geometry=theirs.new_geometry)
        for item, theirs in zip(back.changes, report.changes, strict=True)
    ]
    assert replace(back, changes=tuple(ours)) == report


def test_geojson_of_no_changes_has_no_bbox(tmp_path):
    write_changes_geojson(tmp_path / "changes.geojson", make_report([]))
    collection = json.loads((tmp_path / "changes.geojson").read_text())
    assert collection["features"] == []
    assert "bbox" not in collection
    assert read_changes_geojson(tmp_path / "changes.geojson") == make_report([])


# ----------------------------------------------------------------------------------------------------------------- CSV
def test_csv_there_and_back(tmp_path):
    report = make_report()
    write_csv(tmp_path / "changes.csv", report)
    assert read_csv(tmp_path / "changes.csv") == report.changes
    (tmp_path / "changes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"changes\.csv"):
        read_csv(tmp_path / "changes.csv")


def test_no_cell_of_the_csv_is_a_formula(tmp_path):
    names = [start + "1+1" for start in ("=", "+", "-", "@", "\t", "'")]
    changes = [change(f"c{number}", element_id=name) for number, name in enumerate(names)]
    write_csv(tmp_path / "changes.csv", make_report(changes))
    with (tmp_path / "changes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["element_id"] for row in rows] == ["'" + name for name in names]
    assert [item.element_id for item in read_csv(tmp_path / "changes.csv")] == names
    # The middle of the crosswalk, (12, 22) m, as degrees.
    lon_lat = FRAMES["minicity-a"].to_wgs84(np.array([[12.0, 22.0]]))[0]
    assert [float(rows[0]["longitude_deg"]), float(rows[0]["latitude_deg"])] == pytest.approx(lon_lat, abs=1e-9)


def test_csv_of_text_that_is_no_unicode(tmp_path):
    made = change("c0", element_id="x\udcff", description="\ud800 end", review=Review("rejected", "\udfff", END))
    write_csv(tmp_path / "changes.csv", make_report([made]))
    (back,) = read_csv(tmp_path / "changes.csv")
    assert (back.element_id, back.description, back.review.note) == (r"x\udcff", r"\ud800 end", r"\udfff")


# ------------------------------------------------------------------------------------------------------------- OSM XML
def test_osm_is_sound_and_new(tmp_path):
    write_osm(tmp_path / "changes.osm", make_report())
    root = ElementTree.fromstring((tmp_path / "changes.osm").read_bytes())
    assert (root.tag, root.attrib["version"], root.attrib["upload"]) == ("osm", "0.6", "never")
    ids = [item.attrib["id"] for kind in ("node", "way", "relation") for item in root.iter(kind)]
    assert len(set(ids)) == len(ids) > 0
    assert all(int(number) < 0 for number in ids)
    assert {ref.attrib["ref"] for ref in root.iter("nd")} <= {node.attrib["id"] for node in root.iter("node")}
    assert {ref.attrib["ref"] for ref in root.iter("member")} <= {way.attrib["id"] for way in root.iter("way")}
    assert [item.tag for item in root] == sorted((item.tag for item in root), key=["node", "way", "relation"].index)
    tags = [tag.attrib for tag in root.iter("tag")]
    assert all(len(tag["v"]) <= 255 for tag in tags)


def test_osm_holds_both_sides_of_every_change(tmp_path):
    report = make_report()
    write_osm(tmp_path / "changes.osm", report)
    shapes = read_osm(tmp_path / "changes.osm")
    for item in report.changes:
        for side, wanted in (("old", item.old_geometry), ("new", item.new_geometry)):
            found = [
                part.shape
                for part in shapes
                if (part.tags["avjepa:change_id"], part.tags["avjepa:side"]) == (item.change_id[:255], side)
            ]
            assert len(found) == (0 if wanted is None else len(shapely.get_parts(wanted)))
            if found:
                whole = MultiPolygon(found) if len(found) > 1 else found[0]
                assert same_place(report.frame.shape_to_map(whole), wanted)
    by_id = {(part.tags["avjepa:change_id"], part.tags["avjepa:side"]): part.tags for part in shapes}
    assert by_id["c0", "old"]["type"] == "multipolygon"
    assert by_id["c0", "old"]["subtype"] == "crosswalk"
    assert {"type": "line_thin", "subtype": "solid", "color": "yellow"}.items() <= by_id["c3", "new"].items()
    assert by_id[HOSTILE, "old"]["note"] == HOSTILE


def test_areas_of_the_overlay_have_the_tags_of_lanelet2(tmp_path):
    painted = {"atomic_change": "markings", "new_geometry": HOLED, "old_geometry": SQUARE}
    changes = [
        change("zebra", **painted, old_marking="solid white", new_marking="dashed yellow"),
        change("road", layer="drivable_area"),
        change("parking", layer="carpark_area"),
    ]
    write_osm(tmp_path / "changes.osm", make_report(changes))
    root = ElementTree.fromstring((tmp_path / "changes.osm").read_bytes())
    tags = {item.attrib["id"]: {tag.attrib["k"]: tag.attrib["v"] for tag in item.iter("tag")} for item in root}
    areas, borders = {}, {}
    for relation in root.iter("relation"):
        own = tags[relation.attrib["id"]]
        name = own["avjepa:change_id"], own["avjepa:side"]
        areas[name] = {key: own[key] for key in ("type", "area", "subtype", "color", "avjepa:marking") if key in own}
        borders[name] = [tags[member.attrib["ref"]] for member in relation.iter("member")]
    area = {"type": "multipolygon", "area": "yes"}
    assert areas == {
        ("zebra", "old"): area | {"subtype": "crosswalk", "color": "white", "avjepa:marking": "solid white"},
        ("zebra", "new"): area | {"subtype": "crosswalk", "color": "yellow", "avjepa:marking": "dashed yellow"},
        ("road", "old"): area | {"subtype": "road"},
        ("parking", "old"): area | {"subtype": "parking"},
    }
    assert borders == {
        ("zebra", "old"): [{"type": "pedestrian_marking", "subtype": "solid", "color": "white"}],
        ("zebra", "new"): [{"type": "pedestrian_marking", "subtype": "dashed", "color": "yellow"}] * 2,
        ("road", "old"): [{"type": "road_border"}],
        ("parking", "old"): [{"type": "virtual"}],
    }
    assert len(read_osm(tmp_path / "changes.osm")) == 4


def test_osm_leaves_out_what_xml_cannot_hold(tmp_path):
    write_osm(tmp_path / "changes.osm", make_report([change(description="bell \x07 and \x00 and \ud800 end")]))
    assert read_osm(tmp_path / "changes.osm")[0].tags["description"] == "bell  and  and  end"
    (tmp_path / "changes.osm").write_text("<osm><way id='-1'><nd ref='-9'/></way></osm>")
    with pytest.raises(DataError, match=r"changes\.osm"):
        read_osm(tmp_path / "changes.osm")


# --------------------------------------------------------------------------------------------------- frame predictions
def test_frames_more_than_five_metres_apart():
    xy = np.array([[0, 0], [3, 0], [5, 0], [5.1, 0], [9, 0], [10.2, 0], [10.2, 0]])
    assert spaced_frames(xy, np.ones(7, bool)) == [0, 3, 5]
    assert spaced_frames(np.zeros((0, 2)), np.ones(0, bool)) == []


def test_frames_that_lack_a_picture_are_not_asked_and_no_distance_counts_from_them():
    xy = np.array([[0, 0], [3, 0], [5, 0], [5.1, 0], [9, 0], [10.2, 0], [10.2, 0]])
    assert spaced_frames(xy, np.array([0, 1, 1, 1, 1, 1, 1], bool)) == [1, 4]
    assert spaced_frames(xy, np.array([1, 1, 1, 0, 1, 1, 1], bool)) == [0, 4]


def test_the_range_is_measured_to_the_outer_ring():
    large = Polygon([(-100, -100), (100, -100), (100, 100), (-100, 100)], [[(-1, -1), (1, -1), (1, 1), (-1, 1)]])
    assert not in_range(large, (0, 0))  # inside, and its hole does not count
    assert in_range(large, (85, 0))
    assert in_range(LineString([(0, 0), (1, 0)]), (0, 19.99))
    assert not in_range(LineString([(0, 0), (1, 0)]), (0, 20.0))
    assert in_range(MultiPolygon([large, SQUARE]), (12, 22))
    assert in_range(Point(0, 0), (3, 4))


def test_the_surest_believed_change_in_sight_decides():
    changes = [
        change("a", confidence=0.6),
        change("b", confidence=0.8, status="candidate"),
        change("c", confidence=0.99, status="degraded"),
        change("far", confidence=1.0, old_geometry=shapely.transform(SQUARE, lambda xy: xy + 1000)),
    ]
    assert predict_frame(changes, "log", 7, (12, 22)) == FramePrediction("log", 7, MISMATCH, 0.8, None)
    assert predict_frame(changes, "log", 7, (500, 500), MATCH) == FramePrediction("log", 7, MATCH, 1.0, MATCH)
    doubtful = [change(confidence=0.25)]
    assert predict_frame(doubtful, "log", 7, (12, 22)) == FramePrediction("log", 7, MATCH, 0.75, None)


def test_frame_predictions_have_tbv_shape(tmp_path):
    path = tmp_path / "predictions.json"
    made = [
        FramePrediction("log", 315968663259918000, MATCH, 0.75, MISMATCH),
        FramePrediction("log", 2, MISMATCH, 1.0, None),
    ]
    write_frame_predictions(path, made)
    rows = json.loads(path.read_text())
    assert [set(row) for row in rows] == [{"log_id", "lidar_timestamp_ns", "pred_class", "confidence", "y_true"}] * 2
    assert rows[0]["lidar_timestamp_ns"] == 315968663259918000
    assert read_frame_predictions(path) == made
    for text in ("{", '[{"log_id": "x"}]', json.dumps([rows[0] | {"pred_class": 3}])):
        path.write_text(text)
        with pytest.raises(DataError, match=r"predictions\.json"):
            read_frame_predictions(path)


def test_nothing_half_written_is_left(tmp_path):
    broken = make_report([change(old_geometry=shapely.transform(SQUARE, lambda xy: xy + 2e6))])  # beyond any frame
    for write, name in ((write_changes_geojson, "a.geojson"), (write_osm, "a.osm"), (write_csv, "a.csv")):
        with pytest.raises(ValueError, match="finite points"):
            write(tmp_path / name, broken)
    assert list(tmp_path.iterdir()) == []
