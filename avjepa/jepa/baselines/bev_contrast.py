"""One training step of BEVContrast on this world model: a cell is told from others by what it looks like at another moment.

    1  state     the encoder embeds the past and present frames in the present ego frame, some sensors dropped; a residual joins
                 them over time
    2  view      a future frame is moved, turned and mirrored at random, and embedded there
    3  return    its map is warped back into the present ego frame, by the ego-motion and the known turn
    4  cells     of those that are occupied at both moments some are drawn
    5  contrast  each cell of the state must find its own among the cells of the view, by cosine: InfoNCE

After Sautier et al., "BEVContrast: Self-Supervision in BEV Space for Automotive Lidar Point Clouds", 3DV 2024, and its code: linear
projection, temperature .07, 4096 cells a batch of 10, turn by any angle, shift by 4 m (at most 15 m), one direction of the loss.
Because the view is moved, the place on the map cannot be the answer: what convolutions know of the distance to the border differs
between both maps. What differs from the paper:
    - one of its two scans is a state here, of past and present frames and of cameras too, and not moved once more than the clip is;
    - the other moment is drawn among the future frames; in the paper it is a second later;
    - the view may be mirrored;
    - every clip gives as many cells, drawn from its own seed, so that no clip's draw depends on its batch.
Negatives are the cells of this rank's batch, as in the paper's code; the mean is over the cells of all ranks. They also keep the
embedding from collapsing, so there is no other guard.

No term reaches the predictor, which stays what it is at the start (a residual of zero: the state, warped by the ego-motion), nor
the mask token, since nothing is hidden. Both are frozen. Letters: see conventions.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from avjepa.bev.cell_states import cell_states
from avjepa.bev.encoder import BEVEncoder
from avjepa.conventions import OCCUPIED
from avjepa.geometry.ego_motion import warp_bev
from avjepa.geometry.rigid import invert, transform_from_se2
from avjepa.jepa.distributed import sum_over_ranks
from avjepa.jepa.masks import SensorDrop, clip_generator
from avjepa.jepa.predictor import TemporalContext, WarpPredictor
from avjepa.jepa.world_model import BEVWorldModel
from avjepa.sensors.augment import Augmentation, draw_ego_change
from avjepa.sensors.sample import ClipBatch

ANY_TURN = Augmentation(yaw_range_rad=(-math.pi, math.pi), flip_x=0.0, flip_y=0.5)
MAX_SHIFT_M = 15.0


@dataclass(frozen=True)
class ContrastTerms:
    """The one term, a scalar: the mean over the drawn cells of all ranks."""

    contrast: torch.Tensor

    def total(self) -> torch.Tensor:
        """The objective."""
        return self.contrast

    def named(self) -> dict[str, torch.Tensor]:
        """The term by name."""
        return {"contrast": self.contrast}


class BEVContrast(BEVWorldModel):
    """Contrast of BEV cells between two moments.

    Args:
        encoder: sensors to BEV embedding.
        temporal: joins the context frames into one state.
        predictor: not trained; probes and monitors find the state at other moments by it.
        sensor_drop: which sensors the context loses, or None.
        projection_channels: of the space in which cells are compared.
        temperature: of the softmax over cells.
        cells_per_clip: how many cells a clip gives at most.
        shift_m: standard deviation of the view's shift, in x and in y.
    """

    def __init__(
        self,
        encoder: BEVEncoder,
        temporal: TemporalContext,
        predictor: WarpPredictor,
        sensor_drop: SensorDrop | None,
        projection_channels: int = 128,
        temperature: float = 0.07,
        cells_per_clip: int = 410,
        shift_m: float = 4.0,
    ) -> None:
        super().__init__(encoder, temporal, predictor)
        self.projection = nn.Linear(encoder.channels, projection_channels)
        self.sensor_drop = sensor_drop
        self.temperature = temperature
        self.cells_per_clip = cells_per_clip
        self.shift_m = shift_m
        predictor.requires_grad_(False)
        encoder.tokens.masked.requires_grad_(False)

    def forward(self, clips: ClipBatch) -> tuple[ContrastTerms, None]:
        """Loss term of a batch of clips; there is no prediction to make a picture of."""
        state, _ = self.encode_context(clips, sensor_drop=self.sensor_drop)
        view, occupied_then = self.embed_view(clips)
        occupied_now = cell_states(clips.context_in_now(1), self.encoder.grid) == OCCUPIED
        cells = self.draw_cells(occupied_now & occupied_then, clips.seeds)

        ours, theirs = (self.projection(z.movedim(1, -1)[cells]) for z in (state, view))  # (P, C)
        loss = info_nce(ours, theirs, self.temperature)
        count = sum_over_ranks(loss.new_tensor(float(len(loss))))
        return ContrastTerms(sum_over_ranks(loss.sum()) / count.clamp(min=1)), None

    def embed_view(self, clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding (B, C, Y, X) of the view, back in the present ego frame, and its occupied cells (B, Y, X), bool: those that
        take a quarter or more of what they hold from an occupied cell, as every cell does whose centre lies in one.
        """
        moment, turned_T_frame = self.draw_views(clips)
        chosen = F.one_hot(moment, clips.shape[1] - clips.num_context + 1).bool()  # (B, 1 + F)
        everywhere = turned_T_frame[:, None].expand(-1, clips.shape[1], -1, -1)
        maps = self.encoder(clips.targets(everywhere).keep_frames(chosen.flatten()))

        now_T_turned = clips.now_T_frame[:, clips.num_context - 1 :][chosen] @ invert(turned_T_frame)
        occupied = (maps.states == OCCUPIED)[:, None].float()
        there, _ = warp_bev(torch.cat([maps.z.float(), occupied], 1), now_T_turned, self.encoder.grid)
        return there[:, :-1], there[:, -1] >= 0.25

    def draw_views(self, clips: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Which future frame each clip's view is of, (B,) int64 counted from 1, and the view's frame ``turned_T_frame`` (B, 4, 4).

        A clip without a future is seen once more at its present, 0.
        """
        moments, views = [], []
        future = clips.shape[1] - clips.num_context
        for seed in clips.seeds:
            generator = clip_generator(seed, "view")
            moments.append(int(torch.randint(1, future + 1, (), generator=generator)) if future else 0)
            turned_T_frame = draw_ego_change(ANY_TURN, generator)
            shift_m = (self.shift_m * torch.randn(2, generator=generator)).clamp(-MAX_SHIFT_M, MAX_SHIFT_M)
            views.append(torch.from_numpy(transform_from_se2(*shift_m.tolist(), 0.0) @ turned_T_frame))
        device = clips.points.device
        return torch.tensor(moments, device=device), torch.stack(views).to(clips.now_T_frame)

    def draw_cells(self, among: torch.Tensor, seeds: tuple[int, ...]) -> torch.Tensor:
        """At most ``cells_per_clip`` cells of each clip, (B, Y, X) bool, among those that are true."""
        ranks = [torch.rand(among[0].numel(), generator=clip_generator(seed, "cells")) for seed in seeds]
        order = torch.stack(ranks).to(among.device).masked_fill(~among.flatten(1), 2.0)
        last = order.sort(1).values[:, min(self.cells_per_clip, order.shape[1]) - 1, None]
        return among & (order <= last).view_as(among)


def info_nce(ours: torch.Tensor, theirs: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE of each cell (P,): cross-entropy of finding row i of ``theirs`` (P, C) by row i of ``ours`` (P, C) among all P rows,
    by cosine / ``temperature`` (PointInfoNCE, Xie et al. 2020, eq. 2). Always float32.
    """
    with torch.autocast(ours.device.type, enabled=False):
        ours, theirs = F.normalize(ours.float(), dim=1), F.normalize(theirs.float(), dim=1)
        similarity = ours @ theirs.T / temperature
        return similarity.logsumexp(1) - similarity.diagonal() if len(ours) else similarity.sum(1)
