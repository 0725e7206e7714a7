"""Review pages of hand-made reports, with pictures and a drive."""

import cv2
import numpy as np
from shapely.geometry import box

from avjepa.mapping.frames import FRAMES
from avjepa.mapping.vector_map import ElementMap, MapElement
from avjepa.reports.review import Picture, write_review
from tests.mapping.reports import HOSTILE

GREY = cv2.imencode(".png", np.full((30, 40, 3), 128, np.uint8))[1].tobytes()


def prior_map(frame=FRAMES["minicity-a"]):
    """A square of road, and a crosswalk whose name is hostile."""
    road = MapElement("road", "drivable_area", box(-50, -50, 100, 100))
    return ElementMap.of(frame, [road, MapElement(HOSTILE, "ped_crossing", box(10, 20, 14, 24))])


def write_page(path, report):
    """The page of a report at ``path``; its first change has two pictures."""
    pictures = {"c0": [Picture(GREY, "CAM_FRONT " + HOSTILE), Picture(GREY, "BEV")]}
    driven = {"scene-0001": np.array([[0.0, 0.0], [30.0, 30.0]])}
    write_review(path, report, prior_map(), pictures, driven)
    return path
