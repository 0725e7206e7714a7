import numpy as np
import pytest
from shapely.geometry import LineString

from avjepa.geometry.bands import line_poses, shifted


def test_poses_at_the_very_ends_look_along_the_line():
    """Not back: shapely would measure arc lengths before the start from the end."""
    line = LineString([(0, 0), (10, 0), (10, 10)])
    poses = line_poses(line, np.array([0.0, 0.1, 5.0, 19.9, 20.0]))
    assert poses[:, 2] == pytest.approx([0, 0, 0, np.pi / 2, np.pi / 2])
    assert shifted(poses, 1.0)[[0, -1]] == pytest.approx(np.array([[0, 1], [9, 10]]))
