"""Reading one file of a drive, and saying what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from avjepa.errors import BadFileError

LIDAR_COLUMNS = 5  # x, y, z in metres, intensity 0..255, ring
DECODES = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


def read_lidar(path: Path) -> tuple[np.ndarray, int]:
    """Points of a nuScenes ``.pcd.bin`` (P, 4) float32: xyz_lidar in metres, intensity in [0, 1]; P may be 0.

    Returns:
        The finite points, and how many were not finite and left out.

    Raises:
        BadFileError: the file is missing, or its size is not a whole number of points.
    """
    try:
        raw = np.fromfile(path, dtype=np.float32)
        size_bytes = path.stat().st_size
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror}); copy it from the data set again") from error
    if size_bytes % (4 * LIDAR_COLUMNS):
        raise BadFileError(f"{path}: truncated, {size_bytes} bytes are no whole number of points; copy it again")
    points = raw.reshape(-1, LIDAR_COLUMNS)[:, :4]
    finite = np.isfinite(points).all(1)
    points = points[finite] / np.array([1, 1, 1, 255], dtype=np.float32)
    return points, int((~finite).sum())


def read_image(path: Path, full_size: tuple[int, int], least_size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """RGB image (H, W, 3) uint8, decoded at 1/2, 1/4 or 1/8 of its size when that is still large enough.

    A reduced JPEG decode skips most of the work. The reduced image covers the same view, its last row and column perhaps
    in part: pixel maps scale by 1 / reduction.

    Args:
        path: the file.
        full_size: (height, width) in pixels that its calibration is for.
        least_size: (height, width) that is wanted.

    Returns:
        The image, and the reduction (1, 2, 4 or 8).

    Raises:
        BadFileError: missing, not an image, of another size, or a JPEG that breaks off.
    """
    data = read_encoded_image(path, full_size)
    most = min(full_size[0] / least_size[0], full_size[1] / least_size[1])
    reduction = next((reduction for reduction in DECODES if reduction <= most), 1)
    # The calibration is for the pixels as they are stored, whatever an EXIF tag says about turning them.
    image = cv2.imdecode(data, DECODES[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise BadFileError(f"{path}: not a readable image; copy it again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), reduction


def read_encoded_image(path: Path, full_size: tuple[int, int]) -> np.ndarray:
    """The bytes, uint8, of an image file as they are.

    Raises:
        BadFileError: missing, not an image, not of ``full_size`` (height, width), or a JPEG that breaks off.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror}); copy it from the data set again") from error
    # OpenCV fills the missing rest of a truncated JPEG with grey and reports success.
    if path.suffix.lower() in (".jpg", ".jpeg") and not data.tobytes().rstrip(b"\0").endswith(b"\xff\xd9"):
        raise BadFileError(f"{path}: truncated JPEG; copy it again")
    size = image_size(data)
    if size is None:
        raise BadFileError(f"{path}: not a readable image; copy it again")
    if size != full_size:
        raise BadFileError(
            f"{path}: {size[1]} x {size[0]} px, its table says {full_size[1]} x {full_size[0]}; copy it again"
        )
    return data


def image_size(data: np.ndarray) -> tuple[int, int] | None:
    """Height and width in pixels of an encoded JPEG, from its frame header; decoding only if it is another format."""
    content = data.tobytes()
    if content[:2] != b"\xff\xd8":
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        return None if image is None else image.shape[:2]
    place = 2
    while place + 9 < len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height_px, width_px = content[place + 5 : place + 7], content[place + 7 : place + 9]
            return int.from_bytes(height_px, "big"), int.from_bytes(width_px, "big")
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return None
