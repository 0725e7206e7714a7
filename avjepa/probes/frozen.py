"""What probes read of a frozen model: embeddings of the present or of predicted moments, computed once and kept on disk.

A view says which maps are read of a clip; each such map is an *item*. Kept files are named by everything that decides their
content (weights, architecture, code, sensor files, view), so that none is ever stale. Letters: see conventions.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Protocol, get_args

import numpy as np
import torch

import avjepa
from avjepa.bev.cell_states import cell_states
from avjepa.files import file_stats, replacing
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import invert
from avjepa.jepa.target_encoder import normalised
from avjepa.jepa.world_model import BEVWorldModel
from avjepa.probes.baselines import future_raw_features, raw_features
from avjepa.probes.forecast_baselines import PoseSource, future_T_frames
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.sample import ClipBatch

# What embeddings depend on.
CODE = (
    *("conventions.py", "geometry", "sensors", "bev", "jepa"),
    *("probes/frozen.py", "probes/residual.py", "probes/baselines.py", "probes/forecast_baselines.py"),
)

PACKAGES = (
    "torch",
    "numpy",
    "spconv-cu120",
    "spconv-cu126",
    "transformers",
    "opencv-python-headless",
    "shapely",
    "dufomap",
)


class View(Protocol):
    """Which maps a probe reads of a clip, learned or raw. Two views that differ must differ in ``repr``."""

    def embed(self, jepa: BEVWorldModel, clips: ClipBatch) -> torch.Tensor:
        """(B * items, C, Y, X) of a model."""
        ...

    def raw(self, clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
        """(B * items, C_raw, Y, X) of the sensors, without a model."""
        ...


@dataclass(frozen=True)
class PresentView:
    """One item a clip: the present, unmasked; state over time and present embedding, both normalised (2 C channels)."""

    def embed(self, jepa: BEVWorldModel, clips: ClipBatch) -> torch.Tensor:
        """(B, 2 C, Y, X)."""
        state, z = jepa.encode_context(clips)
        return torch.cat([normalised(state), normalised(z)], 1)

    def raw(self, clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
        """(B, T * 6, Y, X)."""
        return raw_features(clips, grid)


@dataclass(frozen=True)
class ObservedView(PresentView):
    """The present, and what is known of its cells: the channels of :class:`PresentView`, and the cell states of the present
    keyframe (2 C + 1 channels).
    """

    def embed(self, jepa: BEVWorldModel, clips: ClipBatch) -> torch.Tensor:
        """(B, 2 C + 1, Y, X)."""
        z = super().embed(jepa, clips)
        return torch.cat([z, cell_states(clips.context_in_now(1), jepa.encoder.grid)[:, None].to(z)], 1)

    def raw(self, clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
        """(B, T * 6 + 1, Y, X)."""
        raw = super().raw(clips, grid)
        return torch.cat([raw, cell_states(clips.context_in_now(1), grid)[:, None].to(raw)], 1)


@dataclass(frozen=True)
class FutureView:
    """One item a future frame: its predicted embedding, normalised, and the overlap of both maps (C + 1 channels), in the
    future ego frame.

    Attributes:
        poses: how the future ego frames are known. Those that are not "true" put the answer where the car was expected.
    """

    poses: PoseSource = "true"

    def __post_init__(self) -> None:
        if self.poses not in get_args(PoseSource):
            raise ValueError(f"unknown poses {self.poses!r}; want {', '.join(get_args(PoseSource))}")

    def embed(self, jepa: BEVWorldModel, clips: ClipBatch) -> torch.Tensor:
        """(B * F, C + 1, Y, X)."""
        clips = self._moved(clips)
        state, _ = jepa.encode_context(clips)
        raw, overlap = jepa.predict(state, clips)  # (B, 1 + F, C, Y, X), (B, 1 + F, Y, X)
        predicted = normalised(raw[:, 1:].flatten(0, 1))
        return torch.cat([predicted, overlap[:, 1:].flatten(0, 1)[:, None].to(predicted)], 1)

    def raw(self, clips: ClipBatch, grid: BEVGrid) -> torch.Tensor:
        """(B * F, T * 6 + 2, Y, X)."""
        return future_raw_features(self._moved(clips), grid)

    def _moved(self, clips: ClipBatch) -> ClipBatch:
        """The clips with the future poses that this view knows."""
        context, now_T_frame = clips.num_context, clips.now_T_frame.double().cpu().numpy().copy()
        for pose, time_s in zip(now_T_frame, clips.time_s.cpu().numpy(), strict=True):
            pose[context:] = invert(future_T_frames(pose, time_s, context, self.poses)[:, context - 1])
        return replace(clips, now_T_frame=torch.from_numpy(now_T_frame).to(clips.now_T_frame))


@dataclass(frozen=True)
class Source:
    """Where features come from: a frozen model, or the raw input if ``jepa`` is None.

    Attributes:
        name: as the table's row shows it.
        jepa: the model.
        grid: of the features.
        fingerprint: of the weights and the architecture.
    """

    name: str
    jepa: BEVWorldModel | None
    grid: BEVGrid
    fingerprint: str

    @classmethod
    def of_model(cls, name: str, jepa: BEVWorldModel, architecture: str) -> Source:
        """A model, frozen; ``architecture`` is any text that decides what the weights mean, such as its config."""
        jepa = jepa.requires_grad_(False).eval()
        digest = hashlib.sha256(architecture.encode())
        for key, value in sorted(jepa.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return cls(name, jepa, jepa.encoder.grid, digest.hexdigest())

    @classmethod
    def of_raw_input(cls, grid: BEVGrid) -> Source:
        """The sensors themselves, on a model's grid."""
        return cls("raw input", None, grid, f"raw {grid}")


