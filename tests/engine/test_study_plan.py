"""The studies in configs/studies/."""

from __future__ import annotations

from pathlib import Path

import pytest

from avjepa.engine.registry import build
from avjepa.engine.study_plan import read_plan
from avjepa.jepa.baselines.bev_contrast import BEVContrast
from avjepa.jepa.baselines.occupancy_mae import OccupancyMAE
from avjepa.jepa.model import BEVJEPA

ROOT = Path(__file__).resolve().parents[2]


def test_the_city_study_is_sound():
    """Every config, head, metric and option that configs/studies/city.py names is there."""
    plan = read_plan(ROOT / "configs" / "studies" / "city.py", None, None, None)
    assert plan.reference == "jepa"
    assert plan.training("no_grounding", 0).model.jepa.weights.occupancy == 0.0
    assert plan.training("jepa", 0).train_cfg.max_iters == 200


def test_longer_runs_differ_from_the_city_study_in_steps_alone():
    city, longer = (
        read_plan(ROOT / "configs" / "studies" / f"{name}.py", None, None, None) for name in ("city", "longer")
    )
    for name in longer.objectives:
        short, long = city.training(name, 0), longer.training(name, 0)
        ratio = long.train_cfg.max_iters / short.train_cfg.max_iters
        assert ratio == 3, name
        assert [(one.begin * 3, one.end * 3) for one in short.param_scheduler] == [
            (one.begin, one.end) for one in long.param_scheduler
        ]
        assert long.model.to_dict() == short.model.to_dict()


@pytest.mark.parametrize(
    ("name", "seen", "unseen"),
    [
        ("to_singapore", ("mini_train", "scene-0523"), ("mini_val",)),
        ("to_boston", ("mini_val",), ("scene-0523",)),
    ],
)
def test_no_pretraining_of_a_transfer_sees_the_scene_it_is_tested_on(name, seen, unseen):
    plan = read_plan(ROOT / "configs" / "studies" / f"{name}.py", None, None, None)
    trained_on = {o: plan.training(o, 1).train_data.dataset for o in plan.objectives}
    scenes = {o: [tuple(part.scenes) for part in data.get("datasets", (data,))] for o, data in trained_on.items()}
    with_real = ("jepa", "occupancy_mae", "bev_contrast")
    assert scenes == {o: [("train",), seen] if o in with_real else [("train",)] for o in plan.objectives}
    models = {o: build(plan.training(o, 0).model.jepa) for o in with_real}
    assert {o: type(model) for o, model in models.items()} == dict(
        zip(with_real, (BEVJEPA, OccupancyMAE, BEVContrast), strict=True)
    )
    for task in plan.tasks:
        probe = plan.probing(task)
        assert (probe.train_data.dataset.scenes, probe.test_data.original.scenes) == (seen, unseen)
