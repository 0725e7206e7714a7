"""Pictures of a change: the place in the camera's image and from above, with the change drawn where it is."""

import cv2
import numpy as np
import pytest
from shapely.geometry import LineString, box

from avjepa.conventions import CAMERAS
from avjepa.mapping.changes import Evidence
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.sightings import best_camera, sightings_of, utc
from avjepa.mapping.survey import read_survey
from avjepa.reports.change_pictures import AROUND_M, WIDTH_PX, camera_view, change_pictures, ground_from_above
from tests.mapping.painted_ground import IMAGE_SIZE, START_US, PaintedGround, index_of, straight_frames
from tests.mapping.reports import change, make_report

FRAMES = straight_frames(2, 18)  # along y = 0
INDEX = index_of(FRAMES)
AHEAD = box(12, -2, 15, 2)
GREY = 90


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    photo = np.full((*IMAGE_SIZE[::-1], 3), GREY, np.uint8)
    for name in INDEX.camera_file.ravel():
        cv2.imwrite(str(folder / name), photo)
    return folder


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    ground = PaintedGround((-10, -12, 30, 12))
    ground.zebra(AHEAD)
    ground.stand(box(20, 5, 22, 7))
    return ground.write(tmp_path_factory.mktemp("survey") / "a", FRAMES)


def seen_by(camera, frame=0):
    return Evidence(FRAMES[frame].token, "scene-0061", utc(START_US), camera, 10.0)


def moved(old=AHEAD, new=None, *evidence):
    new = box(16, -2, 19, 2) if new is None else new
    return change(layer="stop_line", atomic_change="geometry", old_geometry=old, new_geometry=new, evidence=evidence)


def pixels(picture):
    image = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR)
    return image[..., ::-1].astype(int)


def orange(image):
    return image[..., 0] - image[..., 1:].max(-1) > 40


def blue(image):
    return image[..., 2] - image[..., :2].max(-1) > 40


def green(image):
    return image[..., 1] - image[..., ::2].max(-1) > 40


def test_the_camera_that_looks_at_it_is_chosen():
    assert best_camera(box(14, -1, 16, 1), INDEX, 0) == "CAM_FRONT"
    assert best_camera(box(-12, -1, -10, 1), INDEX, 0) == "CAM_BACK"
    assert best_camera(box(6, 8, 7, 12), INDEX, 0) == "CAM_FRONT_LEFT"
    assert best_camera(box(2.5, -0.2, 2.7, 0.2), INDEX, 0) == ""  # under the car


def test_who_saw_a_place(survey):
    """The car at x = 2, 6, 10, 14 comes within 18 m of x = 21 three times, the last time nearest."""
    drive = read_survey(survey)
    seen = sightings_of(box(21, -1, 23, 1), [drive], INDEX)
    assert (seen.drives, seen.frames) == (("scene-0061",), 3)
    assert (seen.first, seen.last) == (utc(START_US + 500_000), utc(START_US + 1_500_000))
    assert [one.distance_m for one in seen.evidence] == [11.0, 7.0, 15.0]  # those nearest to 9 m first
    assert {one.camera for one in seen.evidence} == {"CAM_FRONT"}
    unseen = sightings_of(box(100, 0, 101, 1), [drive], INDEX)
    assert (unseen.drives, unseen.frames, unseen.first, unseen.evidence) == ((), 0, None, ())


def test_both_shapes_are_drawn_into_the_image(root):
    one = seen_by("CAM_FRONT")
    picture = camera_view(moved(AHEAD, None, one), one, root, INDEX, 0)
    image = pixels(picture)
    assert image.shape[1] == WIDTH_PX
    old, new = orange(image), blue(image)
    assert old.sum() > 100
    assert new.sum() > 100
    assert np.nonzero(new)[0].mean() < np.nonzero(old)[0].mean()  # further away is higher up
    plain = ~(old | new)
    assert np.median(np.abs(image[plain] - GREY)) < 5
    assert picture.caption == "CAM_FRONT, scene-0061, 10 m away"


def test_a_camera_that_looks_away_shows_the_whole_image(root):
    one = seen_by("CAM_BACK")
    image = pixels(camera_view(moved(AHEAD, None, one), one, root, INDEX, 0))
    assert not (orange(image) | blue(image)).any()
    assert image.shape[1] / image.shape[0] == pytest.approx(16 / 9, abs=0.02)


def test_the_ground_from_above(survey):
    """North is up: the new shape, east of the old one, is to its right; what stands, north of both, is above them and green."""
    image = pixels(ground_from_above(moved(), Mosaic([survey])))
    old, new = (np.array(np.nonzero(mask)).mean(1) for mask in (orange(image), blue(image)))
    assert new[1] > old[1]
    side_m = 15 - 12 + 4 + 2 * AROUND_M  # from 12 - 8 to 19 + 8 m
    scale = image.shape[1] / side_m
    assert abs(new[1] - (17.5 - 4) * scale) < 1.5 * scale
    thing = image[round((2 + AROUND_M - 6) * scale), round((21 - 4) * scale)]
    assert thing[1] > 150
    assert thing[::2].max() < 100
    assert np.nonzero(green(image))[0].max() < (2 + AROUND_M - 4) * scale  # nothing else is
    stripe, gap = (image[round((2 + AROUND_M - y_m) * scale), round((13.5 - 4) * scale)].mean() for y_m in (0.25, 0.75))
    assert stripe > gap + 40  # stripes of half a metre from y = -2 upwards


@pytest.mark.parametrize("shape", [LineString([(0, 0), (8, 1)]), box(0, 0, 3, 3).difference(box(1, 1, 2, 2))])
def test_shapes_of_every_kind_from_above(survey, shape):
    layer = "lane_divider" if shape.geom_type == "LineString" else "ped_crossing"
    gone = change(layer=layer, old_geometry=shape)
    image = pixels(ground_from_above(gone, Mosaic([survey])))
    assert orange(image).sum() > 50
    assert not blue(image).any()


def test_pictures_of_a_report(survey, root, tmp_path):
    """Two camera views and the ground for each change; a damaged image is passed over; what was not seen has none."""
    evidence = (seen_by("CAM_FRONT", 0), seen_by("CAM_FRONT", 1), seen_by("", 2), seen_by("CAM_FRONT", 2))
    unseen = change("c2", status="unobservable", confidence=0.0, old_geometry=AHEAD, evidence=evidence)
    report = make_report((moved(AHEAD, None, *evidence), unseen))
    ((name, pictures),) = change_pictures(report, root, INDEX, [survey])
    assert name == "c0"
    assert [picture.caption.split(",")[0] for picture in pictures] == [
        "CAM_FRONT",
        "CAM_FRONT",
        "the ground from above",
    ]
    number = CAMERAS.index("CAM_FRONT")
    for n in (0, 1, 2):
        content = (root / INDEX.camera_file[n, number]).read_bytes()
        (tmp_path / INDEX.camera_file[n, number]).write_bytes(content if n == 2 else content[:50])
    ((_, fewer),) = change_pictures(report, tmp_path, INDEX, [survey])
    assert len(fewer) == 2
