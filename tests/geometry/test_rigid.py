import numpy as np
import pytest
import torch

from avjepa.geometry.rigid import (
    invert,
    se2_from_transform,
    transform_from_quaternion,
    transform_from_se2,
    transform_points,
)

HALF = np.sqrt(0.5)


def random_transform(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return transform_from_quaternion(rng.normal(size=4), rng.normal(size=3) * 100)


def test_quaternion_closed_form():
    turn_45 = transform_from_quaternion([np.cos(np.pi / 8), 0, 0, np.sin(np.pi / 8)], [1, 2, 3])
    np.testing.assert_allclose(
        turn_45, [[HALF, -HALF, 0, 1], [HALF, HALF, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], atol=1e-12
    )


def test_quaternion_is_normalised():
    np.testing.assert_allclose(
        transform_from_quaternion([2, 0, 0, 2], [0, 0, 0]),
        transform_from_quaternion([HALF, 0, 0, HALF], [0, 0, 0]),
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("rotation", "translation"),
    [([np.nan, 0, 0, 1], [0, 0, 0]), ([1, 0, 0, 0], [np.inf, 0, 0]), ([0, 0, 0, 0], [0, 0, 0]), ([1, 0, 0], [0, 0, 0])],
)
def test_bad_poses_are_refused(rotation, translation):
    with pytest.raises(ValueError, match=r"pose is not finite|want a \(4,\)"):
        transform_from_quaternion(rotation, translation)


def test_se2_round_trip():
    dx_m, dy_m, dyaw_rad = se2_from_transform(transform_from_se2(1.5, -2.5, 0.3))
    assert (dx_m, dy_m) == (1.5, -2.5)
    assert dyaw_rad == pytest.approx(0.3, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_inverse_undoes(seed):
    dst_T_src = random_transform(seed)
    np.testing.assert_allclose(invert(dst_T_src) @ dst_T_src, np.eye(4), atol=1e-12)
    xyz = np.random.default_rng(seed).normal(size=(7, 3))
    np.testing.assert_allclose(transform_points(invert(dst_T_src), transform_points(dst_T_src, xyz)), xyz, atol=1e-9)


def test_inverse_of_a_mirrored_frame():
    mirrored = np.diag([1.0, -1.0, 1.0, 1.0]) @ random_transform(0)
    np.testing.assert_allclose(invert(mirrored), np.linalg.inv(mirrored), atol=1e-9)


def test_points_closed_form_and_names_chain():
    b_T_a = transform_from_se2(10, 0, np.pi / 2)
    c_T_b = transform_from_se2(0, 5, 0)
    np.testing.assert_allclose(transform_points(b_T_a, np.array([[1.0, 0, 7]])), [[10, 1, 7]], atol=1e-12)
    xyz_a = np.array([[1.0, 2, 3]])
    np.testing.assert_allclose(
        transform_points(c_T_b @ b_T_a, xyz_a), transform_points(c_T_b, transform_points(b_T_a, xyz_a)), atol=1e-12
    )


def test_torch_equals_numpy_in_batches():
    transforms = np.stack([random_transform(seed) for seed in range(4)])
    xyz = np.random.default_rng(9).normal(size=(4, 5, 3))
    ours = transform_points(torch.from_numpy(transforms), torch.from_numpy(xyz))
    np.testing.assert_allclose(ours.numpy(), transform_points(transforms, xyz), atol=1e-9)
    np.testing.assert_allclose(invert(torch.from_numpy(transforms)).numpy(), np.linalg.inv(transforms), atol=1e-9)


def test_wrong_shapes_name_the_shape():
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        invert(np.eye(3))
    with pytest.raises(ValueError, match=r"\(5, 2\)"):
        transform_points(np.eye(4), np.zeros((5, 2)))
