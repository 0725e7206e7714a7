import json
import time

import numpy as np
import pytest
from shapely.geometry import LineString

from avjepa.errors import ConfigError, DataError
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.geojson_maps import write_geojson_map
from avjepa.mapping.vector_map import ElementMap, MapElement
from tests.toy_drive import SCENES, write_toy_drive
from tools import benchmark_map_changes as tool

MB = 10**6


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield write_toy_drive(tmp_path_factory.mktemp("drive"), scenes=1, keyframes=3)


def hold(megabytes: int) -> tool.Cost:
    """Memory that is given back before the end."""
    cost = tool.Cost(keyframes=1)
    early = np.ones(3 * megabytes * MB // 8)  # before the work: does not count
    del early
    with tool.measured(cost):
        held = np.ones(megabytes * MB // 8)
        del held
    return cost


def test_the_peak_is_the_works_own():
    before = np.ones(400 * MB // 8)  # of the parent: does not count
    cost = tool.alone(hold, 100)
    assert before.size
    assert 95 < cost.peak_mb - cost.start_mb < 150


def test_a_tiny_drive(tmp_path, drive, capsys):
    line = MapElement("middle", "lane_divider", LineString([(298, 900), (306, 900)]), colour="white", dashed=True)
    write_geojson_map(tmp_path / "prior.geojson", ElementMap.of(frame_of_city("singapore-onenorth"), [line]))
    arguments = ["--data", str(drive), "--scenes", SCENES[0], "--map", str(tmp_path / "prior.geojson")]
    tool.main([*arguments, "--repeats", "1", "--out", str(tmp_path / "out")])
    record = json.loads((tmp_path / "out" / "costs.json").read_text())

    assert record["km"] == pytest.approx(2 * 2.0 / 1000, rel=0.01)  # two steps of 2 m
    assert {r: cost["keyframes"] for r, cost in record["surveys"].items()} == {"1": 3}
    assert {r: cost["keyframes"] for r, cost in record["detections"].items()} == {"1": 3}
    for cost in (*record["surveys"].values(), *record["detections"].values()):
        assert 0 < cost["start_mb"] <= cost["peak_mb"]
        assert cost["cpu_s"] > 0
    for cost in record["surveys"].values():
        assert set(cost["stages"]) == set(tool.STAGES.values())
        assert all(wall > 0 for wall, _ in cost["stages"].values())
        assert sum(wall for wall, _ in cost["stages"].values()) <= cost["wall_s"]

    files = [*drive.glob("samples/*/*.bin"), *drive.glob("samples/*/*.jpg")]
    assert (record["floor"]["files"], len(files)) == (3 * 7, 3 * 7)
    assert record["floor"]["size_bytes"] == sum(path.stat().st_size for path in files)
    assert record["floor"]["decode_cpu_s"] > 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "costs.md").read_text() in printed
    assert "| detect |" in printed


def test_twice_over_is_twice_the_keyframes(tmp_path, drive):
    before = tool.survey.view_ground
    cost = tool.survey_cost(drive, None, SCENES[0], 2, tmp_path / "twice")
    assert cost.keyframes == 6
    assert sum(wall for wall, _ in cost.stages.values()) <= cost.wall_s
    frames = tool.survey.read_survey(tmp_path / "twice").frames
    assert frames[:3] == frames[3:]
    assert tool.survey.view_ground is before


def test_shares_are_of_survey_and_detection():
    cost = tool.Cost(keyframes=2, wall_s=10.0, cpu_s=6.0, stages={"read LiDAR": (3.0, 1.0), "ground view": (4.0, 4.0)})
    table = tool.stage_table(cost, tool.Cost(keyframes=2, wall_s=5.0, cpu_s=2.0))
    assert "| ground view | 2.0000 | 2.0000 | 50% |" in table
    assert "| rest of the survey | 1.5000 | 0.5000 | 12% |" in table
    assert "| detect | 2.5000 | 1.0000 | 25% |" in table


def test_a_drive_that_stands_has_no_cost_by_km():
    assert "| 1 | 2 | 0.000 | 1.000 | 0.500 | nan | nan | 7 | 4 |" in tool.cost_table(
        {1: tool.Cost(keyframes=2, wall_s=2.0, cpu_s=1.0, start_mb=3.0, peak_mb=7.0)}, 0.0
    )


def test_costs_add_up_but_memory_does_not():
    one = tool.Cost(2, 1.0, 0.5, 100.0, 300.0, {"read LiDAR": (0.25, 0.125)}, 1)
    two = tool.Cost(3, 2.0, 1.0, 120.0, 200.0, {"read LiDAR": (0.5, 0.25)}, 2)
    assert one + two == tool.Cost(5, 3.0, 1.5, 120.0, 300.0, {"read LiDAR": (0.75, 0.375)}, 3)


def test_time_is_counted_though_the_function_fails():
    def fail():
        time.sleep(0.02)
        raise ValueError("nothing")

    seconds = np.zeros(2)
    with pytest.raises(ValueError, match="nothing"):
        tool.timed(fail, seconds)()
    assert seconds[0] >= 0.02 > seconds[1]


def test_mistakes_are_told(drive):
    with pytest.raises(ConfigError, match="--repeats 0"):
        tool.main(["--data", str(drive), "--scenes", SCENES[0], "--repeats", "0"])
    with pytest.raises(DataError, match="scene-9999 is here"):
        tool.main(["--data", str(drive), "--scenes", "scene-9999"])
