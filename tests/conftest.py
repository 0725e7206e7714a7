"""Fixtures and markers for every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# A slow machine is no failure, and a run in CI draws the same examples every time.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; pytest runs with --strict-markers."""
    config.addinivalue_line("markers", "real_data: reads nuScenes (skipped where it is not found; see data/README.md)")
    config.addinivalue_line("markers", "slow: takes more than about 30 seconds; leave out with -m 'not slow'")


@pytest.fixture(scope="session")
def nuscenes_root() -> Path:
    """Root of a nuScenes v1.0-mini: $AVJEPA_NUSCENES, else ../shared/data/nuscenes beside the repository."""
    named = os.environ.get("AVJEPA_NUSCENES")
    root = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "nuscenes"
    if not (root / "v1.0-mini").is_dir():
        where = "AVJEPA_NUSCENES" if named else "../shared/data/nuscenes, and AVJEPA_NUSCENES is not set"
        pytest.skip(f"no nuScenes v1.0-mini in {where}; see data/README.md")
    return root


@pytest.fixture(scope="module")
def module_index_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Index caches of a test file stay in its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """One Ray of two cores for a test file; it takes seconds to start."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install avjepa[fleet]")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield ray
    ray.shutdown()


@pytest.fixture
def torch_threads() -> Iterator[Callable[[int], None]]:
    """``torch_threads(n)`` sets the number of CPU threads of torch for one test; afterwards it is as before."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
