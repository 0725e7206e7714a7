import pickle

import pytest
import torch

from avjepa.engine.checkpoint import FORMAT, read_checkpoint, write_atomically
from avjepa.errors import CheckpointError


class Nasty:
    def __reduce__(self):
        return (print, ("a pickle from outside was run",))


def test_round_trip(tmp_path):
    path = tmp_path / "a.pth"
    write_atomically({"format": FORMAT, "x": torch.arange(3)}, path)
    assert read_checkpoint(path)["x"].tolist() == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_a_failure_midway_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    write_atomically({"format": FORMAT, "x": 1}, path)
    monkeypatch.setattr(torch, "save", lambda checkpoint, file: (file.write(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        write_atomically({"format": FORMAT, "x": 2}, path)
    assert read_checkpoint(path)["x"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_foreign_pickles_are_never_run(tmp_path, capfd):
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Nasty()))
    torch.save({"format": FORMAT, "x": Nasty()}, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        with pytest.raises(CheckpointError, match="not a readable checkpoint"):
            read_checkpoint(tmp_path / name)
    assert "was run" not in capfd.readouterr().out


def test_missing_truncated_and_other_files(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "a.pth")
    write_atomically({"format": FORMAT, "x": torch.zeros(1000)}, tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-300])
    with pytest.raises(CheckpointError, match="take an earlier one"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save({"state_dict": {}}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="not an avjepa checkpoint"):
        read_checkpoint(tmp_path / "b.pth")
