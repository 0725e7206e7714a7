"""Fixtures of the reports' tests."""

from __future__ import annotations

import pytest

from avjepa.sensors.nuscenes_index import load_index
from tests.toy_drive import write_toy_drive


@pytest.fixture
def toy(tmp_path):
    """A drive of four keyframes and its index."""
    root = write_toy_drive(tmp_path / "drive", scenes=1, keyframes=4)
    return root, load_index(root)
