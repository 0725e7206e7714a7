"""When evidence judges what it was made of: by drives, by real towns' names, by generated towns' elements."""

from dataclasses import replace

from shapely.affinity import translate
from shapely.geometry import LineString, box

from avjepa.city.map_files import write_map_expansion
from avjepa.city.roads import build_town
from avjepa.mapping.evidence_material import Material, overlap_warnings
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.vector_map import ElementMap, MapElement


def town(city="minicity-a", east_m=0.0, count=20):
    """Crosswalks in a row and a divider beside them."""
    crossings = [
        MapElement(f"c{n}", "ped_crossing", box(9 * n + east_m, 0, 9 * n + 4 + east_m, 3)) for n in range(count)
    ]
    divider = MapElement("d", "lane_divider", LineString([(east_m, 5), (east_m + 100, 5.5)]))
    return ElementMap.of(FRAMES[city], [*crossings, divider])


def told(used, judged):
    return overlap_warnings("e.pth", [("calibrated", used)], judged)


def test_the_same_drives_are_told_by_name():
    used = Material.of(["scene-0001/aa", "scene-0002/bb", "scene-0003/cc"], [town(east_m=1000)])
    judged = Material.of(["scene-0001/aa", "scene-0002/other", "scene-0003/cc"], [town()])
    (line,) = told(used, judged)
    assert line.startswith(
        "e.pth: was calibrated on 2 of the drives that it judges (scene-0001, scene-0003): no held-out"
    )


def test_other_drives_in_the_same_town_are_told():
    (line,) = told(Material.of(["scene-0001/aa"], [town()]), Material.of(["scene-0001/bb"], [town()]))
    assert line.startswith("e.pth: was calibrated on the town that it judges (minicity-a): no held-out")


def test_towns_of_other_seeds_have_the_same_name_and_are_not_told():
    one = Material.of(["scene-0001/aa"], [town()])
    assert told(one, Material.of(["scene-0001/bb"], [town(east_m=3.0)])) == ()
    assert told(one, Material.of(["scene-0001/bb"], [town("minicity-b")])) == ()


def test_generated_towns_differ_from_seed_to_seed(tmp_path):
    maps = []
    for seed in (1, 2, 1):
        write_map_expansion(tmp_path / "map.json", build_town("minicity-a", seed))
        maps.append(Material.of([], [read_map(tmp_path / "map.json", FRAMES["minicity-a"])[0]]))
    assert told(maps[0], maps[1]) == ()
    assert not set(maps[0].towns["minicity-a"]) & set(maps[1].towns["minicity-a"])
    assert told(maps[0], maps[2])


def test_an_edited_prior_is_the_same_town():
    """In other words too: other tokens, a line drawn backwards with a point more, a few centimetres of rounding."""
    true, used = town(), Material.of([], [town()])
    kept = [element for element in true.elements.values() if element.token not in ("c3", "c4", "c5")]
    renamed = [replace(element, token=f"x{element.token}") for element in kept]
    moved = [replace(element, geometry=translate(element.geometry, 0.004)) for element in renamed]
    new = [MapElement(f"n{n}", "stop_line", box(n, 50, n + 0.5, 53)) for n in range(5)]
    assert told(used, Material.of([], [ElementMap.of(true.frame, [*moved, *new])]))
    backwards = MapElement("d", "lane_divider", LineString([(100, 5.5), (50, 5.25), (0, 5)]))
    assert told(used, Material.of([], [ElementMap.of(true.frame, [backwards])]))
    assert told(used, Material.of([], [true.within(box(0, 0, 20, 4))])), "a piece of the map"


def test_real_towns_are_known_by_name():
    """However their maps were drawn."""
    used = Material.of([], [town("boston-seaport")])
    assert told(used, Material.of([], [town("boston-seaport", east_m=3.0)]))
    assert told(used, Material.of([], [town("singapore-queenstown")])) == ()
    assert used.towns == {"boston-seaport": ()}


def test_what_is_not_known_is_one_line():
    judged = Material.of(["scene-0001/aa"], [town()])
    (line,) = overlap_warnings("e.pth", [("trained", None), ("calibrated", None)], judged)
    assert line.startswith("e.pth: does not say which drives and towns it was trained and calibrated on")
    lines = overlap_warnings("e.pth", [("trained", None), ("calibrated", judged)], judged)
    assert [("calibrated on 1" in line, "was trained on (it is" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]


def test_cases_are_joined():
    edited = town().exchanged(["c0"], [])
    parts = [Material.of(["a/1"], [edited]), Material.of(["a/1", "b/2"], [town(), town("boston-seaport")])]
    joined = Material.joined(parts)
    assert joined.drives == ("a/1", "b/2")
    assert joined.towns == {"minicity-a": Material.of([], [town()]).towns["minicity-a"], "boston-seaport": ()}
