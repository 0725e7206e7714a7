"""Which drives a city has: where, when, in what weather, and for which split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avjepa.city.layout import TOWNS, plan_town
from avjepa.city.weather import NAMES

FIRST_NUMBER = 2001  # real nuScenes scenes end at 1110
DAYS = ("2018-07-02", "2018-07-09", "2018-07-16", "2018-07-23")
SHARE_FAR, SHARE_NEAR = 0.25, 0.25  # of the drives, for the splits val_far and val_near


@dataclass(frozen=True)
class CitySettings:
    """What decides every byte of a city.

    Attributes:
        scenes: number of drives.
        seed: of everything random.
        seconds: length of a drive.
        image_size_px: (height, width).
        towns: names of the towns; with two, the second one is the far split.
        revisited_share: of the places, driven twice, on different days and in different weather.
        changed_share: of the places, where the prior map is out of date.
        drive_new_ways: drives of places where the prior lacks a way through a junction take it.
    """

    scenes: int
    seed: int
    seconds: float
    image_size_px: tuple[int, int]
    towns: tuple[str, ...]
    revisited_share: float
    changed_share: float
    drive_new_ways: bool = False


@dataclass(frozen=True)
class DrivePlan:
    """One drive to make.

    Attributes:
        number: its place among all.
        name: nuScenes scene name.
        town, place: where; a place is a street.
        split: "train", "val_near" or "val_far".
        weather: one of weather.NAMES.
        date: for the log.
    """

    number: int
    name: str
    town: str
    place: str
    split: str
    weather: str
    date: str


def plan_drives(settings: CitySettings) -> tuple[DrivePlan, ...]:
    """All drives of a city. No street belongs to two splits; drives of the same place differ in day and weather."""
    rng = np.random.default_rng([settings.seed, 31])
    far = round(SHARE_FAR * settings.scenes) if len(settings.towns) > 1 else 0
    near = min(max(round(SHARE_NEAR * settings.scenes), 1), max(settings.scenes - far - 1, 0))
    counts = {"train": settings.scenes - far - near, "val_near": near, "val_far": far}
    unused = {town: _streets(town, settings.seed, rng) for town in settings.towns}
    plans, weather_turn = [], int(rng.integers(len(NAMES)))
    for split, count in counts.items():
        town = settings.towns[-1] if split == "val_far" else settings.towns[0]
        visits = _visits(count, len(unused[town]), settings.revisited_share)
        for number_of_drives in visits:
            place = unused[town].pop() if len(unused[town]) > 1 else unused[town][0]
            for day in range(number_of_drives):
                number = len(plans)
                name = f"scene-{FIRST_NUMBER + number:04d}"
                weather = NAMES[(weather_turn + number) % len(NAMES)]
                plans.append(DrivePlan(number, name, town, place, split, weather, DAYS[day % len(DAYS)]))
    return tuple(plans)


def town_names(letters: str) -> tuple[str, ...]:
    """Full names of towns given as "A", "B" or "AB".

    Raises:
        ValueError: there is no such town.
    """
    unknown = sorted(set(letters) - set(TOWNS))
    if unknown or not letters:
        raise ValueError(f"no town {', '.join(unknown) or letters!r}; want {', '.join(TOWNS)}")
    return tuple(TOWNS[letter] for letter in sorted(set(letters)))


def _streets(town: str, seed: int, rng: np.random.Generator) -> list[str]:
    """Streets of a town in random order."""
    names = [street.name for street in plan_town(town, seed).streets]
    return [names[i] for i in rng.permutation(len(names))]


def _visits(drives: int, places: int, revisited_share: float) -> list[int]:
    """Drives per place: the first places are driven twice, up to their share; more drives than places go round again."""
    visits: list[int] = []
    while sum(visits) < drives:
        wants_two = len([count for count in visits if count > 1]) < revisited_share * (len(visits) + 1)
        visits.append(min(2 if wants_two else 1, drives - sum(visits)))
    while len(visits) > places - 1 and len(visits) > 1:
        last = visits.pop()
        visits[-1] += last
    return visits
