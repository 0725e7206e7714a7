import logging
from dataclasses import replace

import numpy as np
import pytest

from avjepa.errors import ConfigError
from avjepa.probes.splits import PlacedFrames, check_split, overlap_share


def frames(scenes: str, cities: str, xs_m: list[float]) -> PlacedFrames:
    """Frames along the x axis; scenes and cities are words."""
    return PlacedFrames(np.array(scenes.split()), np.array(cities.split()), np.array([[x, 0.0] for x in xs_m]))


TRAIN = frames("a a b", "x x y", [0, 100, 0])


def test_overlap_counts_frames_of_the_same_city_within_5_m():
    test = PlacedFrames(
        np.array(list("cccccc")),
        np.array(list("xxxyyz")),
        np.array([[3.0, 3.9], [3.0, 4.0], [104.0, 0.0], [100.0, 0.0], [0.0, -4.9], [0.0, 0.0]]),
    )  # 4.92 m, exactly 5 m, 4 m, another city's place, 4.9 m, a city without training
    assert overlap_share(TRAIN, test) == pytest.approx(3 / 6)


def test_overlap_against_the_plain_definition():
    generator = np.random.default_rng(0)
    train, test = (
        PlacedFrames(np.array(["s"] * n), generator.choice(["x", "y"], n), generator.uniform(0, 60, (n, 2)))
        for n in (40, 70)
    )
    near = [
        any(c == city and np.hypot(*(p - xy)) < 5 for p, c in zip(train.xy_m, train.city, strict=True))
        for xy, city in zip(test.xy_m, test.city, strict=True)
    ]
    assert 0 < np.mean(near) < 1
    assert overlap_share(train, test) == pytest.approx(np.mean(near))


def test_a_near_split_and_its_record():
    split = check_split("near", TRAIN, frames("d c", "x y", [50, 50]), {"b", "a"})
    assert split.record() | {"hash": ""} == {
        "kind": "near",
        "train_scenes": ["a", "b"],
        "test_scenes": ["c", "d"],
        "pretraining_scenes": ["a", "b"],
        "hash": "",
        "overlap_share_5m": 0.0,
    }
    again = check_split("near", frames("b a", "y x", [0, 0]), frames("c d", "y x", [50, 50]))
    assert again.record()["hash"] == split.record()["hash"]
    other = check_split("near", TRAIN, frames("c e", "y x", [50, 50]))
    assert other.record()["hash"] != split.record()["hash"]


def test_a_leak_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        split = check_split("original", TRAIN, frames("c c", "x x", [2, 50]))
    assert split.overlap_share == pytest.approx(0.5)
    assert "50.0% of the evaluation frames within 5 m" in caplog.text


def test_five_per_cent_is_no_leak_yet(caplog):
    with caplog.at_level(logging.WARNING):
        check_split("original", TRAIN, frames("c " * 20, "x " * 20, [2] + [50] * 19))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        check_split("original", TRAIN, frames("c " * 19, "x " * 19, [2] + [50] * 18))
    assert len(caplog.records) == 1


def test_scoring_what_was_trained_on_is_refused():
    with pytest.raises(ConfigError, match="head trains on b"):
        check_split("original", TRAIN, frames("c b", "x y", [50, 50]))
    with pytest.raises(ConfigError, match="pretrained on c, d, e and 1 more"):
        check_split("near", TRAIN, frames("c d e f", "x x x x", [50, 51, 52, 53]), ["a", "c", "d", "e", "f"])
    # Pretrained on more than the head saw, none of it evaluated: nothing wrong.
    check_split("near", TRAIN, frames("c", "x", [50]), ["a", "b", "q"])


def test_a_split_must_be_what_it_is_called():
    assert check_split("far", TRAIN, frames("c", "z", [0])).overlap_share == 0
    with pytest.raises(ConfigError, match=r"not a far split: .* x"):
        check_split("far", TRAIN, frames("c d", "z x", [0, 50]))
    with pytest.raises(ConfigError, match=r"not a near split: .* z"):
        check_split("near", TRAIN, frames("c d", "z x", [0, 50]))
    with pytest.raises(ConfigError, match="elsewhere"):
        check_split("elsewhere", TRAIN, frames("c", "x", [50]))


def test_wrong_frames():
    with pytest.raises(ValueError, match="want"):
        replace(TRAIN, city=TRAIN.city[:2])
    with pytest.raises(ValueError, match="finite"):
        replace(TRAIN, xy_m=TRAIN.xy_m * np.nan)
    with pytest.raises(ValueError, match="n > 0"):
        PlacedFrames(np.array([]), np.array([]), np.zeros((0, 2)))
