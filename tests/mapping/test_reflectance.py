"""LiDAR intensity on a line beside that of its sides, on strips of which every sum is known."""

import numpy as np
import pytest

from avjepa.mapping.reflectance import LEAST_RETURNS, line_reflects

LEFT_M = np.arange(-10, 11) / 10
LINE, RIGHT, LEFT = (np.abs(LEFT_M - middle_m) < 0.16 for middle_m in (0.0, -0.5, 0.5))
ROWS = LEAST_RETURNS // 3 + (LEAST_RETURNS % 3 > 0)  # of three columns each


def ground(line=0.1, right=0.1, left=0.1, returns=1.0):
    """(3, S, O) sums; what lies between line and sides, or beyond these, is bright."""
    intensity = np.full(LEFT_M.shape, 0.9)
    intensity[LINE], intensity[RIGHT], intensity[LEFT] = line, right, left
    return np.broadcast_to(
        np.stack([intensity**0, intensity, 0 * intensity])[:, None] * returns, (3, ROWS, len(LEFT_M))
    )


def test_a_line_beside_the_brighter_of_its_sides():
    assert line_reflects(ground(), LEFT_M) == pytest.approx(1.0)
    assert line_reflects(ground(line=0.3), LEFT_M) == pytest.approx(3.0)
    assert line_reflects(ground(line=0.3, right=0.2), LEFT_M) == pytest.approx(1.5)
    assert line_reflects(ground(line=0.3, left=0.15), LEFT_M) == pytest.approx(2.0)
    assert line_reflects(ground(line=0.3, returns=7.0), LEFT_M) == pytest.approx(3.0)


@pytest.mark.parametrize("place", [LINE, RIGHT, LEFT])
def test_few_returns_tell_nothing(place):
    sums = ground(line=0.3).copy()
    sums[:, 0, place] *= 0.9
    assert np.isnan(line_reflects(sums, LEFT_M))
    assert np.isnan(line_reflects(sums[:, :0], LEFT_M))
