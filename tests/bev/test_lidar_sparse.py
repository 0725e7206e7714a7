import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from avjepa.bev import spconv_cpu
from avjepa.bev.lidar_sparse import SparseEncoder
from avjepa.bev.lidar_voxels import NUM_FEATURES, Voxels, voxelise_mean
from avjepa.geometry.grid import BEVGrid
from tests.bev.scenes import ground, lidar_frames, post

GRID = BEVGrid((-6.4, 6.4), (-6.4, 6.4), (-2.0, 2.0), 0.4, 0.5)
spconv = spconv_cpu.load_spconv()


def sparse_input(channels: int, seed: int = 0, shape=(6, 16, 16), frames: int = 2, share: float = 0.3):
    generator = torch.Generator().manual_seed(seed)
    # Contiguous: nonzero() returns a transposed view, and spconv reads raw memory.
    indices = (torch.rand(frames, *shape, generator=generator) < share).nonzero().int().contiguous()
    features = torch.randn(len(indices), channels, generator=generator).requires_grad_()
    return features, indices


def scatter(features: torch.Tensor, indices: torch.Tensor, shape, frames: int) -> torch.Tensor:
    dense = features.new_zeros(frames, *shape, features.shape[1])
    return dense.index_put(indices.long().unbind(1), features).movedim(-1, 1)


def dense_weight(convolution) -> torch.Tensor:
    return convolution.weight.permute(0, 4, 1, 2, 3)  # spconv: (out, z, y, x, in)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["submanifold", "strided, even z", "strided, odd z"])
