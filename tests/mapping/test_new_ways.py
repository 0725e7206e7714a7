"""Ways through a hand-made crossing that the prior lacks, driven by hand-made drives."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, Polygon

from avjepa.geometry.bands import line_poses
from avjepa.mapping.candidates import new_way_candidate
from avjepa.mapping.detect import CONFIRMED, detect_changes
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.learned_evidence import difference_of
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.new_ways import OFF_M, NewWay, Pass, new_ways
from avjepa.mapping.outputs.geojson import read_changes_geojson, write_changes_geojson
from avjepa.mapping.outputs.local_json import read_local_json, write_local_json
from avjepa.mapping.outputs.osm import read_osm, write_osm
from avjepa.mapping.outputs.table import read_csv, write_csv
from avjepa.mapping.sightings import utc
from avjepa.mapping.survey import SurveyedDrive, SurveyedFrame
from avjepa.mapping.vector_map import MapElement
from avjepa.reports.review import write_review
from avjepa.sensors.nuscenes_index import load_index
from tests.mapping.painted_ground import CITY, START_US, PaintedGround, index_of, prior_of
from tests.mapping.test_detect import NOW, quiet

BAR = float(np.log(CONFIRMED / (1 - CONFIRMED)))
EVERY_M = 4.0  # between keyframes


def arc(centre, radius_m, from_deg, to_deg):
    angle = np.radians(np.linspace(from_deg, to_deg, 30))
    return [(centre[0] + radius_m * np.cos(a), centre[1] + radius_m * np.sin(a)) for a in angle]


def lane(token, *xy, to=(), layer="lane"):
    line = LineString(xy)
    return MapElement(token, layer, line.buffer(1.75, cap_style="flat"), centre_line=line, successors=tuple(to))


def way(token, *xy, to=()):
    return lane(token, *xy, to=to, layer="lane_connector")


# Two roads cross within 10 m of (40, 40); the one from the west has two lanes. It leads on and to the right, not to the left.
LEFT, LEFT_OUTER = arc((30, 50), 11.75, -90, 0), arc((30, 50), 15.25, -90, 0)
IN = lane("in", (0, 38.25), (30, 38.25), to=["on", "right"])
OUTER = lane("outer", (0, 34.75), (30, 34.75), to=["outer on"])
NORTH = lane("north", (41.75, 50), (41.75, 80))
PRIOR = (
    *(IN, OUTER, NORTH),
    lane("east", (50, 38.25), (80, 38.25)),
    lane("east outer", (50, 34.75), (80, 34.75)),
    lane("west", (30, 41.75), (0, 41.75)),
    lane("south", (38.25, 30), (38.25, 0)),
    way("on", (30, 38.25), (50, 38.25), to=["east"]),
    way("outer on", (30, 34.75), (50, 34.75), to=["east outer"]),
    way("right", *arc((30, 30), 8.25, 90, 0), to=["south"]),
)
LEFT_DRIVE = [(0, 38.25), *LEFT, (41.75, 80)]
ON_DRIVE = [(0, 38.25), (80, 38.25)]


def drive(xy, scene="one", every_m=EVERY_M, noise_m=0.0, start_us=START_US):
    line, rng = LineString(xy), np.random.default_rng(0)
    poses = line_poses(line, np.arange(0, line.length, every_m))
    poses[:, :2] += rng.normal(0, noise_m, (len(poses), 2)) if noise_m else 0
    frames = (
        SurveyedFrame(f"{scene}-{i}", start_us + i * 500_000, *map(float, pose), 6) for i, pose in enumerate(poses)
    )
    return SurveyedDrive(scene, CITY, tuple(frames), ())


def found(*drives, prior=PRIOR):
    return [(new.from_lane, new.to_lane, new.turn) for new in new_ways(drives, prior_of(*prior))]


def exchanged(*elements):
    """The prior with some elements instead of those of their tokens."""
    tokens = {element.token for element in elements}
    return (*(element for element in PRIOR if element.token not in tokens), *elements)


def test_a_left_turn_that_the_map_lacks():
    (new,) = new_ways([drive(LEFT_DRIVE)], prior_of(*PRIOR))
    assert (new.from_lane, new.to_lane, new.turn) == ("in", "north", "left")
    swept = LineString(LEFT).buffer(1.75, cap_style="flat")
    assert new.area.intersection(swept).area / new.area.union(swept).area > 0.85
    (passed,) = new.passes
    assert passed.off_m > 4 * OFF_M
    # 30 m to the junction, 16.7 m through it until half a lane before its end, 4 m on; a keyframe every 4 m.
    assert passed.upto_us == START_US + 13 * 500_000


def test_what_the_map_has_is_not_new():
    known = exchanged(replace(IN, successors=("on", "right", "left")), way("left", *LEFT, to=["north"]))
    assert found(drive(LEFT_DRIVE), prior=known) == []
    assert found(drive(ON_DRIVE), drive([(0, 38.25), *arc((30, 30), 8.25, 90, 0), (38.25, 0)], "right")) == []


def test_a_way_of_several_pieces_is_known():
    """A roundabout; and lanes between them that are too short to be followed."""
    pieces = (way("first", *LEFT[:11], to=["short"]), lane("short", *LEFT[10:15], to=["last"]))
    last = way("last", *LEFT[14:], to=["north"])
    known = exchanged(replace(IN, successors=("on", "first")), *pieces, last)
    assert found(drive(LEFT_DRIVE), prior=known) == []
    assert len(found(drive(LEFT_DRIVE), prior=[one for one in known if one is not last])) == 1


def test_a_way_from_a_junction_may_lead_straight_on():
    prior = exchanged(replace(IN, successors=("right",)))
    assert found(drive(ON_DRIVE), prior=prior) == [("in", "east", "straight")]


def test_a_way_to_a_lane_that_others_lead_to():
    prior = (*exchanged(replace(OUTER, successors=("outer on", "outer left"))), way("outer left", *LEFT, to=["north"]))
    assert found(drive(LEFT_DRIVE), prior=prior) == [("in", "north", "left")]


def test_two_ways_of_one_lane():
    prior = exchanged(replace(IN, successors=("right",)))
    assert sorted(found(drive(LEFT_DRIVE), drive(ON_DRIVE, "on"), prior=prior)) == [
        ("in", "east", "straight"),
        ("in", "north", "left"),
    ]


def test_drives_over_one_way_are_counted_once_each():
    later = drive(LEFT_DRIVE, "later", start_us=START_US + 10**9)
    there_and_again = drive([*LEFT_DRIVE, (30, 90), (-20, 60), (-20, 38.25), *LEFT_DRIVE], "twice", start_us=START_US)
    (new,) = new_ways([later, there_and_again], prior_of(*PRIOR))
    assert [passed.upto_us > START_US + 10**9 for passed in new.passes] == [False, True]


def test_a_lane_that_has_lost_all_its_ways():
    """In a map whose lanes mostly lead on; where connectors lead to the lane behind."""
    lost = exchanged(replace(IN, successors=()))
    others = [lane(f"other {i}", (100, 10 * i), (150, 10 * i), to=["on"]) for i in range(5)]
    assert found(drive(ON_DRIVE), drive(LEFT_DRIVE, "left"), prior=lost) == []
    assert found(drive(ON_DRIVE), drive(LEFT_DRIVE, "left"), prior=(*lost, *others)) == [("in", "east", "straight")]


# ------------------------------------------------------------------------------------------------- what looks like a way
def test_a_driver_near_a_known_way_is_on_it():
    """It leads to a lane of which the map has the area alone; another one lies over that."""
    over = lane("over", (50, 38.25), (80, 38.25))
    prior = exchanged(replace(over, token="east", centre_line=None), over)
    swerves, other = ([(0, 38.25), (30, 38.25), (40, y_m), (50, 38.25), (80, 38.25)] for y_m in (39.95, 41.5))
    assert found(drive(swerves, every_m=2.0), prior=prior) == []
    assert found(drive(other, every_m=2.0), prior=prior) == [("in", "over", "straight")]


def test_a_change_of_lanes():
    """On the road; through the junction, where a known way leads to the lane beside; and onto a lane that begins there."""
    assert found(drive([(0, 38.25), (12, 38.25), (24, 34.75), (80, 34.75)])) == []
    assert found(drive([(0, 38.25), (28, 38.25), (36, 34.75), (80, 34.75)])) == []
    assert found(drive([(0, 38.25), (30, 38.25), (50, 34.75), (80, 34.75)])) == []
    pocket = lane("pocket", (14, 34.75), (30, 34.75))
    assert found(drive([(0, 38.25), (8, 38.25), (16, 34.75), (30, 34.75)]), prior=exchanged(pocket, IN)) == []


def test_a_change_of_lanes_just_before_the_junction():
    prior = exchanged(replace(IN, successors=("right",)))
    assert found(drive([(0, 38.25), (20, 38.25), (29, 34.75), (80, 34.75)]), prior=prior) == []


def test_turning_back():
    """At the junction, and before it."""
    assert found(drive([(0, 38.25), *arc((32, 40), 1.75, -90, 90), (0, 41.75)], every_m=1.0)) == []
    assert found(drive([(0, 38.25), *arc((15, 40), 1.75, -90, 90), (0, 41.75)], every_m=1.0)) == []


def test_a_car_park():
    """Into it and out of it, midway of the lanes; and into it behind the junction."""
    through = [(0, 38.25), (14, 38.25), (16, 50), (30, 62), (41.75, 66), (41.75, 80)]
    assert found(drive(through)) == []
    others = [drive(ON_DRIVE, str(i)) for i in range(5)]  # most drives are on the map's lanes
    assert found(drive([(0, 38.25), (14, 38.25), (18, 46), (36, 46), (41.75, 52), (41.75, 80)]), *others) == []
    out_midway = [(0, 38.25), *LEFT[:15], (36, 60), (41.75, 64), (41.75, 80)]
    assert found(drive(out_midway)) == []
    assert found(drive([(0, 38.25), *LEFT, (44, 52), (60, 54)])) == []


def test_lanes_that_are_crossed_or_clipped():
    """The next one has to be followed for 4 m, and the one before."""
    assert found(drive([*LEFT_DRIVE[:-1], (41.75, 53)], every_m=1.0)) == []
    assert len(found(drive([*LEFT_DRIVE[:-1], (41.75, 56)], every_m=1.0))) == 1
    assert found(drive([(27.5, 38.25), *LEFT_DRIVE[1:]], every_m=1.0)) == []
    assert len(found(drive([(24, 38.25), *LEFT_DRIVE[1:]], every_m=1.0))) == 1


def test_the_lane_beside_may_be_meant():
    """A car in the middle of its lane is on it; one that is nearer to the next may be on that one, which has the way."""
    far_north = lane("far north", (45.25, 50), (45.25, 80))
    prior = (*exchanged(replace(IN, successors=("left",))), way("left", *LEFT, to=["north"]), far_north)
    prior = [one for one in prior if one.token != "north"]
    assert found(drive([(0, 34.75), *LEFT_OUTER, (45.25, 80)]), prior=prior) == [("outer", "far north", "left")]
    beside = [(0, 36), *arc((30, 50), 14, -90, 0), (45.25, 56), (45.25, 80)]
    prior = (*prior, lane("north", (41.75, 50), (41.75, 80)))
    assert found(drive(beside), prior=prior) == []


def test_lanes_that_lie_over_each_other():
    twin = replace(IN, token="twin", successors=("left",), centre_line=LineString([(0, 38.4), (30, 38.4)]))
    assert found(drive(LEFT_DRIVE), prior=(*PRIOR, twin, way("left", *LEFT, to=["north"]))) == []


# ------------------------------------------------------------------------------------------------- what cannot be trusted
@pytest.mark.parametrize("off_m", [(2.0, -2.0), (0.0, -1.5), (0.0, -2.5), (-2.5, 2.5), (5.0, 5.0), (0.0, 9.0)], ids=str)
def test_a_map_that_lies_off_its_place(off_m):
    """By less than a lane, the car may be on the lane beside; by more, it is beside the map's lanes."""
    known = exchanged(replace(IN, successors=("on", "right", "left")), way("left", *LEFT, to=["north"]))
    assert found(drive(np.add(LEFT_DRIVE, off_m)), drive(np.add(ON_DRIVE, off_m), "on"), prior=known) == []


