"""Which drives a city has: how many, where, when."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from avjepa.city.drives import DAYS, CitySettings, plan_drives, town_names
from avjepa.city.layout import plan_town
from avjepa.city.weather import NAMES

BOTH, ONE = ("minicity-a", "minicity-b"), ("minicity-a",)


def plans(scenes=8, seed=0, towns=BOTH, revisited=0.5):
    return plan_drives(CitySettings(scenes, seed, 8.0, (198, 352), towns, revisited, 0.6))


@pytest.mark.parametrize("towns", [BOTH, ONE])
@pytest.mark.parametrize("scenes", range(1, 41))
def test_counts_add_up_and_splits_share_no_street(scenes, towns):
    drives = plans(scenes, seed=scenes % 4, towns=towns)
    assert [drive.number for drive in drives] == list(range(scenes))
    assert [drive.name for drive in drives] == [f"scene-{2001 + number}" for number in range(scenes)]
    counts = Counter(drive.split for drive in drives)
    assert counts["train"] >= 1
    assert set(counts) <= {"train", "val_near", "val_far"}
    if scenes > 1:
        assert counts["val_near"] >= 1
    if scenes >= 4:
        assert counts["val_near"] == pytest.approx(scenes / 4, abs=0.51)
        assert counts["val_far"] == pytest.approx(scenes / 4 if towns == BOTH else 0, abs=0.51)
    streets = defaultdict(set)
    for drive in drives:
        streets[drive.split].add(drive.place)
        assert drive.town == ("minicity-b" if drive.split == "val_far" else "minicity-a")
        assert drive.place in {street.name for street in plan_town(drive.town, scenes % 4).streets}
    assert sum(map(len, streets.values())) == len(set.union(*streets.values()))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scenes", [4, 8, 12, 20])
def test_drives_of_one_place_differ_in_day_and_weather(scenes, seed):
    visits = defaultdict(list)
    for drive in plans(scenes, seed):
        visits[drive.place].append(drive)
    assert max(map(len, visits.values())) >= 2
    for drives in visits.values():
        assert len({drive.date for drive in drives}) == len(drives)
        assert len({drive.weather for drive in drives}) == len(drives)


@pytest.mark.parametrize(("revisited", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_the_share_of_places_that_are_driven_twice(revisited, expected):
    visits = Counter((drive.place) for drive in plans(16, revisited=revisited))
    share = sum(count > 1 for count in visits.values()) / len(visits)
    assert share == pytest.approx(expected, abs=0.2)
    assert max(visits.values()) <= 2


def test_weathers_take_turns_and_dates_are_days():
    drives = plans(20)
    assert set(Counter(drive.weather for drive in drives).values()) == {4}
    assert {drive.weather for drive in drives} == set(NAMES)
    assert {drive.date for drive in drives} <= set(DAYS)


def test_the_seed_decides():
    assert plans(12, seed=3) == plans(12, seed=3)
    assert plans(12, seed=3) != plans(12, seed=4)
    assert {drive.place for drive in plans(12, seed=3)} != {drive.place for drive in plans(12, seed=4)}


@pytest.mark.parametrize(("letters", "names"), [("A", ONE), ("B", ("minicity-b",)), ("AB", BOTH), ("BA", BOTH)])
def test_town_names(letters, names):
    assert town_names(letters) == names


@pytest.mark.parametrize("letters", ["C", "AC", ""])
def test_unknown_towns_are_refused(letters):
    with pytest.raises(ValueError, match="want A, B"):
        town_names(letters)
