"""What to watch while a JEPA trains, measured on a fixed held-out batch with nothing masked. The loss is not among it: a
collapsed run has the lowest loss of all. Letters: see conventions.py.
"""

from __future__ import annotations

import torch

from avjepa.conventions import OCCUPIED, UNOBSERVED
from avjepa.jepa.collapse import masked_mean, per_dim_std, rankme
from avjepa.jepa.losses import cell_error
from avjepa.jepa.motion_evidence import changed_cells
from avjepa.jepa.target_encoder import normalised
from avjepa.jepa.world_model import BEVWorldModel, normalise_each, persistence
from avjepa.sensors.sample import ClipBatch


@torch.no_grad()
def measure(jepa: BEVWorldModel, clips: ClipBatch) -> dict[str, float]:
    """Monitors by name, on one batch; evaluate in ``eval`` mode.

    Names:
        std: mean over dimensions of the std over occupied cells of the present embedding, normalised as the loss sees it; and
            std_min, the smallest. Near zero, all cells point the same way: collapse.
        std_raw: the same before normalisation. It can stay up while the normalised one collapses, since a growing mean
            costs the loss nothing.
        rankme: effective rank of the normalised cells, centred.
        error_occupied, error_all: prediction error over all future horizons.
        ratio_occupied, ratio_all, ratio_changed: prediction error / error of persistence-by-warp, over all future
            horizons; below 1 the predictor has learned something. "changed": cells whose occupancy differs from the
            warped present (label-free evidence of movers).
        ratio_occupied_1, ...: the same for each future horizon.
        wrong_motion: error with the ego-motion set to none / error with the true one; 1 means the motion is ignored.
    """
    state, z = jepa.encode_context(clips)
    states, target = jepa.encode_targets(clips)
    raw, overlap = jepa.predict(state, clips)
    kept, kept_overlap = persistence(target[:, 0], clips, jepa.predictor)

    occupied = states[:, 0] == OCCUPIED
    things = normalised(z).movedim(1, -1)[occupied]
    std = per_dim_std(things)
    monitors = {"std": std.mean(), "std_min": std.min(), "std_raw": per_dim_std(z.movedim(1, -1)[occupied]).mean()}
    monitors["rankme"] = (
        rankme(things[:: max(1, len(things) // 4096)]) if len(things) > 1 else std.new_tensor(torch.nan)
    )

    valid = (overlap & kept_overlap & (states != UNOBSERVED))[:, 1:]
    strata = {
        "occupied": valid & (states[:, 1:] == OCCUPIED),
        "all": valid,
        "changed": valid & changed_cells(states, clips, jepa.encoder.grid),
    }
    error = _errors(jepa, normalise_each(raw), target)
    error_kept = _errors(jepa, kept, target)
    for name, cells in strata.items():
        monitors[f"ratio_{name}"] = masked_mean(error, cells) / masked_mean(error_kept, cells)
    monitors["error_occupied"] = masked_mean(error, strata["occupied"])
    monitors["error_all"] = masked_mean(error, strata["all"])
    for k in range(error.shape[1]):
        cells = strata["occupied"][:, k]
        monitors[f"ratio_occupied_{k + 1}"] = masked_mean(error[:, k], cells) / masked_mean(error_kept[:, k], cells)

    monitors |= jepa.monitors(raw[:, 1:], error, valid)

    still, _ = jepa.predictor(
        state.repeat_interleave(states.shape[1], 0),
        torch.eye(4, device=z.device).expand(states[:, :, 0, 0].numel(), 4, 4),
        clips.time_s[:, clips.num_context - 1 :].flatten(),
    )
    error_still = _errors(jepa, normalise_each(still.unflatten(0, states.shape[:2])), target)
    monitors["wrong_motion"] = masked_mean(error_still, strata["occupied"]) / masked_mean(error, strata["occupied"])
    return {name: float(value) for name, value in monitors.items()}


def _errors(jepa: BEVWorldModel, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Error of every cell of every future horizon (B, F, Y, X)."""
    error = cell_error(predicted[:, 1:].flatten(0, 1), target[:, 1:].flatten(0, 1), jepa.cell_loss)
    return error.unflatten(0, (len(predicted), predicted.shape[1] - 1))
