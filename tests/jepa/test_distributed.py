"""Two processes over gloo equal one process on the joined batch: the same loss, the same gradients."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from avjepa.jepa.causal import CausalPrediction
from avjepa.jepa.deep import DeepSupervision
from avjepa.jepa.hypotheses import FutureHypotheses
from avjepa.jepa.losses import LossWeights
from avjepa.jepa.masks import SensorDrop
from avjepa.jepa.sigreg import SIGReg
from avjepa.jepa.uncertainty import PredictionUncertainty
from tests.jepa import tiny

SEEDS = (0, 1, 2, 3)


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def make():
    weights = LossWeights(sigreg_times_n=0.1)
    torch.manual_seed(1)
    extras = {
        "deep": DeepSupervision(tiny.CHANNELS, 16),
        "causal": CausalPrediction(),
        "hypotheses": FutureHypotheses(2, 16),
        "uncertainty": PredictionUncertainty(tiny.CHANNELS),
    }
    extras["deep"].advance(1.0)
    drop = SensorDrop(0.5, 0.5, 0.5)
    return tiny.jepa(sensor_drop=drop, weights=weights, sigreg=SIGReg(), extras=extras).train()


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        model = make()
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
        terms, _ = wrapped(tiny.batch(*SEEDS[2 * rank : 2 * rank + 2]))
        loss = terms.total()
        loss.backward()
        torch.save({"loss": loss.detach(), "gradients": gradients(model)}, Path(folder) / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_ranks_equal_the_joined_batch(tmp_path):
    model = make()
    terms, _ = model(tiny.batch(*SEEDS))
    loss = terms.total()
    loss.backward()
    expected = gradients(model)

    mp.spawn(run_rank, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        result = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(result["loss"], loss.detach(), rtol=1e-5, atol=1e-6)
        largest = max(float(g.abs().max()) for g in expected.values())
        for name, gradient in expected.items():
            torch.testing.assert_close(
                result["gradients"][name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=lambda m, n=name: f"{n}: {m}"
            )
