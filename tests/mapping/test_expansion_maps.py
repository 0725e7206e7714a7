from dataclasses import replace

import pytest
from shapely.geometry import LineString, MultiPolygon

from avjepa.city.map_files import write_map_expansion
from avjepa.errors import DataError
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.map_report import (
    BAD,
    BAD_RECORD,
    DANGLING,
    DOUBLE,
    EMPTY,
    LEADS_NOWHERE,
    MENDED,
    NO_CENTRE,
    NO_LINKS,
    NO_PAINT,
)
from tests.city.hand_made import make_road_map


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


def test_dashed_yellow_paint_is_not_called_solid(tmp_path):
    """The devkit has no name for it; a map that says "solid" would be wrong of every such line."""
    town = make_road_map()
    name, divider = next((name, x) for name, x in town.dividers.items() if x.separates == "lanes")
    painted = replace(town, dividers=town.dividers | {name: replace(divider, colour="yellow", dashed=True)})
    path = tmp_path / "minicity-a.json"
    write_map_expansion(path, painted)
    found = read_map(path)[0].elements[name]
    assert (found.colour, found.dashed) == ("yellow", True)


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
