from dataclasses import dataclass, field

import numpy as np

from avjepa.sensors.repeated_past import with_repeated_past


@dataclass
class Index:
    scene: np.ndarray
    timestamp_us: np.ndarray


@dataclass
class Keyframes:
    """A scene of six keyframes, of which number 3 cannot be read; one of three, with a second between its last two."""

    num_context: int = 1
    clips: np.ndarray = field(default_factory=lambda: np.array([[0], [1], [2], [4], [5], [6], [7], [8]]))
    index: Index = field(
        default_factory=lambda: Index(
            np.array([0] * 6 + [1] * 3), np.array([0, 500, 1000, 1500, 2000, 2500, 0, 500, 1500]) * 1000
        )
    )


def test_the_oldest_keyframe_stands_in_for_those_that_lack():
    keyframes = Keyframes()
    padded = with_repeated_past(keyframes, (-2, -1, 0))
    assert padded.clips.tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 2],
        [4, 4, 4],  # 3 cannot be read
        [4, 4, 5],
        [6, 6, 6],  # another scene
        [6, 6, 7],
        [8, 8, 8],  # a gap in time
    ]
    assert padded.num_context == 3
    assert keyframes.num_context == 1  # a copy
    assert keyframes.clips.shape == (8, 1)


def test_offsets_may_skip_keyframes():
    padded = with_repeated_past(Keyframes(), (-4, -2, 0))
    assert padded.clips[2].tolist() == [0, 0, 2]
    assert padded.clips[1].tolist() == [0, 0, 1]
