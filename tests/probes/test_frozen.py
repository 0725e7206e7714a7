import os
from dataclasses import replace

import pytest
import torch

from avjepa.geometry.rigid import transform_from_se2
from avjepa.jepa.target_encoder import normalised
from avjepa.probes.frozen import FutureView, PresentView, Source, embed_clips, feature_key
from avjepa.sensors.collate import collate_clips
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from tests.jepa import tiny
from tests.toy_drive import write_toy_drive

FUTURE = (1, 2)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVJEPA_CACHE", str(tmp_path / "index"))


@pytest.fixture
def root(tmp_path):
    return write_toy_drive(tmp_path / "toy", scenes=1, keyframes=6)


def clips_of(root, **settings) -> NuScenesClips:
    settings = {"image_size": (32, 64), "max_bad_share": 1.0, **settings}
    return NuScenesClips(root, ("scene-0061",), (-1, 0), FUTURE, **settings)


def source(seed: int = 0, architecture: str = "tiny") -> Source:
    return Source.of_model(f"model {seed}", tiny.jepa(seed, cameras=False), architecture)


class Counting:
    """A view that counts how often it is asked."""

    def __init__(self):
        self.calls = 0

    def __repr__(self):
        return "Counting()"

    def embed(self, jepa, clips):
        self.calls += 1
        return PresentView().embed(jepa, clips)

    def raw(self, clips, grid):
        self.calls += 1
        return PresentView().raw(clips, grid)


def test_views_by_hand():
    model, clips = tiny.jepa(cameras=False).eval(), tiny.batch(0, 1)
    state, z = model.encode_context(clips)
    present = PresentView().embed(model, clips)
    assert torch.equal(present, torch.cat([normalised(state), normalised(z)], 1))
    future = FutureView().embed(model, clips)
    predicted, overlap = model.predict(state, clips)
    assert future.shape == (4, tiny.CHANNELS + 1, 32, 32)  # clip after clip, horizon after horizon
    torch.testing.assert_close(future[3, :-1], normalised(predicted[1:, 2])[0])
    assert torch.equal(future[2, -1] > 0, overlap[1, 1])


def test_embeddings_are_computed_once_and_equal_those_not_kept(root, tmp_path):
    dataset, view, model = clips_of(root), Counting(), source()
    first = embed_clips(model, view, dataset, range(3), 1, tmp_path / "kept")
    assert view.calls == 3
    again = embed_clips(model, view, dataset, range(3), 1, tmp_path / "kept")
    assert view.calls == 3
    elsewhere = embed_clips(model, view, dataset, range(3), 1, tmp_path / "other")
    assert view.calls == 6
    assert torch.equal(first[[0, 2]], again[[0, 2]])
    assert torch.equal(first[[0, 1, 2]], elsewhere[[0, 1, 2]])
    assert not torch.equal(first[[0]], first[[1]])


def test_a_file_cut_off_by_a_kill_is_never_there(root, tmp_path, monkeypatch):
    def fail(file, array):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("avjepa.probes.frozen.np.save", fail)
    with pytest.raises(KeyboardInterrupt):
        embed_clips(source(), PresentView(), clips_of(root), [0], 1, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_several_items_a_clip(root, tmp_path):
    features = embed_clips(source(), FutureView(), clips_of(root), range(2), 2, tmp_path)
    assert len(features) == 4
    one_by_one = torch.cat([features[[item]] for item in (3, 0)])
    assert torch.equal(features[[3, 0]], one_by_one)
    with pytest.raises(ValueError, match="gave 2 maps of a clip; want 3"):
        embed_clips(source(1), FutureView(), clips_of(root), [0], 3, tmp_path)


def test_whatever_decides_an_embedding_changes_its_name(root):
    dataset, view = clips_of(root), PresentView()
    names = [
        feature_key(source(), view, dataset, 0),
        feature_key(source(1), view, dataset, 0),
        feature_key(source(architecture="other"), view, dataset, 0),
        feature_key(Source.of_raw_input(tiny.BEV), view, dataset, 0),
        feature_key(source(), FutureView(), dataset, 0),
        feature_key(source(), view, dataset, 1),
        feature_key(source(), view, clips_of(root, image_size=(48, 64)), 0),
        feature_key(source(), view, clips_of(root, cameras=()), 0),
        feature_key(source(), view, clips_of(root, num_sweeps=3), 0),
    ]
    assert len(set(names)) == len(names)
    assert feature_key(source(), view, clips_of(root), 0) == names[0]


@pytest.mark.parametrize("sensor", ["lidar_file", "camera_file"])
def test_a_changed_sensor_file_is_read_again(root, sensor):
    dataset, view, model = clips_of(root), PresentView(), source()
    before = [feature_key(model, view, dataset, clip) for clip in (0, 1, 2)]
    name = getattr(dataset.index, sensor)[0]
    path = root / str(name if isinstance(name, str) else name[0])
    os.utime(path, (1, 1))
    after = [feature_key(model, view, dataset, clip) for clip in (0, 1, 2)]
    assert after[0] != before[0]  # only the first clip reads the first keyframe
    assert after[1:] == before[1:]


def test_the_view_by_constant_velocity_never_reads_future_poses():
    clip = tiny.clip(0)  # the same step each time: constant velocity is right
    elsewhere = [replace(f, global_T_ego=f.global_T_ego @ transform_from_se2(0, 5, 1)) for f in clip.frames[2:]]
    other = replace(clip, frames=(*clip.frames[:2], *elsewhere))
    jepa = tiny.jepa(0).eval()
    with torch.inference_mode():
        true, expected, blind = (
            FutureView(poses).embed(jepa, collate_clips([c]))
            for poses, c in (("true", clip), ("constant velocity", clip), ("constant velocity", other))
        )
        misled = FutureView("true").embed(jepa, collate_clips([other]))
        raw = [FutureView(poses).raw(collate_clips([other]), tiny.BEV) for poses in ("true", "constant velocity")]
    assert torch.equal(blind, expected)
    torch.testing.assert_close(expected, true, atol=1e-3, rtol=1e-3)
    assert (misled - true).abs().max() > 0.1
    torch.testing.assert_close(raw[1], FutureView("true").raw(collate_clips([clip]), tiny.BEV), atol=1e-3, rtol=1e-3)
    assert not torch.equal(raw[0], raw[1])
    assert repr(FutureView("true")) != repr(FutureView("constant velocity"))


def test_each_clip_of_a_batch_is_moved_by_its_own_velocity():
    clips = [tiny.clip(0), tiny.clip(1, step=(1.6, -0.5, 0.1))]
    view = FutureView("constant velocity")
    together = view._moved(collate_clips(clips)).now_T_frame
    for number, clip in enumerate(clips):
        alone = collate_clips([clip])
        assert torch.equal(together[number], view._moved(alone).now_T_frame[0])
        torch.testing.assert_close(together[number], alone.now_T_frame[0], atol=1e-4, rtol=1e-4)
