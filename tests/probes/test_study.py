from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from avjepa.errors import CheckpointError
from avjepa.geometry.grid import BEVGrid
from avjepa.probes import study as study_module
from avjepa.probes import task as task_module
from avjepa.probes.bev_occupancy import BEVOccupancyProbe
from avjepa.probes.frozen import Source
from avjepa.probes.heads import HeadTraining
from avjepa.probes.study import Study, share_of_scenes
from avjepa.probes.supervised import SupervisedTraining
from avjepa.probes.task import Items
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from tests.jepa import tiny
from tests.toy_drive import SCENES, write_toy_drive


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_toy_drive(tmp_path_factory.mktemp("study") / "toy", scenes=2, keyframes=6)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "index"))


def study_in(folder, root, **changes) -> Study:
    def clips(scene: str) -> NuScenesClips:
        return NuScenesClips(root, (scene,), (-1, 0), (1, 2), (32, 64), max_bad_share=1.0, cameras=())

    models = [Source.of_model(f"random init {s}", tiny.jepa(s, cameras=False), "tiny") for s in (0, 1)]
    settings = Study(
        probe=BEVOccupancyProbe(tiny.BEV),
        train=clips(SCENES[0]),
        tests={"other": clips(SCENES[1]), "same": clips(SCENES[0])},
        sources={"raw input": [Source.of_raw_input(tiny.BEV)] * 2, "random init": models},
        heads={"linear": HeadTraining(steps=40, batch_size=2)},
        supervised=None,
        label_shares=(1.0,),
        folder=folder / "results",
        features=folder / "kept",
        progress=lambda items, what, total: items,
    )
    return replace(settings, **changes)


def test_the_whole_table(root, tmp_path):
    rows = list(study_in(tmp_path, root).rows())
    assert [(row.title, row.seed) for row in rows] == [
        ("last seen, copied", 0),
        ("all occupied", 0),
        ("raw input, linear head", 0),
        ("random init, linear head", 0),
        ("raw input, linear head", 1),
        ("random init, linear head", 1),
    ]
    for row in rows:
        assert set(row.metrics) == {"other", "same"}
        assert set(row.metrics["other"]) == set(BEVOccupancyProbe.columns)
    by_title = {(row.title, row.seed): row.metrics["other"] for row in rows}
    assert by_title["all occupied", 0]["auroc_known"] == 0.5
    assert by_title["raw input, linear head", 0]["auroc_known"] > 0.95  # it sees the posts themselves
    assert by_title["last seen, copied", 0]["iou_known"] > 0.5
    assert by_title["random init, linear head", 0] != by_title["random init, linear head", 1]


