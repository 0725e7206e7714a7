"""Fixtures of the mapping tests."""

import json

import pytest

from avjepa.city.map_files import write_map_expansion
from tests.city.hand_made import make_road_map


@pytest.fixture
def expansion(tmp_path):
    """Rewrites a hand-made town's map expansion: ``expansion(change)`` is the path after ``change(tables)``."""
    path = tmp_path / "minicity-a.json"
    write_map_expansion(path, make_road_map())
    tables = json.loads(path.read_text())

    def rewritten(change=lambda tables: None):
        change(tables)
        path.write_text(json.dumps(tables))
        return path

    return rewritten
