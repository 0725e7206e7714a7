import json
import re

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, Polygon, box

from avjepa.cli import run_tool
from avjepa.conventions import ATOMIC_CHANGES
from avjepa.errors import ConfigError, DataError
from avjepa.mapping.edit_steps import STEPS
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.geojson_maps import write_geojson_map
from avjepa.mapping.map_edits import apply_edits, read_truth, revert_edits, write_truth
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.random_edits import APART_M, around, edit_map
from avjepa.mapping.vector_map import ElementMap, MapElement
from tools import edit_map as tool

REGION = box(-10, -60, 210, 60)


def street_map():
    """A straight street of two lanes, 200 m long, with every kind of element that a step can edit; its edge is an area's."""
    elements = [
        MapElement("road", "drivable_area", box(0, -6, 200, 6)),
        MapElement("east", "lane", box(0, -4, 200, 0), LineString([(0, -2), (200, -2)]), ("out1", "out2")),
        MapElement("west", "lane", box(0, 0, 200, 4), LineString([(200, 2), (0, 2)])),
        MapElement("out1", "lane_connector", box(200, -4, 206, 0), LineString([(200, -2), (206, -2)])),
        MapElement("out2", "lane_connector", Polygon([(200, -4), (206, -9), (206, -5), (200, 0)])),
        MapElement("middle", "road_divider", LineString([(0, 0), (200, 0)]), colour="yellow", dashed=False),
        MapElement("side", "lane_divider", LineString([(0, 4), (200, 4)]), colour="white", dashed=True),
        MapElement("short", "lane_divider", LineString([(150, -4), (190, -4)]), colour="white", dashed=False),
        MapElement("kerb", "road_edge", LineString([(0, 6), (200, 6)])),
        MapElement("zebra", "ped_crossing", box(20, -6, 24, 6)),
        MapElement("bar", "stop_line", box(15, -4, 15.5, 0)),
    ]
    return ElementMap.of(FRAMES["minicity-a"], elements)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_every_step_finds_room_on_a_street(step, monkeypatch):
    monkeypatch.setattr("avjepa.mapping.random_edits.STEPS", {step: STEPS[step]})
    world = street_map()
    for seed in range(3):
        edited = edit_map(world, 1, np.random.default_rng(seed), REGION)
        (edit,) = edited.edits
        assert (edit.kind, edit.step) == (STEPS[step], step.__name__)
        assert edited.prior != world
        assert apply_edits(edited.prior, edited.edits) == world
        # Away from the edit the maps are the same, whatever the elements are called.
        for layer in {element.layer for element in world.elements.values()}:
            union = [shapely.union_all([x.geometry for x in side.layer(layer)]) for side in (world, edited.prior)]
            difference = shapely.symmetric_difference(*union).difference(edit.geometry.buffer(0.3))
            assert difference.area < 0.01, layer
            assert difference.length < 2.5 or layer == "drivable_area", layer


def test_moves_are_as_long_as_they_say(monkeypatch):
    world = street_map()
    moves = {"divider_moved": (0.5, 1.0), "road_edge_moved": (1.5, 3.0), "stop_line_moved": (2.0, 5.0)}
    for step in STEPS:
        if step.__name__ not in moves:
            continue
        monkeypatch.setattr("avjepa.mapping.random_edits.STEPS", {step: STEPS[step]})
        (edit,) = edit_map(world, 1, np.random.default_rng(1), REGION).edits
        low_m, high_m = moves[step.__name__]
        moved_m = shapely.hausdorff_distance(edit.world_geometry, edit.prior_geometry)
        assert low_m <= moved_m <= high_m + 0.3
        assert f"{moved_m:.1f} m" in edit.description or step.__name__ != "stop_line_moved"


@pytest.mark.parametrize("seed", range(4))
def test_the_prior_with_its_edits_is_the_world(tmp_path, seed):
    world = street_map()
    edited = edit_map(world, 5, np.random.default_rng(seed), REGION)
    assert len(edited.edits) == 5
    assert len({edit.kind for edit in edited.edits}) >= 4
    assert apply_edits(edited.prior, edited.edits[::-1]) == world
    assert revert_edits(world, edited.edits[::-1]) == edited.prior
    for first, one in enumerate(edited.edits):
        assert one.geometry.within(REGION)
        assert all(one.geometry.distance(other.geometry) >= APART_M - 0.1 for other in edited.edits[first + 1 :])
    write_truth(tmp_path / "truth.geojson", world.frame, edited.edits, edited.places)
    write_geojson_map(tmp_path / "prior.geojson", edited.prior)
    frame, edits = read_truth(tmp_path / "truth.geojson")
    assert frame == world.frame
    assert apply_edits(read_map(tmp_path / "prior.geojson")[0], edits) == world
    again = edit_map(world, 5, np.random.default_rng(seed), REGION)
    assert (again.edits, again.prior) == (edited.edits, edited.prior)


