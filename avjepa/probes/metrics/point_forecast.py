"""Point-cloud forecasting as 4D-Occ scores it: CD, NFCD, L1 and AbsRel of every future sweep.

Khurana et al., "Point Cloud Forecasting as a Proxy for 4D Occupancy Forecasting", CVPR 2023, and the evaluator published
with it (test.py, utils/evaluation.py). All points are in one frame whose axes are an ego frame's (x forward) and whose
origin is the LiDAR of the present keyframe: the volume below stays there while the future sensor moves in it, and may
leave it.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from scipy.spatial import KDTree

LOWER_M = np.array([-70.0, -70.0, -4.5])
UPPER_M = np.array([70.0, 70.0, 4.5])
LEAST_RANGE_M = 0.01  # shorter rays are no rays
SLACK_M = 0.02  # ray ends this little outside of the volume stay where they are
SLACK_ALONG_RAY_M = 1e-4


@dataclass(frozen=True)
class PointForecastErrors:
    """Errors of one forecast sweep, or their mean over sweeps.

    Attributes:
        cd_m2: Chamfer distance, of squared distances.
        nfcd_m2: the same between the points inside the volume ("near field").
        l1_m: error of the range along the true rays, inside the volume.
        absrel: that error over the true range, as a share.
    """

    cd_m2: float
    nfcd_m2: float
    l1_m: float
    absrel: float


class PointForecastScore:
    """Mean errors over sweeps at each of K future steps; every sweep weighs the same, however many points it has.

    Attributes:
        count: (K,) sweeps scored at each step.
        skipped: sweeps without a true point, which are not scored.
    """

    def __init__(self, num_steps: int) -> None:
        self.count = np.zeros(num_steps, dtype=np.int64)
        self.skipped = 0
        self._sum = np.zeros((num_steps, 4))

    def add(self, step: int, predicted: np.ndarray, truth: np.ndarray, origin: np.ndarray) -> None:
        """Score one sweep of future step ``step`` (0 is the first); arguments as in ``point_forecast_errors``."""
        if not len(truth):
            self.skipped += 1
            return
        self._sum[step] += astuple(point_forecast_errors(predicted, truth, origin))
        self.count[step] += 1

    def at(self, step: int) -> PointForecastErrors:
        """Mean over the sweeps AT a step; nan without any."""
        return _mean(self._sum[step], self.count[step])

    def until(self, step: int) -> PointForecastErrors:
        """Mean over the sweeps of all steps up to and with a step: what 4D-Occ calls its figure for 1 s or 3 s."""
        return _mean(self._sum[: step + 1].sum(0), self.count[: step + 1].sum())


def point_forecast_errors(predicted: np.ndarray, truth: np.ndarray, origin: np.ndarray) -> PointForecastErrors:
    """Errors of one predicted sweep.

    Args:
        predicted: (Q, 3) any cloud; that of a world model is the true rays' directions times predicted ranges.
        truth: (P, 3).
        origin: (3,) where the LiDAR stands at that moment.

    Raises:
        ValueError: a cloud is empty, of wrong shape or not finite, or no point of one is off the origin.
    """
    predicted, truth = _checked(predicted, "predicted"), _checked(truth, "true")
    origin = np.asarray(origin, dtype=np.float64)
    l1_m, absrel = ray_errors(*range_on_true_rays(predicted, truth, origin), origin)
    return PointForecastErrors(
        cd_m2=chamfer_distance(predicted, truth),
        nfcd_m2=near_field_chamfer_distance(predicted, truth),
        l1_m=l1_m,
        absrel=absrel,
    )


def chamfer_distance(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Half the sum of both mean SQUARED distances (m2) to the nearest point of the other cloud; (Q, 3) and (P, 3)."""
    to_truth_m, _ = KDTree(truth).query(predicted)
    to_predicted_m, _ = KDTree(predicted).query(truth)
    return float((to_truth_m**2).mean() + (to_predicted_m**2).mean()) / 2