def test_rows_that_are_done_are_not_done_again(root, tmp_path, monkeypatch):
    first = list(study_in(tmp_path, root).rows())

    def never(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(study_module, "train_head", never)
    assert list(study_in(tmp_path, root).rows()) == first


def test_a_stopped_study_ends_like_one_that_was_not(root, tmp_path):
    started = study_in(tmp_path / "stopped", root).rows()
    for _ in range(3):
        next(started)
    started.close()
    damaged = next((tmp_path / "stopped" / "results" / "rows").glob("last_seen*.json"))
    damaged.write_text(damaged.read_text()[:40])
    assert list(study_in(tmp_path / "stopped", root).rows()) == list(study_in(tmp_path / "whole", root).rows())


def test_files_are_asked_for_once(root, tmp_path, monkeypatch):
    """Whatever a study is asked: what is kept, where a row is, its rows by share and seed."""
    study, asked = study_in(tmp_path, root, sources=no_jepa(), label_shares=(0.5, 1.0)), []
    fingerprint = task_module.clip_fingerprint
    monkeypatch.setattr(
        task_module, "clip_fingerprint", lambda dataset, clip: asked.append(clip) or fingerprint(dataset, clip)
    )
    assert set(study.kept().values()) == {None}
    first = len(asked)
    clips = len(study.train)
    assert first == 3 * clips + 2 * -(-clips // 2)  # both tests and training; half of training for each of two seeds
    rows = list(study.rows())
    assert list(study.kept().values()) == rows
    assert all(study.file_of(row).is_file() for row in rows if row.head)
    assert len(asked) == first


def test_another_question_is_not_answered_by_a_kept_row(root, tmp_path):
    list(study_in(tmp_path, root).rows())
    kept = set((tmp_path / "results" / "rows").glob("*.json"))
    taller = BEVGrid((-12.8, 12.8), (-12.8, 12.8), (-2.0, 3.0), 0.8, 5.0)
    changes = [
        {"heads": {"linear": HeadTraining(steps=41, batch_size=2)}},
        {"probe": BEVOccupancyProbe(taller)},
        {"tests": {"same": study_in(tmp_path, root).train}},
    ]
    for change in changes:
        list(study_in(tmp_path, root, **change).rows())
        now = set((tmp_path / "results" / "rows").glob("*.json"))
        trained = [path for path in now - kept if "linear" in path.name]
        assert len(trained) == 4, change
        kept = now


def test_another_label_is_another_question(root, tmp_path):
    @dataclass(frozen=True)
    class Labelled(BEVOccupancyProbe):
        label_files = ("labels/*.txt",)

    label = root / "labels" / "one.txt"
    label.parent.mkdir()

    def key() -> str:
        study = study_in(tmp_path, root, probe=Labelled(tiny.BEV))
        return study.items(study.train).fingerprint

    keys = [key()]
    for text in ("car", "truck"):
        label.write_text(text)
        keys.append(key())
    assert len({*keys}) == 3
    (root / "labels" / "notes.md").write_text("no label")
    assert key() == keys[-1]


def test_truths_are_kept_for_the_clips_asked_for_last(root, tmp_path, monkeypatch):
    study, read = study_in(tmp_path, root), []

    @dataclass(frozen=True)
    class Counting(BEVOccupancyProbe):
        def truth(self, dataset, clip):
            read.append(clip)
            return [clip]

    monkeypatch.setattr(task_module, "KEPT_CLIPS", 2)
    items = Items(Counting(tiny.BEV), study.train, [0, 1, 2])
    assert [items.truth(item) for item in (0, 1, 0, 2, 0, 1)] == [0, 1, 0, 2, 0, 1]
    assert read == [0, 1, 2, 1]  # 1 made room for 2


def test_fewer_labels_train_on_fewer_clips(root, tmp_path):
    rows = list(study_in(tmp_path, root, label_shares=(0.5, 1.0), sources=no_jepa()).rows())
    shares = [(row.label_share, row.seed) for row in rows if row.head]
    assert shares == [(0.5, 0), (0.5, 1), (1.0, 0), (1.0, 1)]


def no_jepa():
    return {"raw input": [Source.of_raw_input(tiny.BEV)] * 2}


@dataclass
class Index:
    scene: np.ndarray


@dataclass
class Dataset:
    """Five scenes of ten clips, one frame each."""

    index: Index
    clips: np.ndarray
    num_context: int = 1

    def __len__(self):
        return len(self.clips)


def test_shares_are_of_whole_scenes_and_nested():
    dataset = Dataset(Index(np.repeat(np.arange(5), 10)), np.arange(50)[:, None])
    for seed in range(4):
        shares = [set(share_of_scenes(dataset, share, seed)) for share in (0.02, 0.1, 0.2, 0.5, 1.0)]
        assert [len(share) for share in shares] == [1, 5, 10, 20, 50]
        assert all(small < large for small, large in pairwise(shares))
        for share in shares[2:]:
            assert {clip // 10 for clip in share} == {scene for scene in range(5) if scene * 10 in share}
    assert len({frozenset(share_of_scenes(dataset, 0.2, seed)) for seed in range(10)}) > 1


def test_supervised_from_scratch_learns_and_resumes(root, tmp_path, monkeypatch):
    training = SupervisedTraining("linear", steps=30, batch_size=2)
    changes = {"supervised": training, "tests": {"same": study_in(tmp_path, root).train}}
    rows = {(row.title, row.seed): row for row in study_in(tmp_path, root, **changes).rows()}
    made = rows["supervised from scratch, linear head", 0]
    assert made.metrics["same"]["auroc_known"] > rows["random init, linear head", 0].metrics["same"]["auroc_known"]
    study = study_in(tmp_path, root, **changes)
    weights = study.sources["random init"][0].jepa.state_dict()
    fresh = tiny.jepa(0, cameras=False).state_dict()
    assert all(torch.equal(weights[name], fresh[name]) for name in fresh)  # the random-init row stays what it is
    monkeypatch.setattr(study_module, "train_supervised", None)
    assert {(row.title, row.seed): row for row in study.rows()} == rows


def test_a_row_without_its_weights_is_made_again(root, tmp_path):
    changes = {"supervised": SupervisedTraining("linear", steps=2), "tests": {"same": study_in(tmp_path, root).train}}
    study = study_in(tmp_path, root, **changes)
    rows = list(study.rows())
    supervised = next(row for row in rows if row.name == "supervised from scratch")
    random = next(row for row in rows if row.name == "random init")
    lost = [
        study.folder / file for file in (*study_module.weight_files(random), study_module.weight_files(supervised)[1])
    ]
    for file in lost:
        file.unlink()
    again = study_in(tmp_path, root, **changes)
    assert not again.has_weights(supervised)
    assert list(again.rows()) == rows
    assert all(file.is_file() for file in lost)
    lost[0].write_bytes(b"PK\x03\x04 half a")
    with pytest.raises(CheckpointError, match=rf"{lost[0].name}: damaged"):
        again.logits(random, again.train, 0)


def test_kept_heads_answer_as_they_were_measured(root, tmp_path):
    study = study_in(tmp_path, root, supervised=SupervisedTraining("linear", steps=2), label_shares=(0.5, 1.0))
    probe, dataset = study.probe, study.tests["other"]
    items = study.items(dataset)
    for row in study.rows():
        if row.head:
            answers = [probe.answer(study.logits(row, dataset, clip)[0], None) for clip in range(len(dataset))]
            pairs = zip(answers, items.truths(), strict=True)
            assert probe.evaluate(pairs, row.threshold) == row.metrics["other"], row.title
