import torch

from avjepa.probes.heads import HeadTraining
from avjepa.probes.occupancy_study import STRATA, embed, evaluate_features, evaluate_score, extract
from tests.jepa import tiny


def test_the_whole_table_on_synthetic_clips():
    """Every row is there; the raw input knows what stands where it can be seen, and a copied answer nothing of the unseen."""
    encoders = {"random init 0": tiny.jepa(cameras=False)}
    train = extract([tiny.batch(seed) for seed in range(4)], encoders, tiny.BEV)
    test = extract([tiny.batch(seed) for seed in (10, 11)], encoders, tiny.BEV)
    assert set(train.features) == {"random init 0", "raw input"}
    assert train.features["random init 0"].shape == (4, 2 * tiny.CHANNELS, 32, 32)
    raw = evaluate_features(train, test, "raw input", "raw input, linear head", HeadTraining(steps=60), seed=0)
    assert set(raw.metrics) == {f"{kind}_{stratum}" for kind in ("iou", "auroc") for stratum in STRATA}
    assert raw.metrics["auroc_known"] > 0.95
    copied = evaluate_score(test, "last seen")
    assert copied.metrics["iou_known"] > 0.5
    everything = evaluate_score(test, "all occupied")
    known, occupied = test.targets.known, test.targets.occupied
    assert abs(everything.metrics["iou_known"] - float((occupied & known).sum() / known.sum())) < 1e-6
    assert everything.metrics["auroc_known"] == 0.5


def test_probes_leave_the_encoder_alone():
    model = tiny.jepa(cameras=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features = embed(model.eval(), tiny.batch(0))
    assert not features.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
