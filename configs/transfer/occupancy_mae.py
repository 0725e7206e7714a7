"""Occupancy-MAE on the data of bev_jepa_city_and_real.py: generated drives with randomised sensors, and real ones."""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city_and_real import *
    from ..objectives.occupancy_mae import model

probe_config = None  # those of the city are for another model
