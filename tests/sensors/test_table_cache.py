from dataclasses import dataclass

import numpy as np
import pytest

from avjepa.errors import DataError
from avjepa.sensors.table_cache import find_tables, kept_arrays, open_tables
from tests.toy_drive import VERSION


@dataclass(frozen=True)
class Numbers:
    values: np.ndarray
    names: np.ndarray


def numbers(_) -> Numbers:
    return Numbers(np.arange(3.0), np.array(["a", "bc"]))


def must_not_build(_) -> Numbers:
    pytest.fail("read the tables in spite of the cache")


def test_kept_until_a_table_or_the_layout_changes(toy_copy, cache_folder):
    tables = toy_copy / VERSION
    kept_arrays(Numbers, "numbers", 1, tables, numbers)
    again = kept_arrays(Numbers, "numbers", 1, tables, must_not_build)
    assert again.values.tolist() == [0, 1, 2]
    assert again.names.tolist() == ["a", "bc"]
    assert [path.name.startswith(f"numbers-{VERSION}-") for path in cache_folder.iterdir()] == [True]
    for name, layout in (("numbers", 2), ("others", 1)):
        with pytest.raises(pytest.fail.Exception):
            kept_arrays(Numbers, name, layout, tables, must_not_build)
    (tables / "log.json").write_text("[]")
    with pytest.raises(pytest.fail.Exception):
        kept_arrays(Numbers, "numbers", 1, tables, must_not_build)


def test_a_damaged_cache_is_made_again(toy_copy, cache_folder, caplog):
    kept_arrays(Numbers, "numbers", 1, toy_copy / VERSION, numbers)
    (path,) = cache_folder.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert kept_arrays(Numbers, "numbers", 1, toy_copy / VERSION, numbers).names.tolist() == ["a", "bc"]
    assert "is damaged" in caplog.text
    assert kept_arrays(Numbers, "numbers", 1, toy_copy / VERSION, must_not_build).values.tolist() == [0, 1, 2]


def test_a_cache_that_cannot_be_written_only_costs_time(toy_copy, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "file"))
    assert kept_arrays(Numbers, "numbers", 1, toy_copy / VERSION, numbers).values.tolist() == [0, 1, 2]
    assert "cannot keep" in caplog.text


def test_finding_tables(toy_drive, tmp_path):
    assert find_tables(toy_drive) == find_tables(str(toy_drive), VERSION) == toy_drive / VERSION
    with pytest.raises(DataError, match="no such folder; download"):
        find_tables(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found none"):
        find_tables(tmp_path)
    with pytest.raises(DataError, match=r"v1\.0-x: no tables"):
        find_tables(toy_drive, "v1.0-x")


def test_what_is_missing_in_a_table_is_a_data_error(toy_drive):
    with pytest.raises(DataError, match=r"v1\.0-mini: cannot be read \(KeyError: 'nowhere'\)"):
        with open_tables(toy_drive / VERSION) as nusc:
            nusc.get("sample", "nowhere")
