"""What each part of the objective is worth, beside rivals, in the mini city: `make study` on 24 drives.

    python tools/study.py configs/studies/city.py --data data/city24 --out work_dirs/study

Every objective has the same encoder, data and probes. The rivals of the main table have about the same core-minutes, which is more
steps, for one of theirs costs about .7 of a JEPA's. The others have equal steps; the table shows what each did cost.
"""

objectives = dict(
    jepa=dict(config="../bev_jepa_city.py", title="JEPA (default)"),
    # rivals
    occupancy_mae=dict(config="../objectives/occupancy_mae.py", title="Occupancy-MAE", iterations=270),
    bev_contrast=dict(config="../objectives/bev_contrast.py", title="BEVContrast", iterations=325),
    ad_l_jepa=dict(config="../objectives/ad_l_jepa.py", title="AD-L-JEPA's recipe"),
    # the default without one of its parts
    no_ego_motion=dict(config="../objectives/no_ego_motion.py", title="JEPA, no ego-motion"),
    no_teacher=dict(config="../objectives/no_teacher.py", title="JEPA, no EMA (stopped gradient)"),
    no_regulariser=dict(config="../objectives/no_regulariser.py", title="JEPA, no variance and covariance"),
    no_grounding=dict(config="../objectives/no_grounding.py", title="JEPA, no occupancy loss"),
    ema_only=dict(config="../objectives/ema_only.py", title="EMA only"),
    # other objectives
    sigreg=dict(config="../objectives/sigreg.py", title="SIGReg, no EMA"),
    vicreg=dict(config="../objectives/vicreg.py", title="VICReg, no EMA"),
    deep=dict(config="../objectives/deep.py", title="deep self-supervision"),
    causal=dict(config="../objectives/causal.py", title="causal next embedding"),
    hypotheses=dict(config="../objectives/hypotheses.py", title="JEPA + hypotheses"),
    # remedies for forgotten movers
    changed_cells=dict(config="../objectives/changed_cells.py", title="JEPA, changed cells x 4"),
    change_zones=dict(config="../objectives/change_zones.py", title="JEPA, masks where things move"),
    mixed_masks=dict(config="../objectives/mixed_masks.py", title="JEPA, mixed masks"),
)
reference = "jepa"
seeds = 3
label_shares = (0.01, 0.1, 1.0)

# Every second clip is asked about; forecasts, which take longest, every fourth. All tasks read the same clips, and so the same
# kept embeddings.
future = (1, 2, 3, 4, 5, 6)
half = {"train_data.dataset.clip_stride": 2, "test_data.near.clip_stride": 2, "test_data.far.clip_stride": 2}
quarter = {"train_data.dataset.clip_stride": 4, "test_data.near.clip_stride": 4, "test_data.far.clip_stride": 4}
tasks = dict(
    bev_occupancy=dict(
        config="../probes/bev_occupancy_city.py",
        title="BEV occupancy",
        heads=("linear",),
        metrics=("auroc_hidden", "iou_hidden", "auroc_never_seen"),
        options=half,
        supervised=True,
    ),
    moving_parked=dict(
        config="../probes/moving_parked_city.py",
        title="moving or parked",
        heads=("linear",),
        metrics=("auroc_all", "things_auroc_all"),
        options={
            "train_data.dataset.future_offsets": future,
            "test_data.near.future_offsets": future,
            "test_data.far.future_offsets": future,
            **half,
        },
        supervised=True,
    ),
    map=dict(
        config="../probes/map_city.py",
        title="map completion",
        heads=("conv",),
        metrics=("miou_hidden_near_iou@0.50",),
        options=half,
        supervised=True,
        no_rivals=("prior map, copied",),  # it is nearly the truth by construction
    ),
    forecasting=dict(
        config="../probes/forecasting_city.py",
        title="future occupancy",
        heads=("conv",),
        metrics=("miou_near_mean", "iou_near_1s", "iou_near_2s", "iou_near_3s"),
        options={"probe.ray_step": 32, **quarter},
    ),
)
