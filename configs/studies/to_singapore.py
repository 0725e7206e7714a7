"""From generated to real drives: pretrained on the mini city, with and without a real scene; probed on the other real scene.

    AVJEPA_CITY=data/city24 AVJEPA_NUSCENES=data/nuscenes python tools/study.py configs/studies/to_singapore.py

Heads are fitted on scene-0523 in Boston and tested on scene-0916 in Singapore, which no pretraining sees; `to_boston.py` is the
other way round. Two data roots, so not by --data.
"""

seen, unseen = ("mini_train", "scene-0523"), ("mini_val",)
with_real = {"train_data.dataset.datasets.1.scenes": seen, "monitor.dataset.scenes": unseen}
# steps as in city.py: about equal core-minutes
objectives = dict(
    jepa_city=dict(config="../bev_jepa_city.py", title="JEPA, city"),
    occupancy_mae_city=dict(config="../objectives/occupancy_mae.py", title="Occupancy-MAE, city", iterations=270),
    bev_contrast_city=dict(config="../objectives/bev_contrast.py", title="BEVContrast, city", iterations=325),
    # three times the steps of the others
    jepa_city_longer=dict(config="../bev_jepa_city.py", title="JEPA, city, 600 steps", iterations=600),
    occupancy_mae_city_longer=dict(
        config="../objectives/occupancy_mae.py", title="Occupancy-MAE, city, 810 steps", iterations=810
    ),
    jepa_randomised=dict(config="../bev_jepa_city_randomised.py", title="JEPA, city, randomised sensors"),
    jepa=dict(config="../bev_jepa_city_and_real.py", title="JEPA, city and real", options=with_real),
    occupancy_mae=dict(
        config="../transfer/occupancy_mae.py", title="Occupancy-MAE, city and real", iterations=270, options=with_real
    ),
    bev_contrast=dict(
        config="../transfer/bev_contrast.py", title="BEVContrast, city and real", iterations=325, options=with_real
    ),
)
reference = "jepa"
seeds = 3
label_shares = (1.0,)

halves = {"train_data.dataset.scenes": seen, "test_data.original.scenes": unseen}
tasks = dict(
    bev_occupancy=dict(
        config="../probes/bev_occupancy.py",
        title="BEV occupancy",
        heads=("linear",),
        metrics=("auroc_hidden", "iou_hidden", "auroc_never_seen"),
        options=halves,
    ),
    moving_parked=dict(
        config="../probes/moving_parked.py",
        title="moving or parked",
        heads=("linear",),
        metrics=("auroc_all", "things_auroc_all"),
        # as the other task's clips, whose embeddings are kept
        options={
            "train_data.dataset.future_offsets": (1, 2, 3, 4, 5, 6),
            "test_data.original.future_offsets": (1, 2, 3, 4, 5, 6),
            **halves,
        },
    ),
)
