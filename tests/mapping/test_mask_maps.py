import json

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from shapely.geometry import Polygon, box

from avjepa.errors import DataError
from avjepa.mapping.frames import FRAMES
from avjepa.mapping.map_edits import apply_edits, read_truth
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.mask_maps import DETAIL_M, _areas
from avjepa.probes.map_files import mask_file, opened_mask
from avjepa.sensors.nuscenes_index import load_index, split_scenes
from tools import edit_map as tool

TOWN = FRAMES["minicity-a"]


def write_mask(root, mask, city=TOWN.name):
    """A mask of a root whose tables give it to a city."""
    for name, rows in {
        "log": [{"token": "t", "location": city}],
        "map": [{"filename": "maps/a.png", "log_tokens": ["t"]}],
    }.items():
        (root / "v1.0-mini").mkdir(parents=True, exist_ok=True)
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
    (root / "maps").mkdir(exist_ok=True)
    Image.fromarray(mask).save(root / "maps" / "a.png")
    return root / "maps" / "a.png"


def street_mask():
    """60 x 40 m: a road of 12 m along x with an island of 4 x 2 m in it, and a yard of its own."""
    mask = np.zeros((400, 600), np.uint8)
    mask[100:220] = 255
    mask[150:170, 200:240] = 0
    mask[300:350, 500:580] = 255
    mask[380, 10] = 254  # not drivable
    return mask


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_areas_are_the_pixels_that_join(rows, columns, chance):
    inside = np.array([[chance.random() < 0.6 for _ in range(columns)] for _ in range(rows)])
    areas, corners = _areas(inside)
    labels, count = ndimage.label(inside)  # across edges, not across corners
    assert len(areas) == count
    for area, (row, column) in zip(areas, corners, strict=True):
        assert area.is_valid
        own = labels == labels[row, column]
        assert area.area == own.sum()
        assert tuple(np.argwhere(own)[0]) == (row, column)
        pixels = [box(x, y, x + 1, y + 1) for y, x in np.argwhere(own)]
        assert area.equals(shapely.union_all(pixels))


def test_pixels_lie_where_the_devkit_reads_them(tmp_path):
    path = write_mask(tmp_path, street_mask())
    elements, report = read_map(path)
    assert (elements.frame, report.kept, report.lines()) == (TOWN, 2, [])
    road, yard = elements.elements["drivable-0-100"].geometry, elements.elements["drivable-500-300"].geometry
    # Row r lies at y = 0.1 (400 - r), column c at x = 0.1 c; a pixel reaches 0.05 m around.
    island = box(19.95, 23.05, 23.95, 25.05)
    assert road.symmetric_difference(box(-0.05, 18.05, 59.95, 30.05).difference(island)).area < 1e-6
    assert yard.symmetric_difference(box(49.95, 5.05, 57.95, 10.05)).area < 1e-6
    assert {element.layer for element in elements.elements.values()} == {"drivable_area"}


def test_a_window_is_the_part_of_the_whole(tmp_path):
    path = write_mask(tmp_path, street_mask())
    whole, _ = read_map(path)
    part, _ = read_map(path, TOWN, (10.0, 8.0, 54.0, 25.0))
    window = box(9.95, 7.95, 54.05, 25.05)
    assert list(part.elements) == ["drivable-100-150", "drivable-500-300"]
    union = [shapely.union_all([x.geometry for x in side.elements.values()]) for side in (whole, part)]
    assert union[1].symmetric_difference(union[0].intersection(window)).area < 1e-6


def test_slanted_edges_are_simplified_by_a_pixel_at_most(tmp_path):
    row, column = np.mgrid[:500, :500]
    mask = np.where(abs(row * 0.8 - column * 0.6) < 60, 255, 0).astype(np.uint8)
    (element,) = read_map(write_mask(tmp_path, mask))[0].elements.values()
    areas, _ = _areas(mask == 255)
    exact = shapely.transform(areas[0], lambda xy: xy * [0.1, -0.1] + [-0.05, 50.05])
    assert shapely.hausdorff_distance(exact, element.geometry) <= DETAIL_M + 1e-9
    assert len(element.geometry.exterior.coords) < len(exact.exterior.coords) / 3


