"""Pinhole cameras without distortion (nuScenes images are rectified), and the pixel maps of image augmentation.

A camera is two matrices: ``pix_T_cam`` (3, 3) and ``ego_T_cam`` (4, 4). Resizing, cropping, flipping and turning an image
are affine maps of its pixels, ``aug_T_pix`` (3, 3), so an augmented camera is again a camera: ``aug_T_pix @ pix_T_cam``.
"""

from __future__ import annotations

import numpy as np
import torch

from avjepa.geometry.rigid import Array

MIN_DEPTH_M = 0.1


def pinhole_matrix(fx_px: float, fy_px: float, cx_px: float, cy_px: float) -> np.ndarray:
    """``pix_T_cam`` (3, 3) float64 of a distortion-free pinhole camera."""
    return np.array([[fx_px, 0, cx_px], [0, fy_px, cy_px], [0, 0, 1]], dtype=np.float64)


def project(pix_T_cam: Array, xyz_cam: Array) -> tuple[Array, Array]:
    """Pixels (..., P, 2) and depths in metres (..., P) of points ``xyz_cam`` (..., P, 3).

    Depth is the distance along the optical axis. Pixels of points with a depth below ``MIN_DEPTH_M`` (behind the lens) are
    not meaningful; :func:`in_image` rejects them.
    """
    if xyz_cam.shape[-1] != 3 or tuple(pix_T_cam.shape[-2:]) != (3, 3):
        raise ValueError(f"want (..., 3, 3) and (..., P, 3), got {tuple(pix_T_cam.shape)} and {tuple(xyz_cam.shape)}")
    uvw = xyz_cam @ pix_T_cam.swapaxes(-1, -2)
    depth_m = xyz_cam[..., 2]
    return uvw[..., :2] / uvw[..., 2:].clip(MIN_DEPTH_M), depth_m


def unproject(pix_T_cam: Array, uv_px: Array, depth_m: Array) -> Array:
    """Points ``xyz_cam`` (..., P, 3) at pixels ``uv_px`` (..., P, 2) and depths ``depth_m`` (..., P)."""
    inverse = torch.linalg.inv if isinstance(pix_T_cam, torch.Tensor) else np.linalg.inv
    cat = torch.cat if isinstance(uv_px, torch.Tensor) else np.concatenate
    uv1 = cat([uv_px, uv_px[..., :1] * 0 + 1], -1)
    rays_cam = uv1 @ inverse(pix_T_cam).swapaxes(-1, -2)  # z = 1: the last row of an affine pix_T_cam is (0, 0, 1)
    return rays_cam * depth_m[..., None]


def in_image(uv_px: Array, depth_m: Array, height_px: int, width_px: int) -> Array:
    """Boolean (..., P): the point lies before the lens and inside the image."""
    u_px, v_px = uv_px[..., 0], uv_px[..., 1]
    inside = (u_px >= -0.5) & (u_px < width_px - 0.5) & (v_px >= -0.5) & (v_px < height_px - 0.5)
    return inside & (depth_m > MIN_DEPTH_M)


def resize_pixels(scale_x: float, scale_y: float) -> np.ndarray:
    """``aug_T_pix`` of a resize about the image's upper-left corner, which lies at (-0.5, -0.5)."""
    aug_T_pix = np.diag([scale_x, scale_y, 1.0])
    aug_T_pix[:2, 2] = 0.5 * scale_x - 0.5, 0.5 * scale_y - 0.5
    return aug_T_pix


def shift_pixels(du_px: float, dv_px: float) -> np.ndarray:
    """``aug_T_pix`` of a shift; a crop that starts at (left, top) is ``shift_pixels(-left, -top)``."""
    aug_T_pix = np.eye(3)
    aug_T_pix[:2, 2] = du_px, dv_px
    return aug_T_pix


def flip_pixels(width_px: int) -> np.ndarray:
    """``aug_T_pix`` of a left-right mirror of an image of that width."""
    return np.array([[-1.0, 0, width_px - 1], [0, 1, 0], [0, 0, 1]])


def rotate_pixels(angle_rad: float, height_px: int, width_px: int) -> np.ndarray:
    """``aug_T_pix`` of a turn about the image centre; positive turns u towards v (clockwise on the screen)."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    centre = shift_pixels((width_px - 1) / 2, (height_px - 1) / 2)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return centre @ turn @ np.linalg.inv(centre)
