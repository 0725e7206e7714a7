"""Dynamic filtering in the mini city by the residual's norm alone, which no label teaches; see dynamic_city.py."""

from mmengine.config import read_base

from avjepa.probes.dynamic import ResidualNormProbe

with read_base():
    from .dynamic_city import *

probe["grid"].update(cell_z_m=6.0)  # one layer
probe.update(type=ResidualNormProbe, whole_drive_rows=False)
heads = dict(linear=heads["linear"])
supervised = None
