import numpy as np
import pytest
import torch
from shapely import box

from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import transform_from_se2
from avjepa.probes.map_baselines import NearestPoseMap, mean_map
from avjepa.probes.map_labels import VectorMap
from avjepa.probes.metrics.map_iou import MAP_CLASSES

GRID = BEVGrid((-8.0, 8.0), (-8.0, 8.0), (-5.0, 3.0), 0.25, 8.0)
MEAN = torch.full((6, *GRID.shape_yx), 0.25)


def town(dx_m: float = 0.0) -> VectorMap:
    """A walkway ahead and to the left of the origin."""
    nothing = {name: np.array([], dtype=object) for name in MAP_CLASSES[:-1]}
    return VectorMap(nothing | {"walkway": np.array([box(1 + dx_m, 1, 5 + dx_m, 3)])}, np.array([], dtype=object))


def iou(score: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> float:
    predicted = score >= 0.5
    return float((predicted & truth & counted).sum() / ((predicted | truth) & counted).sum())


def test_mean_map_by_hand():
    truths = (torch.tensor([[[a, b]]], dtype=torch.bool) for a, b in [(1, 0), (1, 1), (0, 0), (1, 0)])
    assert mean_map(truths).tolist() == [[[0.75, 0.25]]]
    with pytest.raises(ValueError, match="no training frame"):
        mean_map([])


def nearest(poses: list[tuple[float, float, float]], cities: list[str], mean=MEAN) -> NearestPoseMap:
    global_T_ego = np.stack([transform_from_se2(*pose) for pose in poses])
    return NearestPoseMap(global_T_ego, cities, lambda i: town().labels(global_T_ego[i], GRID), mean, GRID)


@pytest.mark.parametrize("now", [(0.0, 0.0, 0.0), (2.0, -1.0, 0.0), (1.3, 0.4, 0.7), (-1.0, 0.5, 2.2)])
def test_the_training_map_is_moved_to_where_the_ego_is(now):
    """Wherever the training frame and the ego stand, the square stays where it is on the map, up to its edge."""
    then = (0.5, 0.25, -0.4)
    pose = transform_from_se2(*now)
    score, known = nearest([then], ["x"])(pose, "x")
    truth = town().labels(pose, GRID)
    assert iou(score[2], truth[2], known) > 0.7
    assert iou(town().labels(transform_from_se2(*then), GRID)[2].float(), truth[2], known) < 0.6
    assert score.min() >= 0
    assert score.max() <= 1


def test_a_whole_cell_motion_is_exact():
    score, known = nearest([(0.0, 0.0, 0.0)], ["x"])(transform_from_se2(2.0, -1.0, 0.0), "x")
    truth = town().labels(transform_from_se2(2.0, -1.0, 0.0), GRID)
    assert torch.equal(score[:, known] >= 0.5, truth[:, known])
    # 2 m ahead is 8 columns of the grid that the old frame did not hold, 1 m to the right 4 rows.
    assert known.sum() == (64 - 8) * (64 - 4)
    assert known[4:, :56].all()
    assert (score[:, ~known] == 0.25).all()


def test_the_nearest_by_position_and_heading():
    answer = nearest([(0, 0, 0), (10, 0, 0), (4, 0, np.pi), (4, 0, -0.1)], ["x"] * 4)
    assert answer.nearest(transform_from_se2(4, 0, np.pi - 0.1), "x") == 2
    assert answer.nearest(transform_from_se2(4, 0, -np.pi + 0.1), "x") == 2  # headings wrap around
    assert (
        answer.nearest(transform_from_se2(4, 0, 0.1), "x") == 3
    )  # 4 m off and turned by 0.1 costs 6, turned by 0.2 costs 4
    assert answer.nearest(transform_from_se2(8, 0, 0), "x") == 1


def test_another_town_is_never_near():
    """Its map frame has an origin of its own: equal coordinates say nothing."""
    answer = nearest([(0, 0, 0), (5, 0, 0)], ["x", "y"])
    assert answer.nearest(transform_from_se2(0, 0, 0), "y") == 1
    score, known = answer(transform_from_se2(0, 0, 0), "z")
    assert torch.equal(score, MEAN)
    assert not known.any()


def test_out_of_reach_leaves_the_mean_map():
    score, known = nearest([(0, 0, 0)], ["x"])(transform_from_se2(300, 0, 0), "x")
    assert torch.equal(score, MEAN)
    assert not known.any()


def test_a_city_for_each_pose():
    with pytest.raises(ValueError, match="each of 2"):
        nearest([(0, 0, 0), (1, 0, 0)], ["x"])
