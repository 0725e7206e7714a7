"""A recording as MCAP (mcap.dev) that Foxglove opens: JSON messages with Foxglove's schemas.

Topics:
    /tf                             map to ego, ego to every camera that has a picture
    /gps                            where the car is, WGS84
    /lidar                          points in the ego frame, coloured by height
    /cameras/NAME/image             pictures, byte for byte as on disk; /cameras/NAME/calibration their cameras
    /bev/NAME                       pictures in the ego frame, forward up: the surveyed ground, by sensor
    /driven, /prior/LAYER           ways, and the map that was checked near them
    /changes                        all changes that are shown so far: a labelled mark each, both shapes, what is known of it
    /log                            one line of text a change

A viewer that jumps to a time shows the newest message of each topic: hence every message of /changes repeats those before, and
where a keyframe lacks a file whose topic had one, an empty cloud or a black pixel stands, for nothing can be cleared. Messages are
written in the order of time, in compressed chunks; mcap keeps no more of them in memory than a chunk and its index.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from avjepa.files import replacing
from avjepa.mapping.changes import ChangeReport
from avjepa.mapping.frames import MapFrame
from avjepa.reports.foxglove_schemas import FLOAT32, INFO, LINE_STRIP, SCHEMAS, UINT8, UNUSED, WARNING
from avjepa.reports.recording import (
    CHANGE_WIDTH_M,
    MAP_WIDTH_M,
    MARK_WIDTH_M,
    WAY_COLOUR,
    WAY_WIDTH_M,
    Colour,
    RecordedCamera,
    RecordedChange,
    RecordedKeyframe,
    RecordedMap,
    viewer_package,
)

WORLD, EGO = "map", "ego"
POINT = np.dtype([("xyz", "<f4", 3), ("rgba", "u1", 4)])
POINT_FIELDS = [
    *({"name": name, "offset": 4 * i, "type": FLOAT32} for i, name in enumerate("xyz")),
    *({"name": name, "offset": 12 + i, "type": UINT8} for i, name in enumerate(("red", "green", "blue", "alpha"))),
]
BLACK_PIXEL = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
FONT_PX = 16

Message = dict[str, Any]


@contextmanager
def mcap_recording(path: Path, report: ChangeReport) -> Iterator[McapRecording]:
    """An ``.mcap`` file to put the drives of a report into; it is there when the block ends well.

    Raises:
        ConfigError: mcap is not installed.
    """
    writers = viewer_package("mcap.writer")
    with replacing(path) as temporary, temporary.open("wb") as stream:
        writer = writers.Writer(stream)  # chunks of 1 MiB, zstd
        writer.start(library="avjepa")
        writer.add_metadata(
            "report", {"run_id": report.run_id, "prior_map": report.prior_map, "city": report.frame.name}
        )
        yield McapRecording(writer, report.frame)
        writer.finish()


class McapRecording:
    """See reports/recording.py: Recording."""

    def __init__(self, writer: Any, frame: MapFrame) -> None:
        self.writer, self.frame = writer, frame
        self.schemas: dict[str, int] = {}
        self.channels: dict[str, int] = {}  # by topic
        self.shown: list[Message] = []  # entities of the changes so far

    def put_map(self, shown: RecordedMap, timestamp_us: int) -> None:
        """Ways and map, at the first keyframe."""
        ways = [
            _entity(timestamp_us, scene, lines=[_line(xyz, WAY_COLOUR, WAY_WIDTH_M)])
            for scene, xyz in shown.ways.items()
        ]
        self._put("/driven", "SceneUpdate", timestamp_us, {"deletions": [], "entities": ways})
        for layer, lines in shown.prior.items():
            entity = _entity(timestamp_us, layer, lines=[_line(*line, MAP_WIDTH_M) for line in lines])
            self._put(f"/prior/{layer}", "SceneUpdate", timestamp_us, {"deletions": [], "entities": [entity]})

    def put_keyframe(self, keyframe: RecordedKeyframe) -> None:
        """Poses, points, pictures."""
        t = keyframe.timestamp_us
        cameras = {name: camera for name, camera in keyframe.cameras.items() if camera is not None}
        poses = [_transform(t, WORLD, EGO, keyframe.global_T_ego)]
        poses += [_transform(t, EGO, name, camera.ego_T_cam) for name, camera in cameras.items()]
        self._put("/tf", "FrameTransforms", t, {"transforms": poses})
        self._put("/gps", "LocationFix", t, _fix(t, self.frame, keyframe.global_T_ego))
        if keyframe.xyz_ego is not None or "/lidar" in self.channels:
            self._put("/lidar", "PointCloud", t, _cloud(t, keyframe))
        for name in keyframe.cameras:
            topic = f"/cameras/{name}/image"
            if name in cameras:
                media_type, encoded = cameras[name].media_type, cameras[name].encoded
                self._put(topic, "CompressedImage", t, _image(t, name, media_type, encoded))
                calibration = _calibration(t, name, cameras[name])
                self._put(f"/cameras/{name}/calibration", "CameraCalibration", t, calibration)
            elif topic in self.channels:
                self._put(topic, "CompressedImage", t, _image(t, name, "image/png", BLACK_PIXEL))
        for name, picture in keyframe.bev.items():
            self._put(f"/bev/{name}", "CompressedImage", t, _image(t, EGO, "image/png", picture))

    def put_changes(self, changes: Sequence[RecordedChange], timestamp_us: int) -> None:
        """These changes and those before."""
        self.shown += [_change(timestamp_us, change) for change in changes]
        self._put("/changes", "SceneUpdate", timestamp_us, {"deletions": [], "entities": self.shown})
        for change in changes:
            level = WARNING if change.change.status == "confirmed" else INFO
            line = _stamp(timestamp_us) | {"level": level, "message": change.line, "name": "changes"}
            self._put("/log", "Log", timestamp_us, line | {"file": "", "line": 0})

    def _put(self, topic: str, kind: str, timestamp_us: int, message: Message) -> None:
        if topic not in self.channels:
            name = f"foxglove.{kind}"
            if name not in self.schemas:
                self.schemas[name] = self.writer.register_schema(name, "jsonschema", _json(SCHEMAS[name]))
            self.channels[topic] = self.writer.register_channel(topic, "json", self.schemas[name])
        time_ns = timestamp_us * 1000
        self.writer.add_message(self.channels[topic], time_ns, _json(message), time_ns)


# ----------------------------------------------------------------------------------------------------------- messages
def _transform(timestamp_us: int, parent: str, child: str, parent_T_child: np.ndarray) -> Message:
    turn = dict(zip("xyzw", Rotation.from_matrix(parent_T_child[:3, :3]).as_quat().tolist(), strict=True))
    names = {"parent_frame_id": parent, "child_frame_id": child}
    return _stamp(timestamp_us) | names | {"translation": _xyz(parent_T_child[:3, 3]), "rotation": turn}


def _fix(timestamp_us: int, frame: MapFrame, global_T_ego: np.ndarray) -> Message:
    longitude_deg, latitude_deg = frame.to_wgs84(global_T_ego[None, :2, 3])[0].tolist()
    place = {"latitude": latitude_deg, "longitude": longitude_deg, "altitude": float(global_T_ego[2, 3])}
    return _stamp(timestamp_us, EGO) | place | {"position_covariance": [0.0] * 9, "position_covariance_type": 0}


def _cloud(timestamp_us: int, keyframe: RecordedKeyframe) -> Message:
    points = np.zeros(0 if keyframe.xyz_ego is None else len(keyframe.xyz_ego), POINT)
    if len(points):
        points["xyz"], points["rgba"] = keyframe.xyz_ego, np.insert(keyframe.colours, 3, 255, axis=1)
    layout = {"pose": _pose((0.0, 0.0, 0.0)), "point_stride": POINT.itemsize, "fields": POINT_FIELDS}
    return _stamp(timestamp_us, EGO) | layout | {"data": _base64(points.tobytes())}


def _image(timestamp_us: int, frame_id: str, media_type: str, encoded: bytes) -> Message:
    return _stamp(timestamp_us, frame_id) | {"data": _base64(encoded), "format": media_type.partition("/")[2]}


def _calibration(timestamp_us: int, name: str, camera: RecordedCamera) -> Message:
    """Without distortion: pictures of nuScenes have none."""
    height_px, width_px = camera.size_px
    return _stamp(timestamp_us, name) | {
        **{"width": width_px, "height": height_px, "distortion_model": "plumb_bob", "D": [0.0] * 5},
        **{"K": camera.pix_T_cam.ravel().tolist(), "R": np.eye(3).ravel().tolist()},
        "P": np.c_[camera.pix_T_cam, np.zeros(3)].ravel().tolist(),
    }


def _change(timestamp_us: int, shown: RecordedChange) -> Message:
    """A mark with its title, and the lines of both shapes."""
    x, y, z = shown.xyz
    mark = {"pose": _pose(shown.xyz), "size": _xyz((MARK_WIDTH_M,) * 3), "color": _colour(shown.colour)}
    title = {"pose": _pose((x, y, z + MARK_WIDTH_M)), "billboard": True, "font_size": FONT_PX, "scale_invariant": True}
    title |= {"color": _colour(shown.colour), "text": shown.title}
    lines = [_line(strip, colour, CHANGE_WIDTH_M) for strips, colour in shown.sides.values() for strip in strips]
    entity = _entity(timestamp_us, shown.change.change_id, lines)
    facts = [{"key": key, "value": str(value)} for key, value in shown.facts.items()]
    return entity | {"spheres": [mark], "texts": [title], "metadata": facts}


def _entity(timestamp_us: int, name: str, lines: list[Message]) -> Message:
    """Lines in the world, for good."""
    unused: Message = {kind: [] for kind in (*UNUSED, "metadata", "spheres", "texts")}
    lasting = {"id": name, "lifetime": {"sec": 0, "nsec": 0}, "frame_locked": True}
    return _stamp(timestamp_us, WORLD) | lasting | unused | {"lines": lines}


def _line(xyz: np.ndarray, colour: Colour, width_m: float) -> Message:
    look = {"thickness": width_m, "scale_invariant": False, "color": _colour(colour), "colors": [], "indices": []}
    return {"type": LINE_STRIP, "pose": _pose((0.0, 0.0, 0.0)), "points": [_xyz(point) for point in xyz]} | look


def _stamp(timestamp_us: int, frame_id: str | None = None) -> Message:
    time = {"timestamp": {"sec": timestamp_us // 1_000_000, "nsec": timestamp_us % 1_000_000 * 1000}}
    return time if frame_id is None else time | {"frame_id": frame_id}


def _pose(xyz: Sequence[float]) -> Message:
    return {"position": _xyz(xyz), "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}


def _xyz(values: Sequence[float] | np.ndarray) -> Message:
    return dict(zip("xyz", map(float, values), strict=True))


def _colour(colour: Colour) -> Message:
    return dict(zip("rgba", (*(value / 255 for value in colour), 1.0), strict=True))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _json(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
