"""The tool's own parts; its figures are nobody's business here."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from avjepa.errors import DataError
from avjepa.geometry.occ3d import FREE
from avjepa.probes.metrics.semantic_occupancy import OccupancyConfusion
from avjepa.probes.occ3d_files import read_labels, write_prediction
from tests.toy_drive import SCENES, write_toy_drive


@pytest.fixture
def tool(monkeypatch):
    """As if run by hand, tools import each other by file name."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "tools")
    return importlib.import_module("benchmark_metrics")


def test_made_up_streets_are_labels_with_many_classes(tool, tmp_path):
    first, second = (read_labels(path) for path in tool.label_files(None, tmp_path))
    for labels in (first, second):
        assert len(np.unique(labels.semantics)) > 10
        assert 0.02 < (labels.semantics != FREE).mean() < 0.6
    assert (first.semantics != second.semantics).any()


def test_plain_confusion_is_the_same_matrix(tool, tmp_path):
    first, second = (read_labels(path) for path in tool.label_files(None, tmp_path))
    confusion = OccupancyConfusion()
    confusion.add(second.semantics, first.semantics, first.mask_camera, first.mask_lidar)
    plain = tool.plain_confusion(second.semantics, first.semantics, first.mask_camera)
    np.testing.assert_array_equal(confusion.counts[1].sum((0, 1)), plain)


def test_miou_table_covers_reading_and_counting(tool, tmp_path):
    labels = tool.label_files(None, tmp_path)
    prediction = write_prediction(tmp_path, "guess", read_labels(labels[1]).semantics, "occ3d")
    table = tool.miou_table([(labels[0], prediction)])
    names = list(table.columns[0].cells)
    assert names[:3] == ["read labels", "read prediction", "count, every convention"]
    ms = dict(zip(names, map(float, table.columns[1].cells), strict=True))
    assert ms["read and count"] == pytest.approx(sum(ms[name] for name in names[:3]), abs=0.05)


def test_a_root_without_labels_is_named(tool, tmp_path):
    with pytest.raises(DataError, match="no gts/<scene>/<token>/labels"):
        tool.label_files(tmp_path, tmp_path)


CONFIG = f"""
from avjepa.geometry.grid import BEVGrid
from avjepa.probes.bev_occupancy import BEVOccupancyProbe
from avjepa.sensors.nuscenes_dataset import NuScenesClips

pretrain_config = "{Path(__file__).parents[1] / "engine" / "toy_config.py"}"
train_data = dict(
    dataset=dict(
        type=NuScenesClips, root="nowhere", scenes=("{SCENES[0]}",), context_offsets=(-1, 0), future_offsets=(1, 2),
        image_size=(32, 64), max_bad_share=1.0,
    )
)
half_m = (-12.8, 12.8)
grid = dict(type=BEVGrid, x_range_m=half_m, y_range_m=half_m, z_range_m=(-5.0, 3.0), cell_m=0.8, cell_z_m=8.0)
probe = dict(type=BEVOccupancyProbe, grid=grid)
heads, test_data = dict(), dict()
"""


def test_embeddings_are_computed_once(tool, tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "index"))
    root = write_toy_drive(tmp_path / "toy", scenes=1, keyframes=5)
    (tmp_path / "probe.py").write_text(CONFIG)
    table = tool.embedding_table(tmp_path / "probe.py", root)
    assert list(table.columns[0].cells) == ["computed", "kept"]
    assert table.title == "2 clips, 2 embeddings"
    assert all(float(ms) > 0 for ms in table.columns[2].cells)
