"""spconv on machines without a GPU, and beside mmdet3d.

The CUDA wheels compute exactly on the CPU, with three things arranged here:

- the backward pass asks CUDA for a stream, which raises without a GPU; the CPU kernels ignore its value, so 0 will do;
- the default algorithm (implicit GEMM) is for GPUs; ``ConvAlgo.Native`` runs on both;
- when it is imported, spconv describes every GPU kernel it could choose from, for ten seconds; without a GPU there are none.

The plain CPU wheel, the distribution called ``spconv``, must not be used: its scatter-add races between threads and returns
wrong sums with more than one.
"""

from __future__ import annotations

import logging
import warnings
from functools import cache
from importlib import metadata
from types import ModuleType

import torch


@cache
def load_spconv() -> ModuleType:
    """The module ``spconv.pytorch``, usable on this machine; looked for once in a process.

    Raises:
        ImportError: spconv is missing, or it is the CPU wheel with the data race.
    """
    mend = "pip install spconv-cu120 (Python <= 3.11) or spconv-cu126 (Python >= 3.12); both run without a GPU"
    if _is_installed("spconv"):  # also beside a CUDA wheel: both write the same folder
        raise ImportError(
            f"the CPU wheel 'spconv' adds wrongly with more than one thread; pip uninstall spconv and any spconv-cu*, then {mend}"
        )
    try:
        with warnings.catch_warnings():
            # spconv 2.3 uses names of torch that are being renamed; it works, and users can do nothing about it.
            warnings.simplefilter("ignore", FutureWarning)
            _without_gpu_kernels()
            import spconv.pytorch as spconv
            import spconv.pytorch.ops as ops
    except ImportError as error:
        raise ImportError(f"spconv cannot be imported ({error}); {mend}") from error
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # warns of the same at every call
    if not torch.cuda.is_available():
        ops.get_current_stream = lambda: 0
    return spconv


@cache
def convolution_types() -> tuple[type[torch.nn.Module], type[torch.nn.Module]]:
    """SubMConv3d and SparseConv3d that load their weights as torch does.

    mmdet3d, once imported, replaces the loading of every spconv module: it takes a state dict without torch's metadata for one
    of spconv 1 and turns the axes of its weights.
    """
    spconv = load_spconv()
    as_torch = {"_load_from_state_dict": torch.nn.Module._load_from_state_dict}
    subm, sparse = (type(cls.__name__, (cls,), as_torch) for cls in (spconv.SubMConv3d, spconv.SparseConv3d))
    return subm, sparse


def use_algorithm_for(convolution: torch.nn.Module, device: torch.device) -> None:
    """Native on the CPU, where the others refuse to run; on a GPU what spconv chose when the convolution was built."""
    if not hasattr(convolution, "gpu_algo"):
        convolution.gpu_algo = convolution.algo
    convolution.algo = convolution.gpu_algo if device.type == "cuda" else load_spconv().ConvAlgo.Native


def _without_gpu_kernels() -> None:
    """Empty the lists of GPU kernels, before spconv reads them, where there is no GPU."""
    if not torch.cuda.is_available():
        from spconv import core

        core.ALL_IMPGEMM_PARAMS = []
        core.ALL_NATIVE_PARAMS = []


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