def near_field_chamfer_distance(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Chamfer distance between the points inside the volume, its faces included; 0 if either cloud has none there."""
    predicted, truth = predicted[_inside(predicted)], truth[_inside(truth)]
    return chamfer_distance(predicted, truth) if len(predicted) and len(truth) else 0.0


def range_on_true_rays(predicted: np.ndarray, truth: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Range (P',) that a predicted cloud tells for every true ray, and the end points (P', 3) of those rays.

    It is the range of the predicted point nearest in azimuth and "elevation". 4D-Occ takes the angle atan2(z, x) for the
    latter, over the forward axis instead of the horizontal distance. For a cloud that lies on the true rays this changes
    nothing, for another cloud a little. Points within LEAST_RANGE_M of the origin are left out of both clouds.
    """
    predicted_m, truth_m = (np.linalg.norm(cloud - origin, axis=1) for cloud in (predicted, truth))
    predicted, predicted_m = predicted[predicted_m > LEAST_RANGE_M], predicted_m[predicted_m > LEAST_RANGE_M]
    truth = truth[truth_m > LEAST_RANGE_M]
    if not len(predicted) or not len(truth):
        raise ValueError(f"no point of a cloud is more than {LEAST_RANGE_M} m from the origin {origin.tolist()}")
    _, nearest = KDTree(_angles_rad(predicted - origin)).query(_angles_rad(truth - origin))
    return predicted_m[nearest], truth


def ray_errors(predicted_m: np.ndarray, truth: np.ndarray, origin: np.ndarray) -> tuple[float, float]:
    """L1 (m) and AbsRel of predicted ranges (P,) along the rays from ``origin`` (3,) to ``truth`` (P, 3).

    Both ends are first clamped to the volume. Rays that miss it, or lie in it for less than LEAST_RANGE_M, add no error,
    and yet the sum is divided by the number of ALL rays. The true range of AbsRel starts where the ray enters the volume
    if it ends outside of it, and at ``origin`` if it ends inside.
    """
    truth_m = np.linalg.norm(truth - origin, axis=1)
    directions = (truth - origin) / truth_m[:, None]
    start_m, true_end_m = _clamp(truth_m, origin, directions)
    _, predicted_end_m = _clamp(predicted_m, origin, directions)
    start_m = np.where(_inside(truth), 0.0, start_m)
    counted = true_end_m > start_m + LEAST_RANGE_M
    error_m = np.abs(predicted_end_m[counted] - true_end_m[counted])
    absrel = error_m / (true_end_m[counted] - start_m[counted])
    return float(error_m.sum() / len(truth)), float(absrel.sum() / len(truth))


def _clamp(range_m: np.ndarray, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays (P, 3) enter the volume, inf for those that miss it, and where they end inside of it; (P,) along the ray."""
    faces_m = np.stack([LOWER_M, UPPER_M])  # (2, 3)
    parallel = np.isclose(directions, 0)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing_m = np.where(parallel, np.inf, (faces_m - origin) / directions[:, None]).reshape(-1, 6)
        places = origin + crossing_m[..., None] * directions[:, None]  # (P, 6, 3)
    on_volume = _inside(places, SLACK_M)

    ahead = on_volume & (crossing_m >= -SLACK_ALONG_RAY_M)
    enters_m = np.where(ahead, crossing_m, np.inf).min(1)
    start_m = np.zeros(len(range_m)) if _inside(origin, SLACK_M) else enters_m

    before_end = on_volume & (crossing_m <= range_m[:, None] + SLACK_ALONG_RAY_M)
    leaves_m = np.where(before_end, crossing_m, -np.inf).max(1)
    stays = _inside(origin + range_m[:, None] * directions, SLACK_M)
    end_m = np.maximum(np.where(stays, range_m, leaves_m), start_m)
    return start_m, end_m


def _inside(xyz: np.ndarray, slack_m: float = 0.0) -> np.ndarray:
    """Boolean (...): points (..., 3) in the volume, its faces included."""
    return ((xyz >= LOWER_M - slack_m) & (xyz <= UPPER_M + slack_m)).all(-1)


def _angles_rad(offsets: np.ndarray) -> np.ndarray:
    """Angles (n, 2) in which 4D-Occ looks for the nearest ray."""
    x, y, z = offsets.T
    return np.stack([np.arctan2(y, x), np.arctan2(z, x)], 1)


def _checked(points: np.ndarray, name: str) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"the {name} cloud must be (P, 3) with P > 0, got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"the {name} cloud has points that are not finite")
    return points


def _mean(total: np.ndarray, count: int) -> PointForecastErrors:
    return PointForecastErrors(*(total / count if count else np.full(4, np.nan)).tolist())
