import json

import numpy as np
import pytest

from avjepa.reports.record import describe_split, file_sha256, write_record


def test_overlap_counts_frames_of_the_same_city_within_5_m():
    train = np.array([[0.0, 0.0], [100.0, 0.0]])
    test = np.array([[3.0, 3.9], [3.0, 4.0], [100.0, 0.0], [50.0, 0.0]])  # 4.92 m, exactly 5 m, the same place, far off
    split = describe_split(["b", "a"], ["c"], train, test, ["x", "x"], ["x", "x", "y", "x"])
    assert split["overlap_share_5m"] == pytest.approx(1 / 4)
    assert split["train_scenes"] == ["a", "b"]
    assert split["hash"] == describe_split(["a", "b"], ["c"], train, test, ["x", "x"], ["x"] * 4)["hash"]
    assert split["hash"] != describe_split(["a"], ["c"], train, test, ["x", "x"], ["x"] * 4)["hash"]


def test_record_holds_what_repeats_it(tmp_path):
    checkpoint = tmp_path / "a.pth"
    checkpoint.write_bytes(b"abc")
    path = tmp_path / "deep" / "record.json"
    write_record(path, {"iou": [0.5]}, "x = 1", [checkpoint], [0, 1], {"hash": "h"}, "by hand")
    record = json.loads(path.read_text())
    assert record["checkpoints"] == {str(checkpoint): file_sha256(checkpoint)}
    assert file_sha256(checkpoint).startswith("ba7816bf")  # SHA-256 of "abc"
    assert record["results"] == {"iou": [0.5]}
    assert {"command", "commit", "config", "seeds", "split", "convention", "hardware"} <= set(record)
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]
