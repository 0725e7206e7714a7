import sys

import numpy as np
import pytest

from avjepa.errors import ConfigError
from avjepa.geometry.rigid import transform_from_se2, transform_points
from avjepa.probes.dufomap_baseline import DufomapSettings, dufomap_dynamic
from avjepa.probes.scans import Scan


def wall(rng: np.random.Generator, num_points: int = 8000) -> np.ndarray:
    """10 m ahead."""
    return np.stack(
        [rng.normal(10, 0.01, num_points), rng.uniform(-5, 5, num_points), rng.uniform(-2, 2, num_points)], 1
    )


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dufomap", None)
    with pytest.raises(ConfigError, match="pip install dufomap"):
        dufomap_dynamic([], DufomapSettings())


@pytest.mark.parametrize("sensor", [(0.0, 0.0, 0.0), (30.0, -20.0, 2.5)])
def test_what_stood_before_a_wall_once_is_dynamic(sensor):
    """Wherever the sensor is and looks: its pose reaches the package, or nothing would be seen as empty."""
    pytest.importorskip("dufomap")
    rng = np.random.default_rng(0)
    map_T_lidar = transform_from_se2(*sensor)
    first = wall(rng)
    passer_by = np.stack([np.full(400, 5.0), rng.uniform(-0.5, 0.5, 400), rng.uniform(-0.5, 0.5, 400)], 1)
    hidden = (np.abs(first[:, 1:]) < 1.05).all(1)
    turns = [np.concatenate([first[~hidden], passer_by]), *(wall(rng) for _ in range(4))]
    scans = [Scan(transform_points(map_T_lidar, xyz).astype(np.float32), map_T_lidar) for xyz in turns]
    answers = dufomap_dynamic(scans, DufomapSettings())
    assert [len(answer) for answer in answers] == [len(xyz) for xyz in turns]
    assert answers[0][-400:].mean() > 0.95
    assert np.concatenate([answers[0][:-400], *answers[1:]]).mean() < 0.01
