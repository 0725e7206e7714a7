"""What to watch while a JEPA trains, measured on a fixed held-out batch with nothing masked. The loss is not among it: a
collapsed run has the lowest loss of all. Letters: see conventions.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from avjepa.conventions import OCCUPIED, UNOBSERVED
from avjepa.jepa.collapse import directions_holding, masked_mean, per_dim_std, rankme, variance_shares
from avjepa.jepa.losses import cell_error
from avjepa.jepa.motion_evidence import changed_cells
from avjepa.jepa.slowness import slow_features
from avjepa.jepa.target_encoder import normalised
from avjepa.jepa.world_model import BEVWorldModel, normalise_each, persistence
from avjepa.sensors.sample import ClipBatch

Monitors = dict[str, float | list[float]]

MOST_CELLS = 4096  # that a rank is computed from


@torch.no_grad()
def measure(jepa: BEVWorldModel, clips: ClipBatch) -> Monitors:
    """Monitors by name, on one batch; evaluate in ``eval`` mode. What cannot be measured is nan, or an empty list.

    Names:
        std: mean over dimensions of the std over occupied cells of the present embedding, normalised as the loss sees it; and
            std_min, the smallest. Near zero, all cells point the same way: collapse.
        std_raw: the same before normalisation. It can stay up while the normalised one collapses, since a growing mean
            costs the loss nothing.
        rankme: effective rank of the normalised cells, centred.
        rankme_moving: the same of movers: cells that became occupied, in the target embedding of the moment they are there. In
            the present embedding such a cell is still free space, so it is not read there. Fewer cells than dimensions bound
            the rank by themselves: nan.
        spectrum: shares of the variance of the normalised cells by principal direction, largest first (C - 1 numbers: the
            direction that LayerNorm takes away is left out); condition, largest / smallest of them; directions_90, how
            many hold 90 % of the variance.
        teacher_cosine: mean cosine between the embedding of occupied cells and the teacher's, both normalised.
        error_occupied, error_all: prediction error over all future horizons.
        ratio_occupied, ratio_all, ratio_changed: prediction error / error of persistence-by-warp, over all future
            horizons; below 1 the predictor has learned something. "changed": cells whose occupancy differs from the
            warped present (label-free evidence of movers).
        ratio_occupied_1, ...: the same for each future horizon.
        wrong_motion: error with the ego-motion set to none / error with the true one; 1 means the motion is ignored.
        shuffled_motion: error with ego-motion and times of the next clip of the batch / error with the true ones, on the
            occupied cells inside both overlaps of the clips whose motion differs. Unlike no motion at all, another clip's
            is one that the predictor was trained to expect.
        slowness: delta of every direction of the embedding at places where something stands, slowest first, see
            slowness.py; slowness_min and slowness_median of them.
        slowness_changed: delta of the slower half of the directions where occupancy changes / where it does not. At 1 they
            are blind to what comes and goes: an embedding of the static map alone.

    A model with ``ego_motion=False`` is shown clips in which no frame is moved: its persistence copies each cell to where it is,
    "changed" is against the present that is not warped, slowness is of cells that move with the car, wrong_motion is 1 and
    shuffled_motion nan. Its ratios are not those of a model that knows the motion; std, rankme and spectrum are.
    """
    clips = jepa.known(clips)
    state, z = jepa.encode_context(clips)
    states, target = jepa.encode_targets(clips)
    changed = changed_cells(states, clips, jepa.encoder.grid)  # (B, F, Y, X)
    movers = target[:, 1:].movedim(2, -1)[changed & (states[:, 1:] == OCCUPIED)]  # (P, C)

    monitors = {
        **_spread(z, states[:, 0] == OCCUPIED),
        "rankme_moving": rankme(_sample(movers)) if len(movers) > movers.shape[1] else math.nan,
        "teacher_cosine": masked_mean(F.cosine_similarity(normalised(z), target[:, 0]), states[:, 0] == OCCUPIED),
        **_prediction(jepa, clips, state, states, target, changed),
        **_slowness(jepa, clips),
    }
    return {name: value if isinstance(value, list) else float(value) for name, value in monitors.items()}


def _spread(z: torch.Tensor, occupied: torch.Tensor) -> dict:
    """How the embedding (B, C, Y, X) spreads over its dimensions on occupied cells (B, Y, X)."""
    things = normalised(z).movedim(1, -1)[occupied]  # (P, C)
    std = per_dim_std(things)
    few = len(things) < 2
    # The smallest share is that of the direction (1, ..., 1), which LayerNorm takes away.
    shares = std.new_zeros(0) if few else variance_shares(things)[:-1]
    return {
        "std": std.mean(),
        "std_min": std.min(),
        "std_raw": per_dim_std(z.movedim(1, -1)[occupied]).mean(),
        "rankme": math.nan if few else rankme(_sample(things)),
        "spectrum": shares.tolist(),
        "condition": math.nan if few else shares[0] / shares[-1],
        "directions_90": math.nan if few else directions_holding(shares, 0.9),
    }


def _prediction(jepa, clips, state, states, target, changed) -> dict:
    """What prediction gains over persistence, and loses with a wrong ego-motion."""
    raw, overlap = jepa.predict(state, clips)
    kept, kept_overlap = persistence(target[:, 0], clips, jepa.predictor)
    valid = (overlap & kept_overlap & (states != UNOBSERVED))[:, 1:]
    occupied = valid & (states[:, 1:] == OCCUPIED)
    error = _errors(jepa, normalise_each(raw), target)
    error_kept = _errors(jepa, kept, target)

    monitors = {
        f"ratio_{name}": masked_mean(error, cells) / masked_mean(error_kept, cells)
        for name, cells in {"occupied": occupied, "all": valid, "changed": valid & changed}.items()
    }
    monitors["error_occupied"] = masked_mean(error, occupied)
    monitors["error_all"] = masked_mean(error, valid)
    for k in range(error.shape[1]):
        cells = occupied[:, k]
        monitors[f"ratio_occupied_{k + 1}"] = masked_mean(error[:, k], cells) / masked_mean(error_kept[:, k], cells)

    frame_T_now, dt_s = clips.frame_T_now(), clips.time_s[:, clips.num_context - 1 :]
    still, _ = jepa.predict_under(state, torch.eye(4).to(frame_T_now).expand_as(frame_T_now), dt_s)
    error_still = _errors(jepa, normalise_each(still), target)
    monitors["wrong_motion"] = masked_mean(error_still, occupied) / masked_mean(error, occupied)

    others = frame_T_now.roll(1, 0), dt_s.roll(1, 0)
    shuffled, shuffled_overlap = jepa.predict_under(state, *others)
    differs = ~torch.isclose(frame_T_now, others[0], atol=1e-3).flatten(1).all(1)  # (B,), none in a batch of one
    cells = occupied & shuffled_overlap[:, 1:] & differs[:, None, None, None]
    error_shuffled = _errors(jepa, normalise_each(shuffled), target)
    monitors["shuffled_motion"] = masked_mean(error_shuffled, cells) / masked_mean(error, cells)
    return monitors | jepa.monitors(raw[:, 1:], error, valid)


def _slowness(jepa: BEVWorldModel, clips: ClipBatch) -> dict:
    """Slow Feature Analysis of the online embedding at fixed places over successive frames.

    Every frame is moved into the present ego frame before it is encoded, so that a place is one cell throughout and no
    embedding is resampled.
    """
    frames = clips.all_in_now()
    maps = jepa.encoder(frames)
    z = normalised(maps.z).unflatten(0, clips.shape).movedim(2, -1)  # (B, S, Y, X, C)
    states = maps.states.unflatten(0, clips.shape)
    before, after = states[:, :-1], states[:, 1:]  # (B, S - 1, Y, X)
    seen = (before != UNOBSERVED) & (after != UNOBSERVED) & _even_steps(clips.time_s)[..., None, None]
    standing = seen & ((before == OCCUPIED) | (after == OCCUPIED))
    changed = standing & (before != after)
    enough = int(standing.sum()) > z.shape[-1]
    slow = slow_features(z[:, :-1][standing], z[:, 1:][standing]) if enough else None
    if slow is None or not len(slow.deltas):
        return {"slowness": [], **dict.fromkeys(("slowness_min", "slowness_median", "slowness_changed"), math.nan)}

    half = len(slow.deltas) // 2
    where_changed, where_same = (
        slow.deltas_of(z[:, :-1][cells], z[:, 1:][cells])[: half + 1].mean() for cells in (changed, standing & ~changed)
    )
    return {
        "slowness": slow.deltas.tolist(),
        "slowness_min": slow.deltas[0],
        "slowness_median": slow.deltas[half],
        "slowness_changed": where_changed / where_same,
    }


def _even_steps(time_s: torch.Tensor) -> torch.Tensor:
    """Which steps between successive frames (B, S - 1) of (B, S) are about as long as most: a delta is of one step."""
    step_s = time_s.diff(dim=1)
    return (step_s / step_s.median() - 1).abs() < 0.5


def _sample(cells: torch.Tensor) -> torch.Tensor:
    """At most MOST_CELLS of the cells (P, C), evenly."""
    return cells[:: max(1, -(-len(cells) // MOST_CELLS))]


def _errors(jepa: BEVWorldModel, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Error of every cell of every future horizon (B, F, Y, X)."""
    error = cell_error(predicted[:, 1:].flatten(0, 1), target[:, 1:].flatten(0, 1), jepa.cell_loss)
    return error.unflatten(0, (len(predicted), predicted.shape[1] - 1))