def test_drives_beside_the_lanes():
    """Half of the way there is no lane where the car is."""
    strays = [(0, 43), (12, 43), (20, 38.25), *LEFT, (41.75, 80)]
    lonely = [one for one in PRIOR if one.token not in ("outer", "west")]
    assert found(drive(strays), prior=lonely) == []
    assert len(found(drive(strays), *(drive(ON_DRIVE, str(i)) for i in range(5)), prior=lonely)) == 1


def test_poses_are_noisy():
    assert found(drive(LEFT_DRIVE, noise_m=0.3)) == [("in", "north", "left")]
    assert found(drive(ON_DRIVE, noise_m=0.3)) == []


def test_a_car_that_waits_in_the_junction():
    moving = drive(LEFT_DRIVE)
    frames = list(moving.frames)
    waits = [*frames[:10], *(replace(frames[10], token=f"waits-{i}") for i in range(20)), *frames[10:]]
    times = [replace(frame, timestamp_us=START_US + i * 500_000) for i, frame in enumerate(waits)]
    assert found(replace(moving, frames=tuple(times))) == [("in", "north", "left")]


def test_where_keyframes_are_missing_nobody_knows_the_way():
    whole = drive(LEFT_DRIVE)
    assert found(replace(whole, frames=whole.frames[:8] + whole.frames[13:])) == []
    assert found(replace(whole, frames=whole.frames[:1])) == []