def test_masks_that_cannot_be_used(tmp_path):
    path = write_mask(tmp_path, street_mask())
    with pytest.raises(DataError, match=r"the mask of minicity-a, but minicity-b is wanted"):
        read_map(path, FRAMES["minicity-b"])
    with pytest.raises(DataError, match=r"lies outside the mask, which reaches to \(60, 40\) m"):
        read_map(path, None, (100.0, 0.0, 200.0, 10.0))
    with pytest.raises(DataError, match="no map element"):
        read_map(path, None, (0.0, 35.0, 10.0, 39.0))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="not a readable map mask"):
        read_map(path)
    with pytest.raises(DataError, match="do not say whose mask"):
        read_map(write_mask(tmp_path, street_mask()).rename(path.with_name("b.png")))


@pytest.mark.parametrize("seed", range(3))
def test_a_mask_is_edited_many_times(tmp_path, seed):
    path, out = write_mask(tmp_path, street_mask()), tmp_path / "out"
    where = ["--map", str(path), "--out", str(out)]
    tool.main([*where, "--edits", "3", "--seed", str(seed)])
    world, prior = (read_map(out / name)[0] for name in ("world.geojson", "prior.geojson"))
    _, edits = read_truth(out / "truth.geojson")
    assert apply_edits(prior, edits) == world == read_map(path)[0]
    assert {edit.kind for edit in edits} == {"insertion", "deletion", "geometry"}
    # The prior is the world with the strips that it has too many, without those that it lacks.
    union = [shapely.union_all([x.geometry for x in side.elements.values()]) for side in (world, prior)]
    added, lacking = (
        [x for edit in edits if (x := getattr(edit, side))] for side in ("prior_geometry", "world_geometry")
    )
    assert (
        union[1].symmetric_difference(union[0].union(shapely.union_all(added)) - shapely.union_all(lacking)).area < 0.1
    )
    for edit in edits:
        assert (edit.world_geometry is None) != (edit.prior_geometry is None)
        assert edit.geometry.area > 8
        assert edit.kind == "geometry" or (edit.world_geometry is None) == (edit.kind == "deletion")


@pytest.mark.real_data
@pytest.mark.parametrize(("scene", "city"), [("scene-0523", "boston-seaport"), ("scene-0916", "singapore-queenstown")])
def test_the_real_masks_of_both_scenes(nuscenes_root, tmp_path, scene, city):
    index = load_index(nuscenes_root)
    numbers, missing = split_scenes(index, [scene]) if scene in index.scene_name else ([], [scene])
    path = mask_file(nuscenes_root, city)
    if missing or path is None or not path.is_file():
        pytest.skip(f"no {scene} or mask of {city}")
    where = ["--data", str(nuscenes_root), "--scenes", scene, "--edits", "4", "--out", str(tmp_path)]
    tool.main(where)
    world, prior = (read_map(tmp_path / name)[0] for name in ("world.geojson", "prior.geojson"))
    _, edits = read_truth(tmp_path / "truth.geojson")
    assert world.frame == FRAMES[city]
    assert apply_edits(prior, edits) == world != prior
    assert {edit.kind for edit in edits} == {"insertion", "deletion", "geometry"}
    road = shapely.union_all([element.geometry for element in world.elements.values()])
    xy_m = index.global_T_ego[np.isin(index.scene, numbers)][:, :2, 3]
    assert shapely.contains_xy(road, xy_m).all()  # cars drive where one may
    # As the mask has it at random points, but for those within a pixel of an edge.
    points = np.random.default_rng(0).uniform(xy_m.min(axis=0), xy_m.max(axis=0), (2000, 2))
    with opened_mask(path) as image:
        pixels = np.asarray(image)
        row, column = np.rint(len(pixels) - 10 * points[:, 1]), np.rint(10 * points[:, 0])
        drivable = pixels[row.astype(int), column.astype(int)] == 255
    clear = shapely.distance(road.boundary, shapely.points(points)) > DETAIL_M + 0.05
    assert clear.mean() > 0.9
    assert (shapely.contains_xy(road, points) == drivable)[clear].mean() > 0.999  # single pixels are simplified away
    assert isinstance(max(edits, key=lambda edit: edit.geometry.area).geometry, Polygon)
