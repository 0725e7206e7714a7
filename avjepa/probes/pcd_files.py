"""PCD files v0.7, and the folder of DynamicMap_Benchmark made of them.

    folder/gt_cloud.pcd      all points, intensity 0 static or 1 dynamic
    folder/pcd/NNNNNN.pcd    one scan; gt_cloud is the scans in order of their names, one after another

Points are in the world frame, and VIEWPOINT (tx ty tz qw qx qy qz) is the pose of the sensor there. Methods cast rays from
it: a file whose VIEWPOINT was left at its default gives garbage without a word. CloudCompare from 2.12 on applies VIEWPOINT
to the points once more, which doubles the map; the files are right all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pyquaternion import Quaternion

from avjepa.errors import BadFileError, DataError
from avjepa.files import replacing
from avjepa.geometry.rigid import transform_from_quaternion
from avjepa.probes.scans import Scan
from avjepa.sensors.nuscenes_index import MAX_NORM_ERROR

GT_CLOUD, SCANS = "gt_cloud.pcd", "pcd"
MAX_HEADER_BYTES = 4096
WANTED = ("x", "y", "z", "intensity")
KEYS = ("FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
TYPES = {
    "F": {4: "<f4", 8: "<f8"},
    "U": {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"},
    "I": {1: "i1", 2: "<i2", 4: "<i4", 8: "<i8"},
}

log = logging.getLogger("avjepa")


@dataclass(frozen=True)
class PCDCloud:
    """What a file holds.

    Attributes:
        xyz_world: (P, 3) float32.
        intensity: (P,) float32; None where the file has no such field.
        world_T_sensor: (4, 4), VIEWPOINT.
    """

    xyz_world: np.ndarray
    intensity: np.ndarray | None
    world_T_sensor: np.ndarray


def write_pcd(path: Path, cloud: PCDCloud, binary: bool = True) -> None:
    """Write a file; until it is whole, it has another name.

    Raises:
        ValueError: wrong shapes, or a value that is not finite.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_header(len(cloud.xyz_world), cloud.intensity is not None, cloud.world_T_sensor, binary))
        _write_points(path, file, cloud, binary)


def write_pcd_parts(path: Path, num_points: int, parts: Iterable[PCDCloud], world_T_sensor: np.ndarray) -> None:
    """Write a binary file with intensity that is never in memory as a whole.

    Args:
        path: of the file.
        num_points: of all parts together.
        parts: clouds with intensity, one after another; their own sensor poses are not used.
        world_T_sensor: (4, 4), VIEWPOINT.

    Raises:
        ValueError: wrong shapes, a value that is not finite, or another number of points than was said.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_header(num_points, True, world_T_sensor, binary=True))
        written = 0
        for cloud in parts:
            _write_points(path, file, cloud, binary=True)
            written += len(cloud.xyz_world)
        if written != num_points:
            raise ValueError(f"{path}: {written} points, {num_points} were said")


def _header(num_points: int, has_intensity: bool, world_T_sensor: np.ndarray, binary: bool) -> bytes:
    fields = WANTED if has_intensity else WANTED[:3]
    rotation = Quaternion(matrix=world_T_sensor[:3, :3], atol=1e-6)
    viewpoint = [*world_T_sensor[:3, 3], *rotation.elements]
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(fields)}",
        f"SIZE {' '.join('4' for _ in fields)}",
        f"TYPE {' '.join('F' for _ in fields)}",
        f"COUNT {' '.join('1' for _ in fields)}",
        f"WIDTH {num_points}",
        "HEIGHT 1",
        f"VIEWPOINT {' '.join(repr(float(value)) for value in viewpoint)}",
        f"POINTS {num_points}",
        f"DATA {'binary' if binary else 'ascii'}",
    ]
    return ("\n".join(header) + "\n").encode()


def _write_points(path: Path, file: BinaryIO, cloud: PCDCloud, binary: bool) -> None:
    columns = [cloud.xyz_world] if cloud.intensity is None else [cloud.xyz_world, cloud.intensity.reshape(-1, 1)]
    table = np.concatenate(columns, 1).astype("<f4")
    if cloud.xyz_world.shape != (len(table), 3) or not np.isfinite(table).all():
        raise ValueError(
            f"{path}: want finite (P, 3), got {cloud.xyz_world.shape}, {(~np.isfinite(table)).sum()} not finite"
        )
    if binary:
        file.write(table.tobytes())
    else:
        np.savetxt(file, table, fmt="%.9g")  # nine digits tell any two float32 apart


def read_pcd(path: Path) -> PCDCloud:
    """Read a binary or ASCII file; fields other than x, y, z and intensity are passed over.

    Raises:
        BadFileError: missing, truncated, compressed, without one of the fields, or with a value that is not finite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror}); export it again") from error
    header, body = _split(path, content)
    record = _record_type(path, header)
    num_points = _count(path, header)
    if header["DATA"] == ["binary"]:
        table = _binary_table(path, body, record, num_points)
    elif header["DATA"] == ["ascii"]:
        table = _ascii_table(path, body, record, num_points)
    else:
        raise BadFileError(f"{path}: DATA {' '.join(header['DATA'])}; convert it to binary or ascii")
    xyz_world = np.stack([table[name].reshape(num_points) for name in "xyz"], 1).astype(np.float32)
    intensity = table["intensity"].reshape(num_points).astype(np.float32) if "intensity" in record.names else None
    if not np.isfinite(xyz_world).all() or not (intensity is None or np.isfinite(intensity).all()):
        raise BadFileError(f"{path}: a value is not finite; export it without invalid points")
    return PCDCloud(xyz_world, intensity, _viewpoint(path, header))


