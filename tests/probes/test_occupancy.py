from dataclasses import replace

import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.probes import baselines, occupancy
from avjepa.probes.baselines import RAW_CHANNELS_PER_FRAME, last_seen, raw_features
from avjepa.probes.occupancy import OccupancyTargets, occupancy_targets
from tests.jepa import tiny

U, F, X = UNOBSERVED, FREE, OCCUPIED


def with_states(monkeypatch, module, columns: list[list[int]]):
    """Let ``cell_states`` give these states: one list per cell, over the frames of one clip."""
    states = torch.tensor(columns, dtype=torch.uint8).T  # (S, cells)
    monkeypatch.setattr(module, "cell_states", lambda frames, grid: states[: frames.num_frames, None, :])


def test_targets_by_hand(monkeypatch):
    """Two context frames (the second is now), two future frames."""
    columns = [
        [F, X, F, F],  # seen now: occupied, whatever others say
        [X, F, X, X],  # seen now: free
        [U, U, X, X],  # later occupied
        [F, U, F, X],  # most saw it free
        [X, U, F, U],  # one against one: unknown
        [U, U, U, U],  # never seen: unknown
        [X, U, U, U],  # seen before, not now
    ]
    with_states(monkeypatch, occupancy, columns)
    targets = occupancy_targets(tiny.batch(0), tiny.BEV)
    rows = {name: getattr(targets, name)[0, 0].tolist() for name in ("occupied", "known", "hidden", "never_seen")}
    assert rows["known"] == [True, True, True, True, False, False, True]
    assert [o for o, k in zip(rows["occupied"], rows["known"], strict=True) if k] == [True, False, True, False, True]
    assert rows["hidden"] == [False, False, True, True, False, False, True]
    assert rows["never_seen"] == [False, False, True, False, False, False, False]


def test_targets_agree_with_the_world():
    """On a still world, cells known to be occupied hold a post, and hidden cells were not observed now."""
    clips = tiny.batch(0)
    targets = occupancy_targets(clips, tiny.BEV)
    posts = clips.points[(clips.points[:, 2] > 1.0) & (clips.point_frame == 1), :3]
    flat, inside = tiny.BEV.bev_index(posts)
    assert targets.occupied.flatten()[flat[inside]].all()
    assert not (targets.hidden & ~targets.known).any()
    assert not (targets.never_seen & ~targets.hidden).any()


def test_joined_targets():
    part = occupancy_targets(tiny.batch(0), tiny.BEV)
    assert OccupancyTargets.joined([part, part]).known.shape == (2, 32, 32)


def test_last_seen_by_hand(monkeypatch):
    with_states(monkeypatch, baselines, [[X, F], [X, U], [F, U], [U, U], [U, X]])
    assert last_seen(tiny.batch(0), tiny.BEV)[0, 0].tolist() == [0.0, 1.0, 0.0, 0.5, 1.0]


def test_raw_features_by_hand():
    clips = tiny.batch(0)
    now = clips.point_frame == 1
    points = clips.points.clone()
    points[:, 0] = 100.0  # out of the grid
    first, second = now.nonzero()[:2, 0]
    points[first, :3] = torch.tensor([0.4, 0.4, 0.5])
    points[second, :3] = torch.tensor([0.5, 0.5, 1.5])
    features = raw_features(replace(clips, points=points), tiny.BEV)
    assert features.shape == (1, tiny.CONTEXT * RAW_CHANNELS_PER_FRAME, 32, 32)
    log_count, highest, lowest, unobserved, free, occupied = features[0, RAW_CHANNELS_PER_FRAME:, 16, 16].tolist()
    assert abs(log_count - torch.tensor(3.0).log().item()) < 1e-6
    assert (highest, lowest) == (0.75, 0.25)
    assert unobserved + free + occupied == 1
    assert not features[0, RAW_CHANNELS_PER_FRAME : RAW_CHANNELS_PER_FRAME + 3, 16, 17].any()
