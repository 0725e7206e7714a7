"""Several drives fused to one static map: aligned, without what moves, as a point cloud and as BEV layers.

    folder/clean.pcd            the returns that stay, one point per voxel; intensity is the LiDAR's, 0 to 1
    folder/layers/              NAME.npy (Y, X), and layers.json: what they mean and where they lie (bev_layers.py)
    folder/gt_cloud.pcd, pcd/   every return, intensity 1 where it was called moving: the format of DynamicMap_Benchmark
    folder/labels/NNNNNN.label  a label for each point of a LiDAR file: 9 static, 251 moving, 0 not judged
    folder/scans.json           which drive, keyframe and LiDAR file each number is, and where the PCD files lie

The drives are read turn by turn, three times: to align them, to learn what is looked through, to fuse what stays. What is kept in
between lies in tiles on disk: memory grows with the length of one drive, whose structure is aligned at once, and not with the turns
or the drives. But DUFOMap holds the space of the whole area, and a probe's answers are a byte a return.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avjepa.errors import DataError
from avjepa.files import write_json
from avjepa.geometry.rigid import transform_from_se2
from avjepa.mapping.alignment import Alignment, LaidStructures, Structure, align
from avjepa.mapping.bev_layers import SUMS, add_turn, write_layers
from avjepa.mapping.drive_turns import Drive, MapTurn
from avjepa.mapping.frames import MapFrame
from avjepa.mapping.moving_filters import MovingFilter
from avjepa.mapping.tiles import TileGrid, TileSums, tiles_in
from avjepa.mapping.voxel_tiles import VoxelSums
from avjepa.probes.dynamic_export import LABELS, SCANS, write_labels
from avjepa.probes.pcd_files import GT_CLOUD, PCDCloud, read_pcd, write_pcd, write_pcd_parts
from avjepa.probes.pcd_files import SCANS as SCAN_FOLDER

CLEAN, LAYER_FOLDER = "clean.pcd", "layers"
TILE_M = 51.2

Progress = Callable[[Iterable, str, int], Iterable]  # items, what is done, how many


@dataclass(frozen=True)
class StaticMapSettings:
    """Settings of a map.

    Attributes:
        cell_m: side of the layers' cells.
        voxel_m: edge of the voxels of which the clean cloud has one point each.
    """

    cell_m: float = 0.2
    voxel_m: float = 0.1

    def __post_init__(self) -> None:
        if not (0.05 <= self.cell_m <= 5 and 0.02 <= self.voxel_m <= 5):
            raise ValueError(f"want cells of .05 to 5 m and voxels of .02 to 5 m, got {self.cell_m}, {self.voxel_m}")


def build_static_map(
    folder: Path,
    drives: Sequence[Drive],
    make_filter: Callable[[Path], MovingFilter],
    frame: MapFrame,
    settings: StaticMapSettings,
    progress: Progress,
) -> dict[str, Any]:
    """Write the folder above.

    Args:
        folder: an empty one.
        drives: of one city and with one origin; their poses are corrected where they do not fit the first ones.
        make_filter: makes the filter of what moves from a folder for its working storage.
        frame: of the drives' map.
        settings: cells and voxels.
        progress: shows how far it is.

    Returns:
        What was found, for a record.

    Raises:
        DataError: no file of a drive can be read, the filter can judge none of its turns, or they saw nothing.
    """
    work = folder / "work"
    alignments = align_drives(drives, work / "structure", progress)
    moving = make_filter(work / "filter")
    for drive in drives:
        for turn in progress(drive.read(), f"{drive.name}: what moves", len(drive.turns)):
            moving.observe(turn)
    cells = TileGrid(settings.cell_m, tile_cells=round(TILE_M / settings.cell_m))
    cloud = VoxelSums(work / "cloud", settings.voxel_m, channels=5, tile_voxels=round(TILE_M / settings.voxel_m))
    scans: list[dict[str, str]] = []
    counts = []
    for number, drive in enumerate(drives):
        with TileSums(work / f"drive{number}", cells, SUMS) as sums:
            counts.append(_fuse_drive(folder, drive, moving, sums, cloud, scans, progress))
        if not tiles_in(work / f"drive{number}"):
            raise DataError(f"{drive.name}: its {len(drive.turns)} LiDAR turns saw nothing within reach; leave it out")
    origin_m = drives[0].origin_m
    num_points = _write_clouds(folder, cloud, origin_m, len(scans), sum(count["returns"] for count in counts))
    window = write_layers(folder / LAYER_FOLDER, [work / f"drive{number}" for number in range(len(drives))], frame)
    global_T_map = transform_from_se2(0, 0, 0)
    global_T_map[:3, 3] = origin_m
    write_json(folder / SCANS, {"global_T_map": global_T_map.tolist(), "scans": scans})
    shutil.rmtree(work)
    return {
        "city": frame.name,
        "cell_m": settings.cell_m,
        "voxel_m": settings.voxel_m,
        "shape_yx": list(window.shape_yx),
        "lower_corner_m": list(window.corner_m),
        "points": num_points,
        "drives": [
            {"scene": drive.name, **count, "unreadable": drive.unreadable, "alignment": alignment.record()}
            for drive, count, alignment in zip(drives, counts, alignments, strict=True)
        ],
    }


def align_drives(drives: Sequence[Drive], work: Path, progress: Progress) -> list[Alignment]:
    """Correct the poses of each drive but the first where that lays it better on those before it; what was found."""
    alignments, laid = [Alignment(False, "the first drive")], LaidStructures(work / "laid")
    for number, drive in enumerate(drives if len(drives) > 1 else ()):
        structure = Structure(work / str(number))
        for turn in progress(drive.read(), f"{drive.name}: alignment", len(drive.turns)):
            structure.add(turn)
        xy_m = structure.points()
        if number:
            alignments.append(align(xy_m, laid.near(xy_m)))
            if alignments[-1].applied:
                drive.map_T_recorded = alignments[-1].map_T_recorded
                xy_m = xy_m @ drive.map_T_recorded[:2, :2].T + drive.map_T_recorded[:2, 3]
        laid.add(xy_m)
        shutil.rmtree(work / str(number))
    return alignments


def _fuse_drive(
    folder: Path,
    drive: Drive,
    moving: MovingFilter,
    sums: TileSums,
    cloud: VoxelSums,
    scans: list[dict[str, str]],
    progress: Progress,
) -> dict[str, int]:
    """Add a drive to layers and cloud, write its scans; how many turns, returns and moving ones there were."""
    count = {"turns": 0, "not_judged": 0, "returns": 0, "moving": 0}
    for turn in progress(drive.read(), f"{drive.name}: fusing", len(drive.turns)):
        moves = moving.judge(turn)
        if moves is None:
            count["not_judged"] += 1
            continue
        add_turn(sums, turn, moves)
        _add_to_cloud(cloud, turn, ~moves)
        scan, name = turn.drive_scan.scan, f"{len(scans):06d}"
        write_pcd(
            folder / SCAN_FOLDER / f"{name}.pcd", PCDCloud(scan.xyz_map, moves.astype(np.float32), scan.map_T_lidar)
        )
        write_labels(folder / LABELS / f"{name}.label", turn.drive_scan, moves)
        scans.append({"drive": drive.name, "keyframe": turn.token, "lidar_file": turn.drive_scan.lidar_file})
        count["turns"] += 1
        count["returns"] += len(moves)
        count["moving"] += int(moves.sum())
    if not count["turns"]:
        raise DataError(f"{drive.name}: the filter of what moves judged none of its turns; take another filter")
    return count


def _add_to_cloud(cloud: VoxelSums, turn: MapTurn, stays: np.ndarray) -> None:
    xyz_map = turn.xyz_map[stays]
    voxels = cloud.voxels_of(xyz_map)
    # Relative to the voxel: sums of float32 would lose the millimetres of a city's coordinates.
    offset_m = xyz_map - voxels * cloud.voxel_m
    cloud.add(voxels, np.column_stack([np.ones(len(voxels)), offset_m, turn.drive_scan.intensity[stays]]))


def _write_clouds(folder: Path, cloud: VoxelSums, origin_m: np.ndarray, num_scans: int, num_returns: int) -> int:
    """Write the clean cloud, whose number of points is returned, and all scans as one."""
    num_points = sum(len(voxels) for voxels, _ in cloud.tiles())
    write_pcd_parts(folder / CLEAN, num_points, _points_of(cloud, origin_m), np.eye(4))
    every_scan = (read_pcd(folder / SCAN_FOLDER / f"{number:06d}.pcd") for number in range(num_scans))
    write_pcd_parts(folder / GT_CLOUD, num_returns, every_scan, np.eye(4))
    return num_points


def _points_of(cloud: VoxelSums, origin_m: np.ndarray) -> Iterator[PCDCloud]:
    """The mean of each voxel's returns, tile by tile."""
    for voxels, sums in cloud.tiles():
        means = sums[:, 1:].astype(np.float64) / sums[:, :1]
        xyz = voxels * cloud.voxel_m + means[:, :3] - origin_m
        yield PCDCloud(xyz.astype(np.float32), means[:, 3].astype(np.float32), np.eye(4))
