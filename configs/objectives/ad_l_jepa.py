"""AD-L-JEPA's recipe on the model of the city run: the present alone, single cells hidden, cosine, EMA .996, variance.

One frame; half of the cells that hold something and half of the others hidden, cell by cell; .75 of the loss on occupied cells; no
future, no covariance, no grounding. Where it departs from the paper (Zhu et al., AAAI 2026):
    - the teacher sees the full scene; theirs sees only what is hidden;
    - embeddings are layer-normalised before the cosine, not rectified;
    - the variance hinge is at 1 over the visible occupied cells of the whole batch and on the context alone; theirs is at
      1 / sqrt(C) of unit vectors, over each sample, and on predictions too;
    - cells that no ray has seen are hidden like free ones, but have no part in the loss;
    - cameras, sensor drop and the predictor are those of the other objectives, so that only the objective differs.
The monitor keeps its future frames: its ratios then tell what a predictor is worth there that has never been asked for them.
"""

from mmengine.config import read_base

with read_base():
    from ..bev_jepa_city import *

train_data.dataset.update(context_offsets=(0,), future_offsets=())
monitor.dataset.update(context_offsets=(0,))
model.jepa.temporal.update(num_context=1)
model.jepa.target.update(momentum_start=0.996)
model.jepa.mask.regions.blocks.sampler.update(block_cells=(1, 1), hidden_share=0.5)
model.jepa.weights.update(future=0.0, rollout=0.0, covariance=0.0, occupancy=0.0)
model.jepa.update(cell_loss="cosine", occupied_weight=0.75)
probe_config = None  # those of the city are for another model
