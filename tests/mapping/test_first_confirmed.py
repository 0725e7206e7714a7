from datetime import timedelta

import numpy as np
import pytest
import shapely
from shapely.geometry import box

from avjepa.mapping import mosaic, tiles
from avjepa.mapping.candidates import painted_area_candidates
from avjepa.mapping.detect import CONFIRMED
from avjepa.mapping.first_confirmed import first_confirmed
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.sightings import utc
from avjepa.mapping.survey import PART_KEYFRAMES, read_survey
from avjepa.mapping.vector_map import MapElement
from tests.mapping.painted_ground import START_US, PaintedGround, straight_frames

CROSSWALK = MapElement("gone", "ped_crossing", box(10, -5, 14, 5))
BAR = float(np.log(CONFIRMED / (1 - CONFIRMED)))


def judge(seen):
    return painted_area_candidates(seen, CROSSWALK, shapely.Polygon())


def survey(folder, weights, from_m=0.0):
    """Plain road where the map has a crosswalk, seen by cameras with another weight in every part of the drive."""
    frames = straight_frames(from_m, from_m + 4 * (PART_KEYFRAMES * len(weights) - 1) + 0.1)
    assert len(frames) == PART_KEYFRAMES * len(weights)
    for part, weight in enumerate(weights):
        ground = PaintedGround((0, -10, 30, 10), seed=part)
        ground.weight[:] = weight
        ground.returns[:] = 0
        ground.write(folder, frames, part=part)
    return folder


def end_of_part(part):
    return utc(START_US) + timedelta(seconds=0.5 * (PART_KEYFRAMES * (part + 1) - 1))


@pytest.mark.parametrize(("weights", "part"), [((1.0, 1.0), 0), ((0.2, 1.0), 1), ((0.3, 0.3), 1), ((0.1, 0.1), None)])
def test_believed_with_the_first_part_that_shows_enough(tmp_path, weights, part):
    folder = survey(tmp_path / "a", weights)
    whole = survey(tmp_path / "whole", (1.0, 1.0))
    (candidate,) = judge(Mosaic([whole]))
    found = first_confirmed(candidate, judge, BAR, [folder], [read_survey(folder)])
    assert found == (None if part is None else end_of_part(part))


def test_parts_out_of_reach_are_not_looked_at(tmp_path):
    far = survey(tmp_path / "far", (1.0,), from_m=200.0)
    (candidate,) = judge(Mosaic([far]))
    assert first_confirmed(candidate, judge, BAR, [far], [read_survey(far)]) is None


def test_the_time_is_one_at_which_the_place_was_seen(tmp_path):
    """The last keyframe of the part is 18 m beyond the crosswalk."""
    folder = survey(tmp_path / "a", (1.0,), from_m=20.0)
    (candidate,) = judge(Mosaic([folder]))
    found = first_confirmed(candidate, judge, BAR, [folder], [read_survey(folder)])
    assert found == utc(START_US) + timedelta(seconds=0.5 * (PART_KEYFRAMES - 2))


def test_another_element_is_not_this_one(tmp_path):
    folder = survey(tmp_path / "a", (1.0,))
    other = MapElement("other", "ped_crossing", CROSSWALK.geometry)
    (candidate,) = painted_area_candidates(Mosaic([folder]), other, shapely.Polygon())
    assert first_confirmed(candidate, judge, BAR, [folder], [read_survey(folder)]) is None


def test_each_part_is_read_once(tmp_path, monkeypatch):
    """However many drives pass a place of which too little is seen; what they give at every moment is what a new mosaic gives."""
    folders = [survey(tmp_path / f"{n}", (0.02,) * 3, from_m=-8.0) for n in range(4)]
    (candidate,) = judge(Mosaic([survey(tmp_path / "whole", (1.0, 1.0))]))
    reads, looks = [], []

    def read(part, tile):
        reads.append((part, tile))
        return tiles.read_tile(part, tile)

    def judge_and_compare(seen):
        looks.append(seen.in_area(CROSSWALK.geometry)[0])
        return judge(seen)

    monkeypatch.setattr(mosaic, "read_tile", read)
    drives = [read_survey(folder) for folder in folders]
    assert first_confirmed(candidate, judge_and_compare, BAR, folders, drives) is None
    assert len(looks) == 4 * 3  # parts in reach, of all drives
    assert len(reads) == len(set(reads))
    upto = [0] * 4
    for step, sums in enumerate(looks):  # all drives began at one time: they go on in turn
        upto[step % 4] += 1
        fresh = Mosaic(folders, upto).in_area(CROSSWALK.geometry)[0]
        assert all(np.array_equal(sums[name], fresh[name]) for name in fresh)
    assert looks[0]["paint"][0].sum() < looks[-1]["paint"][0].sum()