@pytest.mark.parametrize(
    "prior",
    [
        [replace(one, successors=()) for one in PRIOR],
        [replace(one, successors=()) if one.layer == "lane" else one for one in PRIOR],
        [replace(one, centre_line=None) for one in PRIOR],
        [MapElement("mask", "drivable_area", shapely.box(0, 0, 80, 80))],
        exchanged(replace(IN, successors=("east",))),
    ],
    ids=["no successors", "lanes lead nowhere", "no centre lines", "a mask", "no junction"],
)
def test_maps_that_say_too_little(prior):
    assert found(drive(LEFT_DRIVE), prior=prior) == []


# ------------------------------------------------------------------------------------------------------------------ real
def joined(found_map):
    """A map that does not say what its lanes lead to, with what begins where another ends; a connector is between lanes."""
    ways = found_map.layer("lane", "lane_connector")
    starts_m = np.array([one.centre_line.coords[0] for one in ways])
    following = [np.hypot(*(starts_m - one.centre_line.coords[-1]).T) < 0.1 for one in ways]
    leads = [
        replace(one, successors=tuple(ways[i].token for i in np.flatnonzero(near) if ways[i].layer != one.layer))
        for one, near in zip(ways, following, strict=True)
    ]
    return found_map.exchanged([one.token for one in ways], leads)


