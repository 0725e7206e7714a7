"""Pictures and numbers that show at a glance whether cameras, LiDAR and poses fit together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from avjepa.geometry.camera import in_image, project
from avjepa.geometry.grid import BEVGrid
from avjepa.geometry.rigid import invert, transform_points
from avjepa.reports.figures import save_figure, show_bev
from avjepa.sensors.sample import Frame

FAR_M = 50.0
STANDING_M = (0.3, 2.5)  # returns this high above the ground belong to things, not to the road or to tree tops
GROUND_CELL_M = 2.0


def lidar_in_cameras(frame: Frame) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For every camera: pixels (p, 2), depths (p,) in metres and numbers (p,) of the LiDAR points inside its image."""
    seen = []
    for pix_T_cam, ego_T_cam, present in zip(frame.pix_T_cam, frame.ego_T_cam, frame.camera_present, strict=True):
        uv_px, depth_m = project(pix_T_cam, transform_points(invert(ego_T_cam), xyz_ego(frame)))
        inside = in_image(uv_px, depth_m, *frame.images.shape[-2:]) & bool(present)
        seen.append((uv_px[inside], depth_m[inside], np.flatnonzero(inside)))
    return seen


def share_in_images(frame: Frame) -> float:
    """Share of the LiDAR points that at least one camera sees; 0 without points."""
    numbers = [number for _, _, number in lidar_in_cameras(frame)]
    return len(np.unique(np.concatenate([*numbers, []]))) / max(len(frame.points_ego), 1)


def augmentation_error_px(frame: Frame, augmented: Frame) -> float:
    """Largest difference in pixels between two ways to an augmented pixel, over all LiDAR points and cameras.

    One way goes through the augmented ego frame and the augmented camera, the other projects first and then moves the
    pixel as the image was moved. In float64: anything above rounding means that pictures and cameras have parted.
    """
    aug_T_ego = invert(augmented.global_T_ego) @ frame.global_T_ego
    xyz_aug = transform_points(aug_T_ego, xyz_ego(frame))
    errors = [0.0]
    for camera, (uv_px, _, number) in enumerate(lidar_in_cameras(frame)):
        aug_T_pix = augmented.pix_T_cam[camera] @ np.linalg.inv(frame.pix_T_cam[camera])
        xyz_cam = transform_points(invert(augmented.ego_T_cam[camera]), xyz_aug[number])
        uv_augmented_px, _ = project(augmented.pix_T_cam[camera], xyz_cam)
        errors.extend(np.abs(uv_augmented_px - (uv_px @ aug_T_pix[:2, :2].T + aug_T_pix[:2, 2])).ravel())
    return float(max(errors))


