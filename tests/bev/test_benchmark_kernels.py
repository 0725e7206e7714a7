"""The tool's own parts; its figures are nobody's business here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from avjepa.bev.voxel_states import crossed_voxels
from avjepa.geometry.grid import BEVGrid


@pytest.fixture
def tool(monkeypatch):
    """As if run by hand, tools import each other by file name."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "tools")
    return importlib.import_module("benchmark_kernels")


def test_plain_walk_tells_the_same_voxels(tool):
    """Also of rays that start outside the grid, leave it, or never reach it."""
    generator = torch.Generator().manual_seed(0)
    grid = BEVGrid((-6.0, 6.0), (-6.0, 6.0), (-1.0, 3.0), 0.5, 1.0)
    origins = torch.cat(
        [torch.tensor([[0.3, -0.2, 1.0]]).expand(300, 3), torch.tensor([[-9.0, 0.7, 0.6]]).expand(300, 3)]
    )
    ends = origins + 20 * (torch.rand(600, 3, generator=generator) - 0.5)
    walk = (origins, ends, torch.arange(600) // 300, 2, grid)
    crossed = tool.plain_walk(*walk)
    assert crossed.flatten(1).sum(1).min() > 150
    assert (crossed_voxels(*walk) != crossed).sum() <= 4  # float32, at faces


def test_floor_is_the_slower_of_both(tool):
    rates = tool.Rates(bytes_per_s=100.0, flops=10.0)
    assert rates.floor_s(moved_bytes=200.0, operations=5.0) == 2.0
    assert rates.floor_s(moved_bytes=200.0, operations=50.0) == 5.0


def test_times_stand_beside_floor_and_twin(tool):
    table = tool.compared("walk", {"ours": 2.0, "plain torch": 8.0}, floor_s=1.0)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows == [
        ("ours", "2.0000", "2.0 x", "0.25 x"),
        ("plain torch", "8.0000", "8.0 x", "1.00 x"),
        ("floor", "1.0000", "1.0 x", "0.12 x"),
    ]
