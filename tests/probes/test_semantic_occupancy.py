import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avjepa.errors import ConfigError
from avjepa.geometry.occ3d import CLASS_NAMES, FREE, UNKNOWN
from avjepa.probes.metrics.semantic_occupancy import CONVENTIONS, OccupancyConfusion

SHAPE = (14, 14, 14)  # of these SelfOcc keeps predictions in 2 x 2 x 12 voxels
OTHERS, CAR, PEDESTRIAN, TRUCK, FLAT = (
    CLASS_NAMES.index(name) for name in ("others", "car", "pedestrian", "truck", "other_flat")
)
INNER = [(6, 6, z) for z in range(12)]


def frame(voxels: dict[tuple[int, int, int], tuple[int, int, int, int]]):
    """predicted, truth, mask_camera, mask_lidar from {voxel: (truth, predicted, camera, lidar)}; elsewhere free, unseen."""
    predicted, truth = (np.full(SHAPE, FREE, dtype=np.uint8) for _ in range(2))
    camera, lidar = (np.zeros(SHAPE, dtype=bool) for _ in range(2))
    for voxel, (true, guess, by_camera, by_lidar) in voxels.items():
        truth[voxel], predicted[voxel], camera[voxel], lidar[voxel] = true, guess, by_camera, by_lidar
    return predicted, truth, camera, lidar


def scores(convention: str, voxels: dict):
    confusion = OccupancyConfusion()
    confusion.add(*frame(voxels))
    return confusion.scores(convention)


def seen(*pairs: tuple[int, int]) -> dict:
    """Voxels within SelfOcc's margin, seen by both sensors, from (truth, predicted)."""
    return {voxel: (*pair, 1, 1) for voxel, pair in zip(INNER, pairs, strict=False)}


# Car: 2 right, 1 false, 1 missed. Truck: predicted, never true. Pedestrian: true, never predicted. The rest: neither.
PAIRS = ((CAR, CAR), (CAR, CAR), (FREE, CAR), (CAR, TRUCK), (PEDESTRIAN, FREE), (FREE, FREE))


def test_occ3d_by_hand():
    found = scores("occ3d", seen(*PAIRS))
    assert found.iou["car"] == pytest.approx(2 / 4, abs=1e-6)
    assert found.iou["truck"] == 0  # absent from the truth, yet predicted
    assert found.iou["pedestrian"] == 0
    assert math.isnan(found.iou["bus"])
    assert found.miou == pytest.approx((2 / 4 + 0 + 0) / 3, abs=1e-6)
    assert found.geometric_iou == pytest.approx(3 / 5, abs=1e-6)
    assert "free" not in found.iou
    assert set(found.absent) == set(CLASS_NAMES[:FREE]) - {"car", "pedestrian"}
    assert (found.frames, found.voxels) == (1, 6)


@pytest.mark.parametrize(
    ("convention", "miou", "geometric_iou"),
    [
        ("sparseocc", (2 / 4 + 0) / 2, 3 / 5),  # truck is left out
        ("occworld", (2 / 4 + 0 + 15) / 17, 3 / 5),  # the 15 absent classes have IoU 1
        ("selfocc", (2 / 4 + 0 + 14) / 16, 3 / 5),  # so 14 of its 16
        ("visible", (2 / 4 + 0) / 2, 3 / 5),
    ],
)
def test_absent_classes_are_the_conventions_choice(convention, miou, geometric_iou):
    found = scores(convention, seen(*PAIRS))
    assert found.miou == pytest.approx(miou, abs=1e-6)
    assert found.geometric_iou == pytest.approx(geometric_iou, abs=1e-6)


