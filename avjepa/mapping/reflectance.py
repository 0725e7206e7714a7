"""What comes back of the LiDAR's light: paint reflects more than the road, in sun and shadow alike."""

from __future__ import annotations

import numpy as np

from avjepa.mapping.mosaic import LINE_M, SIDES_M

LEAST_RETURNS = 30
PLAIN, REFLECTS, FRESH = 1.3, 1.5, 2.0  # times what the road reflects: no paint, paint, fresh paint


def line_reflects(ground: np.ndarray, left_m: np.ndarray) -> float:
    """LiDAR intensity on a line beside that of the brighter side of it; nan where there are few returns.

    Args:
        ground: (3, S, O) sums of a strip, returns and their intensity first.
        left_m: (O,) offsets of the columns to the left of the line.
    """
    places = [np.abs(left_m) <= LINE_M + 1e-6]
    places += [np.abs(sign * left_m - np.mean(SIDES_M)) <= np.ptp(SIDES_M) / 2 + 1e-6 for sign in (-1, 1)]
    (returns, *others), (line, *sides) = (np.array([ground[i][:, x].sum() for x in places]) for i in (0, 1))
    if min(returns, *others) < LEAST_RETURNS:
        return np.nan
    return float(line / returns / max(np.max(np.divide(sides, others)), 1e-6))
