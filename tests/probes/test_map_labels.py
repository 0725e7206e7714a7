"""Rasterised map truth: by hand, and against nuscenes-devkit on a hand-made town."""

import numpy as np
import pytest
import torch
from nuscenes.map_expansion import map_api
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.utils.map_mask import MapMask
from shapely import LineString, box

from avjepa.city.map_files import register_town, write_map_expansion, write_map_mask
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import transform_from_quaternion, transform_from_se2
from avjepa.probes.map_files import read_drivable_mask, read_vector_map
from avjepa.probes.map_labels import MAP_GRID, DrivableMask, VectorMap
from avjepa.probes.metrics.map_iou import MAP_CLASSES
from tests.city.hand_made import TOWN, make_road_map

GRID = BEVGrid((-10.0, 10.0), (-5.0, 5.0), (-5.0, 3.0), 0.5, 8.0)  # 20 rows, 40 columns


def vector_map(dividers=(), **areas) -> VectorMap:
    """A map of these shapes and no others."""
    names = MAP_CLASSES[:-1]
    return VectorMap(
        {name: np.array(areas.get(name, []), dtype=object) for name in names}, np.array(dividers, dtype=object)
    )


def cells_of(mask: torch.Tensor) -> tuple[int, int, int, int]:
    """First and last row, first and last column of the true cells."""
    rows, columns = mask.nonzero().T
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("maps")
    write_map_expansion(root / "maps" / "expansion" / f"{TOWN}.json", make_road_map())
    write_map_mask(root / "maps" / "mask.png", make_road_map())
    return root


# -------------------------------------------------------------------------------------------------------------- by hand
def test_an_area_by_hand():
    """4 m ahead, 1 m to the left: columns from 28 (x = 4), rows from 12 (y = 1), one cell too far on the upper sides."""
    town = vector_map(walkway=[box(4, 1, 8, 2)])
    labels = town.labels(np.eye(4), GRID)
    assert labels.shape == (6, 20, 40)
    assert labels.dtype == torch.bool
    assert cells_of(labels[MAP_CLASSES.index("walkway")]) == (12, 14, 28, 36)
    assert labels.sum() == 3 * 9


def test_the_ego_moves_and_turns():
    """At (100, 50), heading along +y: what lies north is ahead, what lies west is to the left."""
    north, west = box(99.9, 54, 100.1, 58), box(97, 49.9, 99, 50.1)
    town = vector_map(walkway=[north], stop_line=[west])
    labels = town.labels(transform_from_se2(100, 50, np.pi / 2), GRID)
    assert cells_of(labels[MAP_CLASSES.index("walkway")]) == (10, 10, 28, 36)
    assert cells_of(labels[MAP_CLASSES.index("stop_line")]) == (12, 16, 20, 20)


def test_height_and_tilt_of_the_ego_do_not_matter():
    town = vector_map(walkway=[box(4, 1, 8, 2)])
    pitch = transform_from_quaternion((np.cos(0.2), 0, np.sin(0.2), 0), (0, 0, 7.0))
    assert torch.equal(town.labels(pitch, GRID), town.labels(np.eye(4), GRID))


def test_a_divider_is_three_cells_thick():
    """Two is asked of OpenCV, three are filled, around the cell that holds the line: (y + 5) / 0.5 = 11.8."""
    line = LineString([(-20, 0.9), (20, 0.9)])
    divider = vector_map([line]).labels(np.eye(4), GRID)[-1]
    assert divider.any(1).nonzero().flatten().tolist() == [10, 11, 12]
    assert divider[10:13].all()


def test_a_hole_cuts_its_own_polygon_only():
    """The devkit would blank the first square, which lies in the hole of the second."""
    ring = box(-8, -4, 8, 4) - box(-4, -2, 4, 2)
    inside = box(-1, -1, 1, 1)
    for polygons in ([inside, ring], [ring, inside]):
        walkway = vector_map(walkway=polygons).labels(np.eye(4), GRID)[2]
        assert walkway[10, 20]
        assert not walkway[10, 25]
        assert walkway[10, 30]


def test_the_outline_of_a_hole_is_inside_only_where_the_grid_cuts_the_hole():
    """A hole that leaves the grid is drawn as a part of the outline, as in the devkit."""
    within = vector_map(walkway=[box(-30, -30, 30, 30) - box(-4, -2, 4, 2)]).labels(np.eye(4), GRID)[2]
    across = vector_map(walkway=[box(-30, -30, 30, 30) - box(-4, -2, 30, 2)]).labels(np.eye(4), GRID)[2]
    assert cells_of(~within) == (6, 14, 12, 28)
    assert cells_of(~across) == (7, 13, 13, 39)


def test_a_pose_that_is_not_one():
    with pytest.raises(ValueError, match="finite"):
        vector_map().labels(np.full((4, 4), np.nan), GRID)


