import numpy as np
import pytest
import torch

from avjepa.geometry.occ3d import CLASS_NAMES, FREE, OCC3D_GRID, SHAPE_XYZ, as_classes, xyz_from_zyx, zyx_from_xyz


def test_grid_and_classes_are_those_of_occ3d():
    assert SHAPE_XYZ == (200, 200, 16)
    assert (OCC3D_GRID.x_range_m, OCC3D_GRID.z_range_m) == ((-40.0, 40.0), (-1.0, 5.4))
    assert len(CLASS_NAMES) == 18
    assert FREE == 17
    assert [CLASS_NAMES[c] for c in (0, 4, 10, 11, 16)] == ["others", "car", "truck", "driveable_surface", "vegetation"]


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_axes_are_swapped_and_swapped_back(make):
    volume = make((3, 4, 5))
    volume[0, 1, 2] = 7
    assert zyx_from_xyz(volume)[2, 1, 0] == 7
    assert zyx_from_xyz(volume).shape == (5, 4, 3)
    assert zyx_from_xyz(volume[None]).shape == (1, 5, 4, 3)
    assert xyz_from_zyx(zyx_from_xyz(volume))[0, 1, 2] == 7


def test_a_point_ahead_to_the_left_lies_in_the_same_voxel_either_way():
    index_zyx, inside = OCC3D_GRID.cell_index(torch.tensor([10.1, 3.3, 0.5]))
    volume_xyz = np.zeros(SHAPE_XYZ, dtype=np.uint8)
    volume_xyz[125, 108, 3] = 4
    assert bool(inside)
    assert zyx_from_xyz(volume_xyz)[tuple(index_zyx.tolist())] == 4


def test_classes_are_checked():
    assert as_classes(np.array([0, 17, 255]), "truth").tolist() == [0, 17, 255]
    assert as_classes(torch.tensor([3], dtype=torch.int64), "truth").dtype == torch.uint8
    for wrong in (np.array([18], np.uint8), np.array([-1]), np.array([256 + 4]), torch.tensor([254])):
        with pytest.raises(ValueError, match=r"truth must hold classes 0\.\.17 or 255, got"):
            as_classes(wrong, "truth")
    for wrong in (np.array([1.0]), np.array([True]), torch.tensor([float("nan")])):
        with pytest.raises(ValueError, match="as integers"):
            as_classes(wrong, "prediction")
