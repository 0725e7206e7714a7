"""The conventions every module keeps. Import the constants; the text is the contract.

Frames
    global   the map frame of the data set.
    ego      x forward, y left, z up; origin on the ground below the rear axle, at the LiDAR time of a keyframe.
    now      the ego frame of the clip's present keyframe.
    lidar    the LiDAR's own frame.
    cam      x right, y down, z along the optical axis.
    pix      image pixels (u, v): u to the right, v down; the centre of the upper-left pixel is (0, 0).
Transforms
    ``dst_T_src`` takes points of frame ``src`` to frame ``dst``: ``xyz_dst = dst_T_src @ xyz_src``. Neighbouring names
    must match: ``global_T_ego @ ego_T_lidar``. Homogeneous 4 x 4 matrices; float64 in numpy, float32 in torch.
    Quaternions are (w, x, y, z).
Units
    In the name: ``_m``, ``_px``, ``_s``, ``_us``, ``_rad``.
Bird's-eye view
    Maps are (B, C, Y, X): the row index grows with +y, the column index with +x. A point is in the cell
    ``floor((xyz - lower) / cell)``; the centre of cell i is ``lower + (i + 0.5) * cell``. Occ3D arrays are [x, y, z] and
    are converted where they are read or written, nowhere else.
Shape letters
    B clips, S frames of a clip (T context, then F future), M = B * S frames, N cameras, C channels, D depth bins,
    H W image rows and columns, h w feature rows and columns, Z Y X grid cells, P points, V voxels, K horizons.
"""

CAMERAS = (
    "CAM_FRONT_LEFT",
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_LEFT",
    "CAM_BACK",
    "CAM_BACK_RIGHT",
)
LIDAR = "LIDAR_TOP"

# Columns of every point tensor: metres in the frame its name says, intensity in [0, 1], age against the keyframe in seconds.
POINT_COLUMNS = ("x_m", "y_m", "z_m", "intensity", "age_s")

# States of a BEV cell, from LiDAR rays alone (no labels).
UNOBSERVED, FREE, OCCUPIED = 0, 1, 2

# What can have happened to an element of a map (ArgoTweak, arXiv 2509.08764), seen from the prior map to the world: an insertion
# is in the world and not in the prior. "markings": the paint looks different (colour); "type": it means something else (dashed may
# be crossed, solid not).
ATOMIC_CHANGES = ("insertion", "deletion", "geometry", "markings", "type", "connectivity")
