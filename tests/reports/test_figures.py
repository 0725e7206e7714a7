import cv2
import numpy as np
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.probes.occupancy_study import evaluate_score, extract
from avjepa.reports.figures import STATE_COLOURS, PCAColours, save_prediction_picture, state_colours
from avjepa.reports.probe_figures import save_occupancy_picture
from tests.jepa import tiny


def test_pca_colours_follow_the_components_and_their_sign():
    generator = torch.Generator().manual_seed(0)
    sample = (
        torch.randn(400, 1, generator=generator) * torch.tensor([[3.0, 0.0, 0.0, 0.0]])
        + torch.randn(400, 4, generator=generator) * 0.1
    )
    colours = PCAColours(sample)
    high, low = (
        colours(torch.tensor([6.0, 0, 0, 0]).view(4, 1, 1)),
        colours(torch.tensor([-6.0, 0, 0, 0]).view(4, 1, 1)),
    )
    assert high[0, 0, 0] > 0.8
    assert low[0, 0, 0] < 0.2
    np.testing.assert_allclose(PCAColours(sample.flip(0))(torch.ones(4, 2, 2)), colours(torch.ones(4, 2, 2)), atol=1e-4)
    assert PCAColours(torch.zeros(0, 4))(torch.ones(4, 2, 2)).shape == (2, 2, 3)


def test_state_colours_and_tint():
    states = torch.tensor([[UNOBSERVED, FREE, OCCUPIED]])
    np.testing.assert_allclose(state_colours(states)[0], [STATE_COLOURS[s] for s in (UNOBSERVED, FREE, OCCUPIED)])
    tinted = state_colours(states, torch.tensor([[False, False, True]]))
    assert tinted[0, 2, 2] > STATE_COLOURS[OCCUPIED][2]
    np.testing.assert_allclose(tinted[0, :2], state_colours(states)[0, :2])


def test_pictures_are_written_whole(tmp_path):
    model, clips = tiny.jepa(), tiny.batch()
    save_prediction_picture(tmp_path / "p" / "a.png", model(clips)[1], [0.0, 0.5, 1.0], tiny.BEV)
    data = extract([clips], {}, tiny.BEV)
    save_occupancy_picture(
        tmp_path / "b.png", tiny.clip(0), [evaluate_score(data, "last seen")], data.targets, tiny.BEV
    )
    for path in (tmp_path / "p" / "a.png", tmp_path / "b.png"):
        image = cv2.imread(str(path))
        assert min(image.shape[:2]) > 300
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100
        assert [p.name for p in path.parent.glob("*.png")] == [path.name]
