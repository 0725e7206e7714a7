import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.jepa.monitors import measure
from avjepa.jepa.motion_evidence import changed_cells
from avjepa.jepa.target_encoder import EMATarget
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.sample import Clip, ClipBatch
from tests.jepa import tiny


def test_an_untrained_model_predicts_persistence():
    """Residuals are zero and teacher equals encoder, so prediction and persistence differ by the order of warp and
    normalisation only; without motion not even by that.
    """
    model = tiny.jepa(cameras=False).eval()
    still = measure(model, tiny.batch(step=(0.0, 0.0, 0.0)))
    for name in ("ratio_occupied", "ratio_all", "ratio_occupied_1", "ratio_occupied_2", "wrong_motion"):
        assert still[name] == pytest.approx(1.0, abs=1e-3), name
    moving = measure(model, tiny.batch(step=(1.6, 0.0, 0.0)))
    assert moving["ratio_occupied"] == pytest.approx(1.0, abs=0.02)
    assert moving["wrong_motion"] > 1.1


def test_std_falls_when_all_cells_point_the_same_way():
    """Also when the embedding only drowns in a large mean, which neither its raw std nor its rank shows."""
    model, clips = tiny.jepa(cameras=False).eval(), tiny.batch()
    healthy = measure(model, clips)
    with torch.no_grad():
        model.encoder.neck[-1].bias.copy_(100 * torch.randn(tiny.CHANNELS, generator=torch.Generator().manual_seed(0)))
    collapsed = measure(model, clips)
    assert collapsed["std"] < 0.05 * healthy["std"]
    assert collapsed["std_raw"] == pytest.approx(healthy["std_raw"], rel=1e-2)
    assert collapsed["rankme"] > 0.5 * healthy["rankme"]  # why std is looked at first


def test_nothing_occupied_is_nan_not_a_crash():
    clips = tiny.batch()
    flat = clips.points.clone()
    flat[:, 2] = 0
    monitors = measure(tiny.jepa(cameras=False).eval(), replace(clips, points=flat))
    assert torch.tensor(monitors["ratio_occupied"]).isnan()
    assert monitors["error_all"] > 0
    assert monitors["spectrum"] == monitors["slowness"] == []
    for name in ("rankme_moving", "teacher_cosine", "condition", "shuffled_motion", "slowness_min", "slowness_changed"):
        assert math.isnan(monitors[name]), name
    assert json.loads(json.dumps(monitors)).keys() == monitors.keys()


def test_without_a_future_std_and_rank_are_measured_and_the_rest_is_nan():
    model = tiny.jepa(cameras=False).eval()
    present = measure(model, tiny.batch(frames=2))
    whole = measure(model, tiny.batch())
    of_the_present = {"std", "std_min", "std_raw", "rankme", "condition", "directions_90", "teacher_cosine"}
    for name in of_the_present:
        assert present[name] == pytest.approx(whole[name], rel=1e-3), name
    of_the_context = {"spectrum", *(name for name in whole if name.startswith("slowness"))}
    rest = set(present) - of_the_present - of_the_context
    assert {"ratio_all", "error_all", "wrong_motion", "shuffled_motion", "rankme_moving"} <= rest
    assert all(math.isnan(present[name]) for name in rest)
    assert set(whole) - set(present) == {"ratio_occupied_1", "ratio_occupied_2"}


def test_changed_cells_by_hand():
    model = tiny.jepa(cameras=False)
    clips = tiny.batch(0, frames=3, step=(0.8, 0.0, 0.0))  # one cell forward: now's column x is then's x - 1
    states = torch.full((1, 2, 32, 32), FREE, dtype=torch.uint8)
    states[0, 0, 10, 10] = OCCUPIED  # stays: seen at column 9 later
    states[0, 1, 10, 9] = OCCUPIED
    states[0, 1, 20, 20] = OCCUPIED  # came
    states[0, 0, 5, 5] = OCCUPIED  # went
    states[0, 0, 25, 25] = UNOBSERVED  # not known before
    states[0, 1, 25, 24] = OCCUPIED
    assert changed_cells(states, clips, model.encoder.grid)[0, 0].nonzero().tolist() == [[5, 4], [20, 20]]


def driving(*steps: tuple[float, float, float]) -> ClipBatch:
    """One clip of a still world a step, each driven differently."""
    return collate_clips([tiny.clip(seed, step=step) for seed, step in enumerate(steps)])


def test_another_clips_motion_is_worse_for_a_predictor_that_warps():
    """An untrained predictor warps by the motion it is told; then what another car drove gives a worse prediction."""
    model = tiny.jepa(cameras=False).eval()
    assert measure(model, driving((1.6, 0.0, 0.0), (0.0, 0.0, 0.1), (0.8, 0.4, -0.1)))["shuffled_motion"] > 1.1
    assert math.isnan(measure(model, driving((1.6, 0.0, 0.0)))["shuffled_motion"])  # nobody to swap with
    assert math.isnan(measure(model, driving((1.6, 0.0, 0.0), (1.6, 0.0, 0.0)))["shuffled_motion"])  # nothing to swap