@pytest.mark.parametrize(
    ("convention", "right", "counted"),
    [
        ("occ3d", 1 + 2, 1 + 2 + 2),  # camera
        ("occ3d_unmasked", 1 + 2 + 3 + 4, 1 + 2 + 3 + 4 + 4),
        ("occworld", 1 + 2 + 3 + 4, 1 + 2 + 3 + 4 + 4),
        ("lidar_and_camera_mask", 1, 1 + 1),
        ("visible", 1 + 2 + 3, 1 + 2 + 3 + 3),
        ("occluded", 4, 4 + 1),
    ],
)
def test_masks_choose_the_voxels(convention, right, counted):
    """1 car found by both sensors, 2 by the camera alone, 3 by the LiDAR alone, 4 unseen; and one missed in each stratum."""
    strata = [(1, 1)] * 1 + [(1, 0)] * 2 + [(0, 1)] * 3 + [(0, 0)] * 4
    found = [(CAR, CAR, *stratum) for stratum in strata]
    missed = [(CAR, FREE, *stratum) for stratum in ((1, 1), (1, 0), (0, 1), (0, 0))]
    voxels = dict(zip([(0, 0, z) for z in range(14)], found + missed, strict=True))
    assert scores(convention, voxels).iou["car"] == pytest.approx(right / counted, abs=1e-6)


def test_classes_of_occnerf_leave_out_what_has_no_prompt():
    found = scores("occnerf", seen((CAR, CAR), (OTHERS, CAR), (FLAT, FLAT)))
    assert found.iou["car"] == pytest.approx(1 / 2, abs=1e-6)
    assert len(found.iou) == 15
    assert not {"others", "other_flat"} & set(found.iou)


def test_selfocc_merges_others_with_free():
    found = scores("selfocc", seen((CAR, CAR), (OTHERS, CAR), (CAR, OTHERS), (OTHERS, FREE), (FREE, OTHERS)))
    assert found.iou["car"] == pytest.approx(1 / 3, abs=1e-6)
    assert "others" not in found.iou
    assert found.geometric_iou == pytest.approx(1 / 3, abs=1e-6)


def test_selfocc_deletes_predictions_in_its_margin_but_not_the_truth():
    edges = [(5, 6, 0), (8, 6, 0), (6, 5, 0), (6, 8, 0), (6, 6, 12)]  # one voxel beyond what it keeps, on every side
    voxels = {voxel: (CAR, CAR, 1, 1) for voxel in [*edges, (6, 6, 0), (7, 7, 11)]}
    assert scores("selfocc", voxels).iou["car"] == pytest.approx(2 / 7, abs=1e-6)
    assert scores("occ3d", voxels).iou["car"] == 1
    false_alarm = {(0, 0, 0): (FREE, CAR, 1, 1), (6, 6, 0): (CAR, CAR, 1, 1)}
    assert scores("selfocc", false_alarm).iou["car"] == 1
    assert scores("occ3d", false_alarm).iou["car"] == pytest.approx(1 / 2, abs=1e-6)


def test_confusions_with_free_count():
    """Free is left out of the mean only: what is taken for free is missed, what is made of free is false."""
    assert scores("occ3d", seen((CAR, CAR), (FREE, CAR), (CAR, FREE))).iou["car"] == pytest.approx(1 / 3, abs=1e-6)


def test_one_matrix_over_the_split_not_a_mean_over_frames():
    confusion = OccupancyConfusion()
    confusion.add(*frame(seen((CAR, CAR))))
    confusion.add(*frame(seen((CAR, FREE), (CAR, FREE), (CAR, FREE))))
    assert confusion.scores("occ3d").miou == pytest.approx(1 / 4, abs=1e-6)  # the mean over frames would be 1 / 2
    assert confusion.scores("occ3d").frames == 2


def test_unknown_truth_never_counts():
    voxels = seen((CAR, CAR), (UNKNOWN, CAR), (UNKNOWN, UNKNOWN))
    assert scores("occ3d", voxels).iou["car"] == 1
    assert scores("occ3d_unmasked", voxels).voxels == 14**3 - 2


def test_nothing_counted_is_no_score():
    found = scores("occ3d", {})
    assert math.isnan(found.miou)
    assert math.isnan(found.geometric_iou)
    assert len(found.absent) == 17


def random_frame(rng: np.random.Generator):
    classes = rng.choice(18, size=rng.integers(2, 8), replace=False).astype(np.uint8)
    truth = rng.choice(classes, size=SHAPE)
    predicted = np.where(rng.random(SHAPE) < 0.5, truth, rng.integers(0, 18, SHAPE)).astype(np.uint8)
    return predicted, truth, rng.random(SHAPE) < 0.5, rng.random(SHAPE) < 0.5