# ------------------------------------------------------------------------------------------------ against the devkit
def devkit_labels(town: NuScenesMap, x_m: float, y_m: float, yaw_rad: float) -> np.ndarray:
    """(6, 200, 200): BEVFusion's call, around the ego. The devkit's get_map_mask refuses every map but its own four."""
    layers = [*MAP_CLASSES[:-1], "road_divider", "lane_divider"]
    geometry = town.explorer.get_map_geom((x_m, y_m, 100.0, 100.0), np.degrees(yaw_rad), layers)
    masks = town.explorer.map_geom_to_mask(geometry, (0.0, 0.0, 100.0, 100.0), (200, 200)).astype(bool)
    return np.concatenate([masks[:5], masks[5:6] | masks[6:7]])


@pytest.fixture
def devkit_town(root, monkeypatch):
    monkeypatch.setattr(map_api, "locations", list(map_api.locations))
    register_town(TOWN)
    return NuScenesMap(dataroot=str(root), map_name=TOWN)


@pytest.mark.parametrize(
    "pose", [(81.03, 58.21, 0.013), (93.11, 61.37, 1.91), (60.07, 57.13, -2.6), (80.71, 75.3, -1.55)]
)
def test_agrees_with_the_devkit(root, devkit_town, pose):
    ours = read_vector_map(root / "maps" / "expansion" / f"{TOWN}.json").labels(transform_from_se2(*pose)).numpy()
    theirs = devkit_labels(devkit_town, *pose)
    inner = (slice(None), slice(3, -3), slice(3, -3))  # where a line is cut, the last digit decides the cell
    assert theirs.any((1, 2)).all()
    assert np.array_equal(ours[inner], theirs[inner])
    assert (ours != theirs).sum() <= 3


def test_the_devkit_comparison_tells_axes_apart(root, devkit_town):
    """The town is no mirror image of itself: any other order of axes is far off."""
    pose = (93.11, 61.37, 1.91)
    ours = read_vector_map(root / "maps" / "expansion" / f"{TOWN}.json").labels(transform_from_se2(*pose)).numpy()
    theirs = devkit_labels(devkit_town, *pose)
    for other in (theirs[:, ::-1], theirs[:, :, ::-1], theirs[:, ::-1, ::-1], theirs.swapaxes(1, 2)):
        assert (ours[0] & other[0]).sum() / (ours[0] | other[0]).sum() < 0.7


def test_bevfusions_array_is_ours_flipped(root, devkit_town):
    """Its LiDAR looks to the right; the patch is transposed to [right, forwards]."""
    x_m, y_m, yaw_rad = 93.11, 61.37, 0.4
    ours = read_vector_map(root / "maps" / "expansion" / f"{TOWN}.json").labels(transform_from_se2(x_m, y_m, yaw_rad))
    bevfusion = devkit_labels(devkit_town, x_m, y_m, yaw_rad - np.pi / 2).swapaxes(1, 2)
    theirs = bevfusion[:, ::-1]
    drivable = ours[0].numpy()
    assert (drivable & theirs[0]).sum() / (drivable | theirs[0]).sum() > 0.9  # areas grow to the other side


# -------------------------------------------------------------------------------------------------------- official mask
def test_the_mask_agrees_with_the_devkit_and_the_vector_map(root):
    mask = read_drivable_mask(root / "maps" / "mask.png")
    pose = transform_from_se2(93.11, 61.37, 1.91)
    ours = mask.labels(pose)
    assert mask.classes == ("drivable_area",)
    assert ours.shape == (1, 200, 200)
    centres = MAP_GRID.cell_centres().double().view(-1, 2).numpy() @ pose[:2, :2].T + pose[:2, 3]
    theirs = MapMask(str(root / "maps" / "mask.png")).is_on_mask(centres[:, 0], centres[:, 1])
    assert np.array_equal(ours.numpy().ravel(), theirs)
    vector = read_vector_map(root / "maps" / "expansion" / f"{TOWN}.json").labels(pose)[:1]
    assert (ours & vector).sum() / (ours | vector).sum() > 0.9
    assert (ours & ~vector).sum() / ours.sum() < 0.03  # the vector map's outlines only add cells


def test_the_mask_by_hand():
    """11 columns, 20 rows: the point (0.3, 1.5) is pixel (row 5, column 3)."""
    picture = np.zeros((20, 11), dtype=bool)
    picture[5, 3] = picture[5, 10] = True
    mask = DrivableMask(np.packbits(picture, axis=1), 11)
    grid = BEVGrid((-0.05, 0.05), (-0.05, 0.05), (0.0, 1.0), 0.1, 1.0)
    hits = {(x, y): bool(mask.labels(transform_from_se2(x, y, 0), grid)) for x, y in
            [(0.3, 1.5), (1.0, 1.5), (0.4, 1.5), (0.3, 1.6), (1.1, 1.5), (-0.6, 1.5), (0.3, -0.5), (0.3, 2.5)]}  # fmt: skip
    assert [place for place, hit in hits.items() if hit] == [(0.3, 1.5), (1.0, 1.5)]
