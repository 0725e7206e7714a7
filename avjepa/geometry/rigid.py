"""Rigid transforms ``dst_T_src`` as homogeneous 4 x 4 matrices; each function takes numpy arrays or torch tensors."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from pyquaternion import Quaternion

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def transform_from_quaternion(rotation_wxyz, translation_m) -> np.ndarray:
    """``dst_T_src`` (4, 4) float64 from a quaternion (w, x, y, z) and a translation in metres.

    Raises:
        ValueError: a value is not finite, or the quaternion is zero.
    """
    rotation_wxyz = np.asarray(rotation_wxyz, dtype=np.float64)
    translation_m = np.asarray(translation_m, dtype=np.float64)
    if rotation_wxyz.shape != (4,) or translation_m.shape != (3,):
        raise ValueError(
            f"want a (4,) quaternion and a (3,) translation, got {rotation_wxyz.shape}, {translation_m.shape}"
        )
    norm = np.linalg.norm(rotation_wxyz)
    if not (np.isfinite(rotation_wxyz).all() and np.isfinite(translation_m).all() and norm > 0):
        raise ValueError(f"pose is not finite: rotation {rotation_wxyz.tolist()}, translation {translation_m.tolist()}")
    dst_T_src = np.eye(4)
    dst_T_src[:3, :3] = Quaternion(rotation_wxyz / norm).rotation_matrix
    dst_T_src[:3, 3] = translation_m
    return dst_T_src


def transform_from_se2(dx_m: float, dy_m: float, dyaw_rad: float) -> np.ndarray:
    """``dst_T_src`` (4, 4) of a planar motion: rotate by ``dyaw_rad`` about z, then move by (dx_m, dy_m)."""
    cos, sin = np.cos(dyaw_rad), np.sin(dyaw_rad)
    dst_T_src = np.eye(4)
    dst_T_src[:2, :2] = [[cos, -sin], [sin, cos]]
    dst_T_src[:2, 3] = dx_m, dy_m
    return dst_T_src


def invert(dst_T_src: Array) -> Array:
    """``src_T_dst`` (..., 4, 4) = [R^T | -R^T t]. Exact for every orthogonal R, a mirrored (flipped) frame included."""
    _check_transform(dst_T_src)
    rotation_T = dst_T_src[..., :3, :3].swapaxes(-1, -2)
    src_T_dst = dst_T_src * 0
    src_T_dst[..., :3, :3] = rotation_T
    src_T_dst[..., :3, 3] = -(rotation_T @ dst_T_src[..., :3, 3:])[..., 0]
    src_T_dst[..., 3, 3] = 1
    return src_T_dst


def transform_points(dst_T_src: Array, xyz_src: Array) -> Array:
    """Points ``xyz_src`` (..., P, 3) in frame dst; ``dst_T_src`` (..., 4, 4) broadcasts over the leading axes."""
    _check_transform(dst_T_src)
    if xyz_src.shape[-1] != 3:
        raise ValueError(f"points must be (..., P, 3), got {tuple(xyz_src.shape)}")
    return xyz_src @ dst_T_src[..., :3, :3].swapaxes(-1, -2) + dst_T_src[..., None, :3, 3]


def se2_from_transform(dst_T_src: Array) -> tuple[Array, Array, Array]:
    """Planar part (dx_m, dy_m, dyaw_rad) of ``dst_T_src`` (..., 4, 4), each of shape (...)."""
    _check_transform(dst_T_src)
    atan2 = torch.atan2 if isinstance(dst_T_src, torch.Tensor) else np.arctan2
    return dst_T_src[..., 0, 3], dst_T_src[..., 1, 3], atan2(dst_T_src[..., 1, 0], dst_T_src[..., 0, 0])


def _check_transform(dst_T_src) -> None:
    if tuple(dst_T_src.shape[-2:]) != (4, 4):
        raise ValueError(f"a transform must be (..., 4, 4), got {tuple(dst_T_src.shape)}")
