import numpy as np
import pytest
import torch

from avjepa.errors import BadFileError
from avjepa.geometry.occ3d import CLASS_NAMES, FREE, UNKNOWN, xyz_from_zyx
from avjepa.probes.occ3d_files import Occ3DLabels
from avjepa.probes.occupancy import CLASSES, OccupancyProbe, OccupancyTruth, returned_voxels, stands
from avjepa.probes.task import Items
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from tests.jepa import tiny
from tests.toy_drive import SCENES, write_toy_drive

CAR, ROAD = CLASS_NAMES.index("car"), CLASS_NAMES.index("driveable_surface")
SHAPE = OccupancyProbe.grid.shape_zyx


def truth_of(classes: torch.Tensor, camera=None, returns=None) -> OccupancyTruth:
    everything = torch.ones(SHAPE, dtype=torch.bool)
    camera = everything if camera is None else camera
    labels = Occ3DLabels(
        np.ascontiguousarray(xyz_from_zyx(classes).numpy()),
        np.ascontiguousarray(xyz_from_zyx(everything).numpy()),
        np.ascontiguousarray(xyz_from_zyx(camera).numpy()),
    )
    return OccupancyTruth(labels, classes, everything if returns is None else returns, np.array([[0.0, 0, 1.8]]))


def road_and_cars(cars: int = 1) -> torch.Tensor:
    classes = torch.full(SHAPE, FREE, dtype=torch.uint8)
    classes[2] = ROAD
    for number in range(cars):
        classes[3:6, 100 + 10 * number : 104 + 10 * number, 110:120] = CAR
    return classes


def test_a_perfect_answer_has_every_score_of_one():
    truth = truth_of(road_and_cars())
    metrics = OccupancyProbe().evaluate([(truth.classes, truth)], 0.5)
    for name in ("miou_occ3d", "miou_occ3d_unmasked", "miou_sparseocc", "iou_visible", "rayiou", "iou_of_car"):
        assert metrics[name] == 1, name
    assert np.isnan(metrics["iou_of_bus"])
    assert set(OccupancyProbe.columns) <= set(metrics)


def test_a_missing_car_by_hand():
    truth = truth_of(road_and_cars())
    metrics = OccupancyProbe(with_rays=False).evaluate([(road_and_cars(0), truth)], 0.5)
    assert metrics["miou_occ3d"] == pytest.approx(1 / 2)  # the road is right
    assert metrics["iou_occ3d"] == pytest.approx(200 * 200 / (200 * 200 + 3 * 4 * 10))
    assert np.isnan(metrics["rayiou"])


def test_scores_within_25_m_look_no_further():
    """One car is missed at 4.4 m, one invented at 30 m; half of what is near is seen by the cameras, nothing by the LiDAR."""
    camera = torch.zeros(SHAPE, dtype=torch.bool)
    camera[:, :, 100:] = True
    truth = truth_of(road_and_cars(), camera)
    truth.labels.mask_lidar[:] = False
    answer = road_and_cars(0)
    answer[3:6, 175:180, 100:110] = CAR
    metrics = OccupancyProbe(with_rays=False).evaluate([(answer, truth)], 0.5)
    cells = 124  # centres at -24.6 to 24.6 m
    assert metrics["miou_near"] == pytest.approx(1 / 2)
    assert metrics["iou_near_visible"] == pytest.approx(cells * 62 / (cells * 62 + 3 * 4 * 10))
    assert metrics["iou_near_occluded"] == 1
    assert metrics["iou_occ3d"] == pytest.approx(200 * 100 / (200 * 100 + 3 * 4 * 10 + 3 * 5 * 10))


def test_the_loss_counts_what_it_is_told_to():
    classes = road_and_cars()
    classes[:, :50] = UNKNOWN
    camera = torch.zeros(SHAPE, dtype=torch.bool)
    camera[:, :, :150] = True
    truth, window = truth_of(classes, camera), (slice(40, 120), slice(100, 200))
    logits = torch.zeros(1, CLASSES * SHAPE[0], 80, 100, requires_grad=True)
    for mask, wanted in (
        ("camera", (classes != UNKNOWN) & camera),
        ("none", classes != UNKNOWN),
    ):
        loss = OccupancyProbe(train_mask=mask).loss(logits, [truth], window)
        assert loss.item() == pytest.approx(np.log(CLASSES), rel=1e-5)
        (gradient,) = torch.autograd.grad(loss, logits)
        touched = gradient.unflatten(1, (CLASSES, -1)).abs().sum(1)[0] > 0
        assert torch.equal(touched, wanted[:, window[0], window[1]])
    nothing = truth_of(torch.full(SHAPE, UNKNOWN, dtype=torch.uint8))
    assert OccupancyProbe().loss(logits, [nothing], window).item() == 0


