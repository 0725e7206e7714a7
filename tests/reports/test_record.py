import json
import math

from avjepa.reports.record import file_sha256, write_record


def test_record_holds_what_repeats_it(tmp_path):
    checkpoint = tmp_path / "a.pth"
    checkpoint.write_bytes(b"abc")
    path = tmp_path / "deep" / "record.json"
    results = {"near": {"JEPA, linear head": {"iou": [0.5, float("nan")]}}}
    write_record(
        path, results, "x = 1", [checkpoint], [0, 1], {"near": {"hash": "h"}}, "map", {"iou": "IoU"}, "by hand"
    )
    record = json.loads(path.read_text())
    assert record["checkpoints"] == {str(checkpoint): file_sha256(checkpoint)}
    assert file_sha256(checkpoint).startswith("ba7816bf")  # SHA-256 of "abc"
    assert record["results"]["near"]["JEPA, linear head"]["iou"][0] == 0.5
    assert math.isnan(record["results"]["near"]["JEPA, linear head"]["iou"][1])
    assert (record["task"], record["columns"], record["convention"]) == ("map", {"iou": "IoU"}, "by hand")
    assert (record["config"], record["seeds"], record["split"]) == ("x = 1", [0, 1], {"near": {"hash": "h"}})
    assert {"command", "avjepa", "commit", "hardware"} <= set(record)
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]
