"""How much of a line's ridge the cameras' pixels leave: closed forms of a camera 1.5 m above a flat road."""

import numpy as np
import pytest

from avjepa.mapping.mosaic import LINE_M, SIDES_M
from avjepa.mapping.sharpness import Views, blurred_ridge
from avjepa.mapping.survey import SurveyedDrive, SurveyedFrame
from tests.mapping.painted_ground import CITY, IMAGE_SIZE, START_US, index_of

FOCAL_PX = 0.79 * IMAGE_SIZE[0]
HEIGHT_M = 1.5
CAMERA_M = 1.0  # before the car's origin


def views(*xs_m):
    frames = tuple(SurveyedFrame(f"at {x_m}", START_US + i, x_m, 0.0, 0.0, 6) for i, x_m in enumerate(xs_m))
    return Views([SurveyedDrive("scene-0061", CITY, frames, ())], index_of(frames))


def left_of(*pixels_m):
    return blurred_ridge(np.array(pixels_m), LINE_M, SIDES_M)


def test_what_a_blur_leaves():
    """Of a standard deviation of 0.2637 m: 0.4306 of the line stays on it, 0.0854 comes to each side."""
    assert left_of(0.5274)[0] == pytest.approx(0.3452, abs=1e-3)
    shares = left_of(0.0, 0.1, 0.3, 1.0, 3.0)
    assert shares[0] == 1
    assert (np.diff(shares) < 0).all()
    assert shares[-1] < 0.01


@pytest.mark.parametrize("distance_m", [7.0, 10.0, 15.0])
def test_a_line_that_leads_away_and_one_across(distance_m):
    """Straight ahead only the front camera looks: a pixel is d / f wide, and d^2 / (f h) long."""
    poses = np.array([[CAMERA_M + distance_m, 0.0, 0.0], [CAMERA_M + distance_m, 0.0, np.pi / 2]])
    away, across = views(0.0).ridge_share(poses, LINE_M, SIDES_M)
    assert away == pytest.approx(left_of(distance_m / FOCAL_PX)[0], abs=0.01)
    assert across == pytest.approx(left_of(distance_m**2 / (FOCAL_PX * HEIGHT_M))[0], abs=0.02)


def test_nearer_views_count_more():
    """10 and 15 m: weights of 1 / (1 + (d / 8)^2)."""
    pose = np.array([[11.0, 0.0, np.pi / 2]])
    near, far = (views(x_m).ridge_share(pose, LINE_M, SIDES_M)[0] for x_m in (0.0, -5.0))
    both = views(0.0, -5.0).ridge_share(pose, LINE_M, SIDES_M)[0]
    assert near > 3 * far
    assert both == pytest.approx((near * 64 / 164 + far * 64 / 289) / (64 / 164 + 64 / 289))


def test_nobody_looks():
    assert views(0.0).ridge_share(np.array([[40.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), LINE_M, SIDES_M).tolist() == [0, 0]


def test_the_same_strip_is_looked_at_once(monkeypatch):
    """Elements are judged part after part on the same strips; of another width, the answer is another."""
    seen, looks = views(0.0), []
    pixels = seen._pixels
    monkeypatch.setattr(seen, "_pixels", lambda *given: looks.append(1) or pixels(*given))
    poses = np.array([[11.0, 0.0, np.pi / 2]])
    first = seen.ridge_share(poses, LINE_M, SIDES_M)
    once = len(looks)
    assert seen.ridge_share(poses.copy(), LINE_M, SIDES_M) is first
    assert len(looks) == once > 0
    assert seen.ridge_share(poses, 2 * LINE_M, SIDES_M) != first
    assert seen.ridge_share(poses + 1.0, LINE_M, SIDES_M) != first
    with pytest.raises(ValueError, match="read-only"):
        first += 1
