import os

import numpy as np
import pytest

from avjepa.errors import BadFileError, DataError
from avjepa.geometry.occ3d import FREE, SHAPE_XYZ
from avjepa.probes.occ3d_files import labels_path, read_labels, read_prediction, write_prediction


def arrays(**changes) -> dict[str, np.ndarray]:
    """As real files hold them: three uint8 arrays."""
    plain = {name: np.zeros(SHAPE_XYZ, dtype=np.uint8) for name in ("semantics", "mask_lidar", "mask_camera")}
    plain["semantics"][:] = FREE
    plain["semantics"][125, 108, 3] = 4
    plain["mask_camera"][125, 108] = 1
    return {**plain, **changes}


def saved(path, **changes):
    np.savez_compressed(path, **{name: array for name, array in arrays(**changes).items() if array is not None})
    return path


def test_labels_are_read_as_they_are(tmp_path):
    path = labels_path(tmp_path, "scene-0103", "abc")
    path.parent.mkdir(parents=True)
    assert path == tmp_path / "gts" / "scene-0103" / "abc" / "labels.npz"
    labels = read_labels(saved(path))
    assert labels.semantics.shape == SHAPE_XYZ
    assert labels.semantics.dtype == np.uint8
    assert np.argwhere(labels.semantics != FREE).tolist() == [[125, 108, 3]]
    assert labels.mask_camera.dtype == labels.mask_lidar.dtype == bool  # uint8 would index, not mask
    assert (labels.mask_camera.sum(), labels.mask_lidar.sum()) == (16, 0)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"mask_camera": None}, "mask_camera is not a file in the archive"),
        (
            {"semantics": np.zeros((200, 16, 200), np.uint8)},
            r"semantics: shape \(200, 16, 200\), want \(200, 200, 16\)",
        ),
        ({"semantics": np.full(SHAPE_XYZ, 18, np.uint8)}, r"semantics: values 18\.\.18, want 0\.\.17"),
        ({"semantics": np.full(SHAPE_XYZ, -1, np.int8)}, r"values -1\.\.-1"),
        ({"semantics": np.full(SHAPE_XYZ, np.nan)}, "float64, want integers"),
        ({"mask_lidar": np.full(SHAPE_XYZ, 2, np.uint8)}, r"mask_lidar: values 2\.\.2, want 0\.\.1"),
        ({"semantics": np.array([{"a": 1}], dtype=object)}, "not an npz of plain arrays"),
    ],
)
def test_bad_content_is_named(tmp_path, changes, fault):
    path = saved(tmp_path / "labels.npz", **changes)
    with pytest.raises(DataError, match=f"labels.npz: .*{fault}.*copy it"):
        read_labels(path)


def test_bad_files_are_named(tmp_path):
    whole = saved(tmp_path / "whole.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 0xFF
    for name, content in {"cut": whole[:-100], "none": b"", "text": b"<html>", "damaged": bytes(damaged)}.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(BadFileError, match=rf"{name}\.npz: .*copy it"):
            read_labels(path)
    with pytest.raises(BadFileError, match=r"missing\.npz: cannot be read \(No such file"):
        read_labels(tmp_path / "missing.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(BadFileError, match="not an npz"):
        read_labels(tmp_path / "array.npy")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".."])
def test_names_from_tables_stay_in_their_folder(tmp_path, name):
    with pytest.raises(BadFileError, match="plain file name"):
        labels_path(tmp_path, "scene-0103", name)
    with pytest.raises(BadFileError, match="plain file name"):
        labels_path(tmp_path, name, "token")


@pytest.mark.parametrize(("layout", "key"), [("occ3d", "arr_0"), ("sparseocc", "pred")])
def test_predictions_in_both_formats(tmp_path, layout, key):
    semantics = arrays()["semantics"]
    path = write_prediction(tmp_path / "new" / "folder", "token", semantics.astype(np.int64), layout)
    assert path == tmp_path / "new" / "folder" / "token.npz"
    assert os.listdir(path.parent) == ["token.npz"]
    with np.load(path) as archive:
        assert archive.files == [key]
        assert archive[key].dtype == np.uint8
        np.testing.assert_array_equal(archive[key], semantics)
    np.testing.assert_array_equal(read_prediction(path), semantics)


def test_bad_predictions_are_neither_written_nor_read(tmp_path):
    for wrong in (np.zeros((3, 3, 3), np.uint8), np.full(SHAPE_XYZ, 255), np.zeros(SHAPE_XYZ)):
        with pytest.raises(ValueError, match="prediction of token: "):
            write_prediction(tmp_path, "token", wrong, "occ3d")
    with pytest.raises(BadFileError, match="plain file name"):
        write_prediction(tmp_path, "../token", arrays()["semantics"], "occ3d")
    assert os.listdir(tmp_path) == []
    labels = saved(tmp_path / "labels.npz")
    with pytest.raises(BadFileError, match=r"labels.npz: holds .*'semantics'\], want one of"):
        read_prediction(labels)
