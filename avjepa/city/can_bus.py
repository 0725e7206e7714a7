"""The CAN bus expansion's pose messages of a generated drive, and their statistics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from avjepa.city.records import Drive
from avjepa.city.tables import rotation_wxyz, write_json


def write_can_bus(root: Path, drive: Drive) -> None:
    """Write ``root/can_bus/<scene>_pose.json`` and ``<scene>_meta.json``.

    A pose message holds utime (us), pos (m, global frame), orientation (w, x, y, z, global from ego), vel (m/s), accel
    (m/s^2) and rotation_rate (rad/s), the last three in the ego frame. ``accel`` is the state's own, without gravity.
    The meta file holds, under "pose", the number of messages, their rate (Hz), the time they span (s), and max, mean, min
    and std of each field and of its differences between neighbouring messages. There is no route: it is known only to
    the navigation of a real car.

    Raises:
        ValueError: the drive has fewer than two states, they are not in time order, or a number is not finite.
    """
    if len(drive.ego_states) < 2 or any(np.diff([state.timestamp_us for state in drive.ego_states]) <= 0):
        raise ValueError(f"{drive.name}: want two or more states in time order")
    messages = [
        {
            "accel": [float(value) for value in state.acceleration_mps2],
            "orientation": rotation_wxyz(state.global_T_ego),
            "pos": [float(value) for value in state.global_T_ego[:3, 3]],
            "rotation_rate": [0.0, 0.0, float(state.yaw_rate_radps)],
            "utime": int(state.timestamp_us),
            "vel": [float(state.speed_mps), 0.0, 0.0],
        }
        for state in drive.ego_states
    ]
    folder = root / "can_bus"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{drive.name}_pose.json", messages)
    (folder / f"{drive.name}_meta.json").write_text(json.dumps({"pose": _statistics(messages)}, indent=1) + "\n")


def _statistics(messages: list[dict]) -> dict:
    timespan_s = (messages[-1]["utime"] - messages[0]["utime"]) * 1e-6
    stats = {}
    for field in messages[0]:
        values = np.array([message[field] for message in messages], dtype=float)
        stats[field] = {}
        for name in ("max", "mean", "min", "std"):
            for suffix, numbers in (("", values), ("_diff", np.diff(values, axis=0))):
                stats[field][name + suffix] = getattr(np, name)(numbers, axis=0).tolist()
    return {
        "message_count": len(messages),
        "message_freq": (len(messages) - 1) / timespan_s,
        "timespan": timespan_s,
        "var_stats": stats,
    }
