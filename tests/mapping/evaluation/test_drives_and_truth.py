import json
import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, MultiPoint, Point, box

from avjepa.errors import DataError
from avjepa.geometry.map_edit import Place, edit_feature, place_feature
from avjepa.mapping.drive_paths import drive_paths, seen_region, share_within
from avjepa.mapping.evaluation.truth import reach_of, read_edits
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.map_edits import write_truth
from avjepa.mapping.random_edits import edit_map
from avjepa.sensors.nuscenes_index import load_index
from tests.mapping.evaluation.scenes import edit, square, straight
from tests.mapping.test_map_edits import REGION, street_map
from tests.toy_drive import write_toy_drive


def test_the_region_seen_is_20_m_around_every_position():
    region = seen_region([straight([0, 10]), straight([500], "other")])
    assert all(region.contains(Point(x, 0)) for x in (-19.9, 29.9, 480.1, 519.9))
    assert not any(region.contains(Point(x, 0)) for x in (-20.1, 30.1, 479.9, 250))
    # Two discs of radius 20 that overlap, and one alone (inscribed polygons of 64 corners).
    disc = 0.5 * 64 * math.sin(2 * math.pi / 64) * 400
    lens = 2 * 400 * math.acos(10 / 40) - 5 * math.sqrt(1600 - 100)
    assert region.area == pytest.approx(3 * disc - lens, rel=2e-3)


def test_shares_of_areas_lines_and_points():
    region = box(0, 0, 10, 10)
    assert share_within(box(5, 0, 15, 10), region) == pytest.approx(0.5)
    assert share_within(LineString([(8, 5), (16, 5)]), region) == pytest.approx(0.25)
    assert share_within(MultiPoint([(1, 1), (2, 2), (3, 3), (50, 50)]), region) == 0.75
    assert share_within(Point(1, 1), region) == 1.0
    assert share_within(Point(11, 1), region) == 0.0
    with pytest.raises(ValueError, match="empty"):
        share_within(shapely.Polygon(), region)


def test_edits_count_of_which_half_was_in_sight():
    # The drives end at x = 100 and x = 130: seen is up to 120, and from 110 to 150.
    paths = [straight(np.arange(0, 101, 5)), straight([130], "second", hours=1)]
    edits = [
        edit("seen", square(50)),
        edit("by both", square(115)),
        edit("half", LineString([(140, 0), (159, 0)])),  # 10 of 19 m
        edit("less", LineString([(140, 0), (161, 0)]), kind="type"),  # 10 of 21 m
        edit("far", square(50, 40), kind="deletion"),
        edit("together", LineString([(106, 0), (140, 0)])),  # 14 m by the first, 30 by the second
    ]
    reach = reach_of(edits, paths)
    assert reach.in_reach == (True, True, True, False, False, True)
    assert reach.drives == (1, 2, 1, 0, 0, 1)
    assert reach.counted == [0, 1, 2, 5]


def bent(every_m=1.0):
    """A drive along x to the origin, a quarter of a circle to the left of 10 m radius, and on along y."""
    angle = np.linspace(-np.pi / 2, 0, 30)
    turn = np.column_stack([10 * np.cos(angle), 10 + 10 * np.sin(angle)])
    line = LineString([(-30, 0), *turn, (10, 40)])
    xy_m = shapely.get_coordinates(shapely.line_interpolate_point(line, np.arange(0, line.length, every_m)))
    return replace(straight(np.zeros(len(xy_m))), xy_m=xy_m), LineString(turn)


