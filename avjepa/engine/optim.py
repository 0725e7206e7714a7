"""Which parameters are optimised, and how: trained ones only, no weight decay on biases, norms and tokens."""

from __future__ import annotations

import copy

from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn


class TrainedParameters:
    """Builds the optimiser wrapper of a config (mmengine's "constructor").

    Weight decay is for matrices; what has one dimension (biases, norms, tokens) is not decayed. mmengine's own constructor
    has no such rule, and warns of every frozen parameter of the teacher.

    Args:
        optim_wrapper_cfg: config of the wrapper, with its ``optimizer``.
        paramwise_cfg: ``lr_mult``, factors on the learning rate by a part of the parameter's name.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.wrapper_cfg = copy.deepcopy(optim_wrapper_cfg)
        self.optimizer_cfg = self.wrapper_cfg.pop("optimizer")
        self.lr_mult = dict((paramwise_cfg or {}).get("lr_mult", {}))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The wrapper with one parameter group for each (learning rate, weight decay) that occurs."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                factors = [factor for part, factor in self.lr_mult.items() if part in name]
                groups.setdefault((factors[0] if factors else 1.0, parameter.ndim > 1), []).append(parameter)
        lr, decay = self.optimizer_cfg["lr"], self.optimizer_cfg.get("weight_decay", 0.0)
        params = [
            dict(params=members, lr=lr * factor, weight_decay=decay if decayed else 0.0)
            for (factor, decayed), members in groups.items()
        ]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": params})
        return OPTIM_WRAPPERS.build(self.wrapper_cfg, default_args=dict(optimizer=optimizer))
