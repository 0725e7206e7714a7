from dataclasses import dataclass

import pytest

from avjepa.engine.registry import build
from avjepa.errors import ConfigError


@dataclass
class Wheel:
    size: int


@dataclass
class Car:
    wheels: tuple
    name: str = "car"

    def __post_init__(self):
        if not self.wheels:
            raise ValueError("a car needs wheels")


def test_builds_inside_out_and_leaves_the_config_alone():
    config = dict(type=Car, wheels=[dict(type=Wheel, size=1), dict(type=Wheel, size=2)], name="x")
    assert build(config) == Car((Wheel(1), Wheel(2)), "x")
    assert config["wheels"][0] == dict(type=Wheel, size=1)
    assert build(dict(a=dict(type=Wheel, size=3), b=4)) == dict(a=Wheel(3), b=4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(type=Wheel, radius=1), "cannot build Wheel.*radius"),
        (dict(type=Car, wheels=[]), "cannot build Car: a car needs wheels"),
        (dict(type="Car"), "type must be a class, got 'Car'"),
    ],
)
def test_mistakes_name_the_class(config, message):
    with pytest.raises(ConfigError, match=message):
        build(config)
