import shutil
from pathlib import Path

import pytest

from tests.toy_drive import write_toy_drive


@pytest.fixture(scope="session")
def toy_drive(tmp_path_factory) -> Path:
    """A synthetic drive, shared; tests that change it take a copy."""
    return write_toy_drive(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy_copy(toy_drive, tmp_path) -> Path:
    """A copy of the drive that a test may damage."""
    return Path(shutil.copytree(toy_drive, tmp_path / "drive"))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    """Index caches of a test stay in its own folder."""
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
