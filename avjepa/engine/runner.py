"""mmengine's Runner with three things changed: how the model is spread over processes, how it resumes, and how it loops."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.dist import is_distributed
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from avjepa.bev.encoder import BEVEncoder
from avjepa.engine import checkpoint
from avjepa.engine.loss_spikes import GuardedUpdates
from avjepa.engine.registry import build
from avjepa.errors import ConfigError


class TrainRunner(Runner):
    """Runner for BEV JEPA training. The config's ``parallel`` is "ddp" or "fsdp" and matters under a launcher only."""

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Spread the model over processes: DDP, or FSDP2 with the encoder, the teacher and the rest as units."""
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
        model = model.to(device)
        if not is_distributed():
            return model
        parallel = self.cfg.get("parallel", "ddp")
        if parallel == "ddp":
            # Sensor drop leaves a branch unused in some batches of some ranks.
            return MMDistributedDataParallel(
                model,
                device_ids=[device.index] if device.type == "cuda" else None,
                broadcast_buffers=False,
                find_unused_parameters=True,
            )
        if parallel == "fsdp":
            from torch.distributed.fsdp import fully_shard

            for module in list(model.modules()):
                if isinstance(module, BEVEncoder):
                    fully_shard(module)
            return fully_shard(model)
        raise ConfigError(f"config: parallel must be 'ddp' or 'fsdp', got {parallel!r}")

    def _init_model_weights(self) -> None:
        """Nothing: modules initialise themselves, alike on every rank by the same seed. mmengine would broadcast tensors here,
        which sharded ones do not allow.
        """

    def get_hooks_info(self) -> str:
        """One line; mmengine lists every hook at every stage."""
        return " ".join(type(hook).__name__ for hook in self.hooks)

    def _log_env(self, env_cfg: dict) -> None:
        """One line; mmengine prints the environment and the whole config, which it also writes to the work dir."""
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        )
        self.logger.info(f"torch {torch.__version__} on {device}; seed {self.seed}; writing to {self.work_dir}")

    def load_or_resume(self) -> None:
        """Resume from ``work_dir/last.pth`` (``--resume``), or start from the beginning when there is none yet."""
        if not self._resume or self._has_loaded:
            return
        self._has_loaded = True
        last = Path(self.work_dir) / "last.pth"
        if not last.exists():
            print_log(f"{last} does not exist yet: starting from the beginning", logger="current")
            return
        self.train_loop.start(checkpoint.resume(self, last))
        print_log(f"resumed from {last} after {self.iter} iterations", logger="current")


@LOOPS.register_module()
class ClipTrainLoop(BaseLoop):
    """Iterations over an endless loader; a resumed run starts reading at its own place, without reading what came before.

    Args:
        runner: whose model is trained.
        dataloader: of training batches.
        max_iters: iterations of the whole run.
        skip_spikes: config of :class:`avjepa.engine.loss_spikes.LossSpikes`; None skips nothing.
    """

    def __init__(
        self, runner: Runner, dataloader: torch.utils.data.DataLoader, max_iters: int, skip_spikes: dict | None = None
    ) -> None:
        super().__init__(runner, dataloader)
        self.max_iters = max_iters
        self.spikes = build(skip_spikes)
        self.iter = 0
        self.epoch, self.max_epochs = 0, 1  # mmengine's hooks ask; an endless loader has no epochs

    def start(self, iteration: int) -> None:
        """Begin at ``iteration``."""
        self.iter = iteration

    def run(self) -> nn.Module:
        """Train until ``max_iters``."""
        runner = self.runner
        self.updates = GuardedUpdates(runner.optim_wrapper, self.spikes)
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        self.dataloader.batch_sampler.first_iteration = self.iter
        batches = iter(self.dataloader) if self.iter < self.max_iters else None
        while self.iter < self.max_iters:
            runner.model.train()
            batch = next(batches)
            runner.call_hook("before_train_iter", batch_idx=self.iter, data_batch=batch)
            outputs = runner.model.train_step(batch, optim_wrapper=self.updates)
            runner.call_hook("after_train_iter", batch_idx=self.iter, data_batch=batch, outputs=outputs)
            self.iter += 1
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model
