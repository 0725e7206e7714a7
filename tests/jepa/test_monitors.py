import math
from dataclasses import replace

import pytest
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.jepa.monitors import measure
from avjepa.jepa.motion_evidence import changed_cells
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


def test_without_a_future_std_and_rank_are_measured_and_the_rest_is_nan():
    model = tiny.jepa(cameras=False).eval()
    present = measure(model, tiny.batch(frames=2))
    whole = measure(model, tiny.batch())
    for name in ("std", "std_min", "std_raw", "rankme"):
        assert present[name] == pytest.approx(whole[name], rel=1e-5), name
    rest = set(present) - {"std", "std_min", "std_raw", "rankme"}
    assert {"ratio_all", "error_all", "wrong_motion"} <= rest
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
