"""Monitors of representation collapse and of what prediction gains over persistence. Letters: see conventions.py."""

from __future__ import annotations

import torch


def per_dim_std(z_cells: torch.Tensor) -> torch.Tensor:
    """Standard deviation of each embedding dimension over cells (P, C) -> (C,). Zero everywhere is collapse."""
    if len(z_cells) < 2:
        return z_cells.new_zeros(z_cells.shape[1])
    return z_cells.float().std(0)


def rankme(z_cells: torch.Tensor) -> torch.Tensor:
    """Effective rank of *centred* embeddings (P, C): exp of the entropy of the singular values (RankMe, Garrido et al. 2023).

    It is blind to scale: a collapsed encoder whose tiny residue is isotropic has full rank. Never read it without the std.
    """
    centred = (z_cells - z_cells.mean(0, keepdim=True)).double()
    singular = torch.linalg.svdvals(centred)
    share = singular / singular.sum().clamp(min=1e-12)
    return torch.exp(-(share * share.clamp(min=1e-12).log()).sum()).float()


def variance_shares(z_cells: torch.Tensor) -> torch.Tensor:
    """Eigenvalues of the covariance of embeddings (P, C), as shares of the whole variance, largest first: (C,), float64.

    All 0 where nothing varies.
    """
    centred = (z_cells - z_cells.mean(0, keepdim=True)).double()
    variances = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0).flip(0)
    return variances / variances.sum().clamp(min=torch.finfo(torch.float64).tiny)


def directions_holding(shares: torch.Tensor, share: float) -> int:
    """How many of the largest shares (C,), sorted, it takes to reach ``share`` of their sum."""
    return int((shares.cumsum(0) < share * shares.sum()).sum()) + 1


def masked_mean(error: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Mean of ``error`` (..., Y, X) over the boolean ``cells``; nan when there is none."""
    return error[cells].mean() if bool(cells.any()) else error.new_tensor(torch.nan)
