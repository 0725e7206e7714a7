"""Hand-made change reports: each kind of change once, names that try to break out of every file format."""

from datetime import datetime, timezone

from shapely.geometry import LineString, MultiPolygon, Polygon

from avjepa.mapping.changes import ChangeReport, Evidence, MapChange, Review
from avjepa.mapping.frames import FRAMES

HOSTILE = "</script><script>document.title='owned'</script><!-- \u2028 \" ' & <img src=x onerror=alert(1)>"
START = datetime(2026, 5, 4, 12, 0, 0, 250000, tzinfo=timezone.utc)
END = datetime(2026, 5, 4, 12, 0, 9, tzinfo=timezone.utc)
SQUARE = Polygon([(10, 20), (10, 24), (14, 24), (14, 20)])  # clockwise, as no GeoJSON file may have it
HOLED = Polygon([(30, 20), (40, 20), (40, 30), (30, 30)], [[(32, 22), (34, 22), (34, 24), (32, 24)]])


def change(name="c0", **fields):
    """A confirmed crosswalk that is gone; fields replace its own."""
    seen = Evidence("frame-1", "scene-0001", START, "CAM_FRONT", 12.5, 2.25, -0.5)
    base = {
        "change_id": name,
        "element_id": "crosswalk-7",
        "layer": "ped_crossing",
        "atomic_change": "deletion",
        "status": "confirmed",
        "confidence": 0.93,
        "n_traversals": 2,
        "n_frames": 17,
        "first_seen": START,
        "last_seen": END,
        "observed_fraction": 0.875,
        "old_geometry": SQUARE,
        "new_geometry": None,
        "description": "a crosswalk is gone",
        "evidence": (seen, Evidence("frame-2", "scene-0002", END)),
    }
    return MapChange(**base | fields)


def every_kind():
    """One change of every kind and status."""
    line, moved = LineString([(0, 0), (20, 1)]), LineString([(0, 0.5), (20, 1.5)])
    return (
        change(),
        change(
            "c1",
            element_id=None,
            atomic_change="insertion",
            old_geometry=None,
            new_geometry=HOLED,
            position_sigma_m=0.2,
            confirmed_seen=START,
        ),
        change(
            "c2",
            layer="lane_divider",
            atomic_change="geometry",
            status="candidate",
            old_geometry=line,
            new_geometry=moved,
        ),
        change(
            *("c3",),
            layer="road_divider",
            atomic_change="markings",
            confidence=0.61,
            old_geometry=line,
            new_geometry=line,
            old_marking="solid white",
            new_marking="solid yellow",
            review=Review("accepted", "=1+1 seen on site", END),
        ),
        change(
            "c4", layer="stop_line", atomic_change="type", status="degraded", old_geometry=HOLED, new_geometry=HOLED
        ),
        change("c5", layer="lane_connector", atomic_change="connectivity", old_geometry=MultiPolygon([SQUARE, HOLED])),
        change(
            HOSTILE,
            element_id="@" + HOSTILE,
            status="unobservable",
            confidence=0.2,
            n_traversals=0,
            n_frames=0,
            first_seen=None,
            last_seen=None,
            observed_fraction=0.0,
            description=HOSTILE,
            evidence=(),
            review=Review("undecided", HOSTILE, END),
        ),
    )


def make_report(changes=None, run_id="run-1"):
    """A report on the map of the mini city's first town."""
    found = every_kind() if changes is None else tuple(changes)
    return ChangeReport(run_id, FRAMES["minicity-a"], "prior.json", ("scene-0001", "scene-0002"), END, found)
