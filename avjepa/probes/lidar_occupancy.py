"""Occupancy truth for data without Occ3D files: LiDAR rays of all keyframes of a clip, classes from annotation boxes.

Weaker than Occ3D: what no box holds has no class but `others`, nothing is densified, and what was never observed is UNKNOWN.
"""

from __future__ import annotations

import numpy as np
import torch

from avjepa.bev.voxel_states import crossed_voxels
from avjepa.geometry.camera import in_image, project
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.occ3d import CLASS_NAMES, FREE, OCC3D_GRID, UNKNOWN, xyz_from_zyx
from avjepa.geometry.rigid import invert, transform_points
from avjepa.probes.boxes import BoxTables, KeyframeBoxes, box_of_points
from avjepa.probes.moving_labels import moving_boxes
from avjepa.probes.occ3d_files import Occ3DLabels
from avjepa.sensors.sample import Clip, Frame

OTHERS = CLASS_NAMES.index("others")
# nuScenes categories by how they begin, as nuScenes-lidarseg merges them.
CLASS_OF_CATEGORY = {
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}


def lidar_occupancy(clip: Clip, boxes: BoxTables) -> Occ3DLabels:
    """Truth of the present keyframe in its ego frame.

    Occupied: voxels with a return of any keyframe; things that move count at the present only. Free: voxels that a ray crosses
    and that hold no return; inside a thing that moves now, rays of the present alone. The LiDAR mask is what the present
    keyframe's rays cross or hit; the camera mask is the part of it that lies in a present image, whatever stands before it.
    """
    votes = torch.zeros(FREE, *OCC3D_GRID.shape_zyx, dtype=torch.int32)
    crossed = torch.zeros(OCC3D_GRID.shape_zyx, dtype=torch.bool)
    observed_now = crossed_now = crossed
    now_T_global = invert(clip.now.global_T_ego)
    for frame in clip.frames:
        is_now = frame is clip.now
        now_T_frame = torch.from_numpy(now_T_global @ frame.global_T_ego).float()
        own = frame.points_ego[:, 4] == 0  # rays and boxes are those of the keyframe's time: older sweeps have others
        xyz = transform_points(now_T_frame, frame.points_ego[own, :3])
        classes, moves = (of_point[own] for of_point in classes_of_points(frame, boxes))
        add_votes(votes, xyz, classes, torch.ones_like(moves) if is_now else ~moves)
        origins = transform_points(now_T_frame, frame.lidar_origin_ego[None]).expand_as(xyz)
        free = crossed_voxels(origins, xyz, torch.zeros(len(xyz), dtype=torch.long), 1, OCC3D_GRID)[0]
        crossed = crossed | free
        if is_now:
            now_votes = torch.zeros_like(votes)
            add_votes(now_votes, xyz, classes, torch.ones_like(moves))
            observed_now, crossed_now = free | (now_votes.sum(0) > 0), free
    occupied = votes.sum(0) > 0
    crossed = crossed_now | (crossed & ~inside_movers(boxes.at(clip.now.token), crossed & ~crossed_now))
    known = torch.where(occupied, votes.argmax(0), torch.where(crossed, FREE, UNKNOWN)).to(torch.uint8)
    return Occ3DLabels(
        semantics=np.ascontiguousarray(xyz_from_zyx(known).numpy()),
        mask_lidar=np.ascontiguousarray(xyz_from_zyx(observed_now).numpy()),
        mask_camera=np.ascontiguousarray(xyz_from_zyx(observed_now & in_some_image(clip.now, OCC3D_GRID)).numpy()),
    )


def classes_of_points(frame: Frame, boxes: BoxTables) -> tuple[torch.Tensor, torch.Tensor]:
    """Class (P,) of every point of a keyframe, `others` outside of all boxes, and whether its box moves (P,), bool."""
    found = boxes.at(frame.token)
    holder = box_of_points(frame.points_ego[:, :3].numpy(), found.ego_T_box, found.size_lwh_m)
    class_of_box = np.array([class_of_category(name) for name in found.category] + [OTHERS])
    moves = np.append(moving_boxes(found), False)
    return torch.from_numpy(class_of_box[holder]), torch.from_numpy(moves[holder])


def inside_movers(boxes: KeyframeBoxes, asked: torch.Tensor) -> torch.Tensor:
    """The voxels (Z, Y, X), bool, of ``asked`` whose centre lies in a box that moves."""
    moves = moving_boxes(boxes)
    holder = box_of_points(OCC3D_GRID.voxel_centres()[asked].numpy(), boxes.ego_T_box[moves], boxes.size_lwh_m[moves])
    inside = torch.zeros_like(asked)
    inside[asked] = torch.from_numpy(holder >= 0)
    return inside


def class_of_category(category: str) -> int:
    """Occ3D class of a nuScenes category."""
    names = [name for beginning, name in CLASS_OF_CATEGORY.items() if category.startswith(beginning)]
    return CLASS_NAMES.index(names[0]) if names else OTHERS


def add_votes(votes: torch.Tensor, xyz: torch.Tensor, classes: torch.Tensor, counted: torch.Tensor) -> None:
    """Add the counted points (P, 3) of classes (P,) to votes (17, Z, Y, X), in place."""
    index_zyx, inside = OCC3D_GRID.cell_index(xyz)
    keep = inside & counted
    one = torch.ones(int(keep.sum()), dtype=votes.dtype)
    votes.index_put_((classes[keep], *index_zyx[keep].unbind(-1)), one, accumulate=True)


def in_some_image(frame: Frame, grid: BEVGrid) -> torch.Tensor:
    """Voxels (Z, Y, X), bool, whose centre projects into an image that is present."""
    xyz_ego = grid.voxel_centres().flatten(0, 2)
    height_px, width_px = frame.images.shape[-2:]
    seen = torch.zeros(len(xyz_ego), dtype=torch.bool)
    for pix_T_cam, ego_T_cam, present in zip(frame.pix_T_cam, frame.ego_T_cam, frame.camera_present, strict=True):
        if present:
            xyz_cam = transform_points(torch.from_numpy(invert(ego_T_cam)), xyz_ego)
            seen |= in_image(*project(torch.from_numpy(pix_T_cam), xyz_cam), height_px, width_px)
    return seen.view(grid.shape_zyx)
