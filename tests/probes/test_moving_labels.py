import numpy as np
import pytest

from avjepa.errors import BadFileError
from avjepa.geometry.rigid import transform_from_se2
from avjepa.probes.boxes import KeyframeBoxes
from avjepa.probes.metrics.moving_objects import IGNORED, MOVING, STATIC
from avjepa.probes.moving_labels import MotionFiles, box_moving_labels, moving_boxes
from tests.probes.labelled_drive import read_table, write_labelled_drive
from tests.toy_drive import VERSION


def boxes(*attributes: str) -> KeyframeBoxes:
    """Cubes of 2 m, 10 m apart along x."""
    n = len(attributes)
    poses = np.array([transform_from_se2(10.0 * i, 0, 0) for i in range(n)]).reshape(-1, 4, 4)
    return KeyframeBoxes(
        ego_T_box=poses,
        global_T_box=poses,
        size_lwh_m=np.full((n, 3), 2.0),
        velocity_mps=np.zeros((n, 3)),
        category=np.full(n, "vehicle.car"),
        attribute=np.array(attributes, dtype=str),
        instance=np.arange(n).astype(str),
        num_lidar_pts=np.ones(n, dtype=int),
    )


def test_the_rule_for_nuscenes():
    """Only these three attributes move; a box without one is static, whatever its velocity."""
    names = ("vehicle.moving", "cycle.with_rider", "pedestrian.moving", "vehicle.stopped", "vehicle.parked",
             "cycle.without_rider", "pedestrian.standing", "pedestrian.sitting_lying_down", "")  # fmt: skip
    here = boxes(*names)
    assert moving_boxes(here).tolist() == [True] * 3 + [False] * 6
    xyz = np.array([[10.0 * i, 0.5, 0] for i in range(len(names))] + [[5.0, 0, 0]])
    assert box_moving_labels(xyz, here, moving_boxes(here)).tolist() == [MOVING] * 3 + [STATIC] * 7


def test_a_point_in_a_moving_and_a_parked_box_moves():
    here = boxes("vehicle.parked", "vehicle.moving")
    here.ego_T_box[1, 0, 3] = 1.0
    labels = box_moving_labels(np.array([[0.5, 0, 0], [-0.5, 0, 0]]), here, moving_boxes(here))
    assert labels.tolist() == [MOVING, STATIC]


def test_a_keyframe_without_annotations_is_ignored():
    assert box_moving_labels(np.zeros((2, 3)), boxes(), np.zeros(0, dtype=bool)).tolist() == [IGNORED, IGNORED]
    assert box_moving_labels(np.zeros((0, 3)), boxes("vehicle.moving"), np.array([True])).shape == (0,)


def test_motion_files_by_lidar_file(tmp_path):
    root = write_labelled_drive(tmp_path)
    lidar = [record for record in read_table(root, "sample_data") if "LIDAR_TOP" in record["filename"]]
    keyframe, sweep, unlabelled = lidar[4], lidar[5], lidar[6]
    assert keyframe["is_key_frame"]
    assert not sweep["is_key_frame"]
    assert MotionFiles(root).read(keyframe["filename"], 3) is None  # no such folder
    folder = root / "motion" / VERSION
    folder.mkdir(parents=True)
    np.array([0, 1, 0], dtype=np.uint8).tofile(folder / f"{keyframe['token']}_motion.bin")
    np.array([1, 1], dtype=np.uint8).tofile(folder / f"{sweep['token']}_motion.bin")
    files = MotionFiles(root)
    assert files.read(keyframe["filename"], 3).tolist() == [STATIC, MOVING, STATIC]
    assert files.read(sweep["filename"], 2).tolist() == [MOVING, MOVING]
    assert files.read(unlabelled["filename"], 2) is None
    assert files.read("nowhere.pcd.bin", 2) is None


@pytest.mark.parametrize(
    ("content", "message"), [(b"\0\1", "2 labels for 3 points"), (b"", "0 labels"), (b"\0\1\2", "neither 0 nor 1")]
)
def test_motion_files_that_do_not_fit(tmp_path, content, message):
    root = write_labelled_drive(tmp_path)
    record = next(record for record in read_table(root, "sample_data") if "LIDAR_TOP" in record["filename"])
    folder = root / "motion" / VERSION
    folder.mkdir(parents=True)
    (folder / f"{record['token']}_motion.bin").write_bytes(content)
    with pytest.raises(BadFileError, match=message):
        MotionFiles(root).read(record["filename"], 3)
