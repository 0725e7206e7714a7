import math

import numpy as np
import pytest
import torch

from avjepa.bev.lidar_sparse import SparseEncoder
from avjepa.bev.lidar_voxels import voxelise_mean
from avjepa.bev.lift_splat import DepthBins, LiftSplat, feature_pixels, lift_table
from avjepa.geometry.camera import flip_pixels, project, resize_pixels, rotate_pixels
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import invert, transform_points
from tests.bev.scenes import lidar_frames, looking, post

GRID = BEVGrid((-6.4, 6.4), (-6.4, 6.4), (-3.0, 5.0), 0.8, 8.0)
BINS = DepthBins(0.5, 8.5, 0.25)
K = torch.tensor([[40.0, 0, 31.5], [0, 40, 15.5], [0, 0, 1]])
IMAGE = (32, 64)


def splat_point(xyz_bev: torch.Tensor, pix_T_cam: torch.Tensor, bev_T_cam: torch.Tensor, size=(8, 16)) -> torch.Tensor:
    """BEV map (Y, X) of an image that is bright at one point's feature pixel, with its depth known."""
    xyz_cam = transform_points(invert(bev_T_cam), xyz_bev[None])
    (uv_px,), (depth_m,) = project(pix_T_cam, xyz_cam)
    pixel = int((feature_pixels(size, IMAGE, torch.device("cpu")) - uv_px).norm(dim=-1).argmin())
    depth = torch.zeros(size[0] * size[1], BINS.count)
    depth[pixel, int((BINS.centres() - depth_m).abs().argmin())] = 1
    content = torch.zeros(size[0] * size[1], 1)
    content[pixel] = 1
    table = lift_table(
        size, IMAGE, pix_T_cam[None, None], bev_T_cam[None, None], torch.ones(1, 1, dtype=torch.bool), BINS, GRID
    )
    from avjepa.bev.bev_pool import bev_pool

    return bev_pool(depth, content, table).view(16, 16)


