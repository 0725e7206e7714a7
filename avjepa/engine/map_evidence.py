"""The encoder and the clips that learned evidence of map changes is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config, ConfigDict

from avjepa.engine.config import load_config, settings_text
from avjepa.engine.kept_row import every_keyframe
from avjepa.engine.probe_study import pretrained_sources, random_jepa
from avjepa.mapping.learned_evidence import EmbeddedFrame
from avjepa.mapping.map_evidence import MapEvidence, drive_key, load_map_evidence
from avjepa.probes.frozen import ObservedView, Source, StoredFeatures, embed_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips

Watch = Callable[[Iterable, str, int], Iterable]


def encoder_of(cfg: Config, checkpoint: Path | None, seed: int) -> Source:
    """The frozen encoder of a training config: of a checkpoint, or with the random weights of a seed.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is of another model.
    """
    if checkpoint is None:
        return Source.of_model(f"random init {seed}", random_jepa(cfg, seed), settings_text(cfg.model.jepa))
    (source,) = pretrained_sources("JEPA", cfg, [checkpoint])
    return source


@dataclass(frozen=True)
class EmbeddedDrives:
    """Keyframes of drives and their embeddings, kept on disk."""

    dataset: NuScenesClips
    features: StoredFeatures

    @property
    def keys(self) -> list[str]:
        """Of the drives, see mapping/map_evidence.py: drive_key."""
        scenes = dict.fromkeys(keyframe.scene for keyframe in self.dataset.present_keyframes())
        return [drive_key(self.dataset.index, scene) for scene in scenes]

    def frames(self) -> Iterator[EmbeddedFrame]:
        """Every keyframe."""
        index = self.dataset.index
        for item, clip in enumerate(self.dataset.clips):
            n = int(clip[self.dataset.num_context - 1])
            yield EmbeddedFrame(
                str(index.token[n]),
                str(index.scene_name[index.scene[n]]),
                int(index.timestamp_us[n]),
                index.global_T_ego[n],
                self.features[[item]][0],
            )


def keyframes_of(cfg: Config, root: Path, version: str | None, scenes: Sequence[str]) -> NuScenesClips:
    """One clip for every keyframe of some drives, as the encoder was trained to read them, without augmentation.

    Raises:
        DataError: none can be read.
    """
    settings = {**cfg.train_data.dataset, "root": root, "version": version, "augment": None}
    return every_keyframe(ConfigDict(settings), tuple(scenes))


def embed_drives(source: Source, dataset: NuScenesClips, folder: Path, watch: Watch) -> EmbeddedDrives:
    """Embeddings of every clip, kept in a folder."""
    clips = watch(range(len(dataset)), "embedding keyframes", len(dataset))
    return EmbeddedDrives(dataset, embed_clips(source, ObservedView(), dataset, clips, 1, folder))


def evidence_of_file(
    path: Path, root: Path, version: str | None, scenes: Sequence[str], folder: Path, watch: Watch
) -> tuple[MapEvidence, EmbeddedDrives]:
    """An evidence file, and drives as its encoder sees them.

    Args:
        path: of the evidence file.
        root, version: of the data.
        scenes: names of the drives.
        folder: of kept embeddings.
        watch: shows progress.

    Raises:
        CheckpointError: the file, or the encoder that it names, cannot be read or is another one.
        ConfigError: its config is missing, or it was trained on one of the drives.
        DataError: the drives cannot be read.
    """
    evidence = load_map_evidence(path)
    origin = evidence.origin
    cfg = load_config(Path(origin.config))
    dataset = keyframes_of(cfg, root, version, scenes)
    evidence.check_drives(drive_key(dataset.index, scene) for scene in scenes)
    source = encoder_of(cfg, Path(origin.checkpoint) if origin.checkpoint else None, origin.seed)
    evidence.check_encoder(source.fingerprint, source.grid, path)
    return evidence, embed_drives(source, dataset, folder, watch)
