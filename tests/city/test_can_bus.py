"""CAN bus files of a hand-made drive, through nuscenes-devkit."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest
from nuscenes.can_bus.can_bus_api import NuScenesCanBus

from avjepa.city.can_bus import write_can_bus
from tests.city.hand_made import START_US, make_drive

NAME = "scene-2001"


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """``messages(kind)`` through the devkit, any warning an error."""
    root = tmp_path_factory.mktemp("can")
    write_can_bus(root, make_drive(NAME))

    def read(kind):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return NuScenesCanBus(dataroot=str(root)).get_messages(NAME, kind)

    return read


def test_pose_messages(messages):
    poses = messages("pose")
    assert [pose["utime"] for pose in poses] == list(range(START_US, START_US + 1_000_001, 20_000))
    assert set(poses[0]) == {"utime", "pos", "orientation", "vel", "accel", "rotation_rate"}
    assert poses[25]["pos"] == pytest.approx([20 + 8 * 0.5, 58.25, 0])
    assert poses[25]["orientation"] == pytest.approx([math.cos(0.05), 0, 0, math.sin(0.05)])
    assert (poses[25]["vel"], poses[25]["accel"], poses[25]["rotation_rate"]) == ([8, 0, 0], [0.5, 0, 0], [0, 0, 0.25])


def test_meta(messages):
    meta = messages("meta")["pose"]
    assert meta["message_count"] == 51
    assert meta["message_freq"] == pytest.approx(50)
    assert meta["timespan"] == pytest.approx(1)
    pos, utime = meta["var_stats"]["pos"], meta["var_stats"]["utime"]
    assert pos["min"] == pytest.approx([20, 58.25, 0])
    assert pos["max"] == pytest.approx([28, 58.25, 0])
    assert pos["mean"] == pytest.approx([24, 58.25, 0])
    # Steps of 0.16 m, 51 of them evenly spread: a variance of 0.16^2 (51^2 - 1) / 12.
    assert pos["std"] == pytest.approx([0.16 * math.sqrt((51**2 - 1) / 12), 0, 0])
    assert pos["mean_diff"] == pytest.approx([0.16, 0, 0])
    assert (utime["min_diff"], utime["max_diff"], utime["std_diff"]) == (20_000, 20_000, 0)


def test_same_drive_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write_can_bus(tmp_path / folder, make_drive(NAME))
    for kind in ("pose", "meta"):
        first, second = ((tmp_path / folder / "can_bus" / f"{NAME}_{kind}.json").read_bytes() for folder in "ab")
        assert first == second


@pytest.mark.parametrize("order", [slice(0, 1), slice(None, None, -1)], ids=["one state", "backwards"])
def test_wrong_states_are_refused(tmp_path, order):
    drive = make_drive(NAME)
    with pytest.raises(ValueError, match="states in time order"):
        write_can_bus(tmp_path, dataclasses.replace(drive, ego_states=drive.ego_states[order]))


def test_numbers_must_be_finite(tmp_path):
    drive = make_drive(NAME)
    states = (dataclasses.replace(drive.ego_states[0], speed_mps=np.inf), *drive.ego_states[1:])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_can_bus(tmp_path, dataclasses.replace(drive, ego_states=states))