def test_equals_dense_conv3d_in_values_and_gradients(kind, threads, torch_threads):
    """The CPU wheel of spconv fails this with two threads (forward error 0.5)."""
    torch_threads(threads)
    torch.manual_seed(0)
    shape = (5, 16, 16) if "odd" in kind else (6, 16, 16)
    features, indices = sparse_input(8, shape=shape)
    if kind == "submanifold":
        convolution = spconv.SubMConv3d(8, 12, 3, bias=False)
        stride, padding = 1, 1
    elif "even" in kind:
        convolution = spconv.SparseConv3d(8, 12, (2, 2, 2), stride=2, bias=False)
        stride, padding = 2, 0
    else:
        convolution = spconv.SparseConv3d(8, 12, (3, 2, 2), stride=2, padding=(1, 0, 0), bias=False)
        stride, padding = 2, (1, 0, 0)
    spconv_cpu.use_algorithm_for(convolution, features.device)
    out = convolution(spconv.SparseConvTensor(features, indices, shape, 2))

    dense_features = features.detach().clone().requires_grad_()
    weight = dense_weight(convolution).detach().clone().requires_grad_()
    dense = F.conv3d(scatter(dense_features, indices, shape, 2), weight, stride=stride, padding=padding)
    frame, z, y, x = out.indices.long().unbind(1)
    expected = dense[frame, :, z, y, x]
    torch.testing.assert_close(out.features, expected, atol=2e-5, rtol=1e-5)

    upstream = torch.randn(out.features.shape, generator=torch.Generator().manual_seed(1))
    out.features.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(features.grad, dense_features.grad, atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(convolution.weight.grad.permute(0, 4, 1, 2, 3), weight.grad, atol=5e-4, rtol=1e-4)


def encode(encoder: SparseEncoder, clouds: list) -> torch.Tensor:
    frames = lidar_frames(clouds)
    return encoder(voxelise_mean(frames.points, frames.point_frame, encoder.grid, frames.num_frames))


def make_encoder(grid: BEVGrid = GRID, channels=(8, 16), seed: int = 0) -> SparseEncoder:
    torch.manual_seed(seed)
    return SparseEncoder(grid, channels, out_channels=12, blocks_per_stage=1)


@pytest.mark.parametrize("z_range_m", [(-2.0, 2.0), (-2.0, 0.5), (-2.0, -1.5), (-2.0, 1.5)])
@pytest.mark.parametrize("channels", [(8,), (8, 16), (8, 8, 8), (8, 8, 8, 8)])
def test_any_grid(channels, z_range_m):
    grid = BEVGrid((-6.4, 6.4), (-3.2, 3.2), z_range_m, 0.4, 0.5)
    encoder = make_encoder(grid, channels)
    out = encode(encoder, [ground() - torch.tensor([0, 0, 1.8])])
    assert out.shape == (1, 12, 16 // encoder.stride, 32 // encoder.stride)
    assert torch.isfinite(out).all()


def test_cells_must_divide_by_the_stride():
    with pytest.raises(ValueError, match="whole number"):
        make_encoder(BEVGrid((-6.0, 6.0), (-6.0, 6.0), (-2.0, 2.0), 0.4, 0.5), (8, 8, 8))


def test_a_thing_peaks_in_its_own_cell():
    """Also guards the axis order: x is the last axis, y the one before."""
    encoder = make_encoder()
    bev = BEVGrid(GRID.x_range_m, GRID.y_range_m, GRID.z_range_m, 0.8, 4.0)
    nothing = encode(encoder, [torch.zeros(0, 3)])
    for x, y in [(3.0, 0.9), (-5.9, 2.0), (0.1, -6.1)]:
        response = (encode(encoder, [post(x, y)]) - nothing).abs().sum(1)[0]
        _, row, column = bev.cell_index(torch.tensor([x, y, 0.0]))[0].tolist()
        assert divmod(int(response.argmax()), 16) == (row, column)


def test_frames_do_not_touch_each_other_and_empty_ones_work():
    encoder = make_encoder()
    clouds = [post(3, 1), torch.zeros(0, 3), post(-2, -2), torch.zeros(0, 3)]
    together = encode(encoder, clouds)
    assert together.shape[0] == 4
    for frame, cloud in enumerate(clouds):
        torch.testing.assert_close(together[frame : frame + 1], encode(encoder, [cloud]), atol=1e-5, rtol=1e-4)
    assert torch.equal(together[1], together[3])


def test_no_voxel_at_all():
    encoder = make_encoder()
    out = encode(encoder, [torch.zeros(0, 3), torch.zeros(0, 3)])
    assert out.shape == (2, 12, 16, 16)
    out.sum().backward()
    assert encoder.project.bias.grad.abs().sum() > 0


def test_whole_cell_shifts_shift_the_map():
    encoder = make_encoder()
    cloud = torch.cat([post(0.5, 0.3), post(-1.0, 1.2), ground(0.4, 1.2)])
    still, moved = encode(encoder, [cloud]), encode(encoder, [cloud + torch.tensor([1.6, -0.8, 0])])
    torch.testing.assert_close(moved[..., :-1, 2:], still[..., 1:, :-2], atol=1e-4, rtol=1e-4)


def test_two_threads_give_the_same_bits_twice(torch_threads):
    torch_threads(2)
    encoder = make_encoder()
    cloud = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * 2

    def gradients():
        encoder.zero_grad()
        encode(encoder, [cloud, cloud * 0.7]).square().sum().backward()
        return [parameter.grad.clone() for parameter in encoder.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


def test_nothing_is_counted_over_the_batch():
    encoder = make_encoder()
    assert not [m for m in encoder.modules() if "BatchNorm" in type(m).__name__]
    encoder.train()
    trained = encode(encoder, [post(3, 1)])
    assert torch.equal(trained, encode(encoder.eval(), [post(3, 1)]))


def test_too_many_voxels_for_spconv_are_refused(monkeypatch):
    monkeypatch.setattr("avjepa.bev.lidar_sparse.MAX_FEATURE_BYTES", 100)
    with pytest.raises(ValueError, match="overflow spconv; use a smaller batch"):
        encode(make_encoder(), [post(3, 1)])


@pytest.mark.parametrize("installed", [{"spconv"}, {"spconv", "spconv-cu120"}])
def test_the_racing_cpu_wheel_is_refused(monkeypatch, installed):
    """Beside a CUDA wheel too: whose files are there, depends on which came last."""
    monkeypatch.setattr(spconv_cpu, "_is_installed", installed.__contains__)
    with pytest.raises(ImportError, match="adds wrongly with more than one thread"):
        spconv_cpu.load_spconv.__wrapped__()


def test_the_wheel_is_looked_for_once(monkeypatch):
    """And not at every convolution: reading what is installed takes longer than convolving."""
    encoder = make_encoder()
    monkeypatch.setattr(spconv_cpu, "_is_installed", None)
    assert torch.isfinite(encode(encoder, [post(3, 1)])).all()


def test_feature_count_matches():
    frames = lidar_frames([post(1, 1)])
    voxels = voxelise_mean(frames.points, frames.point_frame, GRID, 1)
    assert isinstance(voxels, Voxels)
    assert voxels.features.shape[1] == NUM_FEATURES == make_encoder().stem.convolution.in_channels


def test_weights_load_as_they_were_when_mmdet3d_is_imported():
    """It turns the axes of spconv's weights in plain state dicts, such as those of a checkpoint."""
    overwrite = pytest.importorskip(
        "mmdet3d.models.layers.spconv.overwrite_spconv", reason="mmdet3d is not installed (make venv-full)"
    )
    assert overwrite.register_spconv2()
    grid = BEVGrid((0.0, 3.2), (0.0, 3.2), (0.0, 0.8), 0.2, 0.2)
    saved, loaded = (SparseEncoder(grid, (4, 4), 4, blocks_per_stage=1) for _ in range(2))
    loaded.load_state_dict(dict(saved.state_dict()))
    for name, weights in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weights), name
    theirs = spconv_cpu.load_spconv().SubMConv3d(4, 4, 3, bias=False)
    with pytest.raises(RuntimeError, match="size mismatch"):  # or else ours would be loaded as theirs are
        theirs.load_state_dict(dict(theirs.state_dict()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and kernels to choose from")
def test_without_a_gpu_no_gpu_kernel_is_described():
    """In a process of its own: others may have imported spconv here before."""
    code = (
        "from avjepa.bev.spconv_cpu import load_spconv; load_spconv(); from spconv import algo; "
        "print(len(algo.CONV.all_desps))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "0"
