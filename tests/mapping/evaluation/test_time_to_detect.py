import numpy as np
import pytest

from avjepa.mapping.evaluation.time_to_detect import DetectionDistance, detection_distance
from tests.mapping.evaluation.scenes import at, square, straight

X_M = np.arange(0, 201, 5)  # 5 m a keyframe
HERE = square(100)  # in sight of x = 79 to 121: keyframes 16 (80 m) to 24 (120 m)


def test_one_drive():
    path = straight(X_M)
    assert detection_distance(HERE, at(16), [path]) == DetectionDistance(0.0, 0.0)
    found = detection_distance(HERE, at(20), [path])
    assert (found.driven_m, found.in_sight_m) == pytest.approx((20.0, 20.0))
    # Confirmed after it was passed, at 130 m: it was in sight up to 121 m.
    found = detection_distance(HERE, at(26), [path])
    assert (found.driven_m, found.in_sight_m) == pytest.approx((50.0, 41.0), abs=0.01)
    # Half-way between two keyframes.
    assert detection_distance(HERE, at(16.5), [path]).driven_m == pytest.approx(2.5)


def test_confirmed_from_afar_is_before_it_came_in_sight():
    found = detection_distance(HERE, at(12), [straight(X_M)])
    assert found.driven_m == pytest.approx(-20.0)
    assert found.in_sight_m == pytest.approx(-1.0, abs=0.01)  # the metre from 79 to the keyframe at 80


def test_several_drives_add_up_and_the_time_between_does_not():
    first, second = straight(X_M), straight(X_M, "second", hours=5)
    found = detection_distance(HERE, at(20, hours=5), [first, second])
    # 120 m to the end of the first, 100 m of the second; in sight 41 of the first and 21 of the second.
    assert found.driven_m == pytest.approx(120.0 + 100.0)
    assert found.in_sight_m == pytest.approx(41.0 + 21.0, abs=0.01)
    assert detection_distance(HERE, at(20, hours=5), [second, first]) == found


def test_drives_at_the_same_time():
    here, elsewhere = straight(X_M), straight(X_M, "elsewhere", y_m=500.0)
    found = detection_distance(HERE, at(20), [here, elsewhere])
    assert (found.driven_m, found.in_sight_m) == pytest.approx((40.0, 20.0))


def test_what_never_came_in_sight_has_no_distance():
    assert detection_distance(square(100, 50), at(20), [straight(X_M)]) is None
