"""Occ3D files: reads ``gts/<scene>/<sample token>/labels.npz``, writes predictions as the two evaluators want them.

Everything here is [x, y, z], as on disk; ``geometry/occ3d.py`` swaps to (Z, Y, X).
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from avjepa.errors import BadFileError
from avjepa.files import replacing
from avjepa.geometry.occ3d import FREE, SHAPE_XYZ

# Key of the array in a prediction's npz: the CVPR 2023 server takes numpy's unnamed array, SparseOcc's evaluator `pred`.
PREDICTION_KEYS = {"occ3d": "arr_0", "sparseocc": "pred"}


@dataclass(frozen=True)
class Occ3DLabels:
    """Truth of one keyframe, in its ego frame.

    Attributes:
        semantics: (200, 200, 16) uint8, 0..17.
        mask_lidar: (200, 200, 16) bool, what the LiDAR observes.
        mask_camera: (200, 200, 16) bool, what the cameras observe.
    """

    semantics: np.ndarray
    mask_lidar: np.ndarray
    mask_camera: np.ndarray


def labels_path(root: Path, scene: str, sample_token: str) -> Path:
    """Where the labels of a keyframe are under a data root.

    Raises:
        BadFileError: a name that would lead out of the folder.
    """
    return root / "gts" / _plain_name(scene) / _plain_name(sample_token) / "labels.npz"


def read_labels(path: Path) -> Occ3DLabels:
    """Labels of one keyframe.

    Raises:
        BadFileError: missing, damaged, or not of Occ3D's shapes and values; the message names the file and the mend.
    """
    arrays = _read_npz(path, ("semantics", "mask_lidar", "mask_camera"))
    _check(path, "semantics", arrays["semantics"], FREE)
    for name in ("mask_lidar", "mask_camera"):
        _check(path, name, arrays[name], 1)
    return Occ3DLabels(
        arrays["semantics"].astype(np.uint8), arrays["mask_lidar"].astype(bool), arrays["mask_camera"].astype(bool)
    )


def read_prediction(path: Path) -> np.ndarray:
    """(200, 200, 16) uint8 of a prediction in either format.

    Raises:
        BadFileError: as :func:`read_labels`.
    """
    arrays = _read_npz(path, ())
    found = [key for key in PREDICTION_KEYS.values() if key in arrays]
    if len(found) != 1:
        raise BadFileError(
            f"{path}: holds {sorted(arrays)}, want one of {list(PREDICTION_KEYS.values())}; export it again"
        )
    _check(path, found[0], arrays[found[0]], FREE)
    return arrays[found[0]].astype(np.uint8)


def write_prediction(
    folder: Path, sample_token: str, semantics: np.ndarray, layout: Literal["occ3d", "sparseocc"]
) -> Path:
    """Write ``<folder>/<sample_token>.npz``; the file appears only when it is whole.

    Args:
        folder: made if it is not there.
        sample_token: of the keyframe.
        semantics: (200, 200, 16) integers 0..17.
        layout: see PREDICTION_KEYS.

    Returns:
        The file.

    Raises:
        ValueError: shape or values do not fit.
    """
    fault = _fault(semantics, FREE)
    if fault:
        raise ValueError(f"prediction of {sample_token}: {fault}")
    path = folder / f"{_plain_name(sample_token)}.npz"
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **{PREDICTION_KEYS[layout]: semantics.astype(np.uint8)})
    return path


def _read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named arrays of an npz (all, if none is named); nothing in it is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys or archive.files}
    except KeyError as error:
        raise BadFileError(f"{path}: {error.args[0]}; copy it from the data set again") from error
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror or error}); copy it again") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, TypeError, NotImplementedError) as error:
        raise BadFileError(f"{path}: truncated or not an npz of plain arrays ({error}); copy it again") from error


def _check(path: Path, name: str, volume: np.ndarray, largest: int) -> None:
    fault = _fault(volume, largest)
    if fault:
        raise BadFileError(f"{path}: {name}: {fault}; copy it again")


def _fault(volume: np.ndarray, largest: int) -> str | None:
    """What is wrong with a volume, or None."""
    if volume.shape != SHAPE_XYZ:
        return f"shape {volume.shape}, want {SHAPE_XYZ}"
    if volume.dtype.kind not in "bui":
        return f"{volume.dtype}, want integers"
    if volume.min() < 0 or volume.max() > largest:
        return f"values {volume.min()}..{volume.max()}, want 0..{largest}"
    return None


def _plain_name(name: str) -> str:
    if name in ("", "..") or Path(name).name != name:
        raise BadFileError(f"{name!r}: want a plain file name; mend the table it comes from")
    return name