def write_benchmark(folder: Path, scans: Iterable[tuple[Scan, np.ndarray]]) -> int:
    """Write a folder of the benchmark and return the number of points; ``gt_cloud.pcd`` comes last.

    Args:
        folder: made if it is not there. Scans of an earlier export that has more of them must not lie in it.
        scans: each with (P,) bool, which of its points are dynamic.

    Raises:
        DataError: there is no scan, or the folder already holds scans.
    """
    if any((folder / SCANS).glob("*.pcd")):
        raise DataError(f"{folder}: holds scans already; remove it, or choose another folder")
    points, dynamic = [], []
    for number, (scan, is_dynamic) in enumerate(scans):
        intensity = is_dynamic.astype(np.float32)
        write_pcd(folder / SCANS / f"{number:06d}.pcd", PCDCloud(scan.xyz_map, intensity, scan.map_T_lidar))
        points.append(scan.xyz_map)
        dynamic.append(intensity)
    if not points:
        raise DataError(f"{folder}: no scan to write")
    write_pcd(folder / GT_CLOUD, PCDCloud(np.concatenate(points), np.concatenate(dynamic), np.eye(4)))
    return sum(map(len, points))


def read_scans(folder: Path) -> list[Scan]:
    """Scans of a folder of the benchmark, in order of their names.

    Raises:
        DataError: there is none.
        BadFileError: one cannot be read.
    """
    paths = sorted((folder / SCANS).glob("*.pcd"))
    if not paths:
        raise DataError(f"{folder}: no {SCANS}/*.pcd; name a folder in the format of DynamicMap_Benchmark")
    clouds = [read_pcd(path) for path in paths]
    if len(clouds) > 1 and all(np.array_equal(cloud.world_T_sensor, np.eye(4)) for cloud in clouds):
        log.warning("%s: VIEWPOINT is the default in every scan; without sensor poses methods give garbage", folder)
    return [Scan(cloud.xyz_world, cloud.world_T_sensor) for cloud in clouds]


