"""What the recordings of the tests show: a report and a prior map where a toy drive begins."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
from shapely.geometry import LineString, box

from avjepa.mapping.changes import ChangeReport
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.vector_map import ElementMap, MapElement
from tests.mapping.reports import END

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def report_on(index, changes):
    """Of the first scene of an index."""
    city, scene = str(index.scene_city[0]), str(index.scene_name[0])
    return ChangeReport("run-1", FRAMES[city], "prior.json", (scene,), END, tuple(changes))


def seen_at(index, *numbers):
    times = [EPOCH + timedelta(microseconds=int(index.timestamp_us[n])) for n in numbers]
    return {"first_seen": times[0], "last_seen": times[-1], "evidence": ()}


def prior_at(index):
    """A crosswalk and a yellow divider where the drive begins, a stop line far away, a road from here to there."""
    x, y = index.global_T_ego[0, :2, 3]
    elements = [
        MapElement("crosswalk-7", "ped_crossing", box(x + 5, y - 3, x + 8, y + 3)),
        MapElement("divider-1", "road_divider", LineString([(x, y), (x + 9, y), (x + 9, y + 2)]), colour="yellow"),
        MapElement("far", "stop_line", box(x + 500, y, x + 502, y + 1)),
        MapElement("road", "drivable_area", box(x - 500, y - 10, x + 500, y + 10)),
    ]
    return ElementMap.of(FRAMES[str(index.scene_city[0])], elements)


def black_and_white(number):
    """A BEV picture (Y, X, 3) of 6 x 4 cells, white in the cell furthest ahead and to the left."""
    picture = np.zeros((6, 4, 3))
    picture[-1, -1] = 1
    return number, {"occupancy": picture}