@pytest.mark.parametrize("as_band", [True, False], ids=["area", "centre line"])
def test_a_new_way_leaves_a_trace_where_a_drive_took_it(as_band):
    drive, line = bent()
    shape = line.buffer(1.75, cap_style="flat") if as_band else line
    new = replace(edit("new", shape, "connectivity", "lane_connector"), prior_geometry=None)
    gone = replace(new, token="gone", world_geometry=None, prior_geometry=shape)
    on = LineString([(0, 0), (20, 0)])
    other = replace(
        new, token="other", geometry=on, world_geometry=on.buffer(1.75, cap_style="flat") if as_band else on
    )
    edits = [new, gone, other, replace(new, token="lane", layer="lane"), replace(new, prior_geometry=shape)]
    reach = reach_of(edits, [straight([0], y_m=5), drive])
    assert reach.driven == (True, False, False, False, False)
    assert reach.traceless == [1, 2, 4]
    assert reach.visible.in_reach == (True, False, False, True, False)
    half = replace(drive, xy_m=drive.xy_m[:38], tokens=drive.tokens[:38])  # it ends in the middle of the way
    assert reach_of([new], [half]).driven == (False,)
    aside = replace(drive, xy_m=np.add(drive.xy_m, (0, 3)))
    assert reach_of([new], [aside]).driven == (False,)


def test_truth_of_a_city_and_of_the_editing_tool(tmp_path):
    path = tmp_path / "truth.geojson"
    made = [edit("one", square(5)), edit("two", LineString([(0, 0), (9, 3)]), kind="markings", layer="lane_divider")]
    features = [edit_feature(item, ["w"], ["p"]) for item in made]
    features += [place_feature(Place("place", (0.0, 0.0), 30.0), made)]
    frame = {"type": "name", "properties": {"name": "minicity-a", "axes": ["x east", "y north"], "unit": "metre"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "frame": frame, "features": features}))
    found_frame, found = read_edits(path)
    assert found_frame == FRAMES["minicity-a"]
    assert [(item.token, item.kind, item.layer) for item in found] == [
        ("one", "geometry", "stop_line"),
        ("two", "markings", "lane_divider"),
    ]
    assert all(shapely.equals(one.geometry, other.geometry) for one, other in zip(found, made, strict=True))

    edited = edit_map(street_map(), 3, np.random.default_rng(0), REGION)
    write_truth(path, edited.prior.frame, edited.edits, edited.places)
    assert [item.token for item in read_edits(path)[1]] == [item.token for item in edited.edits]
    write_truth(path, edited.prior.frame, [], edited.places)  # nothing is wrong with this map
    assert read_edits(path)[1] == []


def test_truth_that_cannot_be_used(tmp_path):
    path = tmp_path / "truth.geojson"
    for text in ("{", '{"features": []}', '{"features": [1], "frame": {"properties": {"name": "minicity-a"}}}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"truth\.geojson"):
            read_edits(path)


def test_paths_of_a_root(tmp_path):
    index = load_index(write_toy_drive(tmp_path, keyframes=4))
    (path,) = drive_paths(index, ["scene-0061"])
    assert (path.scene, path.city, len(path.tokens)) == ("scene-0061", "singapore-onenorth", 4)
    assert path.xy_m[1] - path.xy_m[0] == pytest.approx([2.0, 0.05])
    assert path.steps_m[0] == pytest.approx(math.hypot(2.0, 0.05))
    assert shapely.length(path.segments) == pytest.approx(path.steps_m)
    assert path.pictured.tolist() == [True] * 4
    with pytest.raises(DataError, match="scene-9999"):
        drive_paths(index, ["scene-0061", "scene-9999"])
    with pytest.raises(DataError, match="boston-seaport, singapore-onenorth"):
        drive_paths(index, ["scene-0061", "scene-0103"])


def test_frames_without_a_picture_of_a_camera_that_the_drive_has(tmp_path):
    index = load_index(write_toy_drive(tmp_path, keyframes=4))
    files = index.camera_file.copy()
    files[1, 2], files[:, 5] = "", ""  # a picture is missing; a camera was never there
    (path,) = drive_paths(replace(index, camera_file=files), ["scene-0061"])
    assert path.pictured.tolist() == [True, False, True, True]