def read_truth(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All points (P, 3) float32 of a folder of the benchmark, and which are dynamic (P,) bool.

    Raises:
        BadFileError: the file cannot be read, has no intensity, or one other than 0 and 1.
    """
    path = folder / GT_CLOUD
    cloud = read_pcd(path)
    if cloud.intensity is None or not np.isin(cloud.intensity, (0, 1)).all():
        raise BadFileError(f"{path}: want an intensity of 0 (static) or 1 (dynamic) for each point; export it again")
    return cloud.xyz_world, cloud.intensity == 1


def _split(path: Path, content: bytes) -> tuple[dict[str, list[str]], bytes]:
    """Header as {key: values}, and the bytes after it."""
    header, place = {}, 0
    while "DATA" not in header:
        end = content.find(b"\n", place, MAX_HEADER_BYTES)
        if end < 0:
            raise BadFileError(f"{path}: no PCD file, or cut off in its header; export it again")
        key, *values = content[place:end].decode("ascii", "replace").split() or [""]
        header[key] = values
        place = end + 1
    header.setdefault("COUNT", ["1"] * len(header.get("FIELDS", ())))
    header.setdefault("VIEWPOINT", ["0", "0", "0", "1", "0", "0", "0"])
    missing = [key for key in KEYS if not header.get(key)]
    if missing:
        raise BadFileError(f"{path}: no {', '.join(missing)} in its header; export it again")
    return header, content[place:]


def _record_type(path: Path, header: dict[str, list[str]]) -> np.dtype:
    """One point as a numpy record; fields that are not wanted get a name of their own (PCL repeats ``_``)."""
    columns = [header[key] for key in ("FIELDS", "TYPE", "SIZE", "COUNT")]
    fields = header["FIELDS"]
    try:
        record = np.dtype(
            [
                (name if name in WANTED else f"field {n}", TYPES[kind][int(size)], (int(count),))
                for n, (name, kind, size, count) in enumerate(zip(*columns, strict=True))
            ]
        )
    except (KeyError, ValueError) as error:
        raise BadFileError(f"{path}: FIELDS, TYPE, SIZE and COUNT do not fit together; export it again") from error
    absent = [name for name in "xyz" if name not in fields]
    if absent or any(record[name].shape != (1,) for name in WANTED if name in fields):
        raise BadFileError(f"{path}: want fields x, y, z, each once, found {' '.join(fields)}; export it again")
    return record


def _count(path: Path, header: dict[str, list[str]]) -> int:
    try:
        width, height, points = (int(header[key][0]) for key in ("WIDTH", "HEIGHT", "POINTS"))
    except ValueError as error:
        raise BadFileError(f"{path}: WIDTH, HEIGHT or POINTS is no number; export it again") from error
    if points < 0 or width * height != points:
        raise BadFileError(f"{path}: {width} x {height} points, but POINTS {points}; export it again")
    return points


def _binary_table(path: Path, body: bytes, record: np.dtype, num_points: int) -> np.ndarray:
    wanted_bytes = num_points * record.itemsize
    if len(body) < wanted_bytes:
        raise BadFileError(f"{path}: truncated, {len(body)} of {wanted_bytes} bytes; export it again")
    return np.frombuffer(body[:wanted_bytes], dtype=record)  # PCL may pad the end of a file


def _ascii_table(path: Path, body: bytes, record: np.dtype, num_points: int) -> np.ndarray:
    rows = [line.split() for line in body.decode("ascii", "replace").splitlines() if line.strip()]
    counts = [record[name].shape[0] for name in record.names]
    if len(rows) != num_points or any(len(row) != sum(counts) for row in rows):
        raise BadFileError(f"{path}: want {num_points} lines of {sum(counts)} values; export it again")
    table = np.zeros(num_points, dtype=record)
    for name, column in zip(record.names, np.cumsum(counts) - counts, strict=True):
        if name in WANTED:
            try:
                table[name][:, 0] = [float(row[column]) for row in rows]
            except ValueError as error:
                raise BadFileError(f"{path}: a value of {name} is no number; export it again") from error
    return table


def _viewpoint(path: Path, header: dict[str, list[str]]) -> np.ndarray:
    """``world_T_sensor`` (4, 4)."""
    try:
        values = [float(value) for value in header["VIEWPOINT"]]
        pose = transform_from_quaternion(values[3:], values[:3])
    except ValueError as error:
        raise BadFileError(f"{path}: VIEWPOINT is no pose (tx ty tz qw qx qy qz); export it again") from error
    if abs(np.linalg.norm(values[3:]) - 1) > MAX_NORM_ERROR:
        raise BadFileError(f"{path}: VIEWPOINT's quaternion is not of unit length; export it again")
    return pose
