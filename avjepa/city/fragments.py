"""Records of finished drives as JSON, so that a killed generation can go on; numbers survive to the last bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from avjepa.city.records import Box, Calibration, Drive, EgoState, Keyframe, Reading
from avjepa.files import replacing


def write_fragment(path: Path, drive: Drive) -> None:
    """Keep a drive's record; the file appears only when it is whole."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(drive), default=_plain))


def read_fragment(path: Path) -> Drive:
    """The record that :func:`write_fragment` kept."""
    data = json.loads(path.read_text())
    return Drive(
        **{name: data[name] for name in ("name", "town", "place", "split", "description", "date")},
        calibrations=tuple(_calibration(item) for item in data["calibrations"]),
        keyframes=tuple(
            Keyframe(item["timestamp_us"], tuple(_box(box) for box in item["boxes"])) for item in data["keyframes"]
        ),
        readings=tuple(
            Reading(**{**item, "global_T_ego": np.array(item["global_T_ego"])}) for item in data["readings"]
        ),
        ego_states=tuple(_ego_state(item) for item in data["ego_states"]),
    )


def _calibration(item: dict) -> Calibration:
    intrinsic = None if item["pix_T_cam"] is None else np.array(item["pix_T_cam"])
    return Calibration(item["channel"], np.array(item["ego_T_sensor"]), intrinsic, tuple(item["size_px"]))


def _box(item: dict) -> Box:
    arrays = {"global_T_box": np.array(item["global_T_box"])}
    return Box(
        **{**item, **arrays, "size_wlh_m": tuple(item["size_wlh_m"]), "velocity_mps": tuple(item["velocity_mps"])}
    )


def _ego_state(item: dict) -> EgoState:
    return EgoState(
        **{
            **item,
            "global_T_ego": np.array(item["global_T_ego"]),
            "acceleration_mps2": tuple(item["acceleration_mps2"]),
        }
    )


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item()
