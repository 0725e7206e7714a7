"""What each part of the objective is worth, in the mini city: `make study` on 24 drives.

    python tools/study.py configs/studies/city.py --data data/city24 --out work_dirs/study

Every objective has the same encoder, data and probes. Iterations are set so that every objective costs about the same
core-minutes; the table shows what they did cost.
"""

objectives = dict(
    jepa=dict(config="../bev_jepa_city.py", title="JEPA (default)", iterations=200),
    no_grounding=dict(config="../objectives/no_grounding.py", title="JEPA, no occupancy loss", iterations=200),
)
reference = "jepa"
seeds = 3
label_shares = (0.01, 0.1, 1.0)

# Every second clip is asked about; forecasts, which take longest, every fourth.
half = {"train_data.dataset.clip_stride": 2, "test_data.near.clip_stride": 2, "test_data.far.clip_stride": 2}
quarter = {"train_data.dataset.clip_stride": 2, "test_data.near.clip_stride": 4, "test_data.far.clip_stride": 4}
tasks = dict(
    bev_occupancy=dict(
        config="../probes/bev_occupancy_city.py",
        title="BEV occupancy",
        heads=("linear",),
        metrics=("auroc_hidden", "iou_known"),
        options=half,
        supervised=True,
    ),
    occupancy=dict(
        config="../probes/occupancy_city.py",
        title="occupancy",
        heads=("conv",),
        metrics=("miou_near",),
        options={"probe.with_rays": False, **half},
    ),
    forecasting=dict(
        config="../probes/forecasting_city.py",
        title="future occupancy",
        heads=("conv",),
        metrics=("miou_near_mean",),
        options={"probe.ray_step": 16, **quarter},
    ),
    map=dict(
        config="../probes/map_city.py",
        title="map completion",
        heads=("conv",),
        metrics=("miou_hidden_near_iou@0.50",),
        options=half,
        no_rivals=("prior map, copied",),  # it is nearly the truth by construction
    ),
    dynamic=dict(
        config="../probes/dynamic_city.py",
        title="moving returns",
        heads=("conv",),
        metrics=("ha_near",),
        options=half,
    ),
)
