"""avjepa: a self-supervised bird's-eye-view world model for driving (temporal JEPA over cameras and LiDAR)."""

__version__ = "0.1.0"
