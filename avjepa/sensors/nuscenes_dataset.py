"""Clips of a nuScenes root as a torch data set. What cannot be read is counted and named, never invented."""

from __future__ import annotations

import logging
import os
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from avjepa.conventions import CAMERAS, LIDAR, POINT_COLUMNS
from avjepa.errors import BadFileError, DataError
from avjepa.geometry.camera import resize_pixels, shift_pixels
from avjepa.sensors.augment import Augmentation, augment
from avjepa.sensors.nuscenes_files import read_image, read_lidar
from avjepa.sensors.nuscenes_index import MAX_SWEEPS, find_clips, load_index, split_scenes
from avjepa.sensors.sample import Clip, Frame
from avjepa.sensors.sweeps import move_sweep

log = logging.getLogger("avjepa")

# With fewer keyframes read than this, one corrupt file says nothing about the data set.
LEAST_FRAMES_TO_JUDGE = 10


@dataclass
class BadFiles:
    """What was left out: ``found[kind][name]`` is how many cases. Every name counts once, however often it is read."""

    found: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, kind: str, name: str, times: int = 1) -> bool:
        """Count ``times`` cases of ``kind`` in the file, clip or scene ``name``; False when it was counted before."""
        names = self.found.setdefault(kind, {})
        is_new = name not in names
        names.setdefault(name, times)
        return is_new

    @property
    def counts(self) -> Counter:
        """Cases by kind."""
        return Counter({kind: sum(names.values()) for kind, names in self.found.items()})

    def __str__(self) -> str:
        """One line: every kind with its count and first three names."""
        kinds = [f"{self.counts[kind]} {kind} ({', '.join(list(names)[:3])})" for kind, names in self.found.items()]
        return "; ".join(kinds) or "none"


@dataclass(frozen=True)
class Keyframe:
    """Where and when a clip's present frame was taken."""

    scene: str
    city: str
    token: str
    global_T_ego: np.ndarray


