from dataclasses import replace

import pytest
import torch

from avjepa.bev.encoder import BEVEncoder, zero_of
from avjepa.bev.fuse import FuseSensors
from tests.jepa import tiny


def frames():
    return tiny.batch(0).targets()


def encoder(cameras: bool = True) -> BEVEncoder:
    torch.manual_seed(0)
    return tiny.encoder(cameras).eval()


def test_shape_and_grid():
    model = encoder()
    assert model.grid == tiny.BEV
    assert model(frames()).z.shape == (3, tiny.CHANNELS, 32, 32)


def test_frames_do_not_touch_each_other():
    model, batch = encoder(), frames()
    together = model(batch).z
    darker = replace(batch, images=batch.images.clone())
    darker.images[2] = 0
    fewer = batch.keep_points((batch.point_frame != 2) | (batch.points[:, 2] < 0.5))
    for changed in (darker, fewer):
        z = model(changed).z
        torch.testing.assert_close(z[:2], together[:2], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(z[2], together[2], atol=1e-3)


@pytest.mark.parametrize("sensor", ["lidar", "camera"])
def test_either_sensor_reaches_the_embedding_and_may_be_absent(sensor):
    model, batch = encoder(), frames()
    z = model(batch).z
    if sensor == "lidar":
        absent = replace(
            batch.keep_points(torch.zeros(len(batch.points), dtype=torch.bool)),
            lidar_present=torch.zeros(3, dtype=torch.bool),
        )
    else:
        absent = replace(batch, camera_present=torch.zeros_like(batch.camera_present))
    without = model(absent).z
    assert torch.isfinite(without).all()
    assert (without - z).abs().max() > 1e-2


def test_absent_is_not_the_same_as_seeing_nothing():
    """A LiDAR without returns and no LiDAR are different news."""
    model, batch = encoder(cameras=False), frames()
    torch.nn.init.normal_(model.fuse.no_lidar)
    nothing = batch.keep_points(torch.zeros(len(batch.points), dtype=torch.bool))
    assert not torch.equal(model(nothing).z, model(replace(nothing, lidar_present=torch.zeros(3, dtype=torch.bool))).z)


def test_hidden_cells_carry_the_mask_token():
    model, batch = encoder(), frames()
    hidden = torch.zeros(3, 32, 32, dtype=torch.bool)
    hidden[:, 10:14, 10:14] = True
    seen = []
    model.neck.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(batch, hidden)
    assert torch.equal(seen[0][:, :, 10:14, 10:14], model.tokens.masked[:, None, None].expand(3, -1, 4, 4))
    assert not torch.equal(seen[0][:, :, 10:14, 14:18], seen[0][:, :, 10:14, 10:14])


def test_points_above_the_grid_do_not_betray_a_hidden_cell():
    """They count for cell states, so hiding goes by column, whatever the height."""
    model, batch = encoder(cameras=False), frames()
    batch = replace(batch, points=batch.points.clone())
    inside = batch.points[:, :2].abs().max(1).values < 1.6
    batch.points[inside, 2] = 9.0
    hidden = torch.zeros(3, 32, 32, dtype=torch.bool)
    hidden[:, 13:19, 13:19] = True
    z = model(batch, hidden).z
    assert torch.equal(model(batch.keep_points(~inside), hidden).z, z)


def test_idle_branches_still_give_a_gradient_of_zero():
    """So that ranks agree on which parameters have one."""
    model, batch = encoder().train(), frames()
    model(replace(batch, camera_present=torch.zeros_like(batch.camera_present))).z.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in (*model.camera.parameters(), *model.lift.parameters()))
    model.zero_grad(set_to_none=True)
    model(batch.keep_points(torch.zeros(len(batch.points), dtype=torch.bool))).z.sum().backward()
    assert all(p.grad is not None for p in model.lidar.parameters())
    assert zero_of(model.lidar).item() == 0


def test_camera_and_lift_belong_together():
    model = encoder()
    with pytest.raises(ValueError, match="belong together"):
        BEVEncoder(tiny.VOXELS, model.lidar, model.camera, None, 16)
    other = tiny.encoder()
    other.lift.grid = tiny.VOXELS
    with pytest.raises(ValueError, match="lift is on"):
        BEVEncoder(tiny.VOXELS, model.lidar, model.camera, other.lift, 16)


def test_fusion_ignores_what_an_absent_sensor_holds():
    torch.manual_seed(0)
    fuse = FuseSensors(4, 3, 8)
    lidar, camera = torch.randn(2, 4, 6, 6), torch.randn(2, 3, 6, 6)
    yes, one = torch.tensor([True, True]), torch.tensor([True, False])
    assert torch.equal(fuse(lidar, camera, one, yes)[1], fuse(torch.full_like(lidar, 9.0), camera, one, yes)[1])
    assert torch.equal(fuse(lidar, camera, yes, one)[1], fuse(lidar, torch.full_like(camera, 9.0), yes, one)[1])
    torch.testing.assert_close(fuse(lidar, camera, one, yes)[0], fuse(lidar, camera, yes, yes)[0])
