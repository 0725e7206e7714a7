"""Records of finished drives on disk."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from avjepa.city.fragments import read_fragment, write_fragment
from avjepa.city.records import EgoState
from tests.city.hand_made import make_drive


def awkward_drive():
    """With numbers that a decimal of few digits would change, and numpy scalars where the recorder leaves them."""
    drive = make_drive()
    box = dataclasses.replace(
        drive.keyframes[0].boxes[0],
        thing=np.int64(3),
        global_T_box=np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0],
        size_wlh_m=(np.float64(1 / 3), math.nextafter(4.5, 5), 1e-300),
        velocity_mps=(np.float64(0.1) + 0.2, -0.0),
        visible_share=np.float64(2 / 3),
    )
    keyframes = (dataclasses.replace(drive.keyframes[0], boxes=(box,)), *drive.keyframes[1:])
    state = EgoState(2**60 + 1, np.eye(4) / 3, math.pi, (0.1, 0.2, math.nextafter(0.3, 1)), -1e-17)
    return dataclasses.replace(drive, keyframes=keyframes, ego_states=(*drive.ego_states, state))


def assert_same(one, other):
    assert type(one) is type(other) or {type(one), type(other)} <= {int, float, np.int64, np.float64}
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    elif isinstance(one, float):
        assert float(one).hex() == float(other).hex()
    else:
        assert one == other


@pytest.mark.parametrize("drive", [make_drive("scene-2007", "val_near"), awkward_drive()], ids=["plain", "awkward"])
def test_a_record_comes_back_to_the_last_bit(tmp_path, drive):
    path = tmp_path / "drives" / "one.json"
    write_fragment(path, drive)
    assert_same(read_fragment(path), drive)


def test_the_comparison_notices_one_bit(tmp_path):
    drive = awkward_drive()
    with pytest.raises(AssertionError):
        assert_same(drive, make_drive())
    state = dataclasses.replace(drive.ego_states[0], speed_mps=math.nextafter(drive.ego_states[0].speed_mps, 99))
    with pytest.raises(AssertionError):
        assert_same(drive, dataclasses.replace(drive, ego_states=(state, *drive.ego_states[1:])))


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "one.json"
    broken = dataclasses.replace(make_drive(), town=object())
    with pytest.raises(AttributeError):
        write_fragment(path, broken)
    assert not path.exists()
    write_fragment(path, make_drive())
    write_fragment(path, make_drive("scene-2002"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.json"]
    assert read_fragment(path).name == "scene-2002"
    assert json.loads(path.read_text())["name"] == "scene-2002"