def test_a_predictor_that_ignores_the_motion_does_not_mind_another():
    model = tiny.jepa(cameras=False).eval()
    warp = model.predictor.forward
    model.predictor.forward = lambda state, dst_T_src, dt_s: (state, warp(state, dst_T_src, dt_s)[1])
    monitors = measure(model, driving((1.6, 0.0, 0.0), (0.0, 0.0, 0.1)))
    assert monitors["shuffled_motion"] == pytest.approx(1.0, abs=1e-6)  # on the same cells, so exactly alike
    assert monitors["wrong_motion"] == pytest.approx(1.0, abs=1e-6)


def test_teacher_cosine_falls_as_the_encoder_leaves_its_teacher():
    model, clips = tiny.jepa(cameras=False, target=EMATarget(1.0)).eval(), tiny.batch()
    assert measure(model, clips)["teacher_cosine"] == pytest.approx(1.0, abs=1e-4)
    with torch.no_grad():
        for parameter in model.encoder.neck.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    near = measure(model, clips)["teacher_cosine"]
    assert -1 < near < 0.95
    model.encoder.neck.register_forward_hook(lambda neck, given, made: (made[0], -made[1]))
    assert measure(model, clips)["teacher_cosine"] == pytest.approx(-near, abs=1e-4)


def test_spectrum_of_a_flattened_embedding():
    """All but two channels removed, two directions are left, of which LayerNorm keeps what differs between them."""
    model, clips = tiny.jepa(cameras=False).eval(), tiny.batch()
    healthy = measure(model, clips)
    assert len(healthy["spectrum"]) == tiny.CHANNELS - 1
    assert sum(healthy["spectrum"]) == pytest.approx(1.0)
    assert healthy["spectrum"] == sorted(healthy["spectrum"], reverse=True)
    assert healthy["condition"] == pytest.approx(healthy["spectrum"][0] / healthy["spectrum"][-1])
    assert healthy["condition"] < 1e4
    two = (torch.arange(tiny.CHANNELS) < 2)[:, None, None]
    model.encoder.neck.register_forward_hook(lambda neck, given, made: (made[0], made[1] * two))
    flat = measure(model, clips)
    assert sum(flat["spectrum"][:2]) == pytest.approx(1.0, abs=1e-6)
    assert flat["directions_90"] <= 2 < healthy["directions_90"]
    assert flat["condition"] > 1e6
    assert len(flat["slowness"]) == 2  # the others have no variance to whiten


def still_clip(share: float) -> Clip:
    """Four frames from a parked car, each with this share of the posts (12 points each, after the ground) of one world."""
    points, generator = tiny.world(3), torch.Generator().manual_seed(0)
    frames = []
    for number in range(4):
        posts = (torch.rand(12, generator=generator) < share).repeat_interleave(12)
        seen = points[torch.cat([torch.ones(len(points) - len(posts), dtype=torch.bool), posts]).numpy()]
        frames.append(tiny.frame_of(seen, np.eye(4), np.array([0, 0, 1.8]), number))
    return Clip(tuple(frames), tiny.CONTEXT, 0)


def test_a_world_that_stands_still_is_slow():
    """The same posts in every frame: nothing changes at any place. With half of them each time, much does."""
    model = tiny.jepa(cameras=False).eval()
    frozen = measure(model, collate_clips([still_clip(1.0)] * 2))
    assert max(frozen["slowness"]) < 1e-6
    jumping = measure(model, collate_clips([still_clip(0.5)] * 2))
    assert jumping["slowness_median"] > 0.1
    assert jumping["slowness"] == sorted(jumping["slowness"])
    assert jumping["slowness_min"] == jumping["slowness"][0]
    assert jumping["slowness_changed"] > 1.5  # where posts come and go, the embedding changes most


def test_slowness_does_not_mind_the_ego_motion_of_a_still_world():
    """Places are compared in one frame: whole cells forward, and a still world is as slow as from a parked car."""
    model = tiny.jepa(cameras=False).eval()
    moving = measure(model, tiny.batch(0, step=(1.6, 0.0, 0.0)))
    parked = measure(model, tiny.batch(0, step=(0.0, 0.0, 0.0)))
    assert moving["slowness_median"] == pytest.approx(parked["slowness_median"], rel=0.35)


def test_movers_have_a_rank_when_there_are_more_than_dimensions():
    """Each frame of another world: many cells become occupied. In a world seen twice alike, none do."""
    frames = [tiny.clip(seed, frames=3, step=(0.0, 0.0, 0.0)).frames[seed % 3] for seed in range(4)]
    jumping = Clip(tuple(replace(frame, scene="one") for frame in frames), tiny.CONTEXT, 0)
    model = tiny.jepa(cameras=False).eval()
    assert 2 < measure(model, collate_clips([jumping, jumping]))["rankme_moving"] <= tiny.CHANNELS
    assert math.isnan(measure(model, collate_clips([still_clip(1.0)]))["rankme_moving"])