def test_logits_are_read_back_as_the_loss_wrote_them():
    """Gradient steps on the loss make `answer` give the truth."""
    probe, truth, window = OccupancyProbe(), truth_of(road_and_cars()), (slice(95, 110), slice(105, 125))
    logits = torch.zeros(1, CLASSES * SHAPE[0], 15, 20, requires_grad=True)
    loss = probe.loss(logits, [truth], window)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(probe.answer(-gradient[0], truth), truth.classes[:, window[0], window[1]])


@pytest.fixture
def items(monkeypatch):
    """Three training truths with the road in layer 2, twice with a car; one test truth with one return on it."""
    probe = OccupancyProbe()
    made = [truth_of(road_and_cars(cars)) for cars in (1, 1, 0)]
    train = Items(probe, None, [0, 1, 2])
    returns = torch.zeros(SHAPE, dtype=torch.bool)
    returns[4, 7, 9] = returns[2, 3, 4] = True
    test = Items(probe, None, [0])
    train._truths.update({i: [truth] for i, truth in enumerate(made)})
    test._truths[0] = [truth_of(road_and_cars(), returns=returns)]
    return probe, train, test


def test_answers_without_training(items, monkeypatch):
    probe, train, test = items
    monkeypatch.setattr(OccupancyProbe, "items_per_clip", lambda self, dataset: 1)
    rows = {name: list(answers()) for name, answers in probe.untrained(train, test)}
    free, commonest, returns = (rows[name][0] for name in rows)
    assert (free == FREE).all()
    assert torch.equal(commonest, road_and_cars(1))  # two of three
    assert returns[2, 3, 4] == ROAD
    assert returns[4, 7, 9] == CAR  # the commonest thing at that height, although most voxels there are free
    assert (returns != FREE).sum() == 2


def test_where_no_training_truth_knows_anything_the_commonest_class_is_free(items, monkeypatch):
    probe, train, test = items
    monkeypatch.setattr(OccupancyProbe, "items_per_clip", lambda self, dataset: 1)
    for clip in range(3):
        train.truth(clip).classes[5, 150:] = UNKNOWN
    train.truth(0).classes[5, :10] = UNKNOWN  # two others know it
    train.truth(1).classes[5, :10] = train.truth(2).classes[5, :10] = CAR
    (commonest,) = dict(probe.untrained(train, test))["commonest class of each voxel"]()
    assert (commonest[5, 150:] == FREE).all()
    assert (commonest[5, :10] == CAR).all()


def test_what_stands_is_neither_ground_nor_free():
    classes = road_and_cars()
    classes[:, 0, 0] = UNKNOWN
    assert stands(classes).sum() == 4 * 10


def test_returns_are_moved_into_the_present():
    clip = tiny.clip(0)
    voxels = returned_voxels(clip, OccupancyProbe.grid)
    index, inside = OccupancyProbe.grid.cell_index(clip.now.points_ego[:, :3])
    assert voxels[index[inside].unbind(-1)].all()
    assert voxels.sum() > len(torch.unique(index[inside], dim=0))


def test_truth_without_files_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "index"))
    root = write_toy_drive(tmp_path / "toy", scenes=1, keyframes=3)
    dataset = NuScenesClips(root, (SCENES[0],), (0,), (), (32, 64), max_bad_share=1.0, cameras=())
    with pytest.raises(BadFileError, match=r"labels\.npz"):
        OccupancyProbe().truth(dataset, 0)
    (truth,) = OccupancyProbe(labels="lidar_and_boxes").truth(dataset, 0)
    assert (truth.classes == FREE).sum() > 1000
    assert len(truth.ray_origins) == 3  # every keyframe of the scene


def test_rays_start_where_the_clip_that_was_read_stands(tmp_path, monkeypatch):
    """A corrupt file: the next clip stands in, with its own labels and its own rays."""
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "index"))
    root = write_toy_drive(tmp_path / "toy", scenes=1, keyframes=3)
    dataset = NuScenesClips(root, (SCENES[0],), (0,), (), (32, 64), max_bad_share=1.0, cameras=())
    probe = OccupancyProbe(labels="lidar_and_boxes")
    (root / str(dataset.index.lidar_file[0])).write_bytes(b"rubbish")
    (stand_in,), (own,) = probe.truth(dataset, 0), probe.truth(dataset, 1)
    assert np.array_equal(stand_in.ray_origins, own.ray_origins)
    assert torch.equal(stand_in.classes, own.classes)
