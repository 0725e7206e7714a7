import json
import logging

import numpy as np
import pytest
from PIL import Image

from avjepa.city.map_files import write_map_expansion
from avjepa.errors import DataError
from avjepa.geometry.rigid import transform_from_se2
from avjepa.probes.map_files import load_map, load_prior_map, read_drivable_mask, read_vector_map
from avjepa.probes.map_labels import DrivableMask, VectorMap
from avjepa.sensors.nuscenes_index import load_index, split_scenes
from tests.city.hand_made import TOWN, make_road_map


@pytest.fixture
def town():
    """A map expansion as JSON: one square of drivable area, a walkway with a hole and two that are none, one lane divider."""
    xy = {"a": (0, 0), "b": (9, 0), "c": (9, 9), "d": (0, 9), "e": (3, 3), "f": (6, 3), "g": (6, 6)}
    return {
        "node": [{"token": token, "x": x, "y": y} for token, (x, y) in xy.items()],
        "polygon": [
            {"token": "p", "exterior_node_tokens": ["a", "b", "c", "d"], "holes": []},
            {
                "token": "q",
                "exterior_node_tokens": ["a", "b", "c", "d"],
                "holes": [{"node_tokens": ["e", "f", "g"]}, {"node_tokens": []}, {"node_tokens": ["a", "e"]}],
            },
            {"token": "bow tie", "exterior_node_tokens": ["a", "c", "b", "d"], "holes": []},
            {"token": "empty", "exterior_node_tokens": [], "holes": []},
        ],
        "line": [{"token": "l", "node_tokens": ["a", "b"]}, {"token": "no nodes", "node_tokens": []}],
        "drivable_area": [{"token": "1", "polygon_tokens": ["p", "bow tie"]}],
        "ped_crossing": [{"token": "2", "polygon_token": "empty"}],
        "walkway": [{"token": "3", "polygon_token": "q"}],
        "stop_line": [],
        "carpark_area": [{"token": "4", "polygon_token": "bow tie"}],
        "road_divider": [{"token": "5", "line_token": "no nodes"}],
        "lane_divider": [{"token": "6", "line_token": "l"}],
    }


def written(path, town):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(town))
    return path


def write_tables(root, filename="maps/mask.png"):
    logs = [{"token": "t0", "location": "elsewhere"}, {"token": "t1", "location": "town"}]
    maps = [{"filename": "maps/other.png", "log_tokens": ["t0"]}, {"filename": filename, "log_tokens": ["t1"]}]
    written(root / "v1.0-mini" / "log.json", logs)
    written(root / "v1.0-mini" / "map.json", maps)


# ------------------------------------------------------------------------------------------------------- map expansion
def test_read_vector_map(tmp_path, town, caplog):
    with caplog.at_level(logging.WARNING):
        vector = read_vector_map(written(tmp_path / "town.json", town))
    assert [shape.area for shape in vector.areas["walkway"]] == [81 - 4.5]
    assert [shape.area for shape in vector.areas["drivable_area"]] == [81]
    assert [list(line.coords) for line in vector.dividers] == [[(0, 0), (9, 0)]]
    assert "2 polygons cross themselves" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda town: town.pop("stop_line"), "stop_line"),
        (lambda town: town["polygon"][0]["exterior_node_tokens"].append("z"), "'z'"),
        (lambda town: town["node"][0].update(x=float("nan")), "finite"),
        (lambda town: town["node"][0].update(x=None), "1.3"),
        (lambda town: town.update(walkway=3), "1.3"),
    ],
)
def test_a_damaged_map_is_named(tmp_path, town, change, message):
    change(town)
    with pytest.raises(DataError, match=message) as error:
        read_vector_map(written(tmp_path / "town.json", town))
    assert "town.json" in str(error.value)


def test_no_json_and_no_file(tmp_path):
    (tmp_path / "town.json").write_text('{"node": [')
    with pytest.raises(DataError, match=r"town\.json"):
        read_vector_map(tmp_path / "town.json")
    with pytest.raises(DataError, match=r"gone\.json"):
        read_vector_map(tmp_path / "gone.json")


# ------------------------------------------------------------------------------------------- which file a city's map is
def test_the_map_expansion_comes_first_and_a_prior_beside_it(tmp_path):
    write_map_expansion(tmp_path / "maps" / "expansion" / f"{TOWN}.json", make_road_map())
    write_tables(tmp_path)
    assert isinstance(load_map(tmp_path, TOWN), VectorMap)
    assert load_prior_map(tmp_path, TOWN) is None
    write_map_expansion(tmp_path / "maps" / "prior" / f"{TOWN}.json", make_road_map())
    assert isinstance(load_prior_map(tmp_path, TOWN), VectorMap)


def test_else_the_mask_that_the_tables_give_to_the_citys_logs(tmp_path, caplog):
    write_tables(tmp_path)
    for name, grey in (("mask.png", 255), ("other.png", 0)):
        (tmp_path / "maps").mkdir(exist_ok=True)
        Image.fromarray(np.full((7, 13), grey, dtype=np.uint8)).save(tmp_path / "maps" / name)
    with caplog.at_level(logging.WARNING):
        mask = load_map(tmp_path, "town")
    assert isinstance(mask, DrivableMask)
    assert (mask.packed.shape, mask.columns) == ((7, 2), 13)
    assert np.unpackbits(mask.packed, axis=1)[:, :13].all()
    assert "drivable_area alone" in caplog.text


def test_a_city_without_any_map(tmp_path):
    write_tables(tmp_path)
    with pytest.raises(DataError, match=r"town\.json nor .*mask\.png"):
        load_map(tmp_path, "town")
    with pytest.raises(DataError, match=r"nowhere\.json"):
        load_map(tmp_path, "nowhere")


@pytest.mark.parametrize("city", ["../../../secret", "../../../../etc/town"])
def test_a_city_name_that_leaves_the_root(tmp_path, city):
    for load in (load_map, load_prior_map):
        with pytest.raises(DataError, match="leaves the data root"):
            load(tmp_path, city)


@pytest.mark.parametrize("name", ["../mask.png", "/etc/mask.png"])
def test_a_mask_name_that_leaves_the_root(tmp_path, name):
    write_tables(tmp_path, name)
    with pytest.raises(DataError, match="leaves the data root"):
        load_map(tmp_path, "town")


def test_damaged_masks(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (300, 300), dtype=np.uint8) * 255
    Image.fromarray(noise).save(tmp_path / "mask.png")
    assert read_drivable_mask(tmp_path / "mask.png").packed.shape == (300, 38)
    content = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "short.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    for name in ("short.png", "text.png", "colour.png", "gone.png"):
        with pytest.raises(DataError, match=name):
            read_drivable_mask(tmp_path / name)


@pytest.mark.real_data
@pytest.mark.slow
def test_real_ego_positions_are_drivable(nuscenes_root):
    index = load_index(nuscenes_root)
    for scene in ("scene-0523", "scene-0916"):
        number = split_scenes(index, [scene])[0][0]
        mask = load_map(nuscenes_root, str(index.scene_city[number]))
        poses = index.global_T_ego[index.scene == number]
        on_road = np.mean([bool(mask.labels(pose)[0, 98:102, 98:102].all()) for pose in poses])
        off_road = np.mean(
            [bool(mask.labels(pose @ transform_from_se2(0, 40, 0))[0, 98:102, 98:102].all()) for pose in poses]
        )
        assert on_road > 0.95
        assert off_road < 0.5