def test_truth_has_the_members_of_the_mini_citys(tmp_path):
    edited = edit_map(street_map(), 4, np.random.default_rng(0), REGION)
    write_truth(tmp_path / "truth.geojson", edited.prior.frame, edited.edits, edited.places)
    collection = json.loads((tmp_path / "truth.geojson").read_text())
    assert collection["frame"]["properties"]["name"] == "minicity-a"
    edits = [item for item in collection["features"] if item["properties"]["feature"] == "edit"]
    places = [item for item in collection["features"] if item["properties"]["feature"] == "place"]
    for item in edits:
        assert set(item) >= {"type", "id", "geometry", "properties", "world_geometry", "prior_geometry"}
        names = {"token", "place", "kind", "step", "layer", "description", "world_tokens", "prior_tokens", "feature"}
        assert set(item["properties"]) == names
        assert item["properties"]["kind"] in ATOMIC_CHANGES
    assert sorted(token for item in places for token in item["properties"]["edits"]) == sorted(
        item["id"] for item in edits
    )
    assert {item["properties"]["changed"] for item in places} == {True, False}
    covered = shapely.union_all([place.disc for place in edited.places])
    assert covered.buffer(0.5).covers(REGION)


def test_truth_that_cannot_be_used(tmp_path):
    path = tmp_path / "truth.geojson"
    edited = edit_map(street_map(), 2, np.random.default_rng(0), REGION)
    write_truth(path, edited.prior.frame, edited.edits, edited.places)
    text = path.read_text()
    for damaged in ("{", text.replace('"world_elements"', '"elements"'), text.replace('"step"', '"stop"')):
        path.write_text(damaged)
        with pytest.raises(DataError, match=r"truth\.geojson"):
            read_truth(path)


def test_no_room_is_told():
    with pytest.raises(DataError, match="room for 0 edits alone, not 3"):
        edit_map(street_map(), 3, np.random.default_rng(0), box(1000, 1000, 1100, 1100))


def test_the_region_around_a_drive():
    region = around(np.array([[0.0, 0.0], [10.0, 0.0]]), 5.0)
    assert region.contains(shapely.Point(14, 0))
    assert not region.contains(shapely.Point(16, 0))


def test_the_tool_writes_maps_that_differ_by_the_truth(tmp_path, capsys):
    write_geojson_map(tmp_path / "map.geojson", street_map())
    for out in ("one", "two"):
        tool.main(["--map", str(tmp_path / "map.geojson"), "--edits", "4", "--seed", "3", "--out", str(tmp_path / out)])
    names = ("prior.geojson", "world.geojson", "truth.geojson")
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    prior, world = (read_map(tmp_path / "one" / name)[0] for name in names[:2])
    assert world == street_map()
    assert apply_edits(prior, read_truth(tmp_path / "one" / names[2])[1]) == world
    assert "4 edits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--edits", "-1"], "--edits -1: want 0"),
        (["--edits", "-3"], "--edits -3"),
        (["--kinds", "insertion", "explosion"], "--kinds explosion: want some of insertion"),
        (["--seed", "-1"], "--seed -1"),
        (["--within", "nan"], "--within nan"),
        (["--within", "-1"], "--within -1"),
        (["--map", "gone.geojson"], "gone.geojson: no such file"),
        (["--map", "."], r"--map \.: no such file"),
        (["--out", "taken"], "--out taken: is a file"),
        (["--scenes", "scene-0001"], "--data"),
        (["--scenes", "scene-0001", "--data", "nowhere"], "nowhere"),
        (["--city", "atlantis"], "atlantis"),
        (["--origin", "1", "2"], "--city"),
        (["--origin", "nan", "2", "--city", "x"], "--origin"),
        (["--kinds", "connectivity", "--edits", "99"], "room for"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_geojson_map(tmp_path / "map.geojson", street_map())
    (tmp_path / "taken").write_text("")
    with pytest.raises(SystemExit) as error:
        run_tool(lambda: tool.main(["--map", "map.geojson", "--out", "out", *arguments]))
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()


def test_a_map_or_a_drive_is_wanted(tmp_path):
    with pytest.raises(ConfigError, match="--map: name a map, or drives"):
        tool.main(["--out", str(tmp_path)])


def test_kinds_alone_are_made(tmp_path):
    edits = edit_map(street_map(), 3, np.random.default_rng(0), REGION, ["markings", "insertion"]).edits
    assert {edit.kind for edit in edits} == {"markings", "insertion"}


@pytest.mark.real_data
def test_the_real_map_is_edited_where_it_was_driven(nuscenes_root, tmp_path):
    path = nuscenes_root / "maps" / "scene-0916_vector_map.geojson"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the official masks")
    where = ["--data", str(nuscenes_root), "--scenes", "scene-0916", "--city", "singapore-queenstown"]
    tool.main(["--map", str(path), *where, "--edits", "5", "--out", str(tmp_path)])
    world, prior = (read_map(tmp_path / name)[0] for name in ("world.geojson", "prior.geojson"))
    _, edits = read_truth(tmp_path / "truth.geojson")
    assert apply_edits(prior, edits) == world == read_map(path, FRAMES["singapore-queenstown"])[0]
    assert {"insertion", "deletion", "geometry"} == {edit.kind for edit in edits}  # its paint and links are not known
