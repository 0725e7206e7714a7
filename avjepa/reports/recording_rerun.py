"""A recording for the rerun viewer; ``rerun FILE`` opens it.

Entities:
    world/ego                       the car, with world/ego/lidar and world/ego/cameras/NAME below it
    world/driven/SCENE              its way
    world/prior/LAYER               the map that was checked, near the ways
    world/changes/ID                where a change is, from the moment it is shown: its label, status and confidence;
                                    below it ``old`` and ``new``, the shapes before and after
    bev/NAME                        pictures in the ego frame, forward up: the surveyed ground, by sensor
    changes                         one line of text a change

Nothing is sent anywhere and no viewer is started; rerun streams what it is given to the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from avjepa.conventions import CAMERAS
from avjepa.files import replacing
from avjepa.reports.recording import (
    CHANGE_WIDTH_M,
    MAP_WIDTH_M,
    MARK_WIDTH_M,
    WAY_COLOUR,
    WAY_WIDTH_M,
    RecordedCamera,
    RecordedChange,
    RecordedKeyframe,
    RecordedMap,
    viewer_package,
)

APPLICATION = "avjepa map changes"
TIMELINE = "sample_time"


@contextmanager
def rerun_recording(path: Path, run_id: str) -> Iterator[RerunRecording]:
    """A ``.rrd`` file to put drives into; it is there when the block ends well.

    Raises:
        ConfigError: rerun is not installed.
    """
    rr = viewer_package("rerun")
    with replacing(path) as temporary, _strict(rr):
        stream = rr.RecordingStream(APPLICATION, recording_id=run_id)
        stream.save(temporary)
        yield RerunRecording(rr, stream)
        stream.flush(blocking=True)
        stream.disconnect()


class RerunRecording:
    """See reports/recording.py: Recording."""

    def __init__(self, rr: Any, stream: Any) -> None:
        self.rr, self.stream, self.has_blueprint = rr, stream, False

    def put_map(self, shown: RecordedMap, timestamp_us: int) -> None:
        """Axes, ways and map, at all times."""
        rr = self.rr
        self._put(["world"], rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        for scene, xyz in shown.ways.items():
            way = rr.LineStrips3D([xyz], colors=WAY_COLOUR, radii=WAY_WIDTH_M / 2)
            self._put(["world", "driven", scene], way, static=True)
        for layer, lines in shown.prior.items():
            strips, colours = zip(*lines, strict=True)
            lines = rr.LineStrips3D(strips, colors=colours, radii=MAP_WIDTH_M / 2)
            self._put(["world", "prior", layer], lines, static=True)

    def put_keyframe(self, keyframe: RecordedKeyframe) -> None:
        """Pose, points, pictures."""
        rr = self.rr
        if (
            not self.has_blueprint
        ):  # a viewer shows what it has read so far: without one it makes a blueprint of its own
            self.stream.send_blueprint(_blueprint(list(keyframe.bev)))
            self.has_blueprint = True
        self._set_time(keyframe.timestamp_us)
        self._put(["world", "ego"], self._transform(keyframe.global_T_ego))
        cloud = rr.Clear(recursive=False)
        if keyframe.xyz_ego is not None:
            cloud = rr.Points3D(keyframe.xyz_ego, colors=keyframe.colours, radii=0.04)
        self._put(["world", "ego", "lidar"], cloud)
        for name, camera in keyframe.cameras.items():
            shown = [rr.Clear(recursive=False)] if camera is None else self._camera(camera)
            self._put(["world", "ego", "cameras", name], *shown)
        for name, picture in keyframe.bev.items():
            self._put(["bev", name], rr.EncodedImage(contents=picture, media_type="image/png"))

    def put_changes(self, changes: Sequence[RecordedChange], timestamp_us: int) -> None:
        """Each a labelled mark, both shapes, a line of text."""
        rr = self.rr
        self._set_time(timestamp_us)
        for shown in changes:
            entity = ["world", "changes", shown.change.change_id]
            mark = rr.Points3D([shown.xyz], labels=[shown.title], colors=shown.colour, radii=MARK_WIDTH_M / 2)
            self._put(entity, mark, rr.AnyValues(**shown.facts))
            for side, (strips, colour) in shown.sides.items():
                self._put([*entity, side], rr.LineStrips3D(strips, colors=colour, radii=CHANGE_WIDTH_M / 2))
            level = rr.TextLogLevel.WARN if shown.change.status == "confirmed" else rr.TextLogLevel.INFO
            self._put(["changes"], rr.TextLog(shown.line, level=level, color=shown.colour))

    def _camera(self, camera: RecordedCamera) -> list[Any]:
        rr, (height_px, width_px) = self.rr, camera.size_px
        pinhole = rr.Pinhole(
            image_from_camera=camera.pix_T_cam,
            resolution=(width_px, height_px),
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=1.5,
        )
        image = rr.EncodedImage(contents=camera.encoded, media_type=camera.media_type)
        return [self._transform(camera.ego_T_cam), pinhole, image]

    def _transform(self, dst_T_src: np.ndarray) -> Any:
        return self.rr.Transform3D(translation=dst_T_src[:3, 3], mat3x3=dst_T_src[:3, :3])

    def _set_time(self, timestamp_us: int) -> None:
        # Exact, which rerun's own way from a datetime is not: by a float.
        self.stream.set_time(TIMELINE, timestamp=np.datetime64(timestamp_us, "us"))

    def _put(self, entity: list[str], *content: Any, static: bool = False) -> None:
        self.stream.log(entity, *content, static=static)


def _blueprint(pictures: list[str]) -> Any:
    """What the viewer shows at first: the world, six cameras with the changes drawn into them, BEV pictures, the list."""
    import rerun.blueprint as rrb

    cameras = [
        rrb.Spatial2DView(
            origin=f"/world/ego/cameras/{camera}",
            contents=["$origin/**", "/world/prior/**", "/world/changes/**"],
            name=camera,
        )
        for camera in CAMERAS
    ]
    bev = [rrb.Spatial2DView(origin=f"/bev/{name}", name=name) for name in pictures]
    world = rrb.Spatial3DView(origin="/world/ego", contents="/world/**", name="world")  # the view goes along
    changes = rrb.TextLogView(origin="/changes", name="changes")
    above = rrb.Horizontal(world, rrb.Tabs(*bev), column_shares=[3, 2]) if bev else world
    below = rrb.Horizontal(rrb.Grid(*cameras, grid_columns=3), changes, column_shares=[3, 2])
    return rrb.Blueprint(rrb.Vertical(above, below), collapse_panels=True)


@contextmanager
def _strict(rr: Any) -> Iterator[None]:
    """Raise where rerun would warn and leave something out."""
    before = rr.error_utils.strict_mode()
    rr.set_strict_mode(True)
    try:
        yield
    finally:
        rr.set_strict_mode(before)