class NuScenesClips(Dataset[Clip]):
    """Clips of T past and present and F future keyframes, never across scenes.

    Args:
        root: nuScenes root.
        scenes: scene names or devkit split names.
        context_offsets: keyframes of the context relative to the present, ascending and ending in 0.
        future_offsets: keyframes of the future, ascending.
        image_size: (H, W) of the images given to the model: resized to cover it, then cropped at the top (sky) and sides.
        num_sweeps: LiDAR sweeps per keyframe, its own included; missing older ones are left out with one warning.
        augment: how training clips are changed, or None.
        version: name of the tables' folder, or None for the only one.
        cameras: channels to read; () for none.
        use_lidar: False leaves the LiDAR out.
        cache_frames: decoded keyframes that each process keeps; overlapping clips share most of theirs.
        max_bad_share: largest share of keyframes with a missing or corrupt file of their own.
        clip_stride: keyframes from one clip's present to the next one's.

    Attributes:
        bad_files: what was left out. Missing files are all counted at the start. Corrupt ones are found when they are
            read: each process of a loader then counts its own, and logs a line with the name.

    Raises:
        DataError: nothing to read, or too large a share of it is bad.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        scenes: tuple[str, ...],
        context_offsets: tuple[int, ...],
        future_offsets: tuple[int, ...],
        image_size: tuple[int, int],
        num_sweeps: int = 1,
        augment: Augmentation | None = None,
        version: str | None = None,
        cameras: tuple[str, ...] = CAMERAS,
        use_lidar: bool = True,
        cache_frames: int = 64,
        max_bad_share: float = 0.1,
        clip_stride: int = 1,
    ) -> None:
        offsets = (*context_offsets, *future_offsets)
        if list(offsets) != sorted(set(offsets)) or context_offsets[-1:] != (0,):
            raise ValueError(
                f"offsets must ascend and the context end in 0, got {context_offsets} and {future_offsets}"
            )
        if not cameras and not use_lidar:
            raise ValueError("a clip needs cameras or LiDAR")
        if not set(cameras) <= set(CAMERAS):
            raise ValueError(f"unknown cameras {sorted(set(cameras) - set(CAMERAS))}; there are {', '.join(CAMERAS)}")
        if not 1 <= num_sweeps <= 1 + MAX_SWEEPS:
            raise ValueError(f"num_sweeps must be 1 to {1 + MAX_SWEEPS}, got {num_sweeps}")
        if clip_stride < 1:
            raise ValueError(f"clip_stride must be at least 1, got {clip_stride}")
        self.root = Path(root).expanduser()
        self.version = version
        self.index = load_index(self.root, version)
        self.num_context = len(context_offsets)
        self.offsets = offsets
        self.image_size = tuple(image_size)
        self.num_sweeps = num_sweeps
        self.augment = augment
        self.cameras = [CAMERAS.index(name) for name in cameras]
        self.use_lidar = use_lidar
        self.cache_frames = cache_frames
        self.max_bad_share = max_bad_share
        self.bad_files = BadFiles()
        self._cache: OrderedDict[int, Frame] = OrderedDict()
        self._frames_read: set[int] = set()
        self._frames_bad: set[int] = set()

        scene_numbers, absent_scenes = split_scenes(self.index, scenes)
        for name in absent_scenes:
            self.bad_files.add("scenes that this root does not hold", name)
        self.clips = np.zeros((0, len(offsets)), dtype=np.int64)
        readable = self._scan(scene_numbers)
        for number in scene_numbers:
            clips, left_out = find_clips(self.index, [number], offsets, readable, clip_stride)
            self.clips = np.concatenate([self.clips, clips])
            if left_out:
                scene = str(self.index.scene_name[number])
                self.bad_files.add("clips left out (unreadable keyframe or gap in time)", scene, left_out)
        if not len(self.clips):
            names = ", ".join(self.index.scene_name[scene_numbers])
            raise DataError(f"{self.root}: no clip of offsets {offsets} in {names}: {self.bad_files}")
        if self.bad_files.found:
            log.warning("%s: left out: %s", self.root, self.bad_files)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: int | tuple[int, int]) -> Clip:
        """Clip ``index`` as it is, or ``(index, seed)`` augmented: a pure function of both.

        A clip with a keyframe that turns out to be unreadable is replaced by the next readable one, and counted.
        """
        index, seed = item if isinstance(item, tuple) else (item, None)
        if not 0 <= index < len(self.clips):
            raise IndexError(f"clip {index} of {len(self.clips)}")
        for step in range(len(self.clips)):
            frames = tuple(self._frame(int(number)) for number in self.clips[(index + step) % len(self.clips)])
            if all(frame.lidar_present or bool(frame.camera_present.any()) for frame in frames):
                break
            self.bad_files.add("clips replaced", frames[self.num_context - 1].token)
        else:
            raise DataError(f"{self.root}: no clip can be read: {self.bad_files}")
        clip = Clip(frames, self.num_context, seed or 0)
        if seed is None or self.augment is None:
            return clip
        return augment(clip, self.augment, torch.Generator().manual_seed(seed))

    def present_keyframes(self) -> list[Keyframe]:
        """Where and when each clip's present frame was taken."""
        index = self.index
        return [
            Keyframe(
                scene=str(index.scene_name[index.scene[n]]),
                city=str(index.scene_city[index.scene[n]]),
                token=str(index.token[n]),
                global_T_ego=index.global_T_ego[n],
            )
            for n in self.clips[:, self.num_context - 1]
        ]

    def _scan(self, scene_numbers: list[int]) -> np.ndarray:
        """Which keyframes (n,) have a pose and at least one file; what is missing is counted."""
        index = self.index
        readable = index.usable().copy()
        chosen = np.flatnonzero(np.isin(index.scene, scene_numbers))
        missing_sweeps = 0
        for n in chosen:
            if not readable[n]:
                self.bad_files.add("keyframes with a damaged pose", str(index.token[n]))
                continue
            files = {CAMERAS[camera]: str(index.camera_file[n, camera]) for camera in self.cameras}
            if self.use_lidar:
                files[LIDAR] = str(index.lidar_file[n])
            missing = [channel for channel, name in files.items() if not self._exists(name)]
            for channel in missing:
                if files[channel]:
                    self.bad_files.add("missing files", files[channel])
                else:
                    self.bad_files.add("sensors without a record or calibration", f"{channel} of {index.token[n]}")
            if missing:
                self._frames_bad.add(int(n))
            readable[n] = len(missing) < len(files)
            older = index.sweep_file[n, : self.num_sweeps - 1] if self.use_lidar else ()
            missing_sweeps += sum(bool(name) and not self._exists(str(name)) for name in older)
        if missing_sweeps:
            self.bad_files.add("older LiDAR sweeps listed but missing", "keyframes go without them", missing_sweeps)
        bad = len(self._frames_bad) + int((~index.usable()[chosen]).sum())
        self._judge(bad, len(chosen))
        return readable

    def _exists(self, name: str) -> bool:
        return bool(name) and os.path.exists(self.root / name)

    def _judge(self, bad: int, total: int) -> None:
        """Stop when too large a share of keyframes is bad."""
        if bad > self.max_bad_share * total:
            share = f"more than max_bad_share={self.max_bad_share:g}"
            raise DataError(f"{self.root}: {bad} of {total} keyframes have bad files, {share}: {self.bad_files}")

    def _frame(self, number: int) -> Frame:
        """A keyframe, from the cache of this process if it is there."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        frame = self._read_frame(number)
        self._frames_read.add(number)
        if len(self._frames_read) >= LEAST_FRAMES_TO_JUDGE:
            self._judge(len(self._frames_bad & self._frames_read), len(self._frames_read))
        self._cache[number] = frame
        if len(self._cache) > self.cache_frames:
            self._cache.popitem(last=False)
        return frame

    def _read_frame(self, n: int) -> Frame:
        index = self.index
        points_ego, lidar_present = self._read_lidar(n)
        height, width = self.image_size
        images = np.zeros((len(self.cameras), height, width, 3), dtype=np.uint8)
        pix_T_cam = index.pix_T_cam[n, self.cameras].copy()
        present = np.zeros(len(self.cameras), dtype=bool)
        for i, camera in enumerate(self.cameras):
            image = self._read_camera(n, camera)
            if image is not None:
                images[i], aug_T_pix = image
                pix_T_cam[i] = aug_T_pix @ pix_T_cam[i]
                present[i] = True
        return Frame(
            token=str(index.token[n]),
            scene=str(index.scene_name[index.scene[n]]),
            timestamp_us=int(index.timestamp_us[n]),
            global_T_ego=index.global_T_ego[n],
            points_ego=torch.from_numpy(points_ego),
            lidar_origin_ego=torch.from_numpy(index.ego_T_lidar[n, :3, 3].astype(np.float32)),
            lidar_present=lidar_present,
            images=torch.from_numpy(images).movedim(-1, 1).contiguous(),
            pix_T_cam=pix_T_cam,
            ego_T_cam=index.ego_T_cam[n, self.cameras],
            camera_present=torch.from_numpy(present),
        )

    def _read_lidar(self, n: int) -> tuple[np.ndarray, bool]:
        """Points (P, 5) of a keyframe with its older sweeps, and whether its own sweep could be read."""
        nothing = np.zeros((0, len(POINT_COLUMNS)), dtype=np.float32)
        index = self.index
        if not self.use_lidar or not self._exists(str(index.lidar_file[n])):
            return nothing, False
        own = self._read_sweep(str(index.lidar_file[n]), n)
        if own is None:
            return nothing, False
        sweeps = [move_sweep(own, index.ego_T_lidar[n], np.eye(4), 0.0)]
        for i in range(self.num_sweeps - 1):
            name = str(index.sweep_file[n, i])
            older = self._read_sweep(name, n) if self._exists(name) else None
            if older is not None:
                ego_T_lidar, ego_T_sweep_ego = index.sweep_ego_T_lidar[n, i], index.ego_T_sweep_ego[n, i]
                sweeps.append(move_sweep(older, ego_T_lidar, ego_T_sweep_ego, index.sweep_age_s[n, i]))
        return np.concatenate(sweeps), True

    def _read_sweep(self, name: str, n: int) -> np.ndarray | None:
        """Points in the LiDAR frame (P, 4), None for a bad file, which is counted; an empty sweep is one without returns."""
        try:
            points, not_finite = read_lidar(self.root / name)
        except BadFileError as error:
            self._count_bad("bad LiDAR files", name, n, error)
            return None
        if not_finite:
            self.bad_files.add("LiDAR points that are not finite", name, not_finite)
        if not len(points):
            self.bad_files.add("empty LiDAR sweeps", name)
        return points

    def _read_camera(self, n: int, camera: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Image (H, W, 3) resized and cropped to ``image_size``, and its ``aug_T_pix`` (3, 3); None for a bad file."""
        name = str(self.index.camera_file[n, camera])
        if not self._exists(name):
            return None
        full_size = tuple(self.index.camera_size_px[n, camera].tolist())
        height, width = self.image_size
        scale = max(height / full_size[0], width / full_size[1])
        size = (max(height, round(full_size[0] * scale)), max(width, round(full_size[1] * scale)))
        try:
            image, reduction = read_image(self.root / name, full_size, size)
        except BadFileError as error:
            self._count_bad("bad images", name, n, error)
            return None
        reduced_height, reduced_width = image.shape[:2]
        interpolation = cv2.INTER_AREA if size[1] < reduced_width else cv2.INTER_LINEAR
        image = cv2.resize(image, size[::-1], interpolation=interpolation)
        top, left = size[0] - height, (size[1] - width) // 2  # what is cut off at the top is mostly sky
        aug_T_pix = (
            shift_pixels(-left, -top)
            @ resize_pixels(size[1] / reduced_width, size[0] / reduced_height)
            @ resize_pixels(1 / reduction, 1 / reduction)
        )
        return image[top : top + height, left : left + width], aug_T_pix

    def _count_bad(self, kind: str, name: str, n: int, error: BadFileError) -> None:
        """Count a file that exists but cannot be used, and say so once, with its name."""
        self._frames_bad.add(n)
        if self.bad_files.add(kind, name):
            log.warning("%s", error)