@pytest.mark.real_data
def test_the_way_that_a_real_drive_takes(nuscenes_root):
    """The drive turns right onto a lane by a connector of the map; the file does not say what leads to what."""
    index = load_index(nuscenes_root)
    frames = [
        SurveyedFrame(str(index.token[n]), int(index.timestamp_us[n]), *se2_of(index.global_T_ego[n]), 6)
        for n in index.keyframes_of("scene-0916")
    ]
    real = SurveyedDrive("scene-0916", "singapore-queenstown", tuple(frames), ())
    path = nuscenes_root / "maps" / "scene-0916_vector_map.geojson"
    as_is, _ = read_map(path, frame_of_city(real.city))
    whole = joined(as_is)
    assert new_ways([real], as_is) == new_ways([real], whole) == []
    (taken,) = (token for token in whole.elements if token.startswith("ea83e7"))
    (before,) = whole.predecessors(taken)
    lacking = whole.exchanged([taken, before], [replace(whole.elements[before], successors=())])
    (new,) = new_ways([real], lacking)
    assert new.from_lane == before
    assert whole.elements[taken].successors == (new.to_lane,)
    assert new.area.intersection(whole.elements[taken].geometry).length > 0.8 * whole.elements[taken].geometry.length
    aside = replace(real, frames=tuple(replace(one, x_m=one.x_m + 6.0) for one in real.frames))
    assert new_ways([aside], lacking) == new_ways([aside], whole) == []


def se2_of(pose):
    return float(pose[0, 3]), float(pose[1, 3]), float(np.arctan2(pose[1, 0], pose[0, 0]))


# ---------------------------------------------------------------------------------------------------- candidate, change, files
def passed(off_m, upto_us):
    return Pass(LineString(LEFT), off_m, upto_us)


