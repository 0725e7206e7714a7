"""What is learned for map changes, in one file: the embedding that a map lets one expect, the map that an embedding lets one
believe, and how both are weighed against what sensors say by hand-made rules.

Letters: see conventions.py; features are those of probes/frozen.py: ObservedView, (2 C + 1, Y, X).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from avjepa.errors import CheckpointError, ConfigError
from avjepa.files import replacing
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.resample import Window
from avjepa.mapping.evidence_material import Material, overlap_warnings
from avjepa.mapping.logistic import Logistic
from avjepa.mapping.map_conditioned import MapConditioned, context_of, is_observed
from avjepa.probes.heads import DenseHead, Features, HeadTraining, draw_window, new_head, train_head
from avjepa.probes.metrics.map_iou import MAP_CLASSES
from avjepa.sensors.nuscenes_index import NuScenesIndex

FORMAT = "avjepa-map-evidence"
VERSION = 1
TRAINING = HeadTraining("conv", steps=600, batch_size=8, learning_rate=3e-3, weight_decay=1e-3, crop_cells=40)
MOST_WEIGHT = 10.0  # of a cell of a rare class
MOMENT_ITEMS = 64  # whose mean and std stand for all

Watch = Callable[[Iterable, str, int], Iterable]


@dataclass(frozen=True)
class Origin:
    """Where an evidence file comes from.

    Attributes:
        config: path of the encoder's training config.
        checkpoint: path of its weights; "" for random weights.
        seed: of random weights and of the training here.
        encoder: fingerprint of weights and architecture, see probes/frozen.py: Source.
        drives: keys of the drives trained on, see :func:`drive_key`.
        towns: those whose maps were trained on, see evidence_material.py: Material; None in older files, which do not say.
    """

    config: str
    checkpoint: str
    seed: int
    encoder: str
    drives: tuple[str, ...]
    towns: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Calibration:
    """How evidence becomes the log-odds of a change.

    Attributes:
        regression: of (hand-made log-odds, 1 where hand-made rules found nothing, residual, belief).
        fitted_on: what, in words.
        rows: how many judged elements.
        material: the drives and towns that it was fitted on; None in older files, which do not say.
    """

    regression: Logistic
    fitted_on: str
    rows: int
    material: Material | None = None


@dataclass(frozen=True)
class MapEvidence:
    """Networks that judge maps, and what they belong to.

    Attributes:
        origin: where they come from.
        grid: of the embedding.
        conditioned: embedding from map.
        belief: map from embedding.
        rates: (K,) share of the observed ground of the training drives that each class covers.
        calibration: None before it was fitted.
    """

    origin: Origin
    grid: BEVGrid
    conditioned: MapConditioned
    belief: DenseHead
    rates: torch.Tensor
    calibration: Calibration | None = None

    @property
    def channels(self) -> int:
        """C, of the embedding."""
        return len(self.conditioned.mean)

    def belief_log_odds(self, features: torch.Tensor) -> torch.Tensor:
        """(K, Y, X) for each class, beside its rate, of features (2 C + 1, Y, X)."""
        return self.belief(features[None, :-1])[0] - torch.logit(self.rates)[:, None, None]

    def check_drives(self, keys: Iterable[str]) -> None:
        """Refuse drives that were trained on.

        Raises:
            ConfigError: there are such.
        """
        both = sorted(set(keys) & set(self.origin.drives))
        if both:
            names = ", ".join(key.split("/")[0] for key in both[:3])
            raise ConfigError(
                f"--evidence was trained on {names} ({len(both)} drives): judge others, or train on others"
            )

    def warnings(self, judged: Material, file: str) -> tuple[str, ...]:
        """What a reader must know of results on drives and towns that this was made with; ``file`` names the evidence file."""
        made = [("trained", None if self.origin.towns is None else Material(self.origin.drives, self.origin.towns))]
        if self.calibration is not None:
            made.append(("calibrated", self.calibration.material))
        return overlap_warnings(file, made, judged)

    def check_encoder(self, fingerprint: str, grid: BEVGrid, path: Path) -> None:
        """Refuse another encoder than that which was trained with; ``path`` is the evidence file's.

        Raises:
            CheckpointError: it is another.
        """
        if fingerprint != self.origin.encoder or grid != self.grid:
            what = "encoder" if grid == self.grid else "grid"
            raise CheckpointError(
                f"{path}: was trained with another {what} than {self.origin.checkpoint or 'random weights'} of "
                f"{self.origin.config} is now; train it again with tools/train_map_evidence.py"
            )


def drive_key(index: NuScenesIndex, scene: str) -> str:
    """Names a drive: its scene and a digest of its poses, for generated cities give their drives the same names."""
    keyframes = index.keyframes_of(scene)
    poses = np.ascontiguousarray(index.global_T_ego[keyframes])
    return f"{scene}/{hashlib.sha256(poses.tobytes()).hexdigest()[:16]}"


def train_map_evidence(
    features: Features,
    cover: torch.Tensor,
    grid: BEVGrid,
    origin: Origin,
    watch: Watch,
    training: HeadTraining = TRAINING,
) -> MapEvidence:
    """Fit both networks.

    Args:
        features: (n, 2 C + 1, Y, X), of n keyframes.
        cover: (n, K, Y, X), shares of the true map there.
        grid: of both.
        origin: kept in the file; its seed draws weights and batches.
        watch: wraps steps, words and their number, to show progress.
        training: schedule of either network.
    """
    torch.manual_seed(origin.seed)  # initialisation of the networks; the only use of the global generator
    some = list(range(0, len(features), -(-len(features) // MOMENT_ITEMS)))
    z, states = present_and_states(features[some])
    seen = z.movedim(1, -1)[is_observed(states)]  # (n, C)
    std, mean = torch.std_mean(seen, 0)
    conditioned = MapConditioned(len(MAP_CLASSES), mean, std.clamp(min=1e-4))
    rates = cover[some].movedim(1, -1)[is_observed(states)].mean(0).clamp(1e-4, 1 - 1e-4)
    _train_conditioned(conditioned, features, cover, rates, grid, training, origin.seed, watch)

    def loss(logits: torch.Tensor, items: list[int], window: Window) -> torch.Tensor:
        _, states = present_and_states(features[items])
        weight = is_observed(states)[:, None, window[0], window[1]].to(logits)
        answer = cover[items][:, :, window[0], window[1]]
        total = F.binary_cross_entropy_with_logits(logits, answer, weight.expand_as(logits), reduction="sum")
        return total / weight.sum().clamp(min=1) / logits.shape[1]

    inputs = _WithoutStates(features)
    belief = train_head(
        new_head(training.kind, len(MAP_CLASSES), grid, grid, inputs, origin.seed), inputs, loss, training, origin.seed
    )
    frozen: list[nn.Module] = [conditioned, belief]
    for network in frozen:
        network.requires_grad_(False).eval()
    return MapEvidence(origin, grid, conditioned, belief, rates)


def _train_conditioned(
    network: MapConditioned,
    features: Features,
    cover: torch.Tensor,
    rates: torch.Tensor,
    grid: BEVGrid,
    training: HeadTraining,
    seed: int,
    watch: Watch,
) -> None:
    """Cells of rare classes count for more. That is fair: the likelihood is conditioned on the map, on which the weight depends."""
    rarity = ((1 - rates) / rates).sqrt().clamp(1, MOST_WEIGHT)[:, None, None]
    optimizer = torch.optim.AdamW(network.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in watch(range(training.steps), "map to embedding", training.steps):
        items = torch.randint(len(features), (training.batch_size,), generator=generator).tolist()
        rows, columns = draw_window(grid, training.crop_cells, generator)
        z, states = present_and_states(features[items])
        context, observed = context_of(states, grid), is_observed(states)
        here = cover[items][:, :, rows, columns]
        each = network.log_likelihood(z[:, :, rows, columns], here, context[:, :, rows, columns])
        counted = observed[:, rows, columns] * (1 + (rarity * here).sum(1))
        optimizer.zero_grad()
        (-(each * counted).sum() / counted.sum().clamp(min=1) / z.shape[1]).backward()
        optimizer.step()
        schedule.step()


class _WithoutStates:
    """Features without the cell states: what a head may read."""

    def __init__(self, features: Features) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, items: list[int]) -> torch.Tensor:
        return self.features[items][:, :-1]


def present_and_states(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Present embedding (b, C, Y, X) and cell states (b, Y, X) of features (b, 2 C + 1, Y, X)."""
    return features[:, features.shape[1] // 2 : -1], features[:, -1]


def save_map_evidence(path: Path, evidence: MapEvidence) -> None:
    """Write a file that loads with ``weights_only=True``."""
    fitted = evidence.calibration
    content = {
        "format": FORMAT,
        "version": VERSION,
        "origin": asdict(evidence.origin),
        "grid": asdict(evidence.grid),
        "channels": evidence.channels,
        "conditioned": evidence.conditioned.state_dict(),
        "belief": evidence.belief.state_dict(),
        "rates": evidence.rates,
        "calibration": fitted
        and {
            **{name: torch.from_numpy(value) for name, value in vars(fitted.regression).items()},
            **{"fitted_on": fitted.fitted_on, "rows": fitted.rows},
            "material": fitted.material and asdict(fitted.material),
        },
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_map_evidence(path: Path) -> MapEvidence:
    """Read what :func:`save_map_evidence` wrote.

    Raises:
        CheckpointError: missing, damaged, or no such file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; make one with tools/train_map_evidence.py")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for each kind of damage
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not readable ({reason}); train it again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not map evidence; make some with tools/train_map_evidence.py")
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: map evidence of version {content.get('version')}, not {VERSION}; "
            "make it again with tools/train_map_evidence.py"
        )
    try:
        return _evidence(content)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged ({str(error).splitlines()[0]}); train it again") from error


def _evidence(content: dict[str, Any]) -> MapEvidence:
    grid, channels, classes = BEVGrid(**content["grid"]), content["channels"], len(content["rates"])
    conditioned = MapConditioned(classes, torch.zeros(channels), torch.zeros(channels))
    belief = DenseHead(TRAINING.kind, classes, grid, grid, torch.zeros(2 * channels), torch.zeros(2 * channels))
    for network, name in ((conditioned, "conditioned"), (belief, "belief")):
        network.load_state_dict(content[name])
        network.requires_grad_(False).eval()
    fitted = content["calibration"]
    calibration = fitted and Calibration(
        Logistic(*(fitted[name].numpy() for name in ("weights", "centre", "scale"))),
        fitted["fitted_on"],
        fitted["rows"],
        Material(**fitted["material"]) if fitted.get("material") else None,  # older files do not say
    )
    origin = Origin(**{**content["origin"], "drives": tuple(content["origin"]["drives"])})
    return MapEvidence(origin, grid, conditioned, belief, content["rates"], calibration)
