"""Stop lines that the prior lacks, at the end of a hand-made lane."""

from dataclasses import replace

import pytest
import shapely
from shapely.geometry import LineString, box

from avjepa.mapping.candidates import new_stop_line_candidates
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.new_stop_lines import as_stop_lines, bar_of_lane
from avjepa.mapping.vector_map import MapElement
from tests.mapping.painted_ground import ROAD_REFLECTS, PaintedGround, prior_of
from tests.mapping.test_new_lines import run

BAR = box(36, 3.1, 36.4, 6.4)  # 4 m before the lane's end
KNOWN = MapElement("known", "stop_line", box(2, 8.1, 2.4, 11.4))


def lane(token="right", y_m=4.75, to_m=40.0):
    line = LineString([(0, y_m), (to_m, y_m)])
    return MapElement(token, "lane", line.buffer(1.75, cap_style="flat"), centre_line=line)


def with_bar(*bars, reflects=0.3):
    ground = PaintedGround((0, 0, 44, 16))
    for bar in bars:
        ground.paint(bar, reflects=reflects)
    return ground


def found(folder, ground, *prior):
    prior = prior or (KNOWN, lane())
    return list(new_stop_line_candidates(Mosaic([ground.write(folder)]), prior_of(*prior), prior))


def bar_of(folder, ground):
    return bar_of_lane(Mosaic([ground.write(folder)]), lane().centre_line, 3.5, shapely.Polygon())


@pytest.mark.parametrize("from_m", [28.5, 36.0, 39.2])
def test_a_new_stop_line(tmp_path, from_m):
    bar = box(from_m, 3.1, from_m + 0.4, 6.4)
    (new,) = found(tmp_path, with_bar(bar))
    assert (new.element_id, new.layer, new.kind, new.old) == (None, "stop_line", "insertion", None)
    assert new.new.intersection(bar).area / new.new.union(bar).area > 0.6
    assert new.log_odds > 1
    assert new.seen_share == 1


def test_a_lane_without_length_has_none(tmp_path):
    dot = replace(lane("dot"), centre_line=LineString([(40, 4.75), (40, 4.75)]))
    assert found(tmp_path, with_bar(BAR), KNOWN, dot) == []


def test_a_plain_road_has_none(tmp_path):
    assert found(tmp_path, with_bar()) == []


@pytest.mark.parametrize(
    "known",
    [
        MapElement("moved", "stop_line", box(31, 3.1, 31.4, 6.4)),
        MapElement("crosswalk", "ped_crossing", box(34, 1, 37, 14)),
    ],
    ids=["a stop line that moved", "paint of a crosswalk"],
)
def test_paint_that_the_map_explains(tmp_path, known):
    assert found(tmp_path, with_bar(BAR), KNOWN, lane(), known) == []


def test_shadows_and_plates_are_no_stop_lines(tmp_path):
    """One reflects no more than the road, the other is not brighter."""
    assert found(tmp_path / "shadow", with_bar(BAR, reflects=ROAD_REFLECTS)) == []
    plate = with_bar()
    plate.intensity[plate.within(BAR)] *= 4
    assert bar_of(tmp_path / "plate", plate) is None


def test_a_barrier_is_no_stop_line(tmp_path):
    """It stands where LiDAR and cameras met it, and hardly any ground is seen behind it."""
    ground = with_bar(BAR)
    ground.weight[ground.within(BAR)] = 0.4
    assert bar_of(tmp_path / "seen", ground) is not None
    ground.keyframes[ground.within(BAR)] = 5
    assert bar_of(tmp_path / "barred", ground) is None


def test_two_bars_are_no_stop_line(tmp_path):
    assert found(tmp_path, with_bar(BAR, box(31, 3.1, 31.4, 6.4))) == []


@pytest.mark.parametrize("first_m", [32.5, 37.1], ids=["before", "behind"])
def test_the_edge_of_a_crosswalk_is_no_stop_line(tmp_path, first_m):
    """Of one that the map lacks, too; beside one of the map it may be one."""
    ground = with_bar(BAR)
    ground.zebra(box(first_m, 2, first_m + 2.8, 14))
    assert found(tmp_path / "new", ground) == []
    crosswalk = MapElement("crosswalk", "ped_crossing", box(37.2, 2, 39.4, 14))
    beside = with_bar(BAR)
    beside.zebra(crosswalk.geometry)
    assert len(found(tmp_path / "known", beside, KNOWN, lane(), crosswalk)) == 1


def test_in_the_middle_of_a_lane_nothing_is_looked_for(tmp_path):
    """Nor at lanes that are short, or of which the map has no shape; nor in a map without stop lines."""
    ground = with_bar(BAR)
    assert found(tmp_path / "long", ground, KNOWN, lane(to_m=60.0)) == []
    line = lane().centre_line
    assert found(tmp_path / "line", ground, KNOWN, MapElement("line", "lane", line, centre_line=line)) == []
    assert found(tmp_path / "bare", ground, lane()) == []


def test_bars_of_neighbouring_lanes_are_one():
    """Half a metre is left between them; the road's other side is another."""
    (one, other) = as_stop_lines([box(0, 0, 0.4, 3), box(0.1, 3.6, 0.5, 6.6), box(0, 12, 0.4, 15)])
    assert shapely.hausdorff_distance(one, box(0, 0, 0.5, 6.6)) < 0.2
    assert shapely.hausdorff_distance(other, box(0, 12, 0.4, 15)) < 0.1


def test_the_detector_tells_it(tmp_path):
    (new,) = run(tmp_path, with_bar(BAR), KNOWN, lane())
    assert (new.layer, new.status) == ("stop_line", "confirmed")
    assert new.first_seen <= new.confirmed_seen <= new.last_seen
