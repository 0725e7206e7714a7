"""What flows from a data set to the model: a Frame as read, a Clip of frames, a ClipBatch of tensors, and the FrameBatch that
the BEV encoder takes. Letters: see conventions.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from avjepa.conventions import POINT_COLUMNS
from avjepa.geometry.rigid import invert, transform_points


@dataclass(frozen=True)
class Frame:
    """One keyframe, everything in its own ego frame (at the LiDAR time of the keyframe).

    Attributes:
        token, scene: the data set's names.
        timestamp_us: LiDAR time of the keyframe.
        global_T_ego: (4, 4) float64.
        points_ego: (P, 5) float32, columns as in conventions.POINT_COLUMNS; sweeps are already motion-compensated.
        lidar_origin_ego: (3,) float32, where the LiDAR stood at the keyframe.
        lidar_present: False when the keyframe has no readable LiDAR sweep (then P = 0).
        images: (N, 3, H, W) uint8 RGB; zeros where a camera is absent.
        pix_T_cam: (N, 3, 3) float64, of the images as given here (resized, cropped, augmented).
        ego_T_cam: (N, 4, 4) float64, moved from the camera's exposure time to the LiDAR time.
        camera_present: (N,) bool.
    """

    token: str
    scene: str
    timestamp_us: int
    global_T_ego: np.ndarray
    points_ego: torch.Tensor
    lidar_origin_ego: torch.Tensor
    lidar_present: bool
    images: torch.Tensor
    pix_T_cam: np.ndarray
    ego_T_cam: np.ndarray
    camera_present: torch.Tensor

    def __post_init__(self) -> None:
        cameras = self.images.shape[0]
        wanted = {
            "global_T_ego": (4, 4),
            "points_ego": (self.points_ego.shape[0], len(POINT_COLUMNS)),
            "lidar_origin_ego": (3,),
            "images": (cameras, 3, *self.images.shape[-2:]),
            "pix_T_cam": (cameras, 3, 3),
            "ego_T_cam": (cameras, 4, 4),
            "camera_present": (cameras,),
        }
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Frame.{name} must be {shape}, got {tuple(getattr(self, name).shape)}")


@dataclass(frozen=True)
class Clip:
    """Frames of one scene in time order: ``num_context`` past frames, the last of them the present, then the future.

    ``seed`` is the number this draw was augmented with; the model draws its masks from it too, so that a training step is a
    pure function of (clip indices, seeds) and can be repeated exactly.
    """

    frames: tuple[Frame, ...]
    num_context: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num_context <= len(self.frames):
            raise ValueError(f"num_context {self.num_context} does not fit {len(self.frames)} frames")
        if len({frame.scene for frame in self.frames}) != 1:
            raise ValueError("a clip must not cross scenes")

    @property
    def now(self) -> Frame:
        """The present frame."""
        return self.frames[self.num_context - 1]


@dataclass(frozen=True)
class FrameBatch:
    """Input of the BEV encoder: M frames, each in the ego frame that its BEV map shall have ("bev").

    Attributes:
        points: (P, 5) float32, xyz in frame bev.
        point_frame: (P,) int64, the frame of each point, ascending.
        lidar_present: (M,) bool.
        lidar_origin: (M, 3) in frame bev.
        images: (M, N, 3, H, W) uint8.
        pix_T_cam: (M, N, 3, 3).
        bev_T_cam: (M, N, 4, 4).
        camera_present: (M, N) bool.
    """

    points: torch.Tensor
    point_frame: torch.Tensor
    lidar_present: torch.Tensor
    lidar_origin: torch.Tensor
    images: torch.Tensor
    pix_T_cam: torch.Tensor
    bev_T_cam: torch.Tensor
    camera_present: torch.Tensor

    @property
    def num_frames(self) -> int:
        """M; never read off the points, since a frame may have none."""
        return self.lidar_present.shape[0]

    def keep_points(self, keep: torch.Tensor) -> FrameBatch:
        """The same frames with the points where ``keep`` (P,) is true."""
        return replace(self, points=self.points[keep], point_frame=self.point_frame[keep])

    def keep_frames(self, keep: torch.Tensor) -> FrameBatch:
        """The frames where ``keep`` (M,) is true, numbered anew."""
        kept = self.keep_points(keep[self.point_frame])
        return FrameBatch(
            points=kept.points,
            point_frame=(keep.cumsum(0) - 1)[kept.point_frame],
            lidar_present=self.lidar_present[keep],
            lidar_origin=self.lidar_origin[keep],
            images=self.images[keep],
            pix_T_cam=self.pix_T_cam[keep],
            bev_T_cam=self.bev_T_cam[keep],
            camera_present=self.camera_present[keep],
        )


@dataclass(frozen=True)
class ClipBatch:
    """B clips of S = T + F frames, each frame in its own ego frame.

    Attributes:
        points: (P, 5) float32 of all frames, clip after clip, frame after frame.
        point_frame: (P,) int64 in [0, B * S), ascending: clip * S + frame.
        now_T_frame: (B, S, 4, 4) float32, identity for the present frame.
        time_s: (B, S), seconds after the present frame (negative in the past).
        num_context: T; frame T - 1 is the present.
        tokens: keyframe tokens, B tuples of S.
        seeds: B draw seeds, see Clip.
        The other fields are as in FrameBatch with leading axes (B, S), in each frame's own ego frame.
    """

    points: torch.Tensor
    point_frame: torch.Tensor
    lidar_present: torch.Tensor
    lidar_origin: torch.Tensor
    images: torch.Tensor
    pix_T_cam: torch.Tensor
    ego_T_cam: torch.Tensor
    camera_present: torch.Tensor
    now_T_frame: torch.Tensor
    time_s: torch.Tensor
    num_context: int
    tokens: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(B, S)."""
        return tuple(self.time_s.shape)

    def to(self, device: torch.device | str) -> ClipBatch:
        """The batch with every tensor on ``device``."""
        moved = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **moved)

    def context_in_now(self, newest: int | None = None) -> FrameBatch:
        """The past and present frames of every clip, all moved into the present ego frame; M = B * T.

        Args:
            newest: how many of them, the newest; None for all T.

        Raises:
            ValueError: the clips have fewer.
        """
        if newest is not None and newest > self.num_context:
            raise ValueError(f"want {newest} past and present frames, but the clips have {self.num_context}")
        first = 0 if newest is None else self.num_context - newest
        return self._frames(slice(first, self.num_context), self.now_T_frame)

    def targets(self, turn: torch.Tensor | None = None) -> FrameBatch:
        """The present and future frames of every clip, each in its own ego frame; M = B * (1 + F).

        Args:
            turn: (B, S, 4, 4), moves every frame into another one, in place of its own ego frame.
        """
        identity = torch.eye(4, device=self.now_T_frame.device).expand_as(self.now_T_frame)
        return self._frames(slice(self.num_context - 1, None), identity if turn is None else turn)

    def all_in_now(self) -> FrameBatch:
        """Every frame of every clip, moved into the present ego frame; M = B * S."""
        return self._frames(slice(0, None), self.now_T_frame)

    def without_ego_motion(self) -> ClipBatch:
        """The clips as they would be if nobody knew that the car moves."""
        identity = torch.eye(4, device=self.now_T_frame.device).expand_as(self.now_T_frame)
        return replace(self, now_T_frame=identity.contiguous())

    def frame_T_now(self) -> torch.Tensor:
        """(B, 1 + F, 4, 4): from the present ego frame to that of the present and each future frame."""
        return invert(self.now_T_frame[:, self.num_context - 1 :])

    def _frames(self, which: slice, bev_T_frame: torch.Tensor) -> FrameBatch:
        """Flatten the chosen frames of each clip and move them by ``bev_T_frame`` (B, S, 4, 4)."""
        clips, frames = self.shape
        chosen = (
            torch.arange(clips * frames, device=self.points.device).view(clips, frames)[:, which].reshape(-1)
        )  # (M,)
        new_index = torch.full((clips * frames,), -1, device=self.points.device)
        new_index[chosen] = torch.arange(len(chosen), device=self.points.device)
        keep = new_index[self.point_frame] >= 0
        point_frame, points = self.point_frame[keep], self.points[keep]

        bev_T_point = bev_T_frame.reshape(-1, 4, 4)[point_frame]  # (P, 4, 4)
        xyz = (bev_T_point[:, :3, :3] @ points[:, :3, None])[..., 0] + bev_T_point[:, :3, 3]
        bev_T_chosen = bev_T_frame[:, which].reshape(-1, 4, 4)  # (M, 4, 4)
        return FrameBatch(
            points=torch.cat([xyz, points[:, 3:]], -1),
            point_frame=new_index[point_frame],
            lidar_present=self.lidar_present[:, which].reshape(-1),
            lidar_origin=transform_points(bev_T_chosen, self.lidar_origin[:, which].reshape(-1, 1, 3))[:, 0],
            images=self.images[:, which].flatten(0, 1),
            pix_T_cam=self.pix_T_cam[:, which].flatten(0, 1),
            bev_T_cam=bev_T_chosen[:, None] @ self.ego_T_cam[:, which].flatten(0, 1),
            camera_present=self.camera_present[:, which].flatten(0, 1),
        )
