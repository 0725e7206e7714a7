import pytest
import torch

from avjepa.geometry.ego_motion import warp_bev
from avjepa.geometry.rigid import transform_from_se2
from tests.jepa import tiny


def test_the_driven_trajectory_gives_the_prediction():
    model, clips = tiny.jepa(cameras=False).eval(), tiny.batch()
    torch.nn.init.normal_(model.predictor.residual.weight, std=0.1)  # so that motion and time count
    with torch.no_grad():
        state, _ = model.encode_context(clips)
        raw, overlap = model.predict_under(state, clips.frame_T_now(), clips.time_s[:, clips.num_context - 1 :])
        theirs, their_overlap = model.predict(state, clips)
    assert torch.equal(raw, theirs)
    assert torch.equal(overlap, their_overlap)


def test_any_number_of_poses_each_on_its_own():
    """Five poses at once are five single questions; without a residual the answer is the warped state."""
    model = tiny.jepa(cameras=False).eval()
    state = torch.randn(2, tiny.CHANNELS, 32, 32, generator=torch.Generator().manual_seed(0))
    pose_T_now = torch.stack([torch.tensor(transform_from_se2(0.8 * k, 0.1, 0.05 * k)).float() for k in range(10)])
    pose_T_now, dt_s = pose_T_now.view(2, 5, 4, 4), torch.arange(10.0).view(2, 5)
    with torch.no_grad():
        raw, overlap = model.predict_under(state, pose_T_now, dt_s)
        assert raw.shape == (2, 5, tiny.CHANNELS, 32, 32)
        for k in range(5):
            alone, inside = model.predict_under(state, pose_T_now[:, k : k + 1], dt_s[:, k : k + 1])
            torch.testing.assert_close(raw[:, k], alone[:, 0])
            assert torch.equal(overlap[:, k], inside[:, 0])
            torch.testing.assert_close(alone[:, 0], warp_bev(state, pose_T_now[:, k], tiny.BEV)[0])


@pytest.mark.parametrize(
    ("poses", "times"), [((1, 3, 4, 4), (1, 3)), ((2, 3, 4, 4), (2, 2)), ((2, 3, 3, 4), (2, 3)), ((2, 4, 4), (2, 3))]
)
def test_bad_shapes(poses, times):
    with pytest.raises(ValueError, match=r"want \(B, C, Y, X\), \(B, K, 4, 4\)"):
        tiny.jepa(cameras=False).predict_under(
            torch.zeros(2, tiny.CHANNELS, 32, 32), torch.zeros(poses), torch.zeros(times)
        )
