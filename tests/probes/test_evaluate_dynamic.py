"""tools/evaluate_dynamic.py on folders made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from avjepa.errors import BadFileError, DataError
from avjepa.probes.pcd_files import PCDCloud, write_benchmark, write_pcd
from avjepa.probes.scans import Scan
from tools import evaluate_dynamic


def write_folder(folder) -> np.ndarray:
    """Ten points a metre apart in two scans; the last two of each move. Returns all of them."""
    xyz = np.c_[np.arange(10.0), np.zeros((10, 2))].astype(np.float32)
    dynamic = np.arange(10) >= 8
    pose = np.eye(4)
    pose[:3, 3] = 0, -3, 1
    write_benchmark(folder, [(Scan(xyz, pose), dynamic), (Scan(xyz + np.float32([0, 5, 0]), pose), dynamic)])
    return np.concatenate([xyz, xyz + np.float32([0, 5, 0])])


def test_cleaned_maps_by_hand(tmp_path, capsys):
    """Kept: 12 of 16 static ones, and one of 4 moving ones; 4 cm beside counts as kept."""
    points = write_folder(tmp_path / "benchmark")
    kept = np.r_[0:6, 10:16, 8]
    write_pcd(tmp_path / "mine.pcd", PCDCloud(points[kept] + np.float32([0.04, 0, 0]), None, np.eye(4)))
    evaluate_dynamic.main(["map", str(tmp_path / "benchmark"), str(tmp_path / "mine.pcd")])
    rows = {
        line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:5]
        for line in capsys.readouterr().out.splitlines()
    }
    sa, da = 75.0, 75.0
    assert [float(value) for value in rows[str(tmp_path / "mine.pcd")]] == [sa, da, (sa * da) ** 0.5, 75.0]
    assert [float(value) for value in rows["all static"]] == [100, 0, 0, 0]
    assert "visibility check" in rows


def test_labels_by_hand(tmp_path, capsys):
    """Two scans: of three moving points two are found, and one static one is called moving; the rule says of an unlabeled one."""
    for name in ("true", "mine"):
        (tmp_path / name).mkdir()
    true = ([252, 253 | 7 << 16, 40, 0], [258, 40])
    mine = ([251, 9, 9, 251], [251, 251])
    for number in range(2):
        np.array(true[number], "<u4").tofile(tmp_path / "true" / f"{number}.label")
        np.array(mine[number], "<u4").tofile(tmp_path / "mine" / f"{number}.label")
    for rule, iou in (("semantickitti", 2 / 4), ("motionseg3d", 2 / 5)):
        evaluate_dynamic.main(["labels", str(tmp_path / "true"), str(tmp_path / "mine"), "--rule", rule])
        assert f"| mine | {100 * iou:.2f} |" in capsys.readouterr().out


def test_mistakes(tmp_path):
    for name in ("true", "mine"):
        (tmp_path / name).mkdir()
    folders = [str(tmp_path / "true"), str(tmp_path / "mine")]
    with pytest.raises(DataError, match=r"no \.label files"):
        evaluate_dynamic.main(["labels", *folders])
    np.zeros(3, "<u4").tofile(tmp_path / "true" / "0.label")
    with pytest.raises(DataError, match=r"mine/0\.label: no such file"):
        evaluate_dynamic.main(["labels", *folders])
    np.zeros(2, "<u4").tofile(tmp_path / "mine" / "0.label")
    with pytest.raises(BadFileError, match="2 labels for 3 points"):
        evaluate_dynamic.main(["labels", *folders])
    (tmp_path / "mine" / "0.label").write_bytes(b"12345")
    with pytest.raises(BadFileError, match="cut off"):
        evaluate_dynamic.main(["labels", *folders])
    with pytest.raises(BadFileError, match="gt_cloud"):
        evaluate_dynamic.main(["map", str(tmp_path)])
