"""How sure a prediction is, cell by cell: its expected error, learned beside it.

The negative log-likelihood of an error e under an exponential distribution of mean exp(s) is ``e exp(-s) + s``, least where exp(s)
is the expected error (Kendall and Gal 2017 sec. 3.2 with an error in place of the squared residual). The representation gets no
gradient from it: a cell that is hard to predict must not become unimportant. Letters: see conventions.py.
"""

from __future__ import annotations

import torch
from torch import nn

from avjepa.bev.fuse import conv_norm_act
from avjepa.jepa.collapse import masked_mean
from avjepa.jepa.extras import Extra, Step
from avjepa.jepa.losses import cell_error, stratified_mean
from avjepa.jepa.world_model import BEVWorldModel

BINS = 10


class PredictionUncertainty(Extra):
    """Expected error of each predicted cell.

    Args:
        channels: of the embedding.
        weight: of the term; it reaches this head alone.
    """

    def __init__(self, channels: int, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.log_error = nn.Sequential(conv_norm_act(channels, channels), nn.Conv2d(channels, 1, 1))

    def forward(self, model: BEVWorldModel, step: Step) -> torch.Tensor:
        """The term, over hidden cells of the present and all cells of the future."""
        found = step.predictions
        error = cell_error(found.predicted.flatten(0, 1), found.target.flatten(0, 1), step.cell_loss).detach()
        log_error = self.log_error(step.raw.detach().flatten(0, 1))[:, 0]
        surprise = error * torch.exp(-log_error) + log_error
        return stratified_mean(surprise, found.states.flatten(0, 1), found.valid.flatten(0, 1), step.occupied_weight)

    def expected_error(self, raw: torch.Tensor) -> torch.Tensor:
        """(B, K, Y, X) of predictions (B, K, C, Y, X), not normalised; times the monitors' ``uncertainty_factor`` it
        is calibrated.
        """
        return self.log_error(raw.flatten(0, 1))[:, 0].exp().unflatten(0, raw.shape[:2])

    def monitors(self, raw: torch.Tensor, error: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
        """Over all future frames.

        Names:
            uncertainty_factor: true error / expected error, which a calibrated answer is multiplied by; 1 is calibrated.
            uncertainty_off: mean over bins of cells of |true - expected| error after that factor, in relation to the mean error.
            uncertainty_rank: how well cells are ranked by expected error, Spearman's correlation.
        """
        expected, true = self.expected_error(raw)[valid], error[valid]
        factor = masked_mean(error, valid) / expected.mean()
        return {
            "uncertainty_factor": factor,
            "uncertainty_off": calibration_error(factor * expected, true),
            "uncertainty_rank": spearman(expected, true),
        }


def calibration_error(expected: torch.Tensor, true: torch.Tensor, bins: int = BINS) -> torch.Tensor:
    """Expected calibration error of expected errors (P,), in relation to the mean of the true ones (P,).

    Cells are put into ``bins`` bins of equal count by their expected error; nan for fewer cells than bins.
    """
    if len(expected) < bins:
        return expected.new_tensor(torch.nan)
    order = expected.argsort()
    off = [
        len(part) * (expected[part].mean() - true[part].mean()).abs() for part in order.tensor_split(bins) if len(part)
    ]
    return torch.stack(off).sum() / len(expected) / true.mean()


def spearman(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Rank correlation of two samples (P,) without ties; nan for fewer than two."""
    if len(a) < 2:
        return a.new_tensor(torch.nan)
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return torch.corrcoef(ranks)[0, 1].float()
