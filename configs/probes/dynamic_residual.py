"""Dynamic filtering on nuScenes by the residual's norm alone, which no label teaches; see dynamic.py."""

from mmengine.config import read_base

from avjepa.probes.dynamic import ResidualNormProbe

with read_base():
    from .dynamic import *

probe["grid"].update(cell_z_m=6.0)  # one layer
probe.update(type=ResidualNormProbe, whole_drive_rows=False)
heads = dict(linear=heads["linear"])
supervised = None
