import logging

import numpy as np
import pytest
from pyquaternion import Quaternion

from avjepa.errors import BadFileError, DataError
from avjepa.geometry.rigid import transform_from_quaternion
from avjepa.probes.pcd_files import PCDCloud, read_pcd, read_scans, read_truth, write_benchmark, write_pcd
from avjepa.probes.scans import Scan

POSE = transform_from_quaternion([np.cos(0.3), 0, 0, np.sin(0.3)], [12.5, -3.25, 1.75])
XYZ = np.array([[1.1, 2.2, -3.3], [400.125, -0.1, 1e-7], [0.0, 5.0, 6.0]], dtype=np.float32)
INTENSITY = np.array([0, 1, 1], dtype=np.float32)
HAND_MADE = """# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS x y z _ intensity _
SIZE 4 4 4 1 2 4
TYPE F F F U U F
COUNT 1 1 1 2 1 1
WIDTH 2
HEIGHT 1
VIEWPOINT 1 2 3 0.7071067811865476 0 0 0.7071067811865476
POINTS 2
DATA ascii
1.5 2.5 3.5 7 8 1 nan
-1 -2 -3 7 8 0 0.5
"""


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("intensity", [INTENSITY, None])
def test_what_is_written_is_read(tmp_path, binary, intensity):
    path = tmp_path / "a.pcd"
    write_pcd(path, PCDCloud(XYZ, intensity, POSE), binary)
    cloud = read_pcd(path)
    np.testing.assert_array_equal(cloud.xyz_world, XYZ)
    assert cloud.xyz_world.dtype == np.float32
    np.testing.assert_allclose(cloud.world_T_sensor, POSE, atol=1e-12)
    if intensity is None:
        assert cloud.intensity is None
    else:
        np.testing.assert_array_equal(cloud.intensity, INTENSITY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pcd"]


def test_the_header_is_the_formats(tmp_path):
    """Byte for byte: quaternion with w first, binary points right after the header."""
    path = tmp_path / "a.pcd"
    write_pcd(path, PCDCloud(XYZ[:1], INTENSITY[:1], transform_from_quaternion([0, 1, 0, 0], [1, 2, 3])))
    header = (
        b"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\n"
        b"COUNT 1 1 1 1\nWIDTH 1\nHEIGHT 1\nVIEWPOINT 1.0 2.0 3.0 0.0 1.0 0.0 0.0\nPOINTS 1\nDATA binary\n"
    )
    assert path.read_bytes() == header + np.array([1.1, 2.2, -3.3, 0], dtype="<f4").tobytes()


def test_other_fields_padding_and_types_are_passed_over(tmp_path):
    path = tmp_path / "a.pcd"
    path.write_text(HAND_MADE)
    cloud = read_pcd(path)
    assert cloud.xyz_world.tolist() == [[1.5, 2.5, 3.5], [-1, -2, -3]]
    assert cloud.intensity.tolist() == [1, 0]
    np.testing.assert_allclose(
        cloud.world_T_sensor[:3, :3], Quaternion(axis=[0, 0, 1], degrees=90).rotation_matrix, atol=1e-9
    )
    assert cloud.world_T_sensor[:3, 3].tolist() == [1, 2, 3]

    record = np.dtype([("x", "<f8"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    table = np.array([(0.5, 1, 2, 77), (3, 4, 5, 78)], dtype=record)
    header = "FIELDS x y z rgb\nSIZE 8 4 4 4\nTYPE F F F U\nWIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA binary\n"
    path.write_bytes(header.encode() + table.tobytes() + b"\0" * 32)  # PCL pads; no COUNT, no VIEWPOINT: the defaults
    cloud = read_pcd(path)
    assert cloud.xyz_world.tolist() == [[0.5, 1, 2], [3, 4, 5]]
    assert cloud.intensity is None
    np.testing.assert_array_equal(cloud.world_T_sensor, np.eye(4))


def test_an_empty_cloud(tmp_path):
    path = tmp_path / "a.pcd"
    for binary in (True, False):
        write_pcd(path, PCDCloud(XYZ[:0], INTENSITY[:0], POSE), binary)
        assert read_pcd(path).xyz_world.shape == (0, 3)


def test_files_that_are_cut_off(tmp_path):
    path = tmp_path / "a.pcd"
    write_pcd(path, PCDCloud(XYZ, INTENSITY, POSE))
    whole = path.read_bytes()
    for kept, message in ((len(whole) - 1, "truncated, 47 of 48 bytes"), (60, "cut off in its header"), (0, "cut off")):
        path.write_bytes(whole[:kept])
        with pytest.raises(BadFileError, match=rf"a\.pcd: .*{message}"):
            read_pcd(path)
    write_pcd(path, PCDCloud(XYZ, INTENSITY, POSE), binary=False)
    path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")
    with pytest.raises(BadFileError, match="want 3 lines of 4 values"):
        read_pcd(path)
    with pytest.raises(BadFileError, match="cannot be read"):
        read_pcd(tmp_path / "none.pcd")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("FIELDS x y z", "FIELDS x y w", "want fields x, y, z"),
        ("FIELDS x y z", "FIELDS x y x", "do not fit together"),
        ("FIELDS", "COLUMNS", "no FIELDS"),
        ("POINTS 2\n", "", "no POINTS"),
        ("POINTS 2", "POINTS 3", "2 x 1 points, but POINTS 3"),
        ("WIDTH 2", "WIDTH two", "is no number"),
        ("SIZE 4 4 4 1 2 4", "SIZE 4 4 4 1 3 4", "do not fit together"),
        ("TYPE F F F U U F", "TYPE F F F U U", "do not fit together"),
        ("COUNT 1 1 1 2 1 1", "COUNT 1 1 3 2 1 1", "want fields x, y, z"),
        ("COUNT 1 1 1 2 1 1", "COUNT 1 1 1 -2 1 1", "do not fit together"),
        ("DATA ascii", "DATA binary_compressed", "convert it to binary or ascii"),
        ("VIEWPOINT 1 2 3 0.7071067811865476", "VIEWPOINT 1 2 3 0.9", "not of unit length"),
        ("VIEWPOINT 1 2 3 0.7071067811865476 0 0 0.7071067811865476", "VIEWPOINT 1 2 3 0 0 0 0", "is no pose"),
        ("VIEWPOINT 1 2 3", "VIEWPOINT 1 2", "is no pose"),
        ("VIEWPOINT 1", "VIEWPOINT nan", "is no pose"),
        ("1.5 2.5", "nan 2.5", "not finite"),
        ("1.5 2.5", "one 2.5", "a value of x is no number"),
        ("1.5 2.5", "1.5", "want 2 lines of 7 values"),
    ],
)
def test_damage_is_named(tmp_path, old, new, message):
    assert old in HAND_MADE
    path = tmp_path / "a.pcd"
    path.write_text(HAND_MADE.replace(old, new))
    with pytest.raises(BadFileError, match=message):
        read_pcd(path)


def test_what_must_not_be_written_leaves_no_file(tmp_path):
    bad = XYZ.copy()
    bad[0, 0] = np.inf
    with pytest.raises(ValueError, match="1 not finite"):
        write_pcd(tmp_path / "a.pcd", PCDCloud(bad, None, POSE))
    with pytest.raises(ValueError, match="orthogonal"):
        write_pcd(tmp_path / "a.pcd", PCDCloud(XYZ, None, np.diag([2.0, 1, 1, 1])))
    assert not list(tmp_path.iterdir())


def two_scans() -> list[tuple[Scan, np.ndarray]]:
    moved = POSE.copy()
    moved[0, 3] += 1
    return [(Scan(XYZ, POSE), INTENSITY == 1), (Scan(XYZ[:2] + 1, moved), np.array([True, False]))]


def test_a_folder_of_the_benchmark(tmp_path):
    """The truth is the scans one after another, and every scan has its own pose."""
    assert write_benchmark(tmp_path / "city", two_scans()) == 5
    assert sorted(path.name for path in (tmp_path / "city").rglob("*.pcd")) == [
        "000000.pcd",
        "000001.pcd",
        "gt_cloud.pcd",
    ]
    truth_xyz, is_dynamic = read_truth(tmp_path / "city")
    np.testing.assert_array_equal(truth_xyz, np.concatenate([XYZ, XYZ[:2] + 1]))
    assert is_dynamic.tolist() == [False, True, True, True, False]
    first, second = read_scans(tmp_path / "city")
    np.testing.assert_allclose(first.map_T_lidar, POSE, atol=1e-12)
    assert second.map_T_lidar[0, 3] == pytest.approx(POSE[0, 3] + 1)
    np.testing.assert_array_equal(second.xyz_map, XYZ[:2] + 1)
    with pytest.raises(DataError, match="holds scans already"):
        write_benchmark(tmp_path / "city", two_scans())


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no scan to write"):
        write_benchmark(tmp_path, [])
    with pytest.raises(DataError, match=r"no pcd/\*\.pcd"):
        read_scans(tmp_path)
    write_pcd(tmp_path / "gt_cloud.pcd", PCDCloud(XYZ, None, POSE))
    with pytest.raises(BadFileError, match="intensity of 0"):
        read_truth(tmp_path)
    write_pcd(tmp_path / "gt_cloud.pcd", PCDCloud(XYZ, INTENSITY * 252, POSE))  # SemanticKITTI's class instead of 1
    with pytest.raises(BadFileError, match="intensity of 0"):
        read_truth(tmp_path)


def test_forgotten_viewpoints_are_called_out(tmp_path, caplog):
    write_benchmark(tmp_path, [(Scan(XYZ, np.eye(4)), INTENSITY == 1)] * 2)
    with caplog.at_level(logging.WARNING):
        read_scans(tmp_path)
    assert "VIEWPOINT is the default in every scan" in caplog.text
    caplog.clear()
    write_benchmark(tmp_path / "good", two_scans())
    read_scans(tmp_path / "good")
    assert not caplog.text