@pytest.mark.parametrize(
    ("off_m", "believed"),
    [([OFF_M], False), ([1.3 * OFF_M], False), ([1.3 * OFF_M] * 2, True), ([3 * OFF_M], True)],
    ids=str,
)
def test_a_path_that_is_plainly_another_is_believed_of_one_drive(off_m, believed):
    new = NewWay(
        "in", "north", Polygon(shapely.box(0, 0, 1, 1)), "left", tuple(passed(m, n) for n, m in enumerate(off_m))
    )
    candidate = new_way_candidate(new)
    assert (candidate.log_odds >= BAR) == believed
    assert candidate.log_odds >= 0
    assert new_way_candidate(new, -1) is None
    assert new_way_candidate(new, 0).log_odds <= candidate.log_odds
    assert difference_of(candidate) is None  # nothing that is drawn differs


def write_surveys(folder, ground, *drives):
    return [ground.write(folder / one.scene, one.frames, one.scene) for one in drives]


def report_of(folder, ground, drives, *more):
    frames = [frame for one in drives for frame in one.frames]
    surveys = write_surveys(folder, ground, *drives)
    return detect_changes(surveys, prior_of(*PRIOR, *more), "prior.json", index_of(frames), "run-1", NOW, quiet)


LINE = MapElement("line", "lane_divider", LineString([(2, 36.5), (28, 36.5)]), colour="white", dashed=False)


def test_the_detector_tells_it_in_every_file(tmp_path):
    ground = PaintedGround((0, 20, 80, 80))
    ground.line(LINE.geometry)
    late = START_US + 10**9
    report = report_of(tmp_path, ground, [drive(LEFT_DRIVE), drive(LEFT_DRIVE, "two", start_us=late)], LINE)
    (change,) = report.changes
    assert (change.layer, change.atomic_change, change.element_id) == ("lane_connector", "connectivity", "in")
    assert (change.status, change.world_change, change.n_traversals) == (
        "confirmed",
        "reconnect_lane_connector",
        2,
    )
    assert change.description == "a new way through: left, taken by 2 drives"
    assert change.old_geometry is None
    assert change.new_geometry.contains(shapely.Point(LEFT[15]))
    assert change.confirmed_seen == utc(START_US + 13 * 500_000)
    write_changes_geojson(tmp_path / "changes.geojson", report)
    write_local_json(tmp_path / "changes.json", report)
    write_csv(tmp_path / "changes.csv", report)
    write_osm(tmp_path / "changes.osm", report)
    files = (read_changes_geojson(tmp_path / "changes.geojson"), read_local_json(tmp_path / "changes.json"))
    for (again,) in (*(one.changes for one in files), read_csv(tmp_path / "changes.csv")):
        assert again.new_geometry.symmetric_difference(change.new_geometry).area < 0.1
        assert (again.old_geometry, again.map_edit) == (None, "reconnect_lane_connector")
    assert [one.tags["avjepa:side"] for one in read_osm(tmp_path / "changes.osm")] == ["new"]
    write_review(tmp_path / "review.html", report, prior_of(*PRIOR), {}, {})
    assert change.change_id in (tmp_path / "review.html").read_text()


def test_a_map_that_lies_a_lane_aside(tmp_path):
    """All cars drive on lanes, but on others; the map's lines show it."""
    ground = PaintedGround((0, 20, 80, 80))
    ground.line(LINE.geometry)
    lane_aside = drive(np.add(LEFT_DRIVE, (0, -3.5)))
    told = [one.layer for one in report_of(tmp_path / "true", ground, [lane_aside], LINE).changes]
    assert told == ["lane_connector"]
    told = [
        one.layer for one in report_of(tmp_path / "aside", PaintedGround((0, 20, 80, 80)), [lane_aside], LINE).changes
    ]
    assert told == ["lane_divider"]


def test_ways_that_barriers_close(tmp_path):
    """Two ways of one lane that share the ground are one closure."""
    ground = PaintedGround((0, 20, 80, 80))
    ground.line(LINE.geometry)
    for x_m in (33, 45):
        ground.stand(shapely.box(x_m, 37, x_m + 0.4, 39.5))
    beside = way("beside", (30, 38.25), (50, 38.5))
    report = report_of(tmp_path, ground, [drive([(60, 34.75), (80, 34.75)])], LINE, beside)
    (change,) = report.changes
    assert (change.layer, change.atomic_change, change.status) == ("lane_connector", "connectivity", "confirmed")
    assert change.element_id in ("on", "beside")
    assert change.description == "a way through is closed by barriers"
    assert change.old_geometry.bounds[::2] == pytest.approx((33, 45.4), abs=0.5)
    assert change.confirmed_seen is not None
