"""Two processes over gloo equal one process on the joined batch: the same loss, the same gradients."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from avjepa.bev.cell_states import cell_states
from avjepa.conventions import OCCUPIED
from avjepa.jepa.baselines.bev_contrast import BEVContrast
from avjepa.jepa.causal import CausalPrediction
from avjepa.jepa.deep import DeepSupervision
from avjepa.jepa.hypotheses import FutureHypotheses
from avjepa.jepa.losses import LossWeights
from avjepa.jepa.masks import SensorDrop
from avjepa.jepa.sigreg import SIGReg
from avjepa.jepa.uncertainty import PredictionUncertainty
from avjepa.jepa.world_model import BEVWorldModel
from avjepa.sensors.sample import ClipBatch
from tests.jepa import tiny
from tests.jepa.test_bev_contrast import bev_contrast
from tests.jepa.test_occupancy_mae import occupancy_mae

SEEDS = (0, 1, 2, 3)


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def make(method: str) -> BEVWorldModel:
    drop = SensorDrop(0.5, 0.5, 0.5)
    if method == "jepa":
        model = jepa_with_everything(drop)
    elif method == "occupancy MAE":
        model = occupancy_mae(cameras=True, sensor_drop=drop)
    else:
        model = bev_contrast(cameras=True, sensor_drop=drop)
    return model.train()


def jepa_with_everything(drop: SensorDrop) -> BEVWorldModel:
    torch.manual_seed(1)
    deep = DeepSupervision(tiny.CHANNELS, 16)
    deep.advance(1.0)
    extras = {
        "deep": deep,
        "causal": CausalPrediction(),
        "hypotheses": FutureHypotheses(2, 16),
        "uncertainty": PredictionUncertainty(tiny.CHANNELS),
    }
    weights = LossWeights(sigreg_times_n=0.1)
    return tiny.jepa(sensor_drop=drop, weights=weights, sigreg=SIGReg(), extras=extras)


def run_rank(rank: int, folder: str, method: str, seeds: tuple[tuple[int, ...], ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        model = make(method)
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
        terms, _ = wrapped(tiny.batch(*seeds[rank]))
        loss = terms.total()
        loss.backward()
        torch.save({"loss": loss.detach(), "gradients": gradients(model)}, Path(folder) / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("method", ["jepa", "occupancy MAE"])
def test_two_ranks_equal_the_joined_batch(tmp_path, method):
    model = make(method)
    terms, _ = model(tiny.batch(*SEEDS))
    terms.total().backward()
    check_ranks(tmp_path, method, (SEEDS[:2], SEEDS[2:]), terms.total().detach(), gradients(model))


def test_contrast_is_the_mean_over_the_cells_of_all_ranks_with_negatives_of_each(tmp_path):
    model = make("BEVContrast")
    seeds = SEEDS[:3], SEEDS[3:]
    parts = [tiny.batch(*part) for part in seeds]
    counts = [cells_in_both(model, clips) for clips in parts]
    assert counts[0] > 2 * counts[1] > 0
    losses = [model(clips)[0].total() for clips in parts]
    loss = sum(count * loss for count, loss in zip(counts, losses, strict=True)) / sum(counts)
    loss.backward()
    check_ranks(tmp_path, "BEVContrast", seeds, loss.detach(), gradients(model))


def cells_in_both(model: BEVContrast, clips: ClipBatch) -> int:
    """How many cells the loss counts."""
    occupied = cell_states(clips.context_in_now(1), tiny.BEV) == OCCUPIED
    return int(model.draw_cells(occupied & model.embed_view(clips)[1], clips.seeds).sum())


def check_ranks(
    tmp_path: Path,
    method: str,
    seeds: tuple[tuple[int, ...], ...],
    loss: torch.Tensor,
    expected: dict[str, torch.Tensor],
) -> None:
    """Run two ranks with these clips each, and compare loss and gradients."""
    mp.spawn(run_rank, args=(str(tmp_path), method, seeds), nprocs=2)
    for rank in range(2):
        result = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(result["loss"], loss, rtol=1e-5, atol=1e-6)
        largest = max(float(g.abs().max()) for g in expected.values())
        for name, gradient in expected.items():
            torch.testing.assert_close(
                result["gradients"][name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=lambda m, n=name: f"{n}: {m}"
            )