def save_camera_picture(path: Path, frame: Frame, names: list[str]) -> None:
    """All cameras with the LiDAR points on them, coloured by depth: edges in the images must fit edges of the points."""
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    height, width = frame.images.shape[-2:]
    figure = Figure(figsize=(6 * columns + 0.8, 6 * rows * height / width + 0.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, name, image, (uv_px, depth_m, _) in zip(axes, names, frame.images, lidar_in_cameras(frame), strict=False):
        axis.imshow(image.movedim(0, -1).numpy())
        points = axis.scatter(*uv_px.T, c=depth_m, s=4, cmap="turbo_r", vmin=0, vmax=FAR_M, linewidths=0)
        axis.set_xlim(-0.5, width - 0.5)
        axis.set_ylim(height - 0.5, -0.5)
        axis.set_title(f"{name}: {len(depth_m)} points")
    figure.colorbar(points, ax=axes, label="depth (m)", shrink=0.6, aspect=40)
    save_figure(figure, path)


def save_bev_picture(path: Path, frame: Frame, grid: BEVGrid) -> None:
    """Both sensors in one bird's-eye view: the cameras laid out on the ground, and the LiDAR's things over it.

    Lane markings must run straight from camera to camera, and the foot of every thing must stand under its returns.
    """
    figure = Figure(figsize=(18, 9.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    xyz = xyz_ego(frame)
    things = xyz[is_standing(xyz)]
    show_bev(left, cameras_on_the_ground(frame, grid), grid)
    left.scatter(things[:, 1], things[:, 0], s=0.6, c="red", linewidths=0)
    low, high = STANDING_M
    left.set_title(f"cameras on the ground plane; in red, LiDAR returns {low} to {high} m above the ground")

    colours, coloured = colour_points(frame)
    from_below = [number for number in np.argsort(xyz[:, 2]) if coloured[number]]
    show_bev(right, np.zeros((*grid.shape_yx, 3)), grid)
    right.scatter(xyz[from_below, 1], xyz[from_below, 0], s=2, c=colours[from_below], linewidths=0)
    right.set_title("LiDAR returns in the colours of the cameras")
    for axis in (left, right):
        axis.set_xlim(grid.y_range_m[1], grid.y_range_m[0])
        axis.set_ylim(*grid.x_range_m)
        axis.set_xlabel(f"forward is up; {grid.x_range_m[1] - grid.x_range_m[0]:g} m from bottom to top")
    save_figure(figure, path)


def colour_points(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Colours (P, 3) in [0, 1] of LiDAR points from the cameras that see them, and which points (P,) have one."""
    colours = np.zeros((len(frame.points_ego), 3))
    coloured = np.zeros(len(frame.points_ego), dtype=bool)
    for image, (uv_px, _, number) in zip(frame.images.numpy(), lidar_in_cameras(frame), strict=True):
        colours[number] = colours_at(image, uv_px)
        coloured[number] = True
    return colours, coloured


def cameras_on_the_ground(frame: Frame, grid: BEVGrid) -> np.ndarray:
    """Colours (Y, X, 3) of the plane z = 0 of the ego frame as the cameras see it; black where none does."""
    centres = grid.cell_centres().view(-1, 2).double().numpy()
    xyz = np.c_[centres, np.zeros(len(centres))]
    total, count = np.zeros((len(xyz), 3)), np.zeros((len(xyz), 1))
    for image, pix_T_cam, ego_T_cam, present in zip(
        frame.images.numpy(), frame.pix_T_cam, frame.ego_T_cam, frame.camera_present, strict=True
    ):
        uv_px, depth_m = project(pix_T_cam, transform_points(invert(ego_T_cam), xyz))
        seen = in_image(uv_px, depth_m, *image.shape[-2:]) & bool(present)
        total[seen] += colours_at(image, uv_px[seen])
        count[seen] += 1
    return (total / np.maximum(count, 1)).reshape(*grid.shape_yx, 3)


def colours_at(image: np.ndarray, uv_px: np.ndarray) -> np.ndarray:
    """Colours (p, 3) in [0, 1] of the pixels of ``image`` (3, H, W) nearest to ``uv_px`` (p, 2), which lie inside it."""
    height, width = image.shape[-2:]
    u, v = np.rint(uv_px).astype(int).clip(0, (width - 1, height - 1)).T
    return image[:, v, u].T / 255


def is_standing(xyz: np.ndarray) -> np.ndarray:
    """Boolean (P,): points (P, 3) at STANDING_M above the ground of their square of GROUND_CELL_M.

    The ground is the lower tenth of a square's points: mirrored returns lie below the road.
    """
    squares = np.floor(xyz[:, :2] / GROUND_CELL_M)
    _, square, count = np.unique(squares, axis=0, return_inverse=True, return_counts=True)
    square = square.reshape(-1)
    from_below = np.lexsort((xyz[:, 2], square))
    ground_m = xyz[from_below, 2][np.cumsum(count) - count + count // 10]
    height_m = xyz[:, 2] - ground_m[square]
    return (height_m > STANDING_M[0]) & (height_m < STANDING_M[1])


def xyz_ego(frame: Frame) -> np.ndarray:
    """LiDAR points (P, 3) float64 in the ego frame."""
    return frame.points_ego[:, :3].double().numpy()
