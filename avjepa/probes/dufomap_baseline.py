"""Cleaning a map with DUFOMap (Duberg et al., RA-L 2024): what lies in space that was surely empty once is dynamic.

The method is the authors' package, an optional one: it is not re-implemented here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyquaternion import Quaternion

from avjepa.errors import ConfigError
from avjepa.probes.scans import Scan


@dataclass(frozen=True)
class DufomapSettings:
    """The paper's settings, the same for every LiDAR.

    Attributes:
        voxel_m: size of a voxel (v).
        hit_margin_m: how far a hit may be off (d_s).
        unknown_margin_voxels: how many voxels around must have been seen empty too (d_p).
        threads: of its own pool; 0 takes all cores.
    """

    voxel_m: float = 0.1
    hit_margin_m: float = 0.2
    unknown_margin_voxels: int = 2
    threads: int = 1


class DufomapSpace:
    """Which space was surely empty once; it grows with the area, not with the scans.

    Raises:
        ConfigError: the package is not installed.
    """

    def __init__(self, settings: DufomapSettings) -> None:
        os.environ.setdefault("GLOG_minloglevel", "1")  # it prints its settings at every start; read when it is loaded
        try:
            from dufomap import dufomap
        except ImportError as error:
            raise ConfigError("the baseline dufomap needs its package: pip install dufomap") from error
        self._method = dufomap(
            settings.voxel_m, settings.hit_margin_m, settings.unknown_margin_voxels, settings.threads
        )
        self._propagated = False

    def observe(self, scan: Scan) -> None:
        """Integrate a scan."""
        self._method.run(scan.xyz_map, _pose(scan), cloud_transform=False)

    def dynamic(self, scan: Scan) -> np.ndarray:
        """(P,) bool, after all scans were observed: the points that lie in such space."""
        if not self._propagated:
            self._method.oncePropagateCluster(if_propagate=True, if_cluster=False)
            self._propagated = True
        return self._method.segment(scan.xyz_map, _pose(scan), cloud_transform=False).astype(bool)


def dufomap_dynamic(scans: Sequence[Scan], settings: DufomapSettings) -> list[np.ndarray]:
    """What DUFOMap calls dynamic, (P,) bool of each scan, after it has seen all of them.

    Raises:
        ConfigError: the package is not installed.
    """
    space = DufomapSpace(settings)
    for scan in scans:
        space.observe(scan)
    return [space.dynamic(scan) for scan in scans]


def _pose(scan: Scan) -> list[float]:
    """x, y, z, qw, qx, qy, qz of the LiDAR, as the package takes it."""
    rotation = Quaternion(matrix=scan.map_T_lidar[:3, :3], atol=1e-6)
    return [*scan.map_T_lidar[:3, 3].tolist(), *rotation.elements.tolist()]
