from dataclasses import replace

import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.geometry.ego_motion import warp_bev
from avjepa.probes import baselines, bev_occupancy
from avjepa.probes.baselines import RAW_CHANNELS_PER_FRAME, future_raw_features, last_seen, raw_features
from avjepa.probes.bev_occupancy import BEVOccupancyProbe, BEVOccupancyTruth, OccupancyTargets, occupancy_targets
from tests.jepa import tiny

U, F, X = UNOBSERVED, FREE, OCCUPIED


def with_states(monkeypatch, module, function: str, columns: list[list[int]]):
    """Let the function of that name give these states: one list per cell, over the frames of one clip."""
    states = torch.tensor(columns, dtype=torch.uint8).T  # (S, cells)
    monkeypatch.setattr(module, function, lambda frames, grid: states[: frames.num_frames, None, :])


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
    with_states(monkeypatch, bev_occupancy, "lidar_cell_states", columns)
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


def test_last_seen_by_hand(monkeypatch):
    with_states(monkeypatch, baselines, "cell_states", [[X, F], [X, U], [F, U], [U, U], [U, X]])
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


def test_future_raw_features_are_the_present_ones_moved():
    clips = tiny.batch(0)
    future = future_raw_features(clips, tiny.BEV)
    horizons = clips.shape[1] - clips.num_context
    assert future.shape == (horizons, tiny.CONTEXT * RAW_CHANNELS_PER_FRAME + 2, 32, 32)
    moved, overlap = warp_bev(raw_features(clips, tiny.BEV), clips.frame_T_now()[:, 2], tiny.BEV)
    torch.testing.assert_close(future[1, :-2], moved[0])
    assert torch.equal(future[1, -2] > 0, overlap[0, 0])
    assert (future[1, -1] == clips.time_s[0, clips.num_context + 1]).all()


def one_row(occupied: list[int], known: list[int], hidden: list[int], never_seen: list[int]) -> BEVOccupancyTruth:
    cells = [torch.tensor([values], dtype=torch.bool) for values in (occupied, known, hidden, never_seen)]
    return BEVOccupancyTruth(OccupancyTargets(*cells), torch.zeros(1, len(occupied)))


def test_metrics_by_hand():
    """Five cells: one of them unknown, two hidden, of which one was never seen."""
    truth = one_row([1, 0, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0])
    score = torch.tensor([[0.9, 0.6, 0.2, 0.8, 0.99]])
    metrics = BEVOccupancyProbe(tiny.BEV).evaluate([(score, truth)], 0.5)
    assert metrics["iou_known"] == 2 / 4
    assert metrics["iou_hidden"] == 1 / 2
    assert metrics["iou_never_seen"] == 1
    assert abs(metrics["auroc_known"] - 2 / 3) < 1e-6
    assert metrics["auroc_hidden"] != metrics["auroc_hidden"]  # nothing free among them: not defined


def test_loss_reads_known_cells_only_and_weighs_both_answers_equally():
    truth = one_row([1, 0, 0, 0, 1], [1, 1, 1, 1, 0], [0] * 5, [0] * 5)
    probe, window = BEVOccupancyProbe(tiny.BEV), (slice(0, 1), slice(0, 5))
    nothing = probe.loss(torch.zeros(1, 1, 1, 5), [truth], window)
    assert abs(nothing.item() - torch.tensor(2.0).log().item()) < 1e-6
    wrong_where_unknown = probe.loss(torch.tensor([[[[0.0, 0, 0, 0, -50]]]]), [truth], window)
    assert wrong_where_unknown == nothing
    rare = probe.loss(torch.tensor([[[[-1.0, 0, 0, 0, 0]]]]), [truth], window) - nothing
    common = probe.loss(torch.tensor([[[[0.0, 1, 1, 1, 0]]]]), [truth], window) - nothing
    assert abs(rare - common) < 1e-6