class StoredFeatures:
    """Features of n items in files, one file a clip, each (items, C, Y, X) float16."""

    def __init__(self, files: list[Path], items_per_clip: int) -> None:
        self.files = files
        self.items_per_clip = items_per_clip

    def __len__(self) -> int:
        return len(self.files) * self.items_per_clip

    def __getitem__(self, items: list[int]) -> torch.Tensor:
        """(b, C, Y, X) float32."""
        maps = [
            np.load(self.files[item // self.items_per_clip], mmap_mode="r")[item % self.items_per_clip]
            for item in items
        ]
        return torch.from_numpy(np.stack(maps)).float()


def embed_clips(
    source: Source,
    view: View,
    dataset: NuScenesClips,
    clips: Iterable[int],
    items_per_clip: int,
    folder: Path,
) -> StoredFeatures:
    """Features of the clips, computed where the folder does not hold them yet.

    Args:
        source: what computes them.
        view: which maps of a clip.
        dataset: where clips are read from, without augmentation.
        clips: numbers of the clips; iterated once, so that a progress bar can wrap them.
        items_per_clip: how many maps the view gives for a clip.
        folder: of the kept files.
    """
    files = []
    for number in clips:
        path = folder / f"{feature_key(source, view, dataset, number)}.npy"
        if not path.is_file():
            batch = collate_clips([dataset[number]])
            with torch.inference_mode():
                maps = view.raw(batch, source.grid) if source.jepa is None else view.embed(source.jepa, batch)
            if len(maps) != items_per_clip:
                raise ValueError(f"{view} gave {len(maps)} maps of a clip; want {items_per_clip}")
            with replacing(path) as temporary:
                np.save(temporary, maps.half().cpu().numpy())
        files.append(path)
    return StoredFeatures(files, items_per_clip)


def feature_key(source: Source, view: View, dataset: NuScenesClips, clip: int) -> str:
    """Name of what decides the features of a clip."""
    parts = (source.fingerprint, repr(view), clip_fingerprint(dataset, clip), code_fingerprint())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def clip_fingerprint(dataset: NuScenesClips, clip: int) -> str:
    """What decides the content of a clip: poses, calibrations, size and time of every sensor file, and how they are read."""
    index = dataset.index
    digest = hashlib.sha256(repr((dataset.image_size, dataset.num_sweeps, dataset.cameras, dataset.use_lidar)).encode())
    digest.update(str(dataset.num_context).encode())
    for n in dataset.clips[clip]:
        for array in (index.token, index.timestamp_us, index.global_T_ego, index.ego_T_lidar, index.pix_T_cam):
            digest.update(np.ascontiguousarray(array[n]).tobytes())
        for array in (
            index.camera_size_px,
            index.ego_T_cam,
            index.sweep_age_s,
            index.sweep_ego_T_lidar,
            index.ego_T_sweep_ego,
        ):
            digest.update(np.ascontiguousarray(array[n]).tobytes())
        names = list(index.camera_file[n, dataset.cameras])
        if dataset.use_lidar:
            names += [index.lidar_file[n], *index.sweep_file[n, : dataset.num_sweeps - 1]]
        digest.update(repr(file_stats(dataset.root / str(name) for name in names if name)).encode())
    return digest.hexdigest()


@cache
def code_fingerprint(names: tuple[str, ...] = CODE) -> str:
    """Of files and folders of the package, and of the packages it counts on: another version may give other numbers."""
    package = Path(avjepa.__file__).parent
    installed = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    digest = hashlib.sha256(repr([(name, installed.get(name)) for name in PACKAGES]).encode())
    for name in names:
        path = package / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()
