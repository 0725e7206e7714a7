"""The temporal joint-embedding predictive architecture over BEV maps. Depends on geometry, sensors and bev."""
