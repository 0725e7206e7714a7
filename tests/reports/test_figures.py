from dataclasses import replace

import cv2
import numpy as np
import torch

from avjepa.conventions import FREE, OCCUPIED, UNOBSERVED
from avjepa.probes.baselines import last_seen
from avjepa.probes.bev_occupancy import BEVOccupancyProbe, BEVOccupancyTruth, OccupancyTargets, occupancy_targets
from avjepa.probes.colours import INVENTED, MISSED, RIGHT, STATE_COLOURS
from avjepa.reports.figures import PCAColours, save_prediction_picture, state_colours
from avjepa.reports.probe_figures import save_probe_picture
from avjepa.sensors.collate import collate_clips
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
    assert is_a_picture(tmp_path / "p" / "a.png")


def test_probe_pictures_are_written_whole(tmp_path):
    probe, truth = BEVOccupancyProbe(tiny.BEV), bev_truth()
    logits = torch.linspace(-4, 4, 32 * 32).view(1, 32, 32)
    answers = {
        "last seen, copied": probe.panels(truth.last_seen, truth, 0.5, None),
        "JEPA, linear head": probe.panels(logits[0].sigmoid(), truth, 0.5, logits),
    }
    frame = tiny.clip(0).now
    save_probe_picture(tmp_path / "p" / "near.png", frame, probe.truth_panels(truth), answers, tiny.BEV)
    assert is_a_picture(tmp_path / "p" / "near.png")
    of_cameras = ("images", "pix_T_cam", "ego_T_cam", "camera_present")
    without_cameras = replace(frame, **{name: getattr(frame, name)[:0] for name in of_cameras})
    save_probe_picture(tmp_path / "q" / "far.png", without_cameras, probe.truth_panels(truth), {}, tiny.BEV)
    assert is_a_picture(tmp_path / "q" / "far.png")


def test_panels_of_a_bev_answer_by_hand():
    """Found, missed, invented and rightly free cells, all hidden; the last cell is not known."""
    bools = [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    truth = BEVOccupancyTruth(OccupancyTargets(*(torch.tensor([row]).bool() for row in bools)), torch.zeros(1, 5))
    probe = BEVOccupancyProbe(tiny.BEV)
    answer = torch.tensor([[0.9, 0.2, 0.8, 0.1, 0.9]])
    panels = probe.panels(answer, truth, 0.5, answer.logit()[None])
    np.testing.assert_allclose(panels.answer[0, :, 0], answer[0])
    np.testing.assert_allclose(panels.error[0, :3], [RIGHT, MISSED, INVENTED])
    assert len(np.unique(panels.error[0, 3:], axis=0)) == 2
    in_bits = [-(p * np.log2(p) + (1 - p) * np.log2(1 - p)) for p in (0.9, 0.2, 0.8, 0.1, 0.9)]
    np.testing.assert_allclose(panels.uncertainty[0, :, 0], in_bits, rtol=1e-5)
    states = probe.truth_panels(truth).answer[0]
    np.testing.assert_allclose(states, [STATE_COLOURS[s] for s in (OCCUPIED, OCCUPIED, FREE, FREE, UNOBSERVED)])
    assert probe.panels(answer, truth, 0.5, None).uncertainty is None


def bev_truth() -> BEVOccupancyTruth:
    """Of the tiny world's first clip."""
    clips = collate_clips([tiny.clip(0)])
    targets = occupancy_targets(clips, tiny.BEV)
    single = OccupancyTargets(targets.occupied[0], targets.known[0], targets.hidden[0], targets.never_seen[0])
    return BEVOccupancyTruth(single, last_seen(clips, tiny.BEV)[0])


def is_a_picture(path) -> bool:
    """Large and full of colours, and nothing else was left beside it."""
    image = cv2.imread(str(path))
    colours = np.unique(image.reshape(-1, 3), axis=0)
    return min(image.shape[:2]) > 300 and len(colours) > 100 and [p.name for p in path.parent.iterdir()] == [path.name]
