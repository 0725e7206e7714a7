import pytest
import torch

from avjepa.bev import bev_pool as module
from avjepa.bev.bev_pool import PoolTable, bev_pool, bev_pool_reference


def example(entries: int = 300, pixels: int = 20, bins: int = 6, channels: int = 5, cells: int = 30, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    depth = torch.rand(pixels, bins, generator=generator, dtype=torch.float64).requires_grad_()
    features = torch.randn(pixels, channels, generator=generator, dtype=torch.float64).requires_grad_()
    place = torch.randint(0, pixels * bins, (entries,), generator=generator)
    cell = torch.randint(0, cells, (entries,), generator=generator).sort().values
    return depth, features, PoolTable(place, place // bins, cell, cells)


@pytest.mark.parametrize("chunk_numbers", [1 << 22, 37])
def test_equals_the_frustum_in_values_and_gradients(chunk_numbers, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_NUMBERS", chunk_numbers)  # 37: many chunks, the last one short
    depth, features, table = example()
    upstream = torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for pool in (bev_pool, bev_pool_reference):
        pooled = pool(depth, features, table)
        results.append((pooled, *torch.autograd.grad(pooled, (depth, features), upstream)))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-12, rtol=1e-12)
    assert results[0][0].abs().sum() > 0


def test_gradcheck():
    depth, features, table = example(entries=25, pixels=4, bins=3, channels=2, cells=6)
    assert torch.autograd.gradcheck(lambda d, f: bev_pool(d, f, table), (depth, features))


def test_by_hand():
    depth = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    features = torch.tensor([[2.0, 4.0], [10.0, 20.0]])
    table = PoolTable(torch.tensor([1, 0, 2]), torch.tensor([0, 0, 1]), torch.tensor([0, 2, 2]), 3)
    assert bev_pool(depth, features, table).tolist() == [[1.5, 3.0], [0.0, 0.0], [10.5, 21.0]]


def test_empty_table():
    depth, features, _ = example()
    none = torch.zeros(0, dtype=torch.int64)
    pooled = bev_pool(depth, features, PoolTable(none, none, none, 7))
    assert not pooled.any()
    pooled.sum().backward()
    assert not depth.grad.any()


def test_no_entry_sized_tensor_is_kept():
    """What is saved for the backward pass does not grow with the entries."""
    depth, features, table = example(entries=5000)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        bev_pool(depth, features, table)
    assert sum(saved) == depth.numel() + features.numel()


def test_same_bits_with_two_threads(torch_threads):
    torch_threads(2)
    depth, features, table = example(entries=20000, pixels=200, cells=50)
    assert torch.equal(bev_pool(depth, features, table), bev_pool(depth, features, table))


def test_wrong_shapes_are_refused():
    depth, features, table = example()
    with pytest.raises(ValueError, match=r"\(19, 6\)"):
        bev_pool(depth[:-1], features, table)
    with pytest.raises(ValueError, match="one dtype"):
        bev_pool(depth.float(), features, table)
