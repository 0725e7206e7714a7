import cv2
import numpy as np
import pytest
import torch

from avjepa.geometry.camera import (
    flip_pixels,
    in_image,
    pinhole_matrix,
    project,
    resize_pixels,
    rotate_pixels,
    shift_pixels,
    unproject,
)

K = pinhole_matrix(100, 120, 79.5, 44.5)


def test_projection_closed_form():
    uv_px, depth_m = project(K, np.array([[0.0, 0, 5], [1, 2, 4]]))
    np.testing.assert_allclose(uv_px, [[79.5, 44.5], [79.5 + 25, 44.5 + 60]])
    np.testing.assert_allclose(depth_m, [5, 4])


def test_round_trip_also_for_augmented_cameras():
    rng = np.random.default_rng(0)
    xyz_cam = rng.uniform((-5, -5, 3), (5, 5, 13), (20, 3))
    augmented = rotate_pixels(0.2, 90, 160) @ flip_pixels(160) @ shift_pixels(3, -7) @ resize_pixels(0.4, 0.5) @ K
    for pix_T_cam in (K, augmented):
        uv_px, depth_m = project(pix_T_cam, xyz_cam)
        np.testing.assert_allclose(unproject(pix_T_cam, uv_px, depth_m), xyz_cam, atol=1e-9)
    uv_px, depth_m = project(torch.from_numpy(augmented), torch.from_numpy(xyz_cam))
    np.testing.assert_allclose(unproject(torch.from_numpy(augmented), uv_px, depth_m).numpy(), xyz_cam, atol=1e-9)


def test_points_behind_the_lens_are_not_in_the_image():
    uv_px, depth_m = project(K, np.array([[0.0, 0, -5], [0, 0, 0.05], [0, 0, 1]]))
    assert in_image(uv_px, depth_m, 90, 160).tolist() == [False, False, True]


def test_image_borders_are_half_pixels_out():
    uv_px = np.array([[-0.5, 0], [-0.51, 0], [159.49, 89.49], [159.5, 0]])
    assert in_image(uv_px, np.ones(4), 90, 160).tolist() == [True, False, True, False]


def dot_after(aug_T_pix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Centre of mass of a bright dot, at (40, 20) before, in the image that OpenCV warps."""
    image = np.zeros((90, 160), np.float32)
    image[18:23, 38:43] = 1
    warped = cv2.warpAffine(image, aug_T_pix[:2], size[::-1], flags=cv2.INTER_LINEAR)
    v, u = np.mgrid[: size[0], : size[1]]
    return np.array([(u * warped).sum(), (v * warped).sum()]) / warped.sum()


@pytest.mark.parametrize(
    "aug_T_pix",
    [
        shift_pixels(10, -4),
        flip_pixels(160),
        rotate_pixels(0.3, 90, 160),
        resize_pixels(2.0, 2.0),
        rotate_pixels(-0.1, 90, 160) @ flip_pixels(160) @ shift_pixels(-5, 6) @ resize_pixels(1.3, 1.3),
    ],
)
def test_pixel_maps_agree_with_opencv(aug_T_pix):
    predicted = (aug_T_pix @ [40, 20, 1])[:2]
    np.testing.assert_allclose(dot_after(aug_T_pix, (200, 330)), predicted, atol=0.05)


def test_resize_agrees_with_opencv_resize():
    image = np.zeros((90, 160), np.float32)
    image[40:44, 80:84] = 1  # centre (81.5, 41.5)
    small = cv2.resize(image, (80, 45), interpolation=cv2.INTER_AREA)
    v, u = np.mgrid[:45, :80]
    centre = np.array([(u * small).sum(), (v * small).sum()]) / small.sum()
    np.testing.assert_allclose((resize_pixels(0.5, 0.5) @ [81.5, 41.5, 1])[:2], centre, atol=1e-4)


def test_flip_and_turn_keep_the_centre():
    centre = np.array([79.5, 44.5, 1])
    np.testing.assert_allclose(flip_pixels(160) @ centre, centre)
    np.testing.assert_allclose(rotate_pixels(1.0, 90, 160) @ centre, centre, atol=1e-12)
    # A positive turn moves u towards v.
    np.testing.assert_allclose((rotate_pixels(np.pi / 2, 90, 160) @ [89.5, 44.5, 1])[:2], [79.5, 54.5], atol=1e-12)