def augmented(matrix: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(matrix).float() @ K


MIRROR = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0]))
CAMERAS = {
    "ahead": (K, looking(0.0), (4.2, 0.6, 1.2)),
    "left": (K, looking(math.pi / 2), (0.6, 5.0, 1.5)),
    "back": (K, looking(math.pi), (-3.4, -1.0, 1.0)),
    "mirrored ego": (K, MIRROR @ looking(0.5), (4.2, -1.8, 1.2)),
    "flipped image": (augmented(flip_pixels(64)), looking(0.0), (4.2, 0.6, 1.2)),
    "resized and turned image": (
        augmented(rotate_pixels(0.2, *IMAGE) @ resize_pixels(0.9, 0.9)),
        looking(0.3),
        (4.4, 1.9, 1.3),
    ),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_one_thing_peaks_in_one_cell_from_either_sensor(name):
    """The same point, as a bright pixel with its depth and as LiDAR returns, in BEV; plain, turned, mirrored, augmented."""
    pix_T_cam, bev_T_cam, place = CAMERAS[name]
    xyz = torch.tensor(place)
    _, row, column = GRID.cell_index(xyz)[0].tolist()
    from_camera = splat_point(xyz, pix_T_cam, bev_T_cam, size=IMAGE)
    assert divmod(int(from_camera.argmax()), 16) == (row, column)
    assert from_camera.sum() == 1

    voxel_grid = BEVGrid(GRID.x_range_m, GRID.y_range_m, GRID.z_range_m, 0.4, 0.5)
    torch.manual_seed(0)
    encoder = SparseEncoder(voxel_grid, (8, 8), 8, 1)
    frames = lidar_frames([post(place[0], place[1]), torch.zeros(0, 3)])
    bev = encoder(voxelise_mean(frames.points, frames.point_frame, voxel_grid, 2))
    response = (bev[0] - bev[1]).abs().sum(0)
    assert divmod(int(response.argmax()), 16) == (row, column)


def test_table_agrees_with_a_loop():
    bev_T_cam = torch.stack([looking(0.3), looking(2.0)])[None]
    present = torch.tensor([[True, False]])
    table = lift_table((2, 4), IMAGE, K.expand(1, 2, 3, 3), bev_T_cam, present, BINS, GRID)
    entries = set()
    pixels = feature_pixels((2, 4), IMAGE, torch.device("cpu"))
    for p, (u, v) in enumerate(pixels.tolist()):
        for d, depth_m in enumerate(BINS.centres().tolist()):
            ray = np.linalg.inv(K.numpy()) @ [u, v, 1] * depth_m
            x, y, z = (bev_T_cam[0, 0].numpy() @ [*ray, 1])[:3]
            if -6.4 <= x < 6.4 and -6.4 <= y < 6.4 and -3 <= z < 5:
                entries.add((p * BINS.count + d, p, math.floor((y + 6.4) / 0.8) * 16 + math.floor((x + 6.4) / 0.8)))
    found = set(zip(table.ranks_depth.tolist(), table.ranks_feature.tolist(), table.ranks_cell.tolist(), strict=True))
    assert found == entries
    assert (table.ranks_cell.diff() >= 0).all()
    assert table.num_cells == 256


def test_feature_pixels_are_the_centres_of_their_blocks():
    pixels = feature_pixels((4, 8), IMAGE, torch.device("cpu"))
    assert pixels[0].tolist() == [3.5, 3.5]
    assert pixels[1].tolist() == [11.5, 3.5]
    assert pixels[-1].tolist() == [59.5, 27.5]


def make_lift() -> LiftSplat:
    torch.manual_seed(0)
    return LiftSplat(8, 6, BINS, GRID)


def lift_inputs(frames: int = 2, cameras: int = 2):
    generator = torch.Generator().manual_seed(3)
    return dict(
        features=torch.randn(frames, cameras, 8, 4, 8, generator=generator),
        image_size_px=IMAGE,
        pix_T_cam=K.expand(frames, cameras, 3, 3).clone(),
        bev_T_cam=torch.stack([looking(0.0), looking(2.0)])[:cameras].expand(frames, cameras, 4, 4).clone(),
        camera_present=torch.ones(frames, cameras, dtype=torch.bool),
    )


def test_absent_cameras_and_other_frames_add_nothing():
    lift, inputs = make_lift(), lift_inputs()
    both = lift(**inputs)
    inputs["camera_present"] = torch.tensor([[True, False], [True, True]])
    one = lift(**inputs)
    assert torch.equal(one[1], both[1])
    assert not torch.equal(one[0], both[0])
    inputs["features"][0, 1] = 100.0
    assert torch.equal(lift(**inputs), one)
    inputs["camera_present"] = torch.zeros(2, 2, dtype=torch.bool)
    assert not lift(**inputs).any()


def test_every_probability_inside_the_grid_is_counted_once():
    """With content 1 everywhere the map adds up to the depth probability that lies inside the grid."""
    lift, inputs = make_lift(), lift_inputs(frames=1)
    torch.nn.init.zeros_(lift.content.weight)
    torch.nn.init.ones_(lift.content.bias)
    table = lift.table(
        (4, 8), *(inputs[name] for name in ("image_size_px", "pix_T_cam", "bev_T_cam", "camera_present"))
    )
    depth = lift.depth(inputs["features"].flatten(0, 1)).softmax(1).movedim(1, -1).reshape(-1)
    torch.testing.assert_close(lift(**inputs)[:, 0].sum(), depth[table.ranks_depth].sum())


def test_a_fixed_calibration_is_recognised_and_a_changed_one_too(monkeypatch):
    from avjepa.bev import lift_splat

    built = []
    original = lift_splat.lift_table
    monkeypatch.setattr(lift_splat, "lift_table", lambda *arguments: built.append(1) or original(*arguments))
    lift, inputs = make_lift(), lift_inputs()
    first = lift(**inputs)
    assert torch.equal(lift(**inputs), first)
    assert len(built) == 1
    inputs["bev_T_cam"] = MIRROR @ inputs["bev_T_cam"]
    assert not torch.equal(lift(**inputs), first)
    assert len(built) == 2


def test_gradients_reach_depth_and_content():
    lift, inputs = make_lift(), lift_inputs()
    lift(**inputs).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in lift.parameters())


def test_depth_bins():
    assert BINS.count == 32
    assert BINS.centres()[[0, -1]].tolist() == [0.625, 8.375]
    with pytest.raises(ValueError, match="whole number"):
        DepthBins(1.0, 60.2, 0.5)
    with pytest.raises(ValueError, match="whole number"):
        DepthBins(0.0, 60.0, 0.5)
