"""Several data sets trained on as one: a generated city and real drives, say."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.data import Dataset

from avjepa.errors import ConfigError
from avjepa.sensors.nuscenes_dataset import Keyframe, NuScenesClips
from avjepa.sensors.sample import Clip


class JoinedClips(Dataset[Clip]):
    """The clips of several data sets, one after the other.

    Args:
        datasets: with the same frames, sweeps, image size and cameras.
        repeats: how often each occurs in an epoch, so that a small one is not lost beside a large one.

    Raises:
        ConfigError: clips of the data sets do not fit in one batch.
    """

    def __init__(self, datasets: Sequence[NuScenesClips], repeats: Sequence[int]) -> None:
        if not datasets or len(datasets) != len(repeats) or min(repeats) < 1:
            raise ConfigError(f"want one number of repeats, at least 1, for each data set, got {repeats}")
        kinds = {(data.offsets, data.num_sweeps, data.image_size, tuple(data.cameras)) for data in datasets}
        if len(kinds) > 1:
            raise ConfigError("joined data sets must have the same frames, sweeps, image size and cameras")
        self.places = [
            (data, clip) for data, times in zip(datasets, repeats, strict=True) for clip in times * [*range(len(data))]
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, item: int | tuple[int, int]) -> Clip:
        """Clip ``index`` as it is, or ``(index, seed)`` augmented, as :class:`NuScenesClips`."""
        index, seed = item if isinstance(item, tuple) else (item, None)
        data, clip = self.places[index]
        return data[clip if seed is None else (clip, seed)]

    def present_keyframes(self) -> list[Keyframe]:
        """Where and when each clip's present frame was taken."""
        datasets = {id(data): data for data, _ in self.places}
        of_dataset = {key: data.present_keyframes() for key, data in datasets.items()}
        return [of_dataset[id(data)][clip] for data, clip in self.places]