@given(seed=st.integers(0, 10_000))
def test_equals_counting_class_by_class(seed):
    """The definitions once more, plainly: masks first, then one class after another."""
    rng = np.random.default_rng(seed)
    frames = [random_frame(rng) for _ in range(2)]
    confusion = OccupancyConfusion()
    for one in frames:
        confusion.add(*one)
    for name, rule in CONVENTIONS.items():
        kept_predicted, kept_truth = [], []
        for predicted, truth, camera, lidar in frames:
            mask = {
                **{"occ3d_unmasked": camera | True, "occworld": camera | True, "visible": camera | lidar},
                **{"lidar_and_camera_mask": camera & lidar, "occnerf": camera & lidar, "occluded": ~camera & ~lidar},
            }.get(name, camera)
            if name == "selfocc":
                predicted, truth = predicted.copy(), truth.copy()
                predicted[:6] = predicted[-6:] = FREE
                predicted[:, :6] = predicted[:, -6:] = FREE
                predicted[..., 12:] = FREE
                predicted[predicted == OTHERS] = FREE
                truth[truth == OTHERS] = FREE
            kept_predicted.append(predicted[mask])
            kept_truth.append(truth[mask])
        predicted, truth = np.concatenate(kept_predicted), np.concatenate(kept_truth)
        ious = []
        for c in rule.classes:
            both, either = ((predicted == c) & (truth == c)).sum(), ((predicted == c) | (truth == c)).sum()
            plain = both / either if either else np.nan
            ious.append(plain if (truth == c).any() or rule.absent_iou is None else rule.absent_iou)
        found = confusion.scores(name)
        np.testing.assert_allclose(list(found.iou.values()), ious, atol=1e-12)
        assert found.miou == pytest.approx(np.nanmean(ious), abs=1e-12)
        occupied = ((predicted != FREE) & (truth != FREE)).sum() / ((predicted != FREE) | (truth != FREE)).sum()
        assert found.geometric_iou == pytest.approx(occupied, abs=1e-12)


def test_parts_of_a_split_add_up_and_survive_json():
    rng = np.random.default_rng(1)
    frames = [random_frame(rng) for _ in range(3)]
    whole, first, rest = (OccupancyConfusion() for _ in range(3))
    for number, one in enumerate(frames):
        whole.add(*one)
        (first if number == 0 else rest).add(*one)
    reloaded = OccupancyConfusion(json.loads(json.dumps(rest.counts.tolist())), rest.frames)
    np.testing.assert_array_equal((first + reloaded).counts, whole.counts)
    assert (first + reloaded).scores("selfocc") == whole.scores("selfocc")
    assert first.frames == 1  # unchanged
    before = rest.counts.copy()
    OccupancyConfusion(rest.counts, rest.frames).add(*frames[0])
    np.testing.assert_array_equal(rest.counts, before)


def test_arrays_and_tensors_of_any_integers_agree():
    one = random_frame(np.random.default_rng(2))
    as_arrays, as_tensors = OccupancyConfusion(), OccupancyConfusion()
    as_arrays.add(*one)
    predicted, truth, camera, lidar = map(torch.from_numpy, one)
    as_tensors.add(predicted.long(), truth.int(), camera.to(torch.uint8), lidar.to(torch.uint8))
    np.testing.assert_array_equal(as_arrays.counts, as_tensors.counts)
    assert as_arrays.counts.sum() == 14**3


def test_what_does_not_fit_is_refused():
    predicted, truth, camera, lidar = frame({})
    confusion = OccupancyConfusion()
    with pytest.raises(ValueError, match="four volumes of one shape"):
        confusion.add(predicted[:-1], truth, camera, lidar)
    with pytest.raises(ValueError, match=r"prediction must hold classes 0\.\.17 or 255, got 18"):
        confusion.add(predicted + 1, truth, camera, lidar)
    with pytest.raises(ValueError, match="where the truth is known, got 255"):
        confusion.add(np.full_like(predicted, UNKNOWN), truth, camera, lidar)
    with pytest.raises(ValueError, match="as integers"):
        confusion.add(predicted * 1.0, truth, camera, lidar)
    with pytest.raises(ValueError, match="counts must be"):
        OccupancyConfusion(np.zeros((18, 18)))
    with pytest.raises(ConfigError, match=r"no convention 'occ4d'.*one of occ3d, occ3d_unmasked"):
        confusion.scores("occ4d")
    assert confusion.frames == confusion.counts.sum() == 0
